// atlasctl and atlas-submit as people run them, against a controller's end of the wire that says what a test wants.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pwd.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/component/scripted_controller.h"
#include "tests/support/run_program.h"

namespace atlas::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using Words = std::vector<std::string>;
using Json = nlohmann::json;

class Cli : public testing::Test {
 protected:
  void SetUp() override {
    if (!munged_.running()) GTEST_SKIP() << "munged cannot be run here";
    std::filesystem::create_directories(dir_ / "origin/speech");
    std::ofstream(dir_ / "origin/speech/a.wav") << "x";
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(&controller_);
    server_ = builder.BuildAndStart();
    write_config();
    // sbatch's stand-in: says what it was given. The real one is met in tests/cluster.
    write_script("sbatch",
                 "#!/bin/sh\nfor a; do printf '<%s>' \"$a\" >&2; done\ncat >&2\necho Submitted batch job 17\n");
  }
  void TearDown() override {
    if (server_) server_->Shutdown();
    std::filesystem::remove_all(dir_);
  }

  void write_config() {
    std::ofstream(dir_ / "atlas.toml") << "[site]\nmunge_socket = \"" << munged_.socket() << "\"\nslurm_user = \""
                                       << ::getpwuid(::getuid())->pw_name
                                       << "\"\n[controller]\nhost = \"127.0.0.1\"\nport = " << port_
                                       << "\n[[origin]]\nname = \"lustre\"\nroot = \"" << origin() << "\"\n";
  }
  void write_script(const std::string& name, const std::string& text) {
    std::ofstream(dir_ / name) << text;
    std::filesystem::permissions(dir_ / name, std::filesystem::perms(0755));
  }
  [[nodiscard]] std::string origin() const { return (dir_ / "origin").string(); }

  Ran run(const char* program, Words arguments, RunOptions options = {}) {
    arguments.insert(arguments.begin(), program);
    options.environment.insert({{"ATLAS_CONF", (dir_ / "atlas.toml").string()},
                                {"PATH", dir_.string() + ":" + ::getenv("PATH")},
                                {"TERM", "xterm"}});
    return run_program(arguments, options);
  }
  Ran ctl(Words arguments, RunOptions options = {}) { return run(ATLASCTL, std::move(arguments), std::move(options)); }
  Ran submit(Words arguments, RunOptions options = {}) {
    return run(ATLAS_SUBMIT, std::move(arguments), std::move(options));
  }

  PrivateMunged munged_;
  std::filesystem::path dir_ = std::filesystem::temp_directory_path() / ("atlas-cli-" + std::to_string(::getpid()));
  Authenticator auth_{Munge(munged_.socket()), {::getuid()}};
  ScriptedController controller_{auth_};
  std::unique_ptr<grpc::Server> server_;
  int port_ = 1;
};

v1::ListDatasetsReply two_datasets() {
  v1::ListDatasetsReply reply;
  auto* speech = reply.add_datasets();
  speech->set_name("speech");
  speech->mutable_id()->set_origin("lustre");
  speech->mutable_id()->set_path("speech");
  speech->mutable_generation()->set_bytes(2ULL << 30);
  speech->mutable_generation()->set_observed(1);
  speech->set_cached(1ULL << 30);
  speech->set_state("partial");
  speech->set_nodes("n[001-002]");
  auto* odd = reply.add_datasets();
  odd->mutable_id()->set_origin("elsewhere");
  odd->mutable_id()->set_path("a|b\n\xff");
  odd->set_state("absent");
  return reply;
}

TEST_F(Cli, DatasetsAsTableForPeople) {
  controller_.list_datasets = [](const v1::ListDatasetsRequest&) { return two_datasets(); };
  const auto ran = ctl({"dataset", "list"});
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("UFS TOTAL SIZE  CACHED  CACHED %  STATE    NODES\n"));
  EXPECT_THAT(ran.out, HasSubstr(origin() + "/speech"));
  EXPECT_THAT(ran.out, HasSubstr("  2G      1G      50.0  partial  n[001-002]\n"));
  EXPECT_THAT(ran.out, HasSubstr("elsewhere:a|b\\x0A\\xFF"));
  EXPECT_EQ(ctl({"cache", "list"}).out, ran.out) << "the other word for it";
}

