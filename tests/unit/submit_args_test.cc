#include "launcher/atlas_submit_args.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace atlas {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Words = std::vector<std::string>;

SubmitArgs split(const Words& argv) {
  auto args = split_submit_args(argv);
  EXPECT_TRUE(args) << testing::PrintToString(argv) << ": " << (args ? "" : args.error().message);
  return args ? *args : SubmitArgs{};
}

TEST(SubmitArgs, TakesOursAndPassesTheRestOnInOrder) {
  const auto args = split({"--dataset", "/lustre/speech", "-N2", "--cache", "200G", "--gres=gpu:4", "--warm",
                           "train.sh", "--epochs", "10"});
  EXPECT_THAT(args.sbatch, ElementsAre("-N2", "--gres=gpu:4", "train.sh", "--epochs", "10"));
  EXPECT_EQ(args.script, 2U);
  EXPECT_THAT(args.atlas.datasets, ElementsAre("/lustre/speech"));
  EXPECT_EQ(args.atlas.cache, Bytes{200ULL << 30});
  EXPECT_EQ(args.atlas.warm, WarmMode::wait);
  EXPECT_EQ(args.view.nodes, "2");
}

struct Case {
  const char* what;
  Words argv;
  Words sbatch;
  std::optional<std::size_t> script;
  Words datasets;
};

class ScriptPosition : public testing::TestWithParam<Case> {};

TEST_P(ScriptPosition, IsWhereSbatchFindsIt) {
  const auto& c = GetParam();
  const auto args = split(c.argv);
  EXPECT_EQ(args.sbatch, c.sbatch);
  EXPECT_EQ(args.script, c.script);
  EXPECT_EQ(args.atlas.datasets, c.datasets);
}

INSTANTIATE_TEST_SUITE_P(
    SubmitArgs, ScriptPosition,
    testing::Values(
        Case{"bare --warm must not swallow the script", {"--warm", "wait"}, {"wait"}, 0, {}},
        Case{"ours after the script belong to the script",
             {"a.sh", "--dataset", "/x"},
             {"a.sh", "--dataset", "/x"},
             0,
             {}},
        Case{"an option's value is no script", {"--partition", "gpu", "a.sh"}, {"--partition", "gpu", "a.sh"}, 2, {}},
        Case{"a short option's value is no script", {"-p", "gpu", "a.sh"}, {"-p", "gpu", "a.sh"}, 2, {}},
        Case{"an attached short value", {"-pgpu", "a.sh"}, {"-pgpu", "a.sh"}, 1, {}},
        Case{"a cluster of flags ending in a value", {"-Hp", "gpu", "a.sh"}, {"-Hp", "gpu", "a.sh"}, 2, {}},
        Case{"an optional value is only attached", {"-k", "a.sh"}, {"-k", "a.sh"}, 1, {}},
        Case{"the rest of a word after -k is its value", {"-kN", "a.sh"}, {"-kN", "a.sh"}, 1, {}},
        Case{"--exclusive takes a value only after =", {"--exclusive", "a.sh"}, {"--exclusive", "a.sh"}, 1, {}},
        Case{"a beginning of an option's name", {"--nodel", "n1", "a.sh"}, {"--nodel", "n1", "a.sh"}, 2, {}},
        Case{"an ambiguous beginning whose candidates all take values",
             {"--gpus-per", "2", "a.sh"},
             {"--gpus-per", "2", "a.sh"},
             2,
             {}},
        Case{"a value that looks like ours",
             {"--comment", "--dataset", "a.sh"},
             {"--comment", "--dataset", "a.sh"},
             2,
             {}},
        Case{"a value that looks like ours, short", {"-J", "--warm", "a.sh"}, {"-J", "--warm", "a.sh"}, 2, {}},
        Case{"an unknown option is a flag", {"--site-thing", "a.sh"}, {"--site-thing", "a.sh"}, 1, {}},
        Case{"an unknown option with =", {"--site-thing=v", "a.sh"}, {"--site-thing=v", "a.sh"}, 1, {}},
        Case{"--wrap has no script", {"--dataset=/x", "--wrap", "ls /x"}, {"--wrap", "ls /x"}, std::nullopt, {"/x"}},
        Case{"after -- comes the script", {"--", "--warm"}, {"--", "--warm"}, 1, {}},
        Case{"only --", {"--"}, {"--"}, std::nullopt, {}}, Case{"nothing", {}, {}, std::nullopt, {}},
        Case{"empty arguments stay", {"--comment=", "", "x"}, {"--comment=", "", "x"}, 1, {}},
        Case{
            "a heterogeneous job", {"-N1", ":", "--dataset=/x", "-N2", "a.sh"}, {"-N1", ":", "-N2", "a.sh"}, 3, {"/x"}},
        Case{"the plugin's own names", {"--atlas-dataset", "/x", "--atlas-warm", "a.sh"}, {"a.sh"}, 0, {"/x"}},
        Case{"datasets add up, repeats count once",
             {"--dataset", "/x", "--dataset=/y/", "--dataset=/x", "a"},
             {"a"},
             0,
             {"/x", "/y"}},
        Case{"bytes stay bytes", {"--comment=\xff\n$(x);'\"", "a b.sh"}, {"--comment=\xff\n$(x);'\"", "a b.sh"}, 1, {}},
        Case{"a limit takes its value", {"--io-limit", "500M", "a.sh"}, {"a.sh"}, 0, {}}));

