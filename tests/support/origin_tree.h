#pragma once
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <string>

#include "common/unique_fd.h"
#include "tests/support/node_parts.h"

namespace atlas::agent {

inline constexpr std::uint32_t kAlice = 30001, kBob = 30002, kCarol = 30003;

/// An origin in a directory of its own, and what tests put there.
class OriginTree : public ::testing::Test {
 protected:
  [[nodiscard]] std::string origin(const std::string& name = "") const {
    return temp_.path("origin") + (name.empty() ? "" : "/" + name);
  }
  void directory(const std::string& name, std::uint32_t owner, unsigned mode) const {
    std::filesystem::create_directories(origin(name));
    ASSERT_EQ(chown(origin(name).c_str(), owner, owner), 0);
    ASSERT_EQ(chmod(origin(name).c_str(), mode), 0);
  }
  void file(const std::string& name, std::string_view content, std::uint32_t owner = kAlice,
            unsigned mode = 0644) const {
    write_file(origin(name), content);
    ASSERT_EQ(chown(origin(name).c_str(), owner, owner), 0);
    ASSERT_EQ(chmod(origin(name).c_str(), mode), 0);
  }
  static void set_times(const std::string& path, std::int64_t seconds, std::int64_t nanoseconds) {
    const timespec times[2] = {{seconds, nanoseconds}, {seconds, nanoseconds}};
    ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW), 0);
  }
  /// An access ACL that gives a named user read.
  static void give_read(const std::string& path, std::uint32_t uid) {
    const std::uint32_t undefined = 0xffffffff;
    struct Entry {
      std::uint16_t tag, permissions;
      std::uint32_t id;
    };
    struct {
      std::uint32_t version = 2;
      Entry entries[5];
    } acl{2, {{0x01, 6, undefined}, {0x02, 4, uid}, {0x04, 0, undefined}, {0x10, 4, undefined}, {0x20, 0, undefined}}};
    ASSERT_EQ(setxattr(path.c_str(), "system.posix_acl_access", &acl, sizeof acl, 0), 0) << strerror(errno);
  }

  /// One of everything that has ever broken a copy.
  void nasty_tree() const {
    directory("ds", kAlice, 0755);
    directory("ds/a dir", kAlice, 0750);
    directory("ds/closed", kBob, 0700);
    file("ds/closed/secret", "not for alice", kBob, 0600);
    directory("ds/enter only", kAlice, 0755);
    file("ds/plain", "hello\n");
    file("ds/empty", "");
    file("ds/new\nline", "x");
    file("ds/not utf8 \xff\xfe", "y");
    file("ds/" + std::string(255, 'n'), "long name");
    file("ds/mode000", "hidden", kBob, 0000);
    file("ds/mode600", "private", kBob, 0600);
    file("ds/mode4755", "#!setuid", 0, 04755);
    file("ds/a dir/big", random_bytes((5 << 20) + 12345, 1));
    file("ds/a dir/exact", random_bytes(2 << 20, 2));
    file("ds/shared", "with bob", kAlice, 0640);
    give_read(origin("ds/shared"), kBob);
    file("ds/bobs", "alice may read by ACL only", kBob, 0600);
    give_read(origin("ds/bobs"), kAlice);
    ASSERT_EQ(setxattr(origin("ds/plain").c_str(), "user.note", "a\0b", 3, 0), 0);
    ASSERT_EQ(setxattr(origin("ds/a dir").c_str(), "user.dir", "d", 1, 0), 0);
    ASSERT_EQ(setxattr(origin("ds/plain").c_str(), "trusted.not", "x", 1, 0), 0);
    std::filesystem::create_hard_link(origin("ds/a dir/big"), origin("ds/big too"));
    std::filesystem::create_hard_link(origin("ds/a dir/big"), origin("ds/a dir/big three"));
    std::filesystem::create_symlink("plain", origin("ds/link"));
    std::filesystem::create_symlink("/etc/passwd", origin("ds/outward"));
    std::filesystem::create_symlink("nowhere", origin("ds/dangling"));
    std::filesystem::create_symlink("itself", origin("ds/itself"));
    std::filesystem::create_symlink("pong", origin("ds/ping"));
    std::filesystem::create_symlink("ping", origin("ds/pong"));
    std::filesystem::create_symlink("..", origin("ds/a dir/up"));
    file("ds/Case", "upper");
    file("ds/case", "lower");
    directory("ds/CASE", kAlice, 0755);
    ASSERT_EQ(lchown(origin("ds/link").c_str(), kAlice, kAlice), 0);
    ASSERT_EQ(mkfifo(origin("ds/fifo").c_str(), 0644), 0);
    ASSERT_EQ(mknod(origin("ds/device").c_str(), S_IFCHR | 0666, makedev_null()), 0);
    sparse("ds/sparse");
    deep_directory("ds", 40);
    set_times(origin("ds/plain"), 1'000'000'000, 123'456'789);
    set_times(origin("ds/link"), 1, 1);
    set_times(origin("ds/closed"), 1'600'000'000, 42);
    set_times(origin("ds/a dir"), 1'500'000'000, 999'999'999);
    set_times(origin("ds/mode000"), 7, 7);
    set_times(origin("ds"), 1'400'000'000, 1);
  }
  /// Far longer than PATH_MAX, so it is made step by step; a file lies at the bottom.
  void deep_directory(const std::string& below, int levels) const {
    UniqueFd at(open(origin(below).c_str(), O_PATH | O_DIRECTORY));
    for (int i = 0; i < levels; ++i) {
      const std::string name(200, static_cast<char>('a' + i % 26));
      ASSERT_EQ(mkdirat(at.get(), name.c_str(), 0755), 0);
      ASSERT_EQ(fchownat(at.get(), name.c_str(), kAlice, kAlice, 0), 0);
      at = UniqueFd(openat(at.get(), name.c_str(), O_PATH | O_DIRECTORY));
    }
    const UniqueFd fd(openat(at.get(), "bottom", O_WRONLY | O_CREAT, 0644));
    ASSERT_EQ(write(fd.get(), "deep", 4), 4);
  }
  static dev_t makedev_null() { return (1U << 8U) | 3U; }
  void sparse(const std::string& name) const {
    const UniqueFd fd(open(origin(name).c_str(), O_RDWR | O_CREAT, 0644));
    ASSERT_EQ(ftruncate(fd.get(), 3LL << 30), 0);
    ASSERT_EQ(pwrite(fd.get(), "middle", 6, (1LL << 30) + 5), 6);
    ASSERT_EQ(pwrite(fd.get(), "end", 3, (3LL << 30) - 3), 3);
    ASSERT_EQ(fchown(fd.get(), kAlice, kAlice), 0);
  }

  TempDir temp_;
};

}  // namespace atlas::agent