TEST_F(Cli, DatasetsForScripts) {
  controller_.list_datasets = [](const v1::ListDatasetsRequest&) { return two_datasets(); };
  const auto ran = ctl({"dataset", "list", "--parsable2", "--noheader"});
  EXPECT_EQ(ran.out, "speech|" + origin() + "/speech|2147483648|1073741824|50.0|partial|n[001-002]\n" +
                         "-|elsewhere:a\\x7Cb\\x0A\\xFF|0|0|-|absent|-\n");
  const auto json = Json::parse(ctl({"--json", "dataset", "list"}).out);
  EXPECT_EQ(json.at(0).at("bytes"), 2147483648U);
  EXPECT_EQ(json.at(0).at("path"), origin() + "/speech");
  EXPECT_FALSE(json.at(0).contains("path_encoded"));
  EXPECT_EQ(json.at(1).at("path_encoded"), "elsewhere%3Aa%7Cb%0A%FF");
}

TEST_F(Cli, ArgumentsReachTheControllerChecked) {
  v1::ListDatasetsRequest seen;
  controller_.list_datasets = [&](const v1::ListDatasetsRequest& r) { return seen = r, v1::ListDatasetsReply{}; };
  EXPECT_EQ(ctl({"dataset", "show", "speech"}).status, 1);
  EXPECT_EQ(seen.which(), "speech");
  EXPECT_THAT(ctl({"dataset", "show", "speech"}).err, HasSubstr("'speech' is not known to Atlas"));
  for (const Words& bad :
       {Words{"dataset", "show", "/a/../b"}, Words{"placement", "--node", "n[3-1]"}, Words{"node", "drain", "n["},
        Words{"job", "show", "x"}, Words{"job", "show", "0"}, Words{"job", "show", "18_1"}, Words{"dataset", "show"},
        Words{"nonsense"}, Words{}, Words{"dataset", "create", "/a", "name"}, Words{"dataset", "delete", "/a"}}) {
    const auto ran = ctl(bad);
    EXPECT_EQ(ran.status, 2) << testing::PrintToString(bad) << ran.err;
    EXPECT_THAT(ran.err, Not(IsEmpty()));
  }
}

TEST_F(Cli, NodesAndHostlists) {
  v1::ListNodesRequest asked;
  controller_.list_nodes = [&](const v1::ListNodesRequest& request) {
    asked = request;
    v1::ListNodesReply reply;
    auto* node = reply.add_nodes();
    node->set_name("n001");
    node->set_state("up");
    node->set_slurm_state("IDLE");
    auto* tier = node->add_tiers();
    tier->set_quota(4ULL << 30);
    tier->set_used(1ULL << 30);
    tier->set_state("ok");
    return reply;
  };
  const auto ran = ctl({"node", "list", "n003,n[001-002]", "-n"});
  EXPECT_EQ(asked.nodes(), "n[001-003]");
  EXPECT_THAT(ran.out, AllOf(HasSubstr("n001  up  IDLE"), HasSubstr("  4G  1G  25.0  "), Not(HasSubstr("NODE"))));
}

