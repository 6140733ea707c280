#include "launcher/atlas_submit_script.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "launcher/atlas_submit_plan.h"
#include "launcher/atlas_submit_run.h"

namespace atlas {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

Directives directives(std::string_view script) {
  auto out = read_directives(script, "job.sh");
  EXPECT_TRUE(out) << (out ? "" : out.error().message);
  return out ? *out : Directives{};
}

TEST(Directives, AreReadWithSbatchsQuoting) {
  const auto d = directives(
      "#!/bin/sh\n"
      "#SBATCH --atlas-dataset=/lustre/a --atlas-warm # a comment --atlas-cache=1G\n"
      "\n"
      "  # indented comment\n"
      "#SBATCH --atlas-dataset \"/lustre/with blank\"\n"
      "#SBATCH --atlas-dataset='/lustre/q\"uote' -N 2\n"
      "#SBATCH --atlas-dataset=/lustre/back\\ slash\n"
      "#SBATCH --atlas-locality=0.5@2:00\n"
      "#SBATCH -o out --error=err\n");
  EXPECT_THAT(d.atlas.datasets,
              ElementsAre("/lustre/a", "/lustre/with blank", "/lustre/q\"uote", "/lustre/back slash"));
  EXPECT_EQ(d.atlas.warm, WarmMode::wait);
  EXPECT_FALSE(d.atlas.cache);
  EXPECT_EQ(d.atlas.locality, (Locality{0.5, std::chrono::seconds(120)}));
  EXPECT_EQ(d.view.nodes, "2");
  EXPECT_EQ(d.view.output, "out");
  EXPECT_EQ(d.view.error, "err");
}

TEST(Directives, EndWithTheFirstCommand) {
  EXPECT_THAT(directives("#!/bin/sh\necho\n#SBATCH --atlas-dataset=/x\n").atlas.datasets, IsEmpty());
  EXPECT_THAT(directives("").atlas.datasets, IsEmpty());
  EXPECT_THAT(directives("#SBATCH --atlas-dataset=/x").atlas.datasets, ElementsAre("/x"));
}

TEST(Directives, AValueIsNotTakenForAnOption) {
  EXPECT_THAT(directives("#SBATCH --comment --atlas-dataset=/x\n").atlas.datasets, IsEmpty());
  EXPECT_THAT(directives("#SBATCH --dataset=/x\n").atlas.datasets, IsEmpty()) << "only the plugin's names count here";
}

TEST(Directives, ErrorsNameTheLine) {
  const auto bad = read_directives("#!/bin/sh\n#SBATCH --atlas-cache=12Q\n", "job.sh");
  ASSERT_FALSE(bad);
  EXPECT_THAT(bad.error().message, HasSubstr("job.sh:2: --cache"));
}

TEST(OriginPaths, AreFoundWithTheirLines) {
  const auto found = find_origin_paths(
      "#!/bin/sh\n"
      "D=/lustre/speech/train\n"
      "ls \"/lustre/speech/train\" /lustreX/no /home/lustre/no\n"
      "cp /lustre/noise/$X/a /scratch/b:/lustre\n"
      "echo x/lustre/no (see /lustre/docs/.)\n",
      {"/lustre", "/ceph"});
  std::vector<std::pair<std::size_t, std::string>> seen;
  for (const auto& mention : found) seen.emplace_back(mention.line, mention.path);
  EXPECT_THAT(seen, ElementsAre(std::pair(2, "/lustre/speech/train"), std::pair(4, "/lustre/noise"),
                                std::pair(4, "/lustre"), std::pair(5, "/lustre/docs")));
}

TEST(NoDataset, NamesLinesAndTheCommandToType) {
  SubmitArgs args = *split_submit_args({"--warm", "-N2", "job 1.sh", "--epochs", "10"});
  const auto text = no_dataset_message("\npython t.py --data /lustre/a /lustre/a/b\n", "job 1.sh", {"/lustre"}, args);
  EXPECT_THAT(text, HasSubstr("line 2: /lustre/a\n"));
  EXPECT_THAT(text, HasSubstr("atlas-submit --dataset /lustre/a --warm=wait -N2 'job 1.sh' --epochs 10"));
  EXPECT_THAT(text, Not(HasSubstr("--dataset /lustre/a/b")));
}

TEST(NoDataset, SaysWhatToDoWithoutAnyHint) {
  EXPECT_THAT(no_dataset_message("ls\n", "a.sh", {"/lustre"}, *split_submit_args({"a.sh"})),
              HasSubstr("atlas-submit --dataset PATH a.sh"));
}

TEST(ProjectFile, GivesDatasetsAndScalars) {
  const auto o =
      parse_project_file("datasets = [\"/a\", \"speech\"]\ncache = \"2G\"\nwarm = true\nlocality = 0.5\n", "f");
  ASSERT_TRUE(o) << o.error().message;
  EXPECT_THAT(o->datasets, ElementsAre("/a", "speech"));
  EXPECT_EQ(o->cache, Bytes{2ULL << 30});
  EXPECT_EQ(o->warm, WarmMode::wait);
  EXPECT_EQ(o->locality, (Locality{0.5, std::chrono::seconds(0)}));
  EXPECT_EQ(parse_project_file("warm = \"overlap\"", "f")->warm, WarmMode::overlap);
  EXPECT_FALSE(parse_project_file("warm = false", "f")->warm);
}

TEST(ProjectFile, ErrorsNameFileLineAndColumn) {
  for (const auto& [text, part] :
       {std::pair("datasets = [", ".atlas.toml:1:"), std::pair("datset = [\"/a\"]", "1:10: datset"),
        std::pair("\ncache = \"12Q\"", "2:9: cache: --cache"), std::pair("cache = 5", "1:9"),
        std::pair("datasets = \"/a\"", "datasets = ["), std::pair("datasets = [1]", "datasets"),
        std::pair("warm = \"x\"", "--warm")}) {
    const auto o = parse_project_file(text, ".atlas.toml");
    ASSERT_FALSE(o) << text;
    EXPECT_THAT(o.error().message, HasSubstr(part)) << text;
  }
}

TEST(Outputs, InsideADatasetAreRefused) {
  Request request;
  request.datasets = {"/nowhere/data", "name"};
  std::vector<std::string> warnings;
  SbatchView view;
  const auto check = [&](const std::string& cwd) {
    return check_outputs(request, view, cwd, std::chrono::seconds(10), warnings);
  };
  view.output = "/nowhere/data/logs/%j.out";
  EXPECT_FALSE(check("/w"));
  view.output = "../data/x";
  ASSERT_FALSE(check("/nowhere/w"));
  EXPECT_THAT(check("/nowhere/w").error().message, HasSubstr("--output '../data/x' lies inside the dataset"));
  view.output = "/nowhere/data2/x";
  EXPECT_TRUE(check("/w"));
  view.error = "/nowhere/data";
  EXPECT_FALSE(check("/w"));
  view = {};
  view.output = "/dev/null";
  EXPECT_TRUE(check("/w"));
  EXPECT_THAT(warnings, IsEmpty());
}

TEST(Outputs, AreFoundThroughSymlinks) {
  const auto dir = std::filesystem::temp_directory_path() / ("atlas-outputs-" + std::to_string(::getpid()));
  std::filesystem::create_directories(dir / "data");
  std::filesystem::create_symlink(dir / "data", dir / "link");
  Request request;
  request.datasets = {(dir / "data").string()};
  SbatchView view;
  view.output = "link/new/file";
  std::vector<std::string> warnings;
  EXPECT_FALSE(check_outputs(request, view, dir.string(), std::chrono::seconds(10), warnings));
  request.datasets = {(dir / "link").string()};
  view.output = "data/file";
  EXPECT_FALSE(check_outputs(request, view, dir.string(), std::chrono::seconds(10), warnings));
  std::filesystem::remove_all(dir);
}

TEST(Outputs, ChdirIntoADatasetIsWarnedAbout) {
  Request request;
  request.datasets = {"/nowhere/data"};
  std::vector<std::string> warnings;
  ASSERT_TRUE(check_outputs(request, {}, "/nowhere/data/sub", std::chrono::seconds(10), warnings));
  EXPECT_THAT(warnings, IsEmpty()) << "the plugin says it";
  SbatchView view;
  view.chdir = "../data/sub";
  ASSERT_TRUE(check_outputs(request, view, "/nowhere/w", std::chrono::seconds(10), warnings));
  EXPECT_THAT(warnings, ElementsAre(HasSubstr("--chdir '../data/sub' lies inside the dataset /nowhere/data")));
}

TEST(JobId, IsFoundInSbatchsLine) {
  EXPECT_EQ(job_id_in("Submitted batch job 17"), 17U);
  EXPECT_EQ(job_id_in("Submitted batch job 17 on cluster west"), 17U);
  EXPECT_EQ(job_id_in("17"), 17U);
  EXPECT_EQ(job_id_in("17;west"), 17U);
  for (const auto* line : {"", "17x", "0", "sbatch: Job 17", "-1", "99999999999"})
    EXPECT_FALSE(job_id_in(line)) << line;
}

TEST(ShellWord, ComesBackThroughAShell) {
  EXPECT_EQ(shell_word("/a/b-c_1.sh"), "/a/b-c_1.sh");
  EXPECT_EQ(shell_word(""), "''");
  EXPECT_EQ(shell_word("a b"), "'a b'");
  EXPECT_EQ(shell_word("it's $x"), "'it'\\''s $x'");
  EXPECT_EQ(shell_word("~bob/x"), "'~bob/x'");
}

}  // namespace
}  // namespace atlas
