#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "common/result.h"
#include "common/unique_fd.h"

namespace atlas::view {

/// Which attempt of a job a namespace belongs to: a requeued job makes a new one.
struct Attempt {
  std::uint32_t job_id = 0;
  std::uint32_t restarts = 0;
  auto operator<=>(const Attempt&) const = default;
};

/// Keeps the mount namespaces of jobs: by a descriptor, and where the kernel allows by a pin (a bind mount of the
/// namespace's file) in DIR, so that they outlive this process. Thread-safe; calls take microseconds and touch DIR
/// only.
class NamespaceHolder {
 public:
  /// Makes DIR (0700, a private mount of its own) and takes over the pins that are there.
  [[nodiscard]] static Result<std::unique_ptr<NamespaceHolder>> open(const std::filesystem::path& directory);

  /// Keeps a namespace with a note (text that comes back with it). Of an attempt that has one already: already_exists.
  /// `pinned` says whether it will survive this process; "" = yes, else why not.
  struct Kept {
    std::string not_pinned_because;
  };
  [[nodiscard]] Result<Kept> keep(Attempt attempt, UniqueFd ns, const std::string& note);

  struct Held {
    UniqueFd ns;  ///< a descriptor of the caller's own
    std::string note;
  };
  /// not_found when none is kept.
  [[nodiscard]] Result<Held> find(Attempt attempt) const;
  /// The newest attempt of a job.
  [[nodiscard]] Result<Held> find(std::uint32_t job_id) const;
  /// Lets go of all attempts of a job. The namespace ends with its last process.
  void release(std::uint32_t job_id);
  /// Same, of all attempts of a job but this one.
  void release_others(Attempt attempt);
  [[nodiscard]] std::vector<Attempt> held() const;

 private:
  struct Entry {
    UniqueFd ns;
    std::string note;
    bool pinned = false;
  };
  explicit NamespaceHolder(std::filesystem::path directory) : directory_(std::move(directory)) {}
  [[nodiscard]] std::filesystem::path pin_of(Attempt attempt) const;
  [[nodiscard]] Status pin(Attempt attempt, const Entry& entry) const;
  void unpin(Attempt attempt) const;
  void adopt();
  [[nodiscard]] static Result<Held> hand_out(const Entry& entry);

  std::filesystem::path directory_;
  mutable std::mutex mutex_;  ///< guards entries_; held over the few system calls on DIR, which is memory
  std::map<Attempt, Entry> entries_;
};

}  // namespace atlas::view