TEST_F(Cli, LimitsAreSetShownAndTakenBack) {
  v1::SetLimitRequest asked;
  controller_.set_limit = [&](const v1::SetLimitRequest& request) {
    asked = request;
    v1::SetLimitReply reply;
    *reply.mutable_limit()->mutable_subject() = request.subject();
    reply.mutable_limit()->set_cache(request.cache());
    reply.mutable_limit()->set_cache_used(1ULL << 30);
    return reply;
  };
  const auto set = ctl({"limit", "set", "--user", "alice", "--cache", "500G"});
  EXPECT_EQ(set.status, 0) << set.err;
  EXPECT_EQ(asked.subject().kind(), "user");
  EXPECT_EQ(asked.subject().name(), "alice");
  EXPECT_EQ(asked.cache(), 500ULL << 30);
  EXPECT_THAT(set.out, HasSubstr("cache: 500G on all nodes together, 1G of it taken"));
  EXPECT_EQ(ctl({"limit", "set", "--account", "speech", "--cache", "0"}).status, 0);
  EXPECT_TRUE(asked.has_cache());
  EXPECT_EQ(asked.subject().kind(), "account");
  for (const Words& bad : {Words{"limit", "set", "--cache", "1G"}, Words{"limit", "set", "--user", "a"},
                           Words{"limit", "set", "--user", "a", "--group", "b", "--cache", "1G"},
                           Words{"limit", "set", "--user", "a", "--cache", "much"}, Words{"limit", "delete"}})
    EXPECT_EQ(ctl(bad).status, 2) << testing::PrintToString(bad);

  controller_.list_limits = [&](const v1::ListLimitsRequest&) {
    v1::ListLimitsReply reply;
    auto* limit = reply.add_limits();
    limit->mutable_subject()->set_kind("group");
    limit->mutable_subject()->set_name("staff");
    limit->set_cache(4ULL << 30);
    limit->set_cache_used(1ULL << 30);
    limit->set_set_by("root");
    return reply;
  };
  EXPECT_THAT(ctl({"limit", "list", "-n"}).out, HasSubstr("4G  1G  25.0  root"));
  const auto json = Json::parse(ctl({"limit", "list", "--json"}).out);
  EXPECT_EQ(json.at(0).at("cache"), 4ULL << 30);
  EXPECT_EQ(json.at(0).at("cache_used"), 1ULL << 30);

  v1::DeleteLimitRequest gone;
  controller_.delete_limit = [&](const v1::DeleteLimitRequest& request) {
    return gone = request, v1::DeleteLimitReply{};
  };
  EXPECT_EQ(ctl({"limit", "delete", "--group", "staff"}).status, 0);
  EXPECT_EQ(gone.subject().kind(), "group");
  EXPECT_EQ(gone.subject().name(), "staff");
}

v1::TopReply what_two_users_read() {
  v1::TopReply reply;
  reply.set_all(true);
  const auto add = [](google::protobuf::RepeatedPtrField<v1::TopReply::Row>* rows, const std::string& name,
                      double bytes, double hits) {
    auto* row = rows->Add();
    row->set_name(name);
    auto* rates = row->mutable_rates();
    rates->set_origin_bytes(bytes);
    rates->set_origin_operations(bytes / (1 << 20));
    rates->set_throttled_bytes(bytes / 4);
    rates->set_asked_bytes(hits > 0 ? 1000 : 0);
    rates->set_hit_bytes(hits);
    return row;
  };
  add(reply.mutable_nodes(), "n001", 3 << 20, 0);
  add(reply.mutable_users(), "alice", 1 << 20, 900);
  add(reply.mutable_users(), "bob", 2 << 20, 0);
  add(reply.mutable_users(), "carol", 0, 0)->mutable_rates()->set_waiting(4);
  auto* dataset = add(reply.mutable_datasets(), "", 3 << 20, 900);
  dataset->mutable_dataset()->set_origin("lustre");
  dataset->mutable_dataset()->set_path("speech");
  return reply;
}

