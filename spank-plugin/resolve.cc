#include "spank-plugin/resolve.h"

#include <fcntl.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>

#include "common/child.h"
#include "common/percent.h"

namespace atlas::spank {
namespace {

/// What the child saw: 'o' and the canonical path, or 'e', the step that failed and its errno.
struct Probe {
  char step = 'o';  ///< 'o' all well, 'p' open the path, 't' neither directory nor file, 'r' read it
  int error = 0;
  std::string canonical;
};

Packet pack(const Probe& probe) {
  return {std::string(1, probe.step) + std::to_string(probe.error) + " " + probe.canonical, {}};
}

Probe unpack(const std::string& bytes) {
  const auto space = bytes.find(' ');
  return {bytes[0], std::stoi(bytes.substr(1, space - 1)), bytes.substr(space + 1)};
}

Probe probe(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!file) return {'p', errno, ""};
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return {'p', errno, ""};
  const bool directory = S_ISDIR(info.st_mode);
  if (!directory && !S_ISREG(info.st_mode)) return {'t', 0, ""};
  const int wanted = directory ? R_OK | X_OK : R_OK;
  if (::syscall(SYS_faccessat2, file.get(), "", wanted, AT_EMPTY_PATH | AT_EACCESS) != 0) return {'r', errno, ""};
  std::array<char, PATH_MAX + 1> target{};
  const std::string link = "/proc/self/fd/" + std::to_string(file.get());
  const ssize_t size = ::readlink(link.c_str(), target.data(), target.size());
  if (size <= 0 || size > PATH_MAX) return {'p', ENAMETOOLONG, ""};
  return {'o', 0, std::string(target.data(), static_cast<std::size_t>(size))};
}

std::string origins_of(const Config& config) {
  if (config.origins.empty()) return "no origin is configured in " + config.source.string();
  std::string list;
  for (const auto& origin : config.origins) list += (list.empty() ? "" : ", ") + origin.root + " (" + origin.name + ")";
  return "the origins are: " + list;
}

std::string whoami() {
  const passwd* entry = ::getpwuid(::geteuid());  // NOLINT(concurrency-mt-unsafe): clients are single-threaded here
  return entry != nullptr ? entry->pw_name : "uid " + std::to_string(::geteuid());
}

tl::unexpected<Error> refusal(const Config& config, const std::string& path, const Probe& seen) {
  const std::string shown = "'" + printable(path) + "'";
  if (origin_of(config, path) == nullptr)
    return fail(Code::invalid_argument, "--dataset: " + shown + " is not below an origin; " + origins_of(config));
  if (seen.step == 't')
    return fail(Code::invalid_argument, "--dataset: " + shown + " is neither a directory nor a regular file");
  if (seen.error == EACCES || seen.error == EPERM)
    return fail(Code::permission_denied,
                "--dataset: permission denied: user " + whoami() + " may not " +
                    (seen.step == 'r' ? "read " + shown : "reach " + shown + ": a directory above it is closed") +
                    "; ask its owner for access, or give its name if it is shared with a group of yours");
  if (seen.error == ENOENT || seen.error == ENOTDIR)
    return fail(Code::not_found, "--dataset: " + shown + " does not exist; check the spelling");
  return fail_errno(seen.error, "--dataset: " + shown);
}

}  // namespace

Result<ResolvedDataset> resolve_dataset(const Config& config, const std::string& path) {
  auto answer = run_in_child([&] { return pack(probe(path)); }, {config.submit.resolve_timeout});
  if (!answer) {
    if (origin_of(config, path) == nullptr) return refusal(config, path, {});
    return ResolvedDataset{path, "'" + printable(path) + "' could not be checked: its storage did not answer within " +
                                     format_duration(config.submit.resolve_timeout) + "; submitted all the same"};
  }
  const Probe seen = unpack(answer->bytes);
  if (seen.step != 'o') return refusal(config, path, seen);
  if (origin_of(config, seen.canonical) == nullptr) {
    if (seen.canonical == path) return refusal(config, path, {});
    return fail(Code::invalid_argument, "--dataset: '" + printable(path) + "' leads to '" + printable(seen.canonical) +
                                            "', which is not below an origin; " + origins_of(config));
  }
  return ResolvedDataset{seen.canonical, ""};
}

}  // namespace atlas::spank
