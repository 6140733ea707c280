// The jobs of a node: leases come with a plan and never outlive the job.
#include "cache-agent/jobs/job_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/node_parts.h"

namespace atlas::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

/// The controller, as far as a job table sees it.
class Controller final : public PlanSource {
 public:
  Result<std::optional<JobOrder>> plan_of(std::uint32_t /*job_id*/, SteadyTime /*deadline*/) override {
    before_answer();
    return std::optional(order);
  }
  JobOrder order{{"test", 7, 0, {}}, user(30001), {{{"o", "ds"}, {}}}, "", {}};
  std::function<void()> before_answer = [] {};
};

class Jobs : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: replicas keep their owners";
    std::filesystem::create_directories(temp_.path("origin/ds"));
    write_file(temp_.path("origin/ds/f"), "data");
    NodeParts::Options options;
    options.origin = temp_.path("origin");
    options.tiers = {{"nvme", temp_.path("tier"), kGiB}};
    node_ = std::make_unique<NodeParts>(options);
    ASSERT_TRUE(node_->warm("ds", user(30001)));
    table_ = std::make_unique<JobTable>(*node_->store, &controller_,
                                        std::map<std::string, JobTable::OriginPlace>{{"o", {options.origin, false}}});
  }
  [[nodiscard]] std::vector<std::uint32_t> leases() const { return node_->store->inventory().at(0).leases; }
  Result<view::JobViews> views() { return table_->views_of(7, user(30001), SteadyTime::max()); }

  TempDir temp_;
  Controller controller_;
  std::unique_ptr<NodeParts> node_;
  std::unique_ptr<JobTable> table_;
};

TEST_F(Jobs, AJobHoldsWhatItReadsUntilItIsReleased) {
  const auto found = views();
  ASSERT_TRUE(found) << found.error().message;
  ASSERT_EQ(found->views.size(), 1U);
  EXPECT_TRUE(found->views[0].mount);
  EXPECT_THAT(leases(), ElementsAre(7U));
  EXPECT_TRUE(table_->release(controller_.order.job, [] {}));
  EXPECT_THAT(leases(), IsEmpty());
}

TEST_F(Jobs, AnAnswerThatComesAfterTheJobWasReleasedTakesNoLease) {
  controller_.before_answer = [&] { EXPECT_FALSE(table_->release(controller_.order.job, [] {})); };
  const auto late = views();
  ASSERT_TRUE(late) << late.error().message;
  EXPECT_FALSE(late->known);
  EXPECT_THAT(leases(), IsEmpty());
  EXPECT_THAT(table_->jobs(), IsEmpty());
  controller_.before_answer = [] {};
  EXPECT_TRUE(views()->known) << "the next question counts again";
}

TEST_F(Jobs, AReleaseDropsLeasesThatNoJobOwns) {
  node_->store->lease(*node_->store->newest_complete({"o", "ds"}), 9);
  ASSERT_THAT(leases(), ElementsAre(9U));
  EXPECT_FALSE(table_->release({"test", 9, 0, {}}, [] {}));
  EXPECT_THAT(leases(), IsEmpty());
}

TEST_F(Jobs, AnotherUsersJobIsRefused) {
  const auto other = table_->views_of(7, user(30002), SteadyTime::max());
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code, Code::permission_denied);
}

}  // namespace
}  // namespace atlas::agent