TEST_F(Cli, TopShowsWhoReadsWhatNow) {
  controller_.top = [](const v1::TopRequest&) { return what_two_users_read(); };
  const auto once = ctl({"top", "--once"});
  ASSERT_EQ(once.status, 0) << once.err;
  EXPECT_THAT(once.out, HasSubstr("3M/s from origins, 0/s from other nodes, 4 reads wait for limits; 1 node\n"));
  EXPECT_THAT(once.out, HasSubstr("\nNODE  ORIGIN  OPS/S  THROTTLED %  WAITING  PEERS  HITS %\n"
                                  "n001    3M/s      3         25.0        0    0/s       -\n"));
  EXPECT_THAT(once.out, HasSubstr(origin() + "/speech")) << "a dataset without a name goes by its path";
  EXPECT_EQ(ctl({"top"}).out, once.out) << "without a terminal nothing is redrawn";

  const auto users = [&](const Words& how) {
    Words words{"top", "users", "-P", "-n"};
    words.insert(words.end(), how.begin(), how.end());
    std::istringstream lines(ctl(words).out);
    std::string out;
    for (std::string line; std::getline(lines, line);) out += line.substr(6, line.find('|', 6) - 6) + " ";
    return out;
  };
  EXPECT_EQ(users({}), "bob alice carol ");
  EXPECT_EQ(users({"--reverse"}), "carol alice bob ");
  EXPECT_EQ(users({"--sort", "name"}), "alice bob carol ");
  EXPECT_EQ(users({"--sort", "hits"}), "alice bob carol ");
  EXPECT_EQ(users({"--sort", "waiting"}), "carol alice bob ");
  EXPECT_EQ(users({"--sort", "throttled"}), "carol alice bob ") << "who gets nothing waits most";
  EXPECT_THAT(ctl({"top", "users", "-P", "-n"}).out, HasSubstr("users|alice|1048576|1|25.0|0|0|90.0\n"));
  EXPECT_EQ(ctl({"top", "--sort", "beauty"}).status, 2);
  EXPECT_EQ(ctl({"top", "jobs"}).status, 2);

  const auto json = Json::parse(ctl({"top", "--json"}).out);
  EXPECT_EQ(json.at("all"), true);
  EXPECT_EQ(json.at("users").at(1).at("name"), "alice");
  EXPECT_EQ(json.at("users").at(1).at("origin"), 1 << 20);
  EXPECT_EQ(json.at("users").at(1).at("hit_ratio"), 0.9);
  EXPECT_EQ(json.at("users").at(0).at("hit_ratio"), nullptr);
  EXPECT_EQ(json.at("datasets").at(0).at("name"), origin() + "/speech");
}

TEST_F(Cli, TopIsRedrawnAndHeedsKeys) {
  std::atomic<unsigned> asked{0};
  controller_.top = [&](const v1::TopRequest&) {
    auto reply = what_two_users_read();
    reply.mutable_users(2)->mutable_rates()->set_waiting(++asked);
    return reply;
  };
  const auto count = [](const Ran& ran, const std::string& what) {
    unsigned found = 0;
    for (std::size_t at = ran.out.find(what); at != std::string::npos; at = ran.out.find(what, at + 1)) ++found;
    return found;
  };
  std::size_t before = 0;
  const std::vector<std::pair<std::string, std::function<bool(const Ran&)>>> script{
      {"<", [&](const Ran& ran) { return count(ran, "DATASET") == 1 && count(ran, "sort by: origin") == 1; }},
      {"d", [&](const Ran& ran) { return count(ran, "alice") == 2; }},
      {"q", [&](const Ran& ran) { return ran.out.size() > before && asked >= 2; }}};
  std::size_t at = 0;
  RunOptions options{.terminal = true};
  options.type = [&](const Ran& ran) {
    if (at == script.size() || !script[at].second(ran)) return std::string();
    before = ran.out.size();
    return script[at++].first;
  };
  auto ran = ctl({"top"}, options);
  EXPECT_EQ(ran.status, 0) << ran.out;
  EXPECT_EQ(at, script.size()) << ran.out;
  EXPECT_THAT(ran.out, AllOf(HasSubstr("\x1b[?1049l"), HasSubstr("\x1b[?25h"))) << "the terminal is as it was";

  options.environment["TERM"] = "no-such-terminal";
  options.type = [](const Ran&) { return ""; };
  ran = ctl({"top"}, options);
  EXPECT_EQ(ran.status, 1);
  EXPECT_THAT(ran.out, HasSubstr("atlasctl top --once"));

  // What cannot be asked now is asked again; who types q is heard meanwhile.
  controller_.top = nullptr;
  options.environment["TERM"] = "xterm";
  options.type = [](const Ran& so_far) {
    return so_far.out.find("older than this command") == std::string::npos ? "" : "q";
  };
  EXPECT_EQ(ctl({"top"}, options).status, 0);
}

