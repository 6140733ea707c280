#include "cache-agent/manifest/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "cache-agent/manifest/lock_files.h"
#include "cache-agent/origin/acl.h"

namespace atlas::agent {
namespace {

WalkedEntry entry(std::string name, EntryType type, std::uint64_t size = 0) {
  WalkedEntry e;
  e.name = std::move(name);
  e.attributes = {type, 0, 0644, 1001, 1001, size, 1'700'000'000'123'456'789, 1'700'000'001'000'000'001, 0};
  e.allocated = size;
  return e;
}

struct Tree {
  std::string name;
  EntryType type = EntryType::file;
  std::uint64_t size = 0;
  std::vector<Tree> children;
};

/// Adds a tree with each directory's entries in random order: what a parallel walk does.
void add(ManifestBuilder& builder, const Tree& tree, std::mt19937& random) {
  struct Pending {
    const Tree* tree;
    std::uint32_t token;
  };
  std::vector<Pending> pending{{&tree, builder.add(0, entry("", tree.type, tree.size))}};
  while (!pending.empty()) {
    std::shuffle(pending.begin(), pending.end(), random);
    const Pending next = pending.back();
    pending.pop_back();
    auto children = next.tree->children;
    std::vector<const Tree*> order;
    for (const auto& child : next.tree->children) order.push_back(&child);
    std::shuffle(order.begin(), order.end(), random);
    for (const auto* child : order)
      pending.push_back({child, builder.add(next.token, entry(child->name, child->type, child->size))});
  }
}

Tree sample() {
  return {"",
          EntryType::directory,
          0,
          {{"b", EntryType::directory, 0, {{"z", EntryType::file, 3 << 20, {}}, {"a\nb", EntryType::file, 0, {}}}},
           {"a", EntryType::directory, 0, {{"\xff\xfe", EntryType::file, 1, {}}}},
           {"c", EntryType::file, (1 << 20) + 1, {}}}};
}

Result<Manifest> made_of(const Tree& tree, unsigned seed) {
  std::mt19937 random(seed);
  ManifestBuilder builder("/origin/set");
  add(builder, tree, random);
  return std::move(builder).build();
}

TEST(Manifest, GenerationDoesNotDependOnTheOrderOfTheWalk) {
  const auto first = made_of(sample(), 1);
  ASSERT_TRUE(first) << first.error().message;
  for (unsigned seed = 2; seed < 20; ++seed) {
    const auto other = made_of(sample(), seed);
    ASSERT_TRUE(other);
    EXPECT_EQ(other->summary().generation, first->summary().generation);
  }
}

TEST(Manifest, EveryAttributeChangesTheGeneration) {
  const auto generation_with = [](const std::function<void(WalkedEntry&)>& change) {
    ManifestBuilder builder("/origin/set");
    builder.add(0, entry("", EntryType::directory));
    WalkedEntry file = entry("f", EntryType::file, 10);
    change(file);
    builder.add(0, std::move(file));
    return std::move(builder).build().value().summary().generation;
  };
  std::vector<GenerationId> seen{generation_with([](WalkedEntry&) {})};
  const std::vector<std::function<void(WalkedEntry&)>> changes = {
      [](WalkedEntry& e) { e.name = "g"; },
      [](WalkedEntry& e) { e.attributes.size = 11; },
      [](WalkedEntry& e) { e.attributes.mtime += 1; },
      [](WalkedEntry& e) { e.attributes.ctime += 1; },
      [](WalkedEntry& e) { e.attributes.mode = 0600; },
      [](WalkedEntry& e) { e.attributes.uid = 7; },
      [](WalkedEntry& e) { e.attributes.gid = 7; },
      [](WalkedEntry& e) { e.attributes.flags = kOpaque; },
      [](WalkedEntry& e) { e.attributes.type = EntryType::fifo; },
      [](WalkedEntry& e) {
        e.attributes.type = EntryType::symlink;
        e.target = "x";
      },
      [](WalkedEntry& e) {
        e.attributes.type = EntryType::symlink;
        e.target = "y";
      },
  };
  for (const auto& change : changes) {
    seen.push_back(generation_with(change));
    EXPECT_EQ(std::count(seen.begin(), seen.end(), seen.back()), 1);
  }
}

TEST(Manifest, FindsEveryEntryByPathAndNothingElse) {
  const auto manifest = made_of(sample(), 3).value();
  EXPECT_EQ(manifest.size(), 7U);
  for (FileIndex i = 0; i < manifest.size(); ++i) EXPECT_EQ(manifest.find(manifest.path(i)), i);
  EXPECT_TRUE(manifest.find("b/a\nb"));
  EXPECT_TRUE(manifest.find("a/\xff\xfe"));
  EXPECT_FALSE(manifest.find("b/y"));
  EXPECT_FALSE(manifest.find("c/x"));
}

TEST(Manifest, FilesGetOneBitPerMebibyteAndAtLeastOne) {
  const auto manifest = made_of(sample(), 3).value();
  EXPECT_EQ(manifest.at(*manifest.find("b/z")).blocks, 3U);
  EXPECT_EQ(manifest.at(*manifest.find("b/a\nb")).blocks, 1U);
  EXPECT_EQ(manifest.at(*manifest.find("c")).blocks, 2U);
  EXPECT_EQ(manifest.summary().blocks, 3U + 1U + 2U + 1U);
  EXPECT_EQ(manifest.summary().files, 4U);
  EXPECT_EQ(manifest.summary().bytes, (3U << 20) + (1U << 20) + 1U + 1U);
}

TEST(Manifest, HardLinksShareTheFirstEntrysBlocks) {
  ManifestBuilder builder("/origin/set");
  builder.add(0, entry("", EntryType::directory));
  for (const char* name : {"y", "x"}) {
    WalkedEntry e = entry(name, EntryType::file, 5);
    e.device = 1;
    e.inode = 42;
    e.links = 2;
    builder.add(0, std::move(e));
  }
  const auto manifest = std::move(builder).build().value();
  const FileIndex x = *manifest.find("x"), y = *manifest.find("y");
  EXPECT_EQ(manifest.at(y).leader, x);
  EXPECT_EQ(manifest.at(y).blocks, 0U);
  EXPECT_EQ(manifest.at(x).blocks, 1U);
  EXPECT_EQ(manifest.summary().bytes, 5U);
}

TEST(Manifest, LinksThatLeaveTheDatasetAreCounted) {
  const std::vector<std::pair<std::string, bool>> cases = {
      {"../up", true},        {"d/../../up", true},     {"d/../stay", false},      {"stay", false},
      {"/origin/set", false}, {"/origin/set/a", false}, {"/origin/settled", true}, {"/etc/passwd", true}};
  for (const auto& [target, leaves] : cases) {
    ManifestBuilder builder("/origin/set");
    builder.add(0, entry("", EntryType::directory));
    WalkedEntry link = entry("l", EntryType::symlink);
    link.target = target;
    builder.add(0, std::move(link));
    EXPECT_EQ(std::move(builder).build().value().summary().outward_links, leaves ? 1U : 0U) << target;
  }
}

TEST(Manifest, LockFilesAreThoseOfDatabases) {
  ManifestBuilder builder("/origin/set");
  const auto root = builder.add(0, entry("", EntryType::directory));
  const auto bin = builder.add(root, entry("bin", EntryType::directory));
  for (const char* name : {"data.mdb", "lock.mdb", "train", "train-lock", "alone-lock"})
    builder.add(root, entry(name, EntryType::file, 8192));
  builder.add(bin, entry("lock.mdb", EntryType::file, 8192));  // no database beside it
  builder.add(bin, entry("conda", EntryType::file, 100));
  auto program = entry("conda-lock", EntryType::file, 100);
  program.attributes.mode = 0755;
  builder.add(bin, program);
  builder.add(bin, entry("dir", EntryType::directory));
  builder.add(bin, entry("dir-lock", EntryType::file, 8192));
  const auto manifest = std::move(builder).build();
  ASSERT_TRUE(manifest);
  EXPECT_THAT(database_lock_files(*manifest), ::testing::ElementsAre("lock.mdb", "train-lock"));
}

TEST(Manifest, LoaderRefusesRowsThatDoNotMakeATree) {
  const EntryAttributes directory = entry("", EntryType::directory).attributes;
  const EntryAttributes file = entry("", EntryType::file).attributes;
  const auto code_after = [&](std::vector<ManifestLoader::Row> rows) {
    ManifestLoader loader("/origin/set");
    Status last;
    for (const auto& row : rows)
      if (last) last = loader.add(row);
    return last ? Code{} : last.error().code;
  };
  const ManifestLoader::Row root{0, 0, "", "", directory, 0};
  EXPECT_EQ(code_after({root, {0, 1, "a", "", file, 0}, {0, 2, "b", "", file, 0}}), Code{});
  EXPECT_EQ(code_after({root, {0, 1, "b", "", file, 0}, {0, 2, "a", "", file, 0}}), Code::data_loss);
  EXPECT_EQ(code_after({root, {0, 1, "a", "", file, 0}, {0, 2, "a", "", file, 0}}), Code::data_loss);
  EXPECT_EQ(code_after({root, {1, 1, "a", "", file, 0}}), Code::data_loss);
  EXPECT_EQ(code_after({root, {0, 1, "a/b", "", file, 0}}), Code::data_loss);
  EXPECT_EQ(code_after({root, {0, 1, "..", "", file, 0}}), Code::data_loss);
  EXPECT_EQ(code_after({root, {0, 1, "a", "", file, 0}, {1, 2, "b", "", file, 0}}), Code::data_loss);
  EXPECT_EQ(code_after({root, {0, 7, "a", "", file, 0}}), Code::data_loss);
}

TEST(Acl, OnlyWhatALocalFileCanCarryIsKept) {
  EXPECT_EQ(classify_xattr("user.k", ""), XattrClass::keep);
  EXPECT_EQ(classify_xattr("system.posix_acl_access", ""), XattrClass::keep);
  EXPECT_EQ(classify_xattr("security.selinux", ""), XattrClass::skip);
  EXPECT_EQ(classify_xattr("trusted.x", ""), XattrClass::skip);
  const auto ace = [](std::string_view who) {
    std::string out("\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0", 19);
    out += static_cast<char>(who.size());
    out += who;
    out.resize((out.size() + 3) / 4 * 4, '\0');
    return out;
  };
  EXPECT_EQ(classify_xattr("system.nfs4_acl", ace("OWNER@")), XattrClass::skip);
  EXPECT_EQ(classify_xattr("system.nfs4_acl", ace("alice@site")), XattrClass::unrepresentable);
  EXPECT_EQ(classify_xattr("system.nfs4_acl", "\0\0"), XattrClass::unrepresentable);
}

TEST(Ids, CanonicalPathsOnly) {
  for (const char* good : {"", "a", "a/b", "a b/%\n", "...", "a/.b"}) EXPECT_TRUE(check(DatasetId{"o", good})) << good;
  for (const char* bad : {"/a", "a/", "a//b", ".", "..", "a/../b", "a/.", "./a"})
    EXPECT_FALSE(check(DatasetId{"o", bad})) << bad;
  EXPECT_FALSE(check(DatasetId{"o", std::string("a\0b", 3)}));
  EXPECT_FALSE(check(DatasetId{"", "a"}));
}

}  // namespace
}  // namespace atlas::agent
