#pragma once
#include <mutex>
#include <stop_token>
#include <utility>
#include <vector>

#include "common/identity.h"

namespace atlas::agent {

/// Others who want what several requests are for, sooner than who made them may be able to pay: as if each had asked
/// for the same himself. Thread-safe.
class Backers {
 public:
  struct Backer {
    Principal as;
    JobKey payer;
    std::stop_token until;  ///< when that is requested he wants it no more
  };
  void add(Backer backer) {
    const std::lock_guard lock(mutex_);
    backers_.push_back(std::move(backer));
  }
  [[nodiscard]] std::vector<Backer> now() {
    const std::lock_guard lock(mutex_);
    std::erase_if(backers_, [](const Backer& backer) { return backer.until.stop_requested(); });
    return backers_;
  }

 private:
  std::mutex mutex_;  ///< guards what follows
  std::vector<Backer> backers_;
};

}  // namespace atlas::agent