TEST_F(Cli, LimitsAreExportedForWhatReadsPastAtlas) {
  controller_.list_limits = [&](const v1::ListLimitsRequest&) {
    v1::ListLimitsReply reply;
    const auto add = [&](const std::string& kind, const std::string& name) {
      auto* limit = reply.add_limits();
      limit->mutable_subject()->set_kind(kind);
      limit->mutable_subject()->set_name(name);
      return limit;
    };
    auto* root = add("user", "root");
    root->set_read(400ULL << 20);
    root->set_operations(900);
    add("group", "root")->set_read(1);
    add("account", "speech")->set_read(1ULL << 30);
    add("user", "no one of that name")->set_operations(7);
    add("user", "daemon")->set_cache(1ULL << 40);
    return reply;
  };
  const auto script = ctl({"limit", "export", "--lustre-tbf", "--oss-partitions", "8", "--mds-partitions", "2"});
  ASSERT_EQ(script.status, 0) << script.err;
  EXPECT_THAT(script.out,
              HasSubstr("lctl set_param ost.OSS.ost_io.nrs_tbf_rule=\"start atlas_user_root uid={0} rate=12\"\n"))
      << "400M/s of 4M requests in 8 partitions: 12.5";
  EXPECT_THAT(script.out,
              HasSubstr("lctl set_param mds.MDS.mdt.nrs_tbf_rule=\"start atlas_user_root uid={0} rate=450\"\n"));
  EXPECT_THAT(script.out, HasSubstr("\"start atlas_group_root gid={0} rate=1\"\n")) << "0 would be no limit";
  EXPECT_THAT(script.out, HasSubstr("# left out: account speech is nothing that Lustre tells apart\n"));
  EXPECT_THAT(script.out, HasSubstr("# left out: user no one of that name is not known on this host\n"));
  EXPECT_THAT(script.out, Not(HasSubstr("daemon"))) << "its limit is of cache only";
  const auto json = Json::parse(ctl({"limit", "export", "--json"}).out);
  ASSERT_EQ(json.size(), 4U);
  EXPECT_EQ(json[0]["id"], 0);
  EXPECT_EQ(json[0]["read"], 400ULL << 20);
  EXPECT_EQ(json[2]["id"], Json());
  EXPECT_EQ(ctl({"limit", "export"}).status, 2);
  EXPECT_EQ(ctl({"limit", "export", "--lustre-tbf", "--rpc-size", "0"}).status, 2);
}

TEST_F(Cli, WhatALustresServersHaveReadForJobsIsShown) {
  const auto file = (std::filesystem::temp_directory_path() / ("job_stats." + std::to_string(getpid()))).string();
  const auto entry = [](const std::string& id, int megabytes) {
    return "- job_id: " + id + "\n  snapshot_time: 1\n  read_bytes: { samples: 2, unit: bytes, min: 1, max: 1, sum: " +
           std::to_string(megabytes << 20) + " }\n";
  };
  std::ofstream(file) << "job_stats:\n"
                      << entry("7", 1) << entry("42:1000:n1", 3) << entry("atlas-cache-age.1000", 9) << "job_stats:\n"
                      << entry("42:1000:n2", 2) << entry("cp.0", 4);
  const auto json = Json::parse(ctl({"limit", "bypass", file, "--json"}).out);
  ASSERT_EQ(json.size(), 4U);
  EXPECT_EQ(json[0], Json({{"who", "42"}, {"bytes", 5 << 20}, {"requests", 4}}));
  EXPECT_EQ(json[1]["who"], "7");
  EXPECT_EQ(json[2], Json({{"who", "through Atlas"}, {"bytes", 9 << 20}, {"requests", 2}}));
  EXPECT_EQ(json[3], Json({{"who", "in no job"}, {"bytes", 4 << 20}, {"requests", 2}}));
  std::ofstream(file) << "rubbish\n";
  EXPECT_THAT(ctl({"limit", "bypass", file}).err, HasSubstr(file + ": there is no job_stats in it"));
  std::filesystem::remove(file);
  EXPECT_THAT(ctl({"limit", "bypass", file}).err, HasSubstr("No such file"));
}

