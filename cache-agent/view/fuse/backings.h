#pragma once
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "cache-agent/manifest/manifest.h"
#include "common/result.h"
#include "common/unique_fd.h"

namespace atlas::view {

/// What one connection's kernel reads from the store's files by itself (FUSE passthrough), in memory that outlives this
/// process. For the kernel a file that is open must have one and the same backing id: a second one would fail the job's
/// open. So the id is written here before the kernel hears of it, and a later agent goes on with it.
///
/// Opens are counted so that ids nobody needs can be given back: each holds an open file in the kernel. A count may be
/// too high after an agent was killed (that id stays until the connection ends), never too low: it goes up before the
/// kernel hears of an open, and down after it has heard of the close. Thread-safe.
class Backings {
 public:
  /// The two calls of the kernel, which tests replace. An id is positive.
  struct Kernel {
    std::function<Result<std::int32_t>(agent::FileIndex)> open;  ///< may block on the store's disk
    std::function<void(std::int32_t)> close;
  };
  [[nodiscard]] static Result<std::shared_ptr<Backings>> make(agent::FileIndex entries, Kernel kernel,
                                                              std::size_t idle = 4096);
  /// What an earlier agent has left.
  [[nodiscard]] static Result<std::shared_ptr<Backings>> map(UniqueFd memory, agent::FileIndex entries, Kernel kernel,
                                                             std::size_t idle = 4096);
  /// Was the memory made by this class?
  [[nodiscard]] static bool made(int memory);
  ~Backings();
  Backings(const Backings&) = delete;
  Backings& operator=(const Backings&) = delete;

  [[nodiscard]] int memory() const { return memory_.get(); }
  /// One more open of the file: its id, which stays until release(). Once the kernel has refused a file it is refused
  /// for good.
  [[nodiscard]] Result<std::int32_t> acquire(agent::FileIndex file);
  void release(agent::FileIndex file);
  [[nodiscard]] bool refused(agent::FileIndex file) const;

  /// The root of a dataset that is one file has one node, which cannot be open in both ways at a time: a second way
  /// fails the job's open. One more open: the id, or 0 when it is to be read through this process. `passable` = the
  /// kernel may read it by itself, from the next time on at which nobody has it open the other way.
  [[nodiscard]] std::int32_t open_root(bool passable);
  void close_root(bool passed);
  /// The kernel has it open, and reads by itself: so must all who open it now.
  [[nodiscard]] bool root_passed() const;

  /// Files that are open, as far as is known.
  [[nodiscard]] std::vector<agent::FileIndex> open_files() const;

  /// An earlier agent gave the file an id, so it had seen that the disk has it; this one has seen nothing else yet.
  [[nodiscard]] bool vouched(agent::FileIndex file) const;

  /// Whoever opens a file by its slower node is sent to look it up again, but once only: what cannot be looked up again
  /// (an open by /proc/self/fd) must not fail twice. True the first time.
  [[nodiscard]] bool send_away(agent::FileIndex file);
  /// The file has lost a block: nobody vouches for it any more. Whoever opens it now is sent to the slower node, and
  /// must not be sent away from there; a later one may.
  void came_back(agent::FileIndex file);

 private:
  struct Entry {
    std::int32_t id;  ///< 0 = none, -1 = refused
    std::uint32_t
        state;  ///< four times the number of opens that hold the id; plus what came_back() and send_away() know
  };
  struct Head;
  [[nodiscard]] static Result<Head> head_of(int memory);
  Backings(UniqueFd memory, std::byte* at, agent::FileIndex entries, Kernel kernel, std::size_t idle);
  [[nodiscard]] Status recall();
  [[nodiscard]] Head& head() const;
  [[nodiscard]] Entry& entry(agent::FileIndex file) const;
  void take_up(agent::FileIndex file);
  void put_down(agent::FileIndex file);
  [[nodiscard]] std::optional<std::int32_t> join_root(bool passable);
  [[nodiscard]] std::vector<std::int32_t> take_spare();

  const UniqueFd memory_;
  std::byte* const at_;
  const agent::FileIndex entries_;
  const Kernel kernel_;
  const std::size_t most_idle_;
  mutable std::mutex mutex_;          ///< guards what follows and the entries; never held over a call of the kernel
  std::list<agent::FileIndex> idle_;  ///< have an id and no open, the last used first
  std::unordered_map<agent::FileIndex, std::list<agent::FileIndex>::iterator> places_;
  std::unordered_set<agent::FileIndex> open_;
  std::unordered_set<agent::FileIndex> vouched_;
};

}  // namespace atlas::view
