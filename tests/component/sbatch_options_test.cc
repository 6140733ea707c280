// The table of sbatch's options against the sbatch that is installed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <regex>

#include "launcher/atlas_submit_options.h"
#include "tests/support/run_program.h"

namespace atlas::test {
namespace {

class InstalledSbatch : public testing::Test {
 protected:
  void SetUp() override {
    std::ofstream(conf_) << "ClusterName=none\nSlurmctldHost=localhost\nNodeName=n1\nPartitionName=p Nodes=n1\n";
    if (sbatch("--version").status != 0) GTEST_SKIP() << "sbatch cannot be run here";
  }
  void TearDown() override { std::filesystem::remove(conf_); }
  /// With an empty script on standard input, so that nothing can be submitted.
  Ran sbatch(const std::string& option) {
    return run_program({"sbatch", option}, {.environment = {{"SLURM_CONF", conf_}}});
  }

  std::string conf_ = std::filesystem::temp_directory_path() / ("atlas-slurm-conf-" + std::to_string(::getpid()));
};

TEST_F(InstalledSbatch, TakesValuesWhereTheTableSaysSo) {
  int known = 0;
  for (const auto& option : sbatch_options()) {
    const std::string name = "--" + std::string(option.name);
    const auto bare = sbatch(name).err;
    if (bare.find("unrecognized option") != std::string::npos || bare.find("ambiguous") != std::string::npos) continue;
    // A name this version lacks may be the beginning of one that it has; the message then names the other.
    if (bare.find("'--") != std::string::npos && bare.find("'" + name + "'") == std::string::npos) continue;
    ++known;
    const bool needs = bare.find("requires an argument") != std::string::npos;
    const bool refuses = sbatch(name + "=x").err.find("doesn't allow an argument") != std::string::npos;
    EXPECT_EQ(needs, option.takes == Takes::required) << name << ": " << bare;
    EXPECT_EQ(refuses, option.takes == Takes::none) << name;
  }
  EXPECT_GT(known, 90) << "the messages of this sbatch are not understood by this test";
}

TEST_F(InstalledSbatch, HasNoOptionThatTheTableLacks) {
  const auto help = sbatch("--help").out;
  const std::regex option(R"((?:^|\n)\s+(?:-(\w), )?--([a-z][a-z-]+)(\[?=)?)");
  int seen = 0;
  for (std::sregex_iterator at(help.begin(), help.end(), option), end; at != end; ++at, ++seen) {
    const std::string name = (*at)[2];
    if (name.starts_with("atlas-")) continue;
    const auto found = find_sbatch_option(name);
    ASSERT_TRUE(found) << "--" << name;
    EXPECT_EQ(found->name, name);
    if ((*at)[1].matched) {
      const auto letter = find_sbatch_option((*at)[1].str()[0]);
      ASSERT_TRUE(letter) << (*at)[0];
      EXPECT_EQ(letter->takes, found->takes) << (*at)[0];
    }
  }
  EXPECT_GT(seen, 60) << "sbatch --help is not understood by this test";
}

}  // namespace
}  // namespace atlas::test