TEST_F(Cli, ErrorsOfTheControllerReachTheUserWithItsWords) {
  controller_.drain_node = [](const v1::DrainNodeRequest&) -> Result<v1::DrainNodeReply> {
    return fail(Code::permission_denied, "draining a node is for operators");
  };
  const auto ran = ctl({"node", "drain", "n001"});
  EXPECT_EQ(ran.status, 1);
  EXPECT_EQ(ran.err, "atlasctl: draining a node is for operators\n");
  EXPECT_THAT(ctl({"job", "list"}).err, HasSubstr("older than this command"));
}

TEST_F(Cli, ReplicasThatStayAreNamedAndFailTheCommand) {
  controller_.evict = [](const v1::EvictDatasetRequest&) {
    v1::EvictDatasetReply reply;
    reply.set_replicas(1);
    reply.set_bytes(1 << 20);
    reply.add_kept("n002: job 17 reads it");
    return reply;
  };
  const auto ran = ctl({"evict", "speech"});
  EXPECT_EQ(ran.status, 1);
  EXPECT_EQ(ran.out, "1 replica evicted, 1M freed\n");
  EXPECT_EQ(ran.err, "kept: n002: job 17 reads it\n");
}

v1::Progress progress(v1::Progress::Phase phase, std::uint64_t done) {
  v1::Progress p;
  p.set_phase(phase);
  p.set_node("n001");
  p.mutable_dataset()->set_origin("lustre");
  p.mutable_dataset()->set_path("speech");
  p.set_bytes_done(done);
  p.set_bytes_total(1000);
  p.set_eta(-1);
  return p;
}

TEST_F(Cli, AWarmUpIsShownAsLinesWhereThereIsNoTerminal) {
  controller_.warm_dataset = [](const v1::WarmDatasetRequest&, auto stream) {
    stream->write(progress(v1::Progress::PHASE_FETCHING, 500));
    stream->write(progress(v1::Progress::PHASE_COMPLETE, 1000));
    stream->finish({});
  };
  const auto ran = ctl({"dataset", "warm", "speech"});
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_THAT(ran.out, AllOf(HasSubstr("n001 " + origin() + "/speech: fetching 50%"), HasSubstr("complete 100%"),
                             Not(HasSubstr("\x1b"))));
}

TEST_F(Cli, AWarmUpIsShownAsBarsOnATerminal) {
  controller_.warm_dataset = [](const v1::WarmDatasetRequest&, auto stream) {
    stream->write(progress(v1::Progress::PHASE_FETCHING, 500));
    stream->write(progress(v1::Progress::PHASE_COMPLETE, 1000));
    stream->finish({});
  };
  const auto ran = ctl({"dataset", "warm", "speech"}, {.terminal = true});
  EXPECT_EQ(ran.status, 0) << ran.out;
  EXPECT_THAT(ran.out, AllOf(HasSubstr("####"), HasSubstr("\x1b[1F\x1b[J"), HasSubstr("100%")));
}

TEST_F(Cli, AFailedWarmUpFailsTheCommand) {
  controller_.warm_dataset = [](const v1::WarmDatasetRequest&, auto stream) {
    auto p = progress(v1::Progress::PHASE_FAILED, 10);
    p.set_message("Permission denied");
    stream->write(p);
    stream->finish({});
  };
  const auto ran = ctl({"dataset", "warm", "speech"});
  EXPECT_EQ(ran.status, 1);
  EXPECT_THAT(ran.out, HasSubstr("failed: Permission denied"));
}

TEST_F(Cli, WithoutAControllerItSaysWhereItLookedAndWhatNext) {
  server_->Shutdown();
  server_.reset();
  const auto ran = ctl({"node", "list"});
  EXPECT_EQ(ran.status, 1);
  EXPECT_THAT(ran.err, AllOf(HasSubstr("127.0.0.1:" + std::to_string(port_)), HasSubstr("atlasctl doctor")));
  const auto doctor = ctl({"doctor"});
  EXPECT_EQ(doctor.status, 1);
  EXPECT_THAT(doctor.out, AllOf(HasSubstr("ok       munge"), HasSubstr("failed   controller"),
                                HasSubstr("next: on 127.0.0.1: systemctl")));
}

