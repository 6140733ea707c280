#pragma once
#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "common/result.h"
#include "common/units.h"

namespace atlas::agent {

/// Does a tier's disk work? Writes a block to a file "probe" in its directory now and then, has the disk take it, and
/// reads it back from there. Owns one thread, which may hang with the disk; then it is left behind. Thread-safe.
class TierProbe {
 public:
  enum class Health {
    good,
    failing,  ///< it erred, and has not been seen to work often enough since
    silent    ///< it has not answered for as long as `patience`
  };
  struct Options {
    std::chrono::milliseconds period{10'000};
    std::chrono::milliseconds patience{10'000};
    unsigned good_in_a_row = 3;  ///< after an error
  };
  /// `settle` runs on the probe's thread when the disk works again after an error, before it is called good: true if
  /// nothing of what was written is lost, or all of that has been dealt with.
  TierProbe(const std::string& directory, const Options& options, std::function<bool()> settle);
  ~TierProbe();
  TierProbe(const TierProbe&) = delete;
  TierProbe& operator=(const TierProbe&) = delete;

  /// No more probes, and no more `settle`. Does not wait for a disk that hangs, unless in there.
  void stop();
  /// Never blocks.
  [[nodiscard]] Health health() const;
  /// Somebody else has met an error. Never blocks.
  void doubt();

 private:
  struct State;
  static void run(const std::shared_ptr<State>& state);
  std::shared_ptr<State> state_;
};

}  // namespace atlas::agent
