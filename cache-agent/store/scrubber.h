#pragma once
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "cache-agent/store/store.h"
#include "common/units.h"

namespace atlas::agent {

struct ScrubOptions {
  std::chrono::milliseconds period{0};  ///< every complete replica once in so long; 0 = never
  Bytes rate;                           ///< bytes per second at most; 0 = no limit
};

/// Compares complete replicas with their checksums in the background, one at a time, the longest unchecked first, with
/// idle I/O priority. What differs is no longer resident: the next job that wants it fetches it again. When a replica
/// was checked is kept as the mtime of a file "scrubbed" in its directory, so that a restart does not begin anew. Owns
/// one thread.
class Scrubber {
 public:
  /// `found` is told, on the scrubber's thread, of each replica with bad blocks, and why a replica could not be read.
  Scrubber(Store& store, const Clock& clock, ScrubOptions options, std::function<void(const std::string&)> found);
  /// Stops in the middle of a replica.
  ~Scrubber();
  Scrubber(const Scrubber&) = delete;
  Scrubber& operator=(const Scrubber&) = delete;

 private:
  void run();
  void scrub(const std::shared_ptr<Replica>& replica);
  [[nodiscard]] std::shared_ptr<Replica> next() const;
  [[nodiscard]] bool pause(std::chrono::nanoseconds time);

  Store& store_;
  const Clock& clock_;
  const ScrubOptions options_;
  const std::function<void(const std::string&)> found_;
  std::mutex mutex_;  ///< guards stop_
  std::condition_variable wake_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace atlas::agent