TEST_F(Cli, DoctorAddsWhatTheControllerFound) {
  controller_.doctor = [](const v1::DoctorRequest&) {
    v1::DoctorReply reply;
    auto* check = reply.add_checks();
    check->set_what("agent n003");
    check->set_state("warning");
    check->set_detail("not heard of for 2m");
    check->set_next_step("systemctl status atlas-cache-agent on n003");
    return reply;
  };
  auto ran = ctl({"doctor"});
  EXPECT_EQ(ran.status, 0) << ran.out;
  EXPECT_THAT(ran.out,
              AllOf(HasSubstr("warning  agent n003"), HasSubstr("next: systemctl status atlas-cache-agent on n003")));
  std::filesystem::remove_all(dir_ / "origin");
  ran = ctl({"doctor", "--json"});
  EXPECT_EQ(ran.status, 1);
  EXPECT_EQ(Json::parse(ran.out).at(1).at("state"), "failed") << ran.out;
  std::ofstream(dir_ / "atlas.toml") << "[warm]\nmax_weit = \"1m\"\n";
  ran = ctl({"doctor"});
  EXPECT_EQ(ran.status, 1);
  EXPECT_THAT(ran.out, HasSubstr("did you mean 'max_wait'"));
}

TEST_F(Cli, ExplainAsksWithTheWholeRequestAndSubmitsNothing) {
  v1::ExplainRequest asked;
  controller_.explain = [&](const v1::ExplainRequest& request) {
    asked = request;
    v1::ExplainReply reply;
    auto* c = reply.add_candidates();
    c->set_nodes("n002");
    c->set_resident_bytes(1 << 20);
    c->set_total_bytes(1 << 20);
    c->set_chosen(true);
    c->set_free_now(true);
    c->set_note("holds all of it");
    reply.set_decision("start on n002 now");
    reply.set_reason("it is free and holds everything");
    return reply;
  };
  write_script("job.sh", "#!/bin/sh\n#SBATCH --atlas-dataset=/b -p gpu\n");
  const Words line = {"--dataset", "/a", "--warm", "-N2-4", "-w", "n[1-2]", "--explain", (dir_ / "job.sh").string()};
  const auto ran = submit(line);
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_EQ(asked.request(), "v1,w=wait,d=/a,d=/b");
  EXPECT_EQ(asked.nodes(), 2U);
  EXPECT_EQ(asked.node_list(), "n[1-2]");
  EXPECT_EQ(asked.partition(), "gpu");
  EXPECT_THAT(ran.out, AllOf(HasSubstr("*  n002"), HasSubstr("Decision: start on n002 now\n"),
                             HasSubstr("Nothing was submitted.\n")));
  EXPECT_THAT(ran.err, IsEmpty()) << "sbatch was called";
  auto json_line = line;
  json_line.insert(json_line.begin(), "--json");
  EXPECT_EQ(Json::parse(submit(json_line).out).at("candidates").at(0).at("chosen"), true);
}

v1::JobStatus job(v1::JobStatus::Phase phase) {
  v1::JobStatus status;
  status.mutable_job()->set_job_id(17);
  status.set_phase(phase);
  status.set_nodes("n001");
  return status;
}

TEST_F(Cli, FollowShowsTheJobUntilItEndsAndLeavesSbatchsLineAlone) {
  controller_.watch_job = [](const v1::WatchJobRequest& request, auto stream) {
    EXPECT_TRUE(request.follow());
    auto warming = job(v1::JobStatus::PHASE_WARMING);
    *warming.add_warming() = progress(v1::Progress::PHASE_FETCHING, 500);
    stream->write(warming);
    stream->write(job(v1::JobStatus::PHASE_RUNNING));
    auto ended = job(v1::JobStatus::PHASE_ENDED);
    ended.mutable_receipt()->set_outcome("warm");
    stream->write(ended);
    stream->finish({});
  };
  const auto ran = submit({"--dataset=/a", "--follow", "--wrap", "ls"});
  EXPECT_EQ(ran.status, 0);
  EXPECT_EQ(ran.out, "Submitted batch job 17\n");
  EXPECT_THAT(ran.err,
              AllOf(HasSubstr("<--atlas-dataset=/a><--wrap><ls>"), HasSubstr("job 17: warming on n001"),
                    HasSubstr("fetching 50%"), HasSubstr("job 17: running on n001"), HasSubstr("receipt of job 17")));
  const auto json = submit({"--dataset=/a", "--follow", "--json", "--wrap", "ls"});
  std::istringstream lines(json.out);
  std::vector<Json> objects;
  for (std::string line; std::getline(lines, line);) objects.push_back(Json::parse(line));
  ASSERT_EQ(objects.size(), 4U) << json.out;
  EXPECT_EQ(objects[0].at("job_id"), 17);
  EXPECT_EQ(objects[1].at("phase"), "warming");
  EXPECT_EQ(objects[3].at("receipt").at("outcome"), "warm");
}

