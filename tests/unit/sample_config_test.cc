#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <regex>
#include <sstream>

#include "common/config.h"

namespace atlas {
namespace {

/// A key of the sample: the comment above it, whether it is commented out, its value.
struct Entry {
  std::string help, value;
  bool is_default = false;
  int count = 0;
};

std::string sample() {
  std::ifstream in(ATLAS_ETC_DIR "/atlas.toml");
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

std::map<std::string, Entry> entries_of(const std::string& text) {
  static const std::regex kTable(R"(\[\[?(\w+)\]\]?)"), kKey(R"((#?)(\w+) = (.*))");
  std::map<std::string, Entry> entries;
  std::string line, table, above;
  std::istringstream in(text);
  for (std::smatch match; std::getline(in, line); above = line) {
    if (std::regex_match(line, match, kTable)) table = match[1];
    if (!std::regex_match(line, match, kKey)) continue;
    auto& entry = entries[table + "." + match[2].str()];
    entry.help = above;
    entry.is_default = match[1].length() != 0;
    entry.value = match[3];
    ++entry.count;
  }
  return entries;
}

TEST(SampleConfiguration, ShowsEveryKeyOnceWithItsHelpAndItsDefault) {
  auto entries = entries_of(sample());
  ASSERT_FALSE(config_fields().empty());
  for (const auto& field : config_fields()) {
    const std::string name = std::string(field.table) + "." + std::string(field.key);
    const auto entry = entries[name];
    EXPECT_EQ(entry.count, 1) << name;
    EXPECT_EQ(entry.help, "# " + std::string(field.help)) << name;
    EXPECT_EQ(entry.is_default, !field.fallback.empty()) << name << ": what has a default is commented out";
    if (entry.is_default) {
      EXPECT_EQ(entry.value, field.fallback) << name;
    }
    entries.erase(name);
  }
  for (const auto& [name, entry] : entries) ADD_FAILURE() << name << " is in the sample and in no table";
}

TEST(SampleConfiguration, ComesInTheOrderOfTheTable) {
  const auto text = sample();
  std::size_t last = 0;
  for (const auto& field : config_fields()) {
    const auto at = text.find("# " + std::string(field.help) + "\n", last);
    ASSERT_NE(at, std::string::npos) << field.table << "." << field.key;
    last = at + 1;
  }
}

TEST(SampleConfiguration, LoadsAsItIsAndWithEveryDefaultWrittenOut) {
  const auto plain = parse_config(sample(), "atlas.toml");
  ASSERT_TRUE(plain) << plain.error().message;
  const auto full = parse_config(std::regex_replace(sample(), std::regex(R"((^|\n)#(\w+ = ))"), "$1$2"), "atlas.toml");
  ASSERT_TRUE(full) << full.error().message;
  const auto values = [](const Config& config) {
    return std::regex_replace(show_config(config), std::regex("  # [^\n]*"), "");
  };
  EXPECT_EQ(values(*full), values(*plain));
  EXPECT_GT(full->provenance.size(), 20U);
  EXPECT_TRUE(plain->provenance.empty()) << "the sample sets nothing but origins and tiers";
}

}  // namespace
}  // namespace atlas
