#include "tests/support/staging_world.h"

namespace atlas::test {

StagingWorld::StagingWorld(int nodes) {
  std::string name = (std::filesystem::temp_directory_path() / "atlas-staging-XXXXXX").string();
  directory = ::mkdtemp(name.data());
  config.origins = {{"lustre", "/lustre", "user", 48, {}}};
  generation.id.digest[0] = 1;
  generation.bytes = Bytes{10 * kGiB.count};
  generation.files = 7;
  users = std::make_unique<Users>(config);
  std::vector<std::string> names;
  for (int i = 1; i <= nodes; ++i) {
    names.push_back("n" + std::to_string(i));
    slurm.add_node(names.back());
  }
  slurm.partitions = {{"main", true, compress_hostlist(names)}};
  restart();
}

StagingWorld::~StagingWorld() {
  executor.drop_all();
  staging.reset();
  registry.reset();
  datasets.reset();
  catalog.reset();
  std::filesystem::remove_all(directory);
}

void StagingWorld::restart(bool agents_come) {
  executor.drop_all();
  for (auto& warm : agents.warms) warm->over = true;
  staging.reset();
  datasets.reset();
  registry.reset();
  catalog.reset();
  catalog = Catalog::open(directory / "catalog.db", config.origins).value();
  const auto complain = [this](const Error& error) { warnings.push_back(error.message); };
  registry = std::make_unique<Registry>(*catalog, clock, complain);
  datasets = std::make_unique<Datasets>(*catalog, clock, config.origins);
  EXPECT_TRUE(registry->load());
  EXPECT_TRUE(datasets->load());
  const Log log{[](const std::string&) {}, [this](const std::string& text) { warnings.push_back(text); }};
  staging = std::make_unique<Staging>(
      Staging::Parts{executor, executor, slurm, agents, *registry, *datasets, *catalog, *users, clock, config, log});
  EXPECT_TRUE(staging->load());
  staging->start();
  executor.settle();
  if (!agents_come) return;
  for (const auto& [name, node] : slurm.nodes) connect(name);
}

void StagingWorld::connect(const std::string& node, const std::vector<JobKey>& jobs) {
  streams_[node] = ++stream_;
  registry->hello(stream_, {node, node, "1", {{"nvme", Bytes{100 * kGiB.count}, Bytes{}, "ok"}}});
  std::vector<ReplicaInfo> replicas;
  for (const auto& [key, held] : agents.instant) {
    if (key.first != node) continue;
    ReplicaInfo replica;
    replica.dataset = key.second;
    replica.generation = held;
    replica.state = ReplicaState::complete;
    replica.bytes_resident = held.bytes;
    replica.tier = "nvme";
    replicas.push_back(replica);
  }
  registry->inventory(stream_, node, replicas);
  staging->agent_came(node, jobs);
  executor.settle();
}

void StagingWorld::disconnect(const std::string& node) {
  if (registry->lost(streams_.at(node), node)) staging->agent_lost(node);
  for (auto* warm : agents.open(node)) FakeAgents::fail_warm(*warm, Code::unavailable, "stream broken");
  executor.settle();
}

void StagingWorld::holds(const std::string& node, const DatasetId& dataset) {
  agents.instant[{node, dataset}] = generation;
  connect(node);
}

JobRecord& StagingWorld::submit(std::uint32_t id, const std::string& request, std::uint32_t uid) {
  JobRecord job;
  job.id = id;
  job.uid = job.gid = uid;
  job.name = "job" + std::to_string(id);
  job.partition = "main";
  job.state_reason = "BurstBufferStageIn";
  job.submitted = std::chrono::floor<std::chrono::seconds>(clock.wall());
  job.begin = job.submitted;
  job.burst_buffer = "#BB_LUA atlas pool=atlas capacity=1 req=" + request;
  return slurm.jobs[id] = job;
}

JobRecord& StagingWorld::submit_array(std::uint32_t id, const std::string& request, std::chrono::seconds held_back) {
  auto& base = submit(id, request);
  base.burst_buffer.clear();
  base.admin_comment = "atlas:" + request;
  base.array_job_id = id;
  base.array_waiting = true;
  base.own_begin = base.submitted;
  base.begin = base.submitted + held_back;
  return base;
}

std::optional<Staging::HookAnswer> StagingWorld::data_in(std::uint32_t id) {
  auto& record = slurm.jobs.at(id);
  const auto request = decode_request(*find_request(record.burst_buffer, record.admin_comment)).value();
  const auto wait = wait_of(request, record.restarts, config.warm.max_wait);
  if (wait.count() > 0 && !record.own_begin) {
    record.own_begin = record.begin;
    record.begin =
        std::chrono::ceil<std::chrono::seconds>(clock.wall()) + std::chrono::ceil<std::chrono::seconds>(wait);
  }
  std::optional<Staging::HookAnswer> answer;
  call(Staging::Hook::data_in, id, answer);
  if (!answer) pass(2s);
  if (slurm.jobs.contains(id)) slurm.jobs.at(id).state_reason = "None";
  if (answer && answer->ready && wait.count() > 0)
    slurm.jobs.at(id).begin = std::chrono::floor<std::chrono::seconds>(clock.wall());
  return answer;
}

void StagingWorld::call(Staging::Hook hook, std::uint32_t id, std::optional<Staging::HookAnswer>& answer) {
  staging->hook(hook, id, [&answer](const Result<Staging::HookAnswer>& reply) {
    if (reply) answer = *reply;
  });
  executor.settle();
}

void StagingWorld::start(std::uint32_t id, const std::string& nodes) {
  auto& record = slurm.jobs.at(id);
  record.state = JobState::running;
  record.nodes = nodes;
  record.start = std::chrono::floor<std::chrono::seconds>(clock.wall());
  for (const auto& name : hosts_of(nodes)) ++slurm.nodes.at(name).cpus_busy;
  std::optional<Staging::HookAnswer> answer;
  call(Staging::Hook::pre_run, id, answer);
  pass(1s);
}

void StagingWorld::end(std::uint32_t id, bool with_teardown) {
  auto& record = slurm.jobs.at(id);
  if (record.state == JobState::running)
    for (const auto& name : hosts_of(record.nodes)) --slurm.nodes.at(name).cpus_busy;
  record.state = JobState::ended;
  record.end = std::chrono::floor<std::chrono::seconds>(clock.wall());
  std::optional<Staging::HookAnswer> answer;
  if (with_teardown) call(Staging::Hook::teardown, id, answer);
  pass(1s);
}

JobView StagingWorld::job(std::uint32_t id) {
  JobView out;
  staging->find_job(id, [&out](const Result<JobView>& view) {
    if (view) out = *view;
  });
  executor.settle();
  return out;
}

std::optional<Receipt> StagingWorld::receipt(std::uint32_t id) {
  const auto found = catalog->newest_attempt(id);
  return found && *found ? (*found)->receipt : std::nullopt;
}

}  // namespace atlas::test
