#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "common/config.h"

namespace atlas {
namespace {

using testing::HasSubstr;

/// The part of atlas.toml(5) about one table.
std::string section_of(const std::string& page, std::string_view table) {
  const bool list = table == "origin" || table == "tier";
  const std::string title = ".Ss " + std::string(list ? "[[" : "[") + std::string(table) + (list ? "]]" : "]") + "\n";
  const auto begin = page.find(title);
  if (begin == std::string::npos) return "";
  return page.substr(begin, page.find("\n.S", begin + 1) - begin);
}

std::string as_roff(std::string_view toml) {
  std::string out;
  for (const char c : toml) out += c == '"' ? "\\(dq" : std::string(1, c);
  return out;
}

TEST(ManualOfTheConfiguration, NamesEveryKeyWithItsDefault) {
  std::ifstream in(ATLAS_MAN_DIR "/atlas.toml.5");
  ASSERT_TRUE(in);
  std::ostringstream page;
  page << in.rdbuf();
  ASSERT_FALSE(config_fields().empty());
  for (const auto& field : config_fields()) {
    const auto section = section_of(page.str(), field.table);
    const std::string item = ".It Va " + std::string(field.key);
    EXPECT_THAT(section,
                HasSubstr(field.fallback.empty() ? item + "\n" : item + " No = Li " + as_roff(field.fallback) + "\n"))
        << field.table << "." << field.key;
  }
}

}  // namespace
}  // namespace atlas
