#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "common/identity.h"
#include "common/units.h"

namespace atlas {

/// How fast data has come to nodes lately, from each origin and from other nodes: what placement expects of the next
/// transfer. Learned from the progress of warm-ups. Lives on the strand.
class TransferRates {
 public:
  explicit TransferRates(const Clock& clock) : clock_(clock) {}

  /// A source's figures as they are kept: bytes per second, 0 = not known.
  struct Known {
    Bytes one;  ///< the best that a single transfer has had lately
    Bytes all;  ///< the same of all transfers together
    bool operator==(const Known&) const = default;
  };
  void load(const std::map<std::string, Known>& known);
  /// Under the origins' names, nodes together under "".
  [[nodiscard]] std::map<std::string, Known> known() const;

  /// A warm-up under way has got so far. `limited`: by a limit of reading, so that it says nothing of the origin.
  void note(const std::string& node, const DatasetId& dataset, const WarmProgress& progress, bool limited);
  void ended(const std::string& node, const DatasetId& dataset);

  /// What one more transfer may expect beside those under way: the best one transfer has had, but no more than its part
  /// of what all have had. 0 = nothing has been seen.
  [[nodiscard]] Bytes from_origin(const std::string& origin) const { return expected(origin); }
  /// What one transfer, and all together, have had of an origin; 0 = not known.
  [[nodiscard]] Known of_origin(const std::string& origin) const;
  [[nodiscard]] Bytes from_nodes() const { return expected(""); }
  /// The most a node has taken in; 0 = nothing has been seen.
  [[nodiscard]] Bytes into_node() const;

 private:
  using Transfer = std::pair<std::string, DatasetId>;  ///< whoever wants it: it is moved once
  struct Source {
    double one = 0, all = 0;
    std::map<Transfer, double> active{};  ///< bytes per second, now
    double now = 0;                       ///< of all of these together
    void set(const Transfer& transfer, double rate);
    void drop(const Transfer& transfer);
  };
  struct Sample {
    SteadyTime at{};
    Bytes origin, peers;
    bool limited = false;  ///< for one of those who want it
  };
  [[nodiscard]] Bytes expected(const std::string& source) const;
  void learn(const std::string& source, const Transfer& transfer, double rate, double of, double seconds);

  const Clock& clock_;
  std::map<std::string, Source> sources_;
  std::map<Transfer, Sample> samples_;
};

}  // namespace atlas
