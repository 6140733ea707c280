#include "spank-plugin/submission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "common/child.h"

namespace atlas::spank {
namespace {

using ::testing::HasSubstr;

constexpr uid_t kUser = 20001;

class SubmissionTest : public ::testing::Test {
 protected:
  SubmissionTest() {
    std::string pattern = "/tmp/atlas-submission-XXXXXX";
    root_ = ::mkdtemp(pattern.data());
    ::chmod(root_.c_str(), 0755);
    std::filesystem::create_directories(root_ / "origin/speech/en");
    std::filesystem::create_directories(root_ / "elsewhere");
    args_.config = root_ / "atlas.toml";
    std::ofstream(args_.config) << "[submit]\nresolve_timeout = \"20s\"\n[[origin]]\nname = \"lustre\"\nroot = \"" +
                                       origin() + "\"\n";
  }
  ~SubmissionTest() override { std::filesystem::remove_all(root_); }

  [[nodiscard]] std::string origin() const { return (root_ / "origin").string(); }
  [[nodiscard]] Submission submission() const { return {args_, kUser}; }

  /// The message for one --atlas-dataset; "" when it is taken.
  [[nodiscard]] std::string refusal(const std::string& dataset) const {
    auto one = submission();
    auto done = one.add(OptionKey::dataset, dataset, Client::sbatch, false);
    return done ? "" : done.error().message;
  }
  [[nodiscard]] std::string option_refusal(OptionKey key, const std::string& value) const {
    auto one = submission();
    auto done = one.add(key, value, Client::sbatch, false);
    return done ? "" : done.error().message;
  }

