#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <limits>

#include "common/metrics/metrics_server.h"
#include "common/metrics/open_metrics.h"

namespace atlas {
namespace {

using ::testing::HasSubstr;

TEST(OpenMetricsText, HasTypeUnitAndHelpOfEachFamilyAndAnEnd) {
  OpenMetrics out;
  out.gauge("atlas_tier_used_bytes", "What is used.");
  out.add({{"tier", "nvme"}, {"node", "n1"}}, 1.5e9);
  out.counter("atlas_jobs_ended", "Jobs.", 3);
  EXPECT_EQ(out.end(),
            "# TYPE atlas_tier_used_bytes gauge\n"
            "# UNIT atlas_tier_used_bytes bytes\n"
            "# HELP atlas_tier_used_bytes What is used.\n"
            "atlas_tier_used_bytes{tier=\"nvme\",node=\"n1\"} 1.5e+09\n"
            "# TYPE atlas_jobs_ended counter\n"
            "# HELP atlas_jobs_ended Jobs.\n"
            "atlas_jobs_ended_total 3\n"
            "# EOF\n");
}

TEST(OpenMetricsText, NamesOfAnyKindCannotBreakOutOfTheirLabels) {
  OpenMetrics out;
  out.gauge("atlas_limit_waiting", "Reads.");
  out.add({{"name", "a\"} 7\n\\"}}, std::numeric_limits<double>::infinity());
  EXPECT_THAT(out.end(), HasSubstr("{name=\"a\\\"} 7\\n\\\\\"} +Inf\n"));
}

TEST(MetricsServerOnLoopback, AnswersWhatItIsAskedForAndSaysWhenItCannot) {
  bool busy = false;
  const auto server = MetricsServer::start("127.0.0.1:0", [&]() -> Result<std::string> {
    if (busy) return fail(Code::unavailable, "busy");
    return "# EOF\n";
  });
  ASSERT_TRUE(server) << server.error().message;
  httplib::Client client("127.0.0.1", (*server)->port());
  auto got = client.Get("/metrics");
  ASSERT_TRUE(got);
  EXPECT_EQ(got->status, 200);
  EXPECT_EQ(got->body, "# EOF\n");
  EXPECT_THAT(got->get_header_value("Content-Type"), HasSubstr("application/openmetrics-text"));
  EXPECT_EQ(client.Get("/etc/passwd")->status, 404);
  busy = true;
  got = client.Get("/metrics");
  EXPECT_EQ(got->status, 503);
  EXPECT_EQ(got->body, "busy\n");

  const auto second = MetricsServer::start("127.0.0.1:" + std::to_string((*server)->port()),
                                           [] { return Result<std::string>("# EOF\n"); });
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message, HasSubstr("cannot listen on 127.0.0.1:"));
}

TEST(MetricsServerOnLoopback, AnAddressIsAHostAndAPort) {
  for (const char* bad : {"9817", ":9817", "localhost", "localhost:", "localhost:http", "localhost:99999"}) {
    const auto server = MetricsServer::start(bad, [] { return Result<std::string>("# EOF\n"); });
    ASSERT_FALSE(server) << bad;
    EXPECT_EQ(server.error().code, Code::invalid_argument) << bad;
  }
}

}  // namespace
}  // namespace atlas