TEST_F(Cli, CtrlCLeavesTheJobAlone) {
  controller_.watch_job = [](const v1::WatchJobRequest&, auto stream) {
    stream->write(job(v1::JobStatus::PHASE_WARMING));  // and nothing more
  };
  bool sent = false;
  const auto ran =
      submit({"--dataset=/a", "--follow", "--wrap", "ls"}, {.on_output = [&sent](const Ran& so_far, int pid) {
               if (!sent && so_far.err.find("job 17: warming") != std::string::npos) sent = ::kill(pid, SIGINT) == 0;
             }});
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_THAT(ran.err, AllOf(HasSubstr("job 17 goes on"), HasSubstr("scancel 17")));
}

TEST_F(Cli, FollowWithoutAControllerSaysSoAndTheJobStaysSubmitted) {
  server_->Shutdown();
  server_.reset();
  const auto ran = submit({"--dataset=/a", "--follow", "--wrap", "ls"});
  EXPECT_EQ(ran.status, 0) << "sbatch's";
  EXPECT_EQ(ran.out, "Submitted batch job 17\n");
  EXPECT_THAT(ran.err, AllOf(HasSubstr("cannot follow job 17"), HasSubstr("squeue -j 17")));
}

TEST_F(Cli, SbatchsLineExitCodeAndStandardInputPassThrough) {
  write_script("sbatch", "#!/bin/sh\nprintf '<%s>' \"$@\"\ncat\nexit 7\n");
  const std::string script = "#!/bin/sh\n#SBATCH --atlas-dataset=/a\nls\n";
  const auto ran = submit({"--warm", "-N", "2"}, {.input = script});
  EXPECT_EQ(ran.status, 7);
  EXPECT_EQ(ran.out, "<--atlas-warm=wait><-N><2>" + script);
  EXPECT_THAT(ran.err, IsEmpty());
}

TEST_F(Cli, WithoutADatasetNothingIsSubmitted) {
  write_script("job.sh", "#!/bin/sh\npython train.py --data " + origin() + "/speech\n");
  const auto ran = submit({"--warm", (dir_ / "job.sh").string(), "10"});
  EXPECT_EQ(ran.status, 2);
  EXPECT_THAT(ran.out, IsEmpty());
  EXPECT_THAT(ran.err, AllOf(HasSubstr("line 2: " + origin() + "/speech\n"),
                             HasSubstr("atlas-submit --dataset " + origin() + "/speech --warm=wait " +
                                       (dir_ / "job.sh").string() + " 10")));
}

TEST_F(Cli, AMissingSbatchIsSaid) {
  const auto ran = submit({"--dataset=/a", "--wrap", "ls"}, {.environment = {{"PATH", "/nonexistent"}}});
  EXPECT_EQ(ran.status, 1);
  EXPECT_THAT(ran.err, HasSubstr("sbatch is not in PATH"));
  const auto follow = submit({"--dataset=/a", "--follow", "--wrap", "ls"}, {.environment = {{"PATH", "/nonexistent"}}});
  EXPECT_EQ(follow.status, 1);
  EXPECT_THAT(follow.err, HasSubstr("sbatch is not in PATH"));
}

}  // namespace
}  // namespace atlas::test
