#pragma once
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <string>

#include "common/unique_fd.h"
#include "tests/support/own_mounts.h"

namespace atlas::agent {

/// An ext4 file system on a block device whose sectors lie in a file: with the file behind a slow origin, a disk that
/// fails or hangs as one likes, and then recovers (so it has no journal, which would give up for good). Its requests
/// reach the file at once, past the page cache. Gone with the object, or with the process.
class LoopDisk {
 public:
  /// `image` is a new file; `mountpoint` a directory. Throws what went wrong.
  LoopDisk(const std::string& image, std::uint64_t size, std::string mountpoint) : mountpoint_(std::move(mountpoint)) {
    static const bool own = testing::own_mounts();
    if (!own) throw std::runtime_error("no mount namespace of its own");
    const UniqueFd file(open(image.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!file || ftruncate(file.get(), static_cast<off_t>(size)) != 0) fail(image);
    const std::string make =
        "mkfs.ext4 -q -F -b 4096 -O ^has_journal -E lazy_itable_init=0,nodiscard -m 0 '" + image + "'";
    if (std::system(make.c_str()) != 0) throw std::runtime_error(make);  // NOLINT(concurrency-mt-unsafe)
    const UniqueFd control(open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    const int number = ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) fail("/dev/loop-control");
    const std::string device = "/dev/loop" + std::to_string(number);
    const UniqueFd loop(open(device.c_str(), O_RDWR | O_CLOEXEC));
    loop_config config{};
    config.fd = static_cast<std::uint32_t>(file.get());
    config.block_size = 4096;
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
    if (!loop || ioctl(loop.get(), LOOP_CONFIGURE, &config) != 0) fail(device);
    if (mount(device.c_str(), mountpoint_.c_str(), "ext4", 0, "errors=continue") != 0) fail("mount " + device);
  }
  ~LoopDisk() { umount2(mountpoint_.c_str(), MNT_DETACH); }
  LoopDisk(const LoopDisk&) = delete;
  LoopDisk& operator=(const LoopDisk&) = delete;

  /// Writes out what is to be written; false when the disk refuses.
  [[nodiscard]] bool sync() const {
    const UniqueFd root(open(mountpoint_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return syncfs(root.get()) == 0;
  }
  /// Lets the kernel forget what it has read of its files.
  void forget() const {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(mountpoint_)) {
      if (!entry.is_regular_file()) continue;
      const UniqueFd fd(open(entry.path().c_str(), O_RDONLY | O_CLOEXEC));
      posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
    }
  }

 private:
  [[noreturn]] static void fail(const std::string& what) {
    throw std::runtime_error(what + ": " + strerror(errno));  // NOLINT(concurrency-mt-unsafe)
  }
  std::string mountpoint_;
};

}  // namespace atlas::agent
