#pragma once
#include <cstdint>
#include <vector>

namespace atlas::sim {

/// Something that moves bytes over some links, as fast as its fair share allows.
struct Flow {
  std::vector<std::uint32_t> links;
  double weight = 1;
  double rate = 0;  ///< bytes/s; the answer
};

/// Weighted max-min fairness: nobody can have more without taking it from somebody who has no more (for its weight).
/// `capacity`: bytes/s of each link. Each flow has a link; the sum over a link's flows never exceeds its capacity.
void share(const std::vector<double>& capacity, const std::vector<Flow*>& flows);

}  // namespace atlas::sim
