#include "cache-agent/view/namespace_holder.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <optional>

#include "common/note.h"

namespace atlas::view {
namespace {

constexpr std::string_view kNoteSuffix = ".note";

/// "JOB.RESTARTS" and nothing else.
std::optional<Attempt> parse_name(std::string_view name) {
  Attempt attempt;
  const auto dot = name.find('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const auto number = [](std::string_view text, std::uint32_t& into) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), into);
    return error == std::errc() && end == text.data() + text.size();
  };
  if (!number(name.substr(0, dot), attempt.job_id) || !number(name.substr(dot + 1), attempt.restarts))
    return std::nullopt;
  return attempt;
}

bool is_mount_namespace(int fd) {
  return ::ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNS;
}

}  // namespace

Result<std::unique_ptr<NamespaceHolder>> NamespaceHolder::open(const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) return fail_errno(error.value(), "cannot make " + directory.string());
  if (::chmod(directory.c_str(), 0700) != 0) return fail_errno(errno, directory.string());
  std::unique_ptr<NamespaceHolder> holder(new NamespaceHolder(directory));
  // A pin of a mount namespace must not propagate into other namespaces: the directory is a private mount of its own.
  // Making it private fails exactly when it is not a mount point yet. Without the right to mount, nothing is pinned.
  if (::mount(nullptr, directory.c_str(), nullptr, MS_PRIVATE, nullptr) != 0 &&
      ::mount(directory.c_str(), directory.c_str(), nullptr, MS_BIND, nullptr) == 0)
    ::mount(nullptr, directory.c_str(), nullptr, MS_PRIVATE, nullptr);
  holder->adopt();
  return holder;
}

void NamespaceHolder::adopt() {
  std::error_code error;
  for (const auto& file : std::filesystem::directory_iterator(directory_, error)) {
    const auto attempt = parse_name(file.path().filename().string());
    if (!attempt) continue;
    UniqueFd ns(::open(file.path().c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (ns && is_mount_namespace(ns.get())) {
      entries_[*attempt] = Entry{std::move(ns), read_note(file.path().string() + std::string(kNoteSuffix)), true};
    } else {
      unpin(*attempt);  // a file that was never mounted over, or lost its mount
    }
  }
}

std::filesystem::path NamespaceHolder::pin_of(Attempt attempt) const {
  return directory_ / (std::to_string(attempt.job_id) + "." + std::to_string(attempt.restarts));
}

Status NamespaceHolder::pin(Attempt attempt, const Entry& entry) const {
  const auto path = pin_of(attempt);
  ATLAS_TRY(write_note(path.string() + std::string(kNoteSuffix), entry.note));
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  if (!file) return fail_errno(errno, path.string());
  const std::string source = "/proc/self/fd/" + std::to_string(entry.ns.get());
  if (::mount(source.c_str(), path.c_str(), nullptr, MS_BIND, nullptr) != 0) return fail_errno(errno, path.string());
  return {};
}

void NamespaceHolder::unpin(Attempt attempt) const {
  const auto path = pin_of(attempt);
  while (::umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) {
  }
  ::unlink(path.c_str());
  ::unlink((path.string() + std::string(kNoteSuffix)).c_str());
}

Result<NamespaceHolder::Kept> NamespaceHolder::keep(Attempt attempt, UniqueFd ns, const std::string& note) {
  if (!ns || !is_mount_namespace(ns.get())) return fail(Code::invalid_argument, "not a mount namespace");
  const std::lock_guard lock(mutex_);
  if (entries_.contains(attempt)) return fail(Code::already_exists, "the job has its namespace");
  auto& entry = entries_[attempt] = Entry{std::move(ns), note, false};
  auto pinned = pin(attempt, entry);
  entry.pinned = pinned.has_value();
  if (pinned) return Kept{};
  unpin(attempt);
  return Kept{pinned.error().message};
}

Result<NamespaceHolder::Held> NamespaceHolder::hand_out(const Entry& entry) {
  UniqueFd copy(::fcntl(entry.ns.get(), F_DUPFD_CLOEXEC, 3));
  if (!copy) return fail_errno(errno, "dup");
  return Held{std::move(copy), entry.note};
}

Result<NamespaceHolder::Held> NamespaceHolder::find(Attempt attempt) const {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(attempt);
  if (found == entries_.end()) return fail(Code::not_found, "the job has no mount namespace on this node");
  return hand_out(found->second);
}

Result<NamespaceHolder::Held> NamespaceHolder::find(std::uint32_t job_id) const {
  const std::lock_guard lock(mutex_);
  auto after = entries_.upper_bound(Attempt{job_id, UINT32_MAX});
  if (after == entries_.begin() || (--after)->first.job_id != job_id)
    return fail(Code::not_found, "job " + std::to_string(job_id) + " has no mount namespace on this node");
  return hand_out(after->second);
}

void NamespaceHolder::release(std::uint32_t job_id) {
  const std::lock_guard lock(mutex_);
  auto entry = entries_.lower_bound(Attempt{job_id, 0});
  while (entry != entries_.end() && entry->first.job_id == job_id) {
    unpin(entry->first);
    entry = entries_.erase(entry);
  }
}

void NamespaceHolder::release_others(Attempt attempt) {
  const std::lock_guard lock(mutex_);
  auto entry = entries_.lower_bound(Attempt{attempt.job_id, 0});
  while (entry != entries_.end() && entry->first.job_id == attempt.job_id) {
    if (entry->first == attempt) {
      ++entry;
      continue;
    }
    unpin(entry->first);
    entry = entries_.erase(entry);
  }
}

std::vector<Attempt> NamespaceHolder::held() const {
  const std::lock_guard lock(mutex_);
  std::vector<Attempt> out;
  for (const auto& [attempt, entry] : entries_) out.push_back(attempt);
  return out;
}

}  // namespace atlas::view
