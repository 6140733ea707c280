// How nodes divide a generation: evenly, without a word, and so that little moves.
#include "cache-agent/fetch/share.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

namespace atlas::agent {
namespace {

constexpr std::uint64_t kMega = 1 << 20;
constexpr Bytes kChunk{32 * kMega};

Manifest files(const std::vector<std::uint64_t>& sizes) {
  ManifestBuilder builder("/origin/ds");
  WalkedEntry entry;
  entry.attributes = {EntryType::directory, 0, 0755, 1, 1, 0, 1, 1, 0};
  const auto root = builder.add(0, entry);
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    entry.name = "f" + std::to_string(i);
    entry.attributes = {EntryType::file, 0, 0644, 1, 1, sizes[i], 1, 1, 0};
    entry.allocated = sizes[i];
    static_cast<void>(builder.add(root, entry));
  }
  auto built = std::move(builder).build();
  EXPECT_TRUE(built);
  return std::move(*built);
}

std::vector<NodeAddress> nodes(unsigned count) {
  std::vector<NodeAddress> out;
  for (unsigned i = 0; i < count; ++i) out.push_back({"n" + std::to_string(i), "host:" + std::to_string(i)});
  return out;
}

/// Bytes by node; "" = nobody's.
std::map<std::string, std::uint64_t> loads(const Manifest& manifest, const Share& share) {
  std::map<std::string, std::uint64_t> out;
  for (FileIndex i = 0; i < manifest.size(); ++i) {
    const auto entry = manifest.at(i);
    for (std::uint64_t at = 0; at < entry.attributes.size && entry.blocks != 0; at += kMega) {
      const auto* owner = share.owner(manifest, i, at);
      out[owner == nullptr ? "" : owner->node] += std::min(kMega, entry.attributes.size - at);
    }
  }
  return out;
}

TEST(Share, AllNodesAgreeWhateverOrderTheyHearOfEachOtherIn) {
  const auto manifest = files(std::vector<std::uint64_t>(500, 100'000));
  auto list = nodes(5);
  const Share here(manifest, list, "n2", kChunk, {});
  std::reverse(list.begin(), list.end());
  const Share there(manifest, list, "n4", kChunk, {});
  for (FileIndex i = 1; i < manifest.size(); ++i) {
    ASSERT_EQ(here.owner(manifest, i, 0)->node, there.owner(manifest, i, 0)->node);
    EXPECT_FALSE(here.mine(manifest, i, 0) && there.mine(manifest, i, 0));
  }
  EXPECT_EQ(here.bytes().count, loads(manifest, here)["n2"]);
}

TEST(Share, EachGetsTheSameBytesButForOnePiece) {
  std::vector<std::uint64_t> sizes(3'000, 123'456);
  for (std::uint64_t i = 0; i < 10; ++i) sizes.push_back((100 + 57 * i) * kMega + i);
  const auto manifest = files(sizes);
  for (const unsigned n : {2U, 4U, 8U, 64U}) {
    const Share share(manifest, nodes(n), "n0", kChunk, {});
    const auto by_node = loads(manifest, share);
    EXPECT_FALSE(by_node.contains("")) << "nothing is left over";
    EXPECT_EQ(by_node.size(), n);
    for (const auto& [node, bytes] : by_node) {
      EXPECT_LE(bytes, manifest.summary().bytes / n + kChunk.count) << node << " of " << n;
      EXPECT_GE(bytes + kChunk.count, manifest.summary().bytes / n) << node << " of " << n;
    }
  }
}

TEST(Share, AChunkOfALargeFileIsOneNodes) {
  const auto manifest = files({1000 * kMega});
  const Share share(manifest, nodes(4), "n1", kChunk, {});
  for (std::uint64_t at = 0; at < 1000 * kMega; at += kMega)
    EXPECT_EQ(share.owner(manifest, 1, at), share.owner(manifest, 1, at / kChunk.count * kChunk.count));
  EXPECT_EQ(loads(manifest, share).size(), 4U);
  EXPECT_EQ(share.owner(manifest, 1, 1000 * kMega), nullptr) << "beyond its end";
}

TEST(Share, ANodeThatComesOrGoesMovesLittleMoreThanItsOwn) {
  const auto manifest = files(std::vector<std::uint64_t>(20'000, 100'000));
  const Share eight(manifest, nodes(8), "n0", kChunk, {}), seven(manifest, nodes(7), "n0", kChunk, {});
  unsigned moved = 0, lost = 0;
  for (FileIndex i = 1; i < manifest.size(); ++i) {
    const auto &before = eight.owner(manifest, i, 0)->node, &after = seven.owner(manifest, i, 0)->node;
    if (before == "n7") {
      ++lost;
    } else if (before != after) {
      ++moved;
    }
  }
  EXPECT_NEAR(lost, 2500, 50);
  EXPECT_LT(moved, 600U) << "3% of what the others have";
}

TEST(Share, WhatNobodyMayTakeIsNobodys) {
  const auto manifest = files(std::vector<std::uint64_t>(100, kMega));
  const Share share(manifest, nodes(4), "n0", kChunk, Bytes{10 * kMega});
  const auto by_node = loads(manifest, share);
  EXPECT_EQ(by_node.at(""), 60 * kMega);
  for (const auto& node : nodes(4)) EXPECT_EQ(by_node.at(node.node), 10 * kMega);
}

TEST(Share, EmptyFilesAndFewerFilesThanNodesAreNoTrouble) {
  const auto manifest = files({0, 5});
  const Share share(manifest, nodes(8), "n3", kChunk, {});
  EXPECT_NE(share.owner(manifest, 1, 0), nullptr);
  EXPECT_LE(share.bytes().count, 5U);
  const Share none(files({}), nodes(2), "n0", kChunk, {});
  EXPECT_EQ(none.bytes().count, 0U);
}

}  // namespace
}  // namespace atlas::agent
