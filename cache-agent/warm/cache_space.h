#pragma once
#include <chrono>
#include <string>

#include "common/identity.h"
#include "common/result.h"
#include "common/units.h"

namespace atlas::agent {

/// Somebody's wish to have more of a generation on this node.
struct SpaceQuestion {
  DatasetId dataset;
  GenerationId generation;
  Payer payer;
  Bytes have;                             ///< that this node holds of it already
  Bytes most;                             ///< wanted beyond that
  Bytes least;                            ///< with less nothing is begun
  std::chrono::milliseconds patience{0};  ///< what he need not keep may take so long to make way
};
struct SpaceAnswer {
  Bytes granted;       ///< from least to most; 0 = nothing
  std::string reason;  ///< why not all of it, one sentence
};

/// Who knows the quotas of users, groups and accounts: they count on all nodes together. Implemented by the rpc edge;
/// blocks for a little longer than the question's patience at most.
class SpaceSource {
 public:
  virtual ~SpaceSource() = default;
  /// Any error: nobody can say. Then the quota does not hold anybody up.
  [[nodiscard]] virtual Result<SpaceAnswer> ask(const SpaceQuestion& question) = 0;
};

}  // namespace atlas::agent