  std::filesystem::path root_;
  PluginArgs args_;
};

TEST_F(SubmissionTest, PacksEveryDatasetAndTheLastOfEachScalar) {
  auto one = submission();
  std::filesystem::create_directories(root_ / "origin/noise");
  for (const char* name : {"/speech", "/noise", "/speech/"})
    ASSERT_TRUE(one.add(OptionKey::dataset, origin() + name, Client::sbatch, false));
  ASSERT_TRUE(one.add(OptionKey::dataset, "~anna/words", Client::sbatch, false));
  ASSERT_TRUE(one.add(OptionKey::cache, "1G", Client::sbatch, false));
  ASSERT_TRUE(one.add(OptionKey::cache, "2G", Client::sbatch, false));
  ASSERT_TRUE(one.add(OptionKey::warm, "", Client::sbatch, false));
  ASSERT_TRUE(one.add(OptionKey::locality, "0.9@10:00", Client::sbatch, false));
  ASSERT_TRUE(one.add(OptionKey::io_limit, "500M,2000", Client::sbatch, false));
  const auto packed = one.finish("/home");
  ASSERT_TRUE(packed && *packed);
  const auto request = decode_request((*packed)->request);
  ASSERT_TRUE(request);
  EXPECT_EQ(request->datasets, (std::vector<std::string>{origin() + "/speech", origin() + "/noise", "~anna/words"}));
  EXPECT_EQ(request->cache, Bytes{2ULL << 30});
  EXPECT_EQ(request->warm, WarmMode::wait);
  EXPECT_EQ(request->locality, (Locality{0.9, std::chrono::minutes(10)}));
  EXPECT_EQ(request->io_limit, (IoLimit{Bytes{500ULL << 20}, 2000}));
  const auto again = one.finish("/home");
  ASSERT_TRUE(again);
  EXPECT_FALSE(*again) << "a second finish starts afresh";
}

TEST_F(SubmissionTest, BareWarmOverlapsForInteractiveCommands) {
  for (const auto& [value, mode] : {std::pair("", WarmMode::overlap), {"wait", WarmMode::wait}}) {
    auto one = submission();
    ASSERT_TRUE(one.add(OptionKey::dataset, "speech", Client::interactive, false));
    ASSERT_TRUE(one.add(OptionKey::warm, value, Client::interactive, false));
    EXPECT_EQ(decode_request((*one.finish(""))->request)->warm, mode);
  }
}

TEST_F(SubmissionTest, NoOptionMeansNoRequestAndNoFileRead) {
  args_.config = "/nonexistent";
  auto one = submission();
  const auto packed = one.finish("/home");
  ASSERT_TRUE(packed);
  EXPECT_FALSE(*packed);
}

TEST_F(SubmissionTest, ABrokenConfigurationIsOneClearError) {
  args_.config = "/nonexistent/atlas.toml";
  EXPECT_THAT(refusal("speech"), HasSubstr("/nonexistent/atlas.toml"));
  args_.config = root_ / "atlas.toml";
  std::ofstream(args_.config) << "[agent]\nsoket = \"x\"\n";
  EXPECT_THAT(refusal("speech"), HasSubstr("atlas.toml:2:1: unknown key 'soket'"));
}

TEST_F(SubmissionTest, OptionsWithoutADatasetAreAnError) {
  auto one = submission();
  ASSERT_TRUE(one.add(OptionKey::cache, "2G", Client::sbatch, false));
  const auto packed = one.finish("");
  ASSERT_FALSE(packed);
  EXPECT_THAT(packed.error().message, HasSubstr("--atlas-dataset=PATH"));
}

TEST_F(SubmissionTest, RootIsRefused) {
  Submission one(args_, 0);
  auto done = one.add(OptionKey::dataset, "speech", Client::sbatch, false);
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().message, HasSubstr("jobs of root cannot use Atlas"));
}

TEST_F(SubmissionTest, BadValuesNameTheOptionAsItWasTyped) {
  for (const char* value : {"0", "-1", "12Q", ""})
    EXPECT_THAT(option_refusal(OptionKey::cache, value), HasSubstr("--atlas-cache")) << value;
  for (const char* value : {"1.5", "0.9@x", ""})
    EXPECT_THAT(option_refusal(OptionKey::locality, value), HasSubstr("--atlas-locality")) << value;
  EXPECT_THAT(option_refusal(OptionKey::warm, "maybe"), HasSubstr("--atlas-warm"));
  for (const char* value : {"", "relative/path", "./x", "/a/../b", "/"})
    EXPECT_THAT(refusal(value), HasSubstr("--atlas-dataset")) << value;
}

TEST_F(SubmissionTest, PathsAreCheckedWhereTheyLead) {
  EXPECT_EQ(refusal(origin() + "/speech"), "");
  EXPECT_THAT(refusal((root_ / "elsewhere").string()), HasSubstr("the origins are: " + origin() + " (lustre)"));
  EXPECT_THAT(refusal(origin() + "/missing"), HasSubstr("does not exist"));
  std::filesystem::create_symlink(root_ / "elsewhere", root_ / "origin/out");
  EXPECT_THAT(refusal(origin() + "/out"), HasSubstr("leads to '" + (root_ / "elsewhere").string()));
  ::mkfifo((root_ / "origin/pipe").c_str(), 0666);
  EXPECT_THAT(refusal(origin() + "/pipe"), HasSubstr("neither a directory nor a regular file"));
}

TEST_F(SubmissionTest, SymlinksTravelAsWhatTheyLeadTo) {
  std::filesystem::create_symlink("speech/en", root_ / "origin/latest");
  std::filesystem::create_symlink(root_ / "origin/speech", root_ / "elsewhere/mine");
  for (const auto& path : {origin() + "/latest", (root_ / "elsewhere/mine/en").string()}) {
    auto one = submission();
    ASSERT_TRUE(one.add(OptionKey::dataset, path, Client::sbatch, false));
    EXPECT_EQ(decode_request((*one.finish(""))->request)->datasets[0], origin() + "/speech/en");
  }
}

TEST_F(SubmissionTest, UnreadableDataIsNamedWithItsReader) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  ::chmod((root_ / "origin/speech").c_str(), 0700);
  const auto seen = [&](const std::string& path) {
    return run_in_child(
               [&]() -> Packet {
                 if (::setresgid(kUser, kUser, kUser) != 0 || ::setresuid(kUser, kUser, kUser) != 0) return {"?", {}};
                 return {refusal(path), {}};
               },
               {std::chrono::seconds(10)})
        ->bytes;
  };
  EXPECT_THAT(seen(origin() + "/speech"), HasSubstr("permission denied: user uid 20001 may not read"));
  EXPECT_THAT(seen(origin() + "/speech/en"), HasSubstr("a directory above it is closed"));
}

