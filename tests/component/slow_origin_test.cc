// The slow origin itself, as its clients drive it: a stand-in that breaks would make every test around it a lie.
#include <dirent.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/slow_origin_process.h"

namespace atlas {
namespace {

namespace fs = std::filesystem;

/// Lists `path` and closes it at once: the close may reach the server before it has finished with the last answer.
bool list_once(const std::string& path) {
  DIR* directory = opendir(path.c_str());
  if (directory == nullptr) return false;
  while (::readdir(directory) != nullptr) {
  }
  return closedir(directory) == 0;
}

// Glibc's own checks find a freed lock that is written to, if memory is filled when it is freed.
TEST(SlowOrigin, SurvivesManyReadersThatCloseDirectoriesAtOnce) {
  setenv("MALLOC_PERTURB_", "165", 1);
  char base[] = "/tmp/atlas-slow-origin-test.XXXXXX";
  ASSERT_NE(mkdtemp(base), nullptr);
  const std::string mountpoint = std::string(base) + "/origin";
  fs::create_directories(mountpoint + "/empty");
  {
    const SlowOrigin origin(mountpoint, mountpoint, {"--threads", "64"});
    std::atomic<int> failed{0};
    std::vector<std::thread> readers;
    readers.reserve(16);
    for (int i = 0; i < 16; ++i)
      readers.emplace_back([&] {
        for (int n = 0; n < 1500; ++n)
          if (!list_once(mountpoint + "/empty")) ++failed;
      });
    for (std::thread& reader : readers) reader.join();
    EXPECT_EQ(failed, 0);
    EXPECT_NE(origin.tell({"stats"}).find("\"readdir\""), std::string::npos);
  }
  fs::remove_all(base);
}

}  // namespace
}  // namespace atlas
