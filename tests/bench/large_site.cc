#include "tests/bench/large_site.h"

#include <algorithm>
#include <cstdio>
#include <ctime>

namespace atlas::bench {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kCpus = 64;
constexpr std::uint32_t kUsers = 50;

DatasetId dataset_of(std::size_t i) {
  return {"lustre", "set" + std::to_string(i)};
}

Generation generation_of(std::size_t i) {
  Generation out;
  out.id.digest[0] = 1;
  out.id.digest[1] = static_cast<unsigned char>(i % 256);
  out.id.digest[2] = static_cast<unsigned char>(i / 256);
  out.bytes = Bytes{150 * kGiB.count};
  out.files = 1000;
  return out;
}

void must(const Status& status) {
  if (status) return;
  std::fprintf(stderr, "%s\n", status.error().message.c_str());
  std::exit(1);
}

}  // namespace

double cpu_ms() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}

bool CountingExecutor::settle() {
  bool any = false;
  while (true) {
    for (; !later_.empty() && later_.begin()->first <= clock_.now(); later_.erase(later_.begin()))
      ready_.push_back(std::move(later_.begin()->second));
    if (ready_.empty()) return any;
    any = true;
    const auto task = std::move(ready_.front());
    ready_.pop_front();
    const double from = cpu_ms();
    task();
    spent_ += cpu_ms() - from;
  }
}

Result<QueueSnapshot> SiteSlurm::load() {
  QueueSnapshot queue;
  queue.jobs.reserve(jobs.size());
  for (const auto& [id, job] : jobs) queue.jobs.push_back(job);
  queue.nodes = nodes;
  queue.partitions = partitions;
  queue.taken = clock_.wall();
  return queue;
}

Result<JobRecord> SiteSlurm::load_job(std::uint32_t id) {
  const auto at = jobs.find(id);
  if (at == jobs.end()) return fail(Code::not_found, "no such job");
  return at->second;
}

Status SiteSlurm::apply(const JobPatch& patch) {
  const auto at = jobs.find(patch.job_id);
  if (at == jobs.end()) return fail(Code::not_found, "no such job");
  if (at->second.state != JobState::pending) return fail(Code::failed_precondition, "no longer pending");
  if (patch.req_nodes) at->second.req_nodes = *patch.req_nodes;
  if (patch.begin) at->second.begin = *patch.begin;
  if (patch.comment) at->second.comment = *patch.comment;
  return {};
}

LargeSite::LargeSite(const SiteSize& size) : size_(size) {
  std::string name = (std::filesystem::temp_directory_path() / "atlas-site-XXXXXX").string();
  directory_ = ::mkdtemp(name.data());
  config_.origins = {{"lustre", "/lustre", "user", 48, {}}};
  users_ = std::make_unique<Users>(config_);
  fill_nodes();
  catalog_ = Catalog::open(directory_ / "catalog.db", config_.origins).value();
  const auto complain = [](const Error& error) { std::fprintf(stderr, "%s\n", error.message.c_str()); };
  registry_ = std::make_unique<Registry>(*catalog_, clock_, complain);
  datasets_ = std::make_unique<Datasets>(*catalog_, clock_, config_.origins);
  const Log log{[](const std::string&) {}, [](const std::string& text) { std::fprintf(stderr, "%s\n", text.c_str()); }};
  staging_ = std::make_unique<Staging>(Staging::Parts{strand_, slurm_thread_, slurm_, agents_, *registry_, *datasets_,
                                                      *catalog_, *users_, clock_, config_, log});
  must(catalog_->put_rate("lustre", Bytes{500 * kMiB.count}, Bytes{5000 * kMiB.count}));
  must(catalog_->put_rate("", Bytes{1000 * kMiB.count}, Bytes{10000 * kMiB.count}));
  must(staging_->load());
  connect_agents();
  staging_->start();
  run();
  clock_.move(20s);  // nobody else is expected
  run();
}

LargeSite::~LargeSite() {
  staging_.reset();
  registry_.reset();
  datasets_.reset();
  catalog_.reset();
  std::filesystem::remove_all(directory_);
}

std::string LargeSite::node_name(std::size_t i) const {
  char text[32];
  std::snprintf(text, sizeof text, "node%05zu", i);
  return text;
}

/// Two nodes to each of the jobs that run; they end one after the other in the next twelve hours.
void LargeSite::fill_nodes() {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < size_.nodes; ++i) {
    names.push_back(node_name(i));
    slurm_.nodes.push_back({names.back(), true, "allocated", kCpus, kCpus, {"main"}});
  }
  slurm_.partitions = {{"main", true, compress_hostlist(names)}};
  for (std::size_t i = 0; i + 1 < size_.nodes; i += 2) {
    if (random_() % 100 == 0) {
      for (const auto node : {i, i + 1}) slurm_.nodes[node].cpus_busy = 0, slurm_.nodes[node].state = "idle";
      continue;
    }
    JobRecord job;
    job.id = next_job_++;
    job.uid = job.gid = static_cast<std::uint32_t>(2000 + random_() % kUsers);
    job.partition = "main";
    job.state = JobState::running;
    job.nodes_wanted = 2;
    job.cpus_wanted = 2 * kCpus;
    job.nodes = compress_hostlist({names[i], names[i + 1]});
    job.time_limit = std::chrono::minutes(720);
    job.start = std::chrono::floor<std::chrono::seconds>(clock_.wall()) - std::chrono::seconds(random_() % 43200);
    job.submitted = job.start - 10min;
    running_.push_back(job.id);
    slurm_.jobs[job.id] = std::move(job);
  }
}