TEST_F(SubmissionTest, StrangePathsTravelUnharmed) {
  for (const std::string name : {"a b", "new\nline", "per%cent", "quo'te\"s", "$(id)", "semi;colon", "\xff\xfe", "ü"}) {
    std::filesystem::create_directories(root_ / "origin" / name);
    auto one = submission();
    ASSERT_TRUE(one.add(OptionKey::dataset, origin() + "/" + name, Client::sbatch, false)) << name;
    const auto packed = one.finish("");
    EXPECT_EQ((*packed)->request.find_first_of(" \n'\"$;"), std::string::npos);
    EXPECT_EQ(decode_request((*packed)->request)->datasets[0], origin() + "/" + name);
  }
}

TEST_F(SubmissionTest, ARequestOverTheLimitIsRefusedAtTheOptionThatBreaksIt) {
  auto one = submission();
  std::string refused;
  for (int i = 0; i < 1000 && refused.empty(); ++i) {
    auto done = one.add(OptionKey::dataset, "a-dataset-with-a-long-name-" + std::to_string(i), Client::sbatch, false);
    if (!done) refused = done.error().message;
  }
  EXPECT_THAT(refused, HasSubstr("the limit is 8192"));
}

TEST_F(SubmissionTest, AWorkingDirectoryInsideTheDataIsWarnedOf) {
  auto one = submission();
  ASSERT_TRUE(one.add(OptionKey::dataset, origin() + "/speech", Client::sbatch, false));
  const auto packed = one.finish(origin() + "/speech/en");
  ASSERT_EQ((*packed)->warnings.size(), 1U);
  EXPECT_THAT((*packed)->warnings[0], HasSubstr("read-only"));
}

TEST(Inherited, OnlyWhatSpeaksOfTheOuterJobIsForgotten) {
  for (const char* name : {"SLURM_SPANK_ATLAS_REQ", "SPANK_ATLAS_REQ", "ATLAS_CACHE_STATE"}) {
    EXPECT_TRUE(is_inherited(name, false)) << name;
    EXPECT_FALSE(is_inherited(name, true)) << name;
  }
  for (const char* name :
       {"_SLURM_SPANK_OPTION_atlas_atlas_dataset", "SLURM_SPANK__SLURM_SPANK_OPTION_atlas_atlas_warm",
        "SPANK__SLURM_SPANK_OPTION_atlas_atlas_cache"}) {
    EXPECT_TRUE(is_inherited(name, true)) << name;
    EXPECT_TRUE(is_inherited(name, false)) << name;
  }
  for (const char* name : {"SLURM_JOB_ID", "ATLAS_CONF", "ATLAS_QUIET", "_SLURM_SPANK_OPTION_pyxis_container_image"})
    EXPECT_FALSE(is_inherited(name, false)) << name;
}

TEST(Inherited, TheEnvironmentIsCleared) {
  ::setenv("SLURM_SPANK_ATLAS_REQ", "v1,d=/x", 1);
  ::setenv("_SLURM_SPANK_OPTION_atlas_atlas_warm", "(null)", 1);
  forget_inherited(true);
  EXPECT_EQ(::getenv("_SLURM_SPANK_OPTION_atlas_atlas_warm"), nullptr);
  EXPECT_NE(::getenv("SLURM_SPANK_ATLAS_REQ"), nullptr);
  forget_inherited(false);
  EXPECT_EQ(::getenv("SLURM_SPANK_ATLAS_REQ"), nullptr);
}

}  // namespace
}  // namespace atlas::spank
