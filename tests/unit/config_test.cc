#include "common/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace atlas {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string error_of(std::string_view text) {
  const auto config = parse_config(text, "atlas.toml");
  return config ? "" : config.error().message;
}

TEST(ConfigParse, EmptyFileMeansDefaults) {
  const auto config = parse_config("", "atlas.toml");
  ASSERT_TRUE(config);
  EXPECT_EQ(config->warm.max_wait, std::chrono::minutes(30));
  EXPECT_TRUE(config->origins.empty());
}

TEST(ConfigParse, ReadsEverySectionAndRemembersWhereFrom) {
  const auto config = parse_config(
      "[warm]\nmax_wait = "
      "\"10m\"\n[[origin]]\nname=\"l\"\nroot=\"/lustre/\"\n[[tier]]\nname=\"n\"\npath=\"/nvme/%n\"\nquota=\"1T\"\n",
      "a.toml");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->warm.max_wait, std::chrono::minutes(10));
  EXPECT_EQ(config->provenance.at("warm.max_wait"), "a.toml:2");
  EXPECT_EQ(config->origins.at(0).root, "/lustre");
  EXPECT_EQ(expand_node(config->tiers.at(0).path, "n001"), "/nvme/n001");
  EXPECT_EQ(origin_of(*config, "/lustre/x")->name, "l");
  EXPECT_EQ(origin_of(*config, "/lustre2/x"), nullptr);
}

TEST(ConfigParse, ErrorsNameFileLineAndColumnAndSuggest) {
  EXPECT_THAT(error_of("[warm]\nmax_wiat = \"1m\"\n"),
              StartsWith("atlas.toml:2:1: unknown key 'max_wiat' in [warm]; did you mean 'max_wait'?"));
  EXPECT_THAT(error_of("[controler]\n"), HasSubstr("did you mean 'controller'?"));
  EXPECT_THAT(error_of("[warm\n"), StartsWith("atlas.toml:1:"));
  EXPECT_THAT(error_of("[warm]\nchunk = 5\n"), StartsWith("atlas.toml:2:9: warm.chunk: expected a size"));
  EXPECT_THAT(error_of("[controller]\nport = 0\n"), HasSubstr("from 1 to 65535"));
  EXPECT_THAT(error_of("[[origin]]\nname=\"x\"\n"), HasSubstr("needs name and root"));
  EXPECT_THAT(error_of("[origin]\nname=\"x\"\n"), HasSubstr("[[origin]]"));
}

TEST(ConfigParse, ATiersMarksArePartsOfItsDisk) {
  const std::string tier = "[[tier]]\nname=\"n\"\npath=\"/nvme\"\nquota=\"1T\"\n";
  const auto plain = parse_config(tier, "atlas.toml");
  ASSERT_TRUE(plain) << plain.error().message;
  EXPECT_EQ(plain->tiers.at(0).inodes, 0U);
  EXPECT_DOUBLE_EQ(plain->tiers.at(0).low, 0.95);
  EXPECT_DOUBLE_EQ(plain->tiers.at(0).high, 0.98);
  const auto config = parse_config(tier + "inodes=5000000000\nlow_mark=\"80.5%\"\nhigh_mark=\"90%\"\n", "atlas.toml");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->tiers.at(0).inodes, 5'000'000'000U);
  EXPECT_DOUBLE_EQ(config->tiers.at(0).low, 0.805);
  EXPECT_THAT(show_config(*config), HasSubstr("low_mark = \"80.5%\", high_mark = \"90%\""));
  EXPECT_THAT(error_of(tier + "low_mark=\"99%\"\n"), HasSubstr("low_mark \"99%\" is above high_mark \"98%\""));
  for (const char* bad : {"0.9", "\"90\"", "\"%\"", "\"0%\"", "\"101%\"", "\"nan%\"", "\"9 %\""})
    EXPECT_THAT(error_of(tier + "high_mark=" + bad + "\n"), HasSubstr("expected a part from")) << bad;
  EXPECT_THAT(error_of(tier + "inodes=-1\n"), HasSubstr("expected a whole number"));
}

TEST(ConfigTable, ShowConfigNamesEveryScalar) {
  const auto config = parse_config("", "atlas.toml");
  const auto text = show_config(*config);
  for (const auto& field : config_fields()) {
    if (field.table == "origin" || field.table == "tier") continue;
    EXPECT_THAT(
        text, HasSubstr(std::string(field.table) + "." + std::string(field.key) + " = " + std::string(field.fallback)));
  }
}

}  // namespace
}  // namespace atlas
