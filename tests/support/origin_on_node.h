#pragma once
#include "tests/support/origin_tree.h"

namespace atlas::agent {

/// An origin, and a node with one tier.
class OriginOnNode : public OriginTree {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: it reads files as other users";
    std::filesystem::create_directory(origin());
    std::filesystem::permissions(origin(), std::filesystem::perms(0755));
  }
  [[nodiscard]] NodeParts::Options options(Bytes quota = kGiB) const {
    NodeParts::Options o;
    o.origin = origin();
    o.tiers = {{"nvme", temp_.path("tier"), quota}};
    return o;
  }
  /// The replica as it is mounted for a job; looked at with a user's rights.
  static std::vector<std::string> through(const Replica& replica, const Principal* as) {
    const auto mounts = replica.mounts(1, {});
    EXPECT_TRUE(mounts) << mounts.error().message;
    return look("/proc/self/fd/" + std::to_string(mounts->front().get()), as);
  }
};

}  // namespace atlas::agent