void LargeSite::connect_agents() {
  std::vector<std::vector<std::size_t>> held(size_.nodes);
  for (std::size_t i = 0; i < size_.datasets; ++i)
    for (std::size_t k = 0; k < size_.nodes / 50 + 1; ++k) held[random_() % size_.nodes].push_back(i);
  for (std::size_t i = 0; i < size_.nodes; ++i) {
    const auto node = node_name(i);
    registry_->hello(i + 1, {node, node, "1", {{"nvme", Bytes{8000 * kGiB.count}, Bytes{}, "ok"}}});
    std::vector<ReplicaInfo> replicas;
    for (const auto which : held[i]) {
      ReplicaInfo replica;
      replica.dataset = dataset_of(which);
      replica.generation = generation_of(which);
      replica.state = ReplicaState::complete;
      replica.bytes_resident = replica.generation.bytes;
      replica.tier = "nvme";
      agents_.instant[{node, replica.dataset}] = replica.generation;
      replicas.push_back(std::move(replica));
    }
    registry_->inventory(i + 1, node, replicas);
    staging_->wanted_notes().came(node, i + 1, [](const std::vector<DatasetId>&, std::size_t) {});
  }
}

void LargeSite::run() {
  bool more = true;
  while (more) {
    more = strand_.settle();
    more = slurm_thread_.settle() || more;
  }
}

double LargeSite::submit() {
  const auto which = random_() % size_.datasets;
  JobRecord job;
  job.id = next_job_++;
  job.uid = job.gid = static_cast<std::uint32_t>(2000 + random_() % kUsers);
  job.name = "train";
  job.partition = "main";
  job.state_reason = "BurstBufferStageIn";
  job.nodes_wanted = 1U << (random_() % 8 == 0 ? random_() % 5 : 0);
  job.cpus_wanted = job.nodes_wanted * 32;
  job.time_limit = std::chrono::minutes(600);
  job.submitted = std::chrono::floor<std::chrono::seconds>(clock_.wall());
  job.own_begin = job.submitted;
  job.begin = job.submitted + std::chrono::ceil<std::chrono::seconds>(config_.warm.max_wait);
  job.burst_buffer = "#BB_LUA atlas pool=atlas capacity=1 req=v1,w=wait,d=/lustre/" + dataset_of(which).path;
  const auto id = job.id;
  slurm_.jobs[id] = std::move(job);
  const double before = strand_.spent_ms();
  strand_.post([this, id] { staging_->hook(Staging::Hook::data_in, id, [](const Result<Staging::HookAnswer>&) {}); });
  run();
  slurm_.jobs[id].state_reason = "None";
  return strand_.spent_ms() - before;
}

double LargeSite::pass(std::chrono::milliseconds time) {
  const double before = strand_.spent_ms();
  const auto until = clock_.now() + time;
  while (clock_.now() < until) {
    clock_.move(
        std::min<std::chrono::milliseconds>(100ms, std::chrono::ceil<std::chrono::milliseconds>(until - clock_.now())));
    run();
  }
  return strand_.spent_ms() - before;
}

void LargeSite::churn(std::size_t ending) {
  std::map<std::string, std::size_t> freed;
  for (std::size_t i = 0; i < ending && !running_.empty(); ++i) {
    std::swap(running_[random_() % running_.size()], running_.back());
    auto& job = slurm_.jobs.at(running_.back());
    running_.pop_back();
    for (const auto& name : hosts_of(job.nodes)) {
      const auto node = static_cast<std::size_t>(std::stoul(name.substr(4)));
      slurm_.nodes[node].cpus_busy -= std::min(slurm_.nodes[node].cpus_busy, cpus_each(job, job.nodes_wanted));
      freed[name] = node;
    }
    job.state = JobState::ended;
    job.end = std::chrono::floor<std::chrono::seconds>(clock_.wall());
  }
  std::erase_if(slurm_.jobs, [&](const auto& item) {
    return item.second.state == JobState::ended && item.second.end + 60s < clock_.wall();
  });
  for (auto& [id, job] : slurm_.jobs) {
    const auto at = job.state == JobState::pending ? freed.find(job.req_nodes) : freed.end();
    if (at == freed.end() || slurm_.nodes[at->second].cpus_busy + 32 > kCpus || job.begin > clock_.wall()) continue;
    slurm_.nodes[at->second].cpus_busy += 32;
    job.state = JobState::running;
    job.nodes = job.req_nodes;
    job.start = std::chrono::floor<std::chrono::seconds>(clock_.wall());
    running_.push_back(id);
    strand_.post([this, job_id = id] {
      staging_->hook(Staging::Hook::pre_run, job_id, [](const Result<Staging::HookAnswer>&) {});
    });
  }
  run();
}

void LargeSite::finish_warmups() {
  for (auto* warm : agents_.open()) {
    const auto which = std::stoul(warm->order.dataset.path.substr(3));
    strand_.post([warm, which] { test::FakeAgents::finish(*warm, generation_of(which)); });
  }
  run();
}

std::size_t LargeSite::pending() const {
  return static_cast<std::size_t>(std::count_if(
      slurm_.jobs.begin(), slurm_.jobs.end(), [](const auto& item) { return item.second.state == JobState::pending; }));
}

std::map<std::string, std::size_t> LargeSite::phases() const {
  std::map<std::string, std::size_t> out;
  for (const auto& view : staging_->jobs()) ++out[std::string(name_of(view.row.phase))];
  return out;
}

}  // namespace atlas::bench
