#include "cache-agent/view/announce.h"

#include <gtest/gtest.h>

namespace atlas::view {
namespace {

JobViews two_datasets() {
  JobViews job;
  job.known = true;
  job.reason = "n003 holds all of it";
  job.waited = std::chrono::seconds(12);
  job.views.push_back({{"lustre", "speech"}, "/data", ReplicaState::complete, Bytes{1932735283}, {}, "", {}});
  job.views.push_back({{"lustre", "no\nise"}, "/data", ReplicaState::absent, {}, {}, "not cached here yet", {}});
  return job;
}

TEST(Announcement, SaysWhereEachDatasetIsReadAndWhy) {
  EXPECT_EQ(
      announcement(two_datasets(), {{{"lustre", "speech"}, true, ""}}),
      "atlas: /data/speech from this node (complete, 1.8G); /data/no\\x0Aise from the origin: not cached here yet; "
      "waited 12s: n003 holds all of it");
  auto job = two_datasets();
  job.waited = {};
  job.reason.clear();
  job.views.resize(1);
  EXPECT_EQ(announcement(job, {{{"lustre", "speech"}, false, "permission denied"}}),
            "atlas: /data/speech from the origin: permission denied");
}

TEST(Announcement, WithoutAnyDatasetTheReasonStandsAlone) {
  auto job = two_datasets();
  job.views.clear();
  job.waited = {};
  job.reason = "started cold: there is no dataset named 'speach'";
  EXPECT_EQ(announcement(job, {}), "atlas: started cold: there is no dataset named 'speach'");
}

TEST(Announcement, TheStateIsForPrograms) {
  EXPECT_EQ(cache_state(two_datasets(), {{{"lustre", "speech"}, true, ""}}),
            "/data/speech=complete:/data/no%0Aise=origin");
}

TEST(Announcement, APartialViewSaysHowMuchIsHere) {
  auto job = two_datasets();
  job.views.resize(1);
  job.views[0].state = ReplicaState::partial;
  job.views[0].resident = kMiB;
  EXPECT_EQ(
      announcement(job, {{{"lustre", "speech"}, true, ""}}),
      "atlas: /data/speech through this node's cache (partial, 1M of 1.8G here); waited 12s: n003 holds all of it");
  EXPECT_EQ(cache_state(job, {{{"lustre", "speech"}, true, ""}}), "/data/speech=partial");
  EXPECT_EQ(cache_state(job, {{{"lustre", "speech"}, false, "why"}}), "/data/speech=origin");
}

}  // namespace
}  // namespace atlas::view