TEST(SubmitArgs, LastScalarWins) {
  const auto args = split({"--cache=1G", "--cache=2G", "--warm", "--warm=overlap", "--locality=0.5", "--locality",
                           "0.9@10:00", "--io-limit=1G", "--io-limit=500M,2000", "a.sh"});
  EXPECT_EQ(args.atlas.cache, Bytes{2ULL << 30});
  EXPECT_EQ(args.atlas.warm, WarmMode::overlap);
  EXPECT_EQ(args.atlas.locality, (Locality{0.9, std::chrono::seconds(600)}));
  EXPECT_THAT(args.atlas.for_sbatch(), ElementsAre("--atlas-cache=2G", "--atlas-warm=overlap",
                                                   "--atlas-locality=0.9@600s", "--atlas-io-limit=500M,2000"));
}

TEST(SubmitArgs, OwnFlags) {
  const auto args = split({"--explain", "--json", "--follow", "--config", "/c.toml", "a.sh", "--help"});
  EXPECT_TRUE(args.explain && args.json && args.follow);
  EXPECT_FALSE(args.help);
  EXPECT_EQ(args.config, "/c.toml");
  EXPECT_TRUE(split({"-h"}).help);
  EXPECT_TRUE(split({"--version"}).version);
  EXPECT_THAT(split({"-V"}).sbatch, ElementsAre("-V"));
}

TEST(SubmitArgs, RefusesBadValuesAndNamesTheOption) {
  const std::pair<Words, const char*> cases[] = {{{"--cache", "0", "a"}, "--cache"},
                                                 {{"--cache=-1", "a"}, "--cache"},
                                                 {{"--cache=12Q", "a"}, "--cache"},
                                                 {{"--cache=", "a"}, "--cache"},
                                                 {{"--io-limit=0", "a"}, "--io-limit"},
                                                 {{"--io-limit=500M,0", "a"}, "--io-limit"},
                                                 {{"--locality=1.5", "a"}, "--locality"},
                                                 {{"--locality=0.9@x", "a"}, "--locality"},
                                                 {{"--warm=now", "a"}, "--warm"},
                                                 {{"--dataset=rel/path", "a"}, "--dataset"},
                                                 {{"--dataset=/a/../b", "a"}, "--dataset"},
                                                 {{"--dataset=", "a"}, "--dataset"},
                                                 {{"--dataset"}, "--dataset needs a value"},
                                                 {{"--cache"}, "--cache needs a value"},
                                                 {{"--explain=yes", "a"}, "takes no value"},
                                                 {{"--atlas-cache=x", "a"}, "--cache"},
                                                 {{"--follow=1"}, "takes no value"}};
  for (const auto& [argv, part] : cases) {
    const auto args = split_submit_args(argv);
    ASSERT_FALSE(args) << testing::PrintToString(argv);
    EXPECT_EQ(args.error().code, Code::invalid_argument);
    EXPECT_THAT(args.error().message, HasSubstr(part)) << testing::PrintToString(argv);
  }
}

TEST(SubmitArgs, MoreSpecificSourceWinsAndDatasetsAddUp) {
  AtlasOptions line, script;
  ASSERT_TRUE(line.set("dataset", "/a") && line.set("cache", "1G"));
  ASSERT_TRUE(script.set("dataset", "/b") && script.set("dataset", "/a") && script.set("cache", "9G") &&
              script.set("warm", "overlap"));
  const auto both = line.over(script).request();
  EXPECT_THAT(both.datasets, ElementsAre("/a", "/b"));
  EXPECT_EQ(both.cache, Bytes{1ULL << 30});
  EXPECT_EQ(both.warm, WarmMode::overlap);
}

TEST(SubmitArgs, KnowsWhatSbatchWasTold) {
  const auto view =
      split({"-o", "out-%j", "--error=err", "-D/w", "-Nw", "-w", "n[1-2]", "-xn3", "--partition", "gpu", "--wrap=ls"})
          .view;
  EXPECT_EQ(view.output, "out-%j");
  EXPECT_EQ(view.error, "err");
  EXPECT_EQ(view.chdir, "/w");
  EXPECT_EQ(view.nodes, "w");
  EXPECT_EQ(view.nodelist, "n[1-2]");
  EXPECT_EQ(view.exclude, "n3");
  EXPECT_EQ(view.partition, "gpu");
  EXPECT_EQ(view.wrap, "ls");
}

TEST(SbatchOptions, NamesAreUniqueAndPrefixesResolve) {
  for (const auto& option : sbatch_options()) {
    const auto found = find_sbatch_option(option.name);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->name, option.name);
    EXPECT_EQ(found->takes, option.takes);
  }
  EXPECT_EQ(find_sbatch_option("nodel")->name, "nodelist");
  EXPECT_FALSE(find_sbatch_option(""));
  EXPECT_FALSE(find_sbatch_option("no-such-thing"));
  EXPECT_FALSE(find_sbatch_option("no")) << "some that begin so take a value, some do not";
}

}  // namespace
}  // namespace atlas
