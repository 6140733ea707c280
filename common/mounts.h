#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace atlas {

/// A line of /proc/PID/mountinfo.
struct Mount {
  std::string device;   ///< "MAJOR:MINOR", as stat() gives it for files below
  std::string root;     ///< what of the file system is mounted
  std::string point;    ///< where
  std::string options;  ///< of the mount: "ro,noexec"
  std::string type;     ///< of the file system
  std::string source;   ///< as its type writes it: "/dev/sda1", "server:/export"
  std::string super;    ///< options of the file system
};

/// Lines that are none are left out. In the kernel's order: of two at the same place the later one is on top.
[[nodiscard]] std::vector<Mount> parse_mounts(std::string_view mountinfo);
/// Those of this process's mount namespace. Asks no file system, so that one that hangs does not matter.
[[nodiscard]] std::vector<Mount> mounts_now();
/// The mount that an absolute path lies in (symlinks are not followed); nullptr if there is none.
[[nodiscard]] const Mount* mount_of(const std::vector<Mount>& mounts, std::string_view path);
/// A path of mountinfo or mountstats as it is: there blanks, tabs, newlines and backslashes are three octal digits.
[[nodiscard]] std::string unescape_path(std::string_view text);
/// Is `one` in a list of options separated by commas?
[[nodiscard]] bool has_option(std::string_view options, std::string_view one);

}  // namespace atlas
