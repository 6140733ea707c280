#include "common/note.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "common/unique_fd.h"

namespace atlas {

Status write_note(const std::filesystem::path& path, const std::string& note) {
  const std::string temporary = path.string() + ".new";
  const UniqueFd file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file) return fail_errno(errno, temporary);
  if (::write(file.get(), note.data(), note.size()) != static_cast<ssize_t>(note.size()))
    return fail_errno(errno, temporary);
  if (::rename(temporary.c_str(), path.c_str()) != 0) return fail_errno(errno, path.string());
  return {};
}

std::string read_note(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

}  // namespace atlas
