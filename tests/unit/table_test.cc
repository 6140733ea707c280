#include "common/table.h"

#include <gtest/gtest.h>

namespace atlas {
namespace {

Table sample() {
  Table table({{"DATASET"}, {"SIZE", Table::Align::right}, {"NODES"}});
  table.add({"speech", "183G", "n[001-002]"});
  table.add({"ocr", "9K", ""});
  return table;
}

TEST(Table, AlignsNumbersRightAndTextLeftWithoutTrailingSpaces) {
  EXPECT_EQ(sample().render({}),
            "DATASET  SIZE  NODES\n"
            "speech   183G  n[001-002]\n"
            "ocr        9K\n");
}

TEST(Table, LeavesTheHeaderOut) {
  EXPECT_EQ(sample().render({.header = false}), "speech  183G  n[001-002]\nocr       9K\n");
}

TEST(Table, ParsableHasOneSeparatorBetweenCellsAndNoPadding) {
  EXPECT_EQ(sample().render({.parsable = true}), "DATASET|SIZE|NODES\nspeech|183G|n[001-002]\nocr|9K|\n");
}

TEST(Table, ParsableCellsCannotHoldASeparatorOrALineBreak) {
  Table table({{"A"}, {"B"}});
  table.add({"x|y\\z", "two\nlines"});
  EXPECT_EQ(table.render({.header = false, .parsable = true}), "x\\x7Cy\\x5Cz|two\\x0Alines\n");
}

TEST(Table, HostilePathsCannotTouchTheTerminal) {
  Table table({{"A"}});
  table.add({"\x1b[31mred\xff"});
  EXPECT_EQ(table.render({.header = false}), "\\x1B[31mred\\xFF\n");
}

TEST(Table, MeasuresDisplayColumnsNotBytes) {
  EXPECT_EQ(display_width("speech"), 6U);
  EXPECT_EQ(display_width("größe"), 5U);
  EXPECT_EQ(display_width("e\xcc\x81"), 1U);
  EXPECT_EQ(display_width("音声"), 4U);
  EXPECT_EQ(display_width("\xf0\x9f\x98\x80"), 2U);
  Table table({{"NAME"}, {"N", Table::Align::right}});
  table.add({"größe", "1"});
  table.add({"音声", "22"});
  EXPECT_EQ(table.render({.header = false}), "größe   1\n音声   22\n");
}

TEST(Table, ShortRowsAreFilledUp) {
  Table table({{"A"}, {"B"}});
  table.add({"x"});
  EXPECT_EQ(table.rows(), 1U);
  EXPECT_EQ(table.render({.parsable = true}), "A|B\nx|\n");
}

}  // namespace
}  // namespace atlas
