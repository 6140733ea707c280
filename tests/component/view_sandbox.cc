#include "tests/component/view_sandbox.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "common/child.h"
#include "tests/support/own_mounts.h"

namespace atlas::testing {
namespace {

Result<UniqueFd> detached(const std::filesystem::path& path) {
  UniqueFd tree(::open_tree(AT_FDCWD, path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE));
  if (!tree) return fail_errno(errno, "open_tree");
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
  attributes.propagation = MS_PRIVATE;
  if (::mount_setattr(tree.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes, sizeof attributes) != 0)
    return fail_errno(errno, "mount_setattr");
  return tree;
}

void own_mount_namespace() {
  static const bool done = [] {
    if (!own_mounts()) throw std::runtime_error("these tests make mounts: run them as root");
    return true;
  }();
  (void)done;
}

}  // namespace

Result<view::JobViews> FakeSource::views_of(std::uint32_t job_id, const Principal& as, SteadyTime) {
  const std::lock_guard lock(mutex_);
  if (error_) return fail(*error_);
  const auto job = jobs_.find(job_id);
  if (job == jobs_.end()) return view::JobViews{};
  if (job->second.as.uid != as.uid) return fail(Code::permission_denied, "another user's job");
  return job->second;
}

void FakeSource::record_attach(std::uint32_t job_id, const std::vector<view::AttachedView>& results) {
  const std::lock_guard lock(mutex_);
  recorded_[job_id] = results;
}

void FakeSource::set(const view::JobViews& job) {
  const std::lock_guard lock(mutex_);
  jobs_[job.job.job_id] = job;
}

void FakeSource::fail_with(std::optional<Error> error) {
  const std::lock_guard lock(mutex_);
  error_ = std::move(error);
}

std::vector<view::AttachedView> FakeSource::recorded(std::uint32_t job_id) const {
  const std::lock_guard lock(mutex_);
  const auto found = recorded_.find(job_id);
  return found == recorded_.end() ? std::vector<view::AttachedView>{} : found->second;
}

Sandbox::Sandbox() {
  own_mount_namespace();
  std::string pattern = "/tmp/atlas-view-XXXXXX";
  if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp");
  root_ = pattern;
  ::chmod(root_.c_str(), 0755);
  for (const char* name : {"origin", "store"}) std::filesystem::create_directory(root_ / name);
  std::filesystem::create_directory(root_ / "run");
  make_dataset("data");
}

Sandbox::~Sandbox() {
  agent.reset();
  for (const auto& mount : mounts_below(root_)) ::umount2(mount.c_str(), MNT_DETACH);
  std::error_code ignored;
  std::filesystem::remove_all(root_, ignored);
}

void Sandbox::make_dataset(const std::string& path) {
  std::filesystem::create_directories(origin() / path);
  std::filesystem::create_directories(store() / path);
  write_file(origin() / path / "where", "from the origin");
  write_file(store() / path / "where", "from the node");
}

view::PlannedView Sandbox::view_of(const std::string& path) const {
  view::PlannedView view;
  view.dataset = {"lustre", path};
  view.origin_root = origin().string();
  view.state = ReplicaState::complete;
  view.size = Bytes{13};
  view.mount = [replica = store() / path] { return detached(replica); };
  return view;
}

view::JobViews Sandbox::job(std::uint32_t id, const std::vector<std::string>& paths) const {
  view::JobViews job;
  job.known = true;
  job.job.job_id = id;
  job.as = {kUid, kGid, {}};
  for (const auto& path : paths) job.views.push_back(view_of(path));
  return job;
}

void Sandbox::start_agent(std::chrono::milliseconds patience) {
  view::ViewServer::Options options;
  options.socket = socket();
  options.run_dir = root_ / "run";
  options.patience = patience;
  auto server = view::ViewServer::start(source, clock, options);
  if (!server) throw std::runtime_error(server.error().message);
  agent = std::move(*server);
}

Result<spank::HelperAnswer> run_attach(const Sandbox& box, const std::string& verb, std::uint32_t job,
                                       const std::vector<std::string>& more, std::chrono::milliseconds limit) {
  std::vector<std::string> args{verb,
                                "--socket=" + box.socket(),
                                "--job=" + std::to_string(job),
                                "--step=0",
                                "--uid=" + std::to_string(kUid),
                                "--gid=" + std::to_string(kGid),
                                "--groups=",
                                "--silence-ms=1000",
                                "--limit-ms=" + std::to_string(limit.count())};
  args.insert(args.end(), more.begin(), more.end());
  return spank::run_helper(ATLAS_ATTACH, args, std::chrono::steady_clock::now() + limit);
}

namespace {

/// Runs `work` as the job's user in the namespace; what it returns, or "errno N".
std::string in_job(const UniqueFd& ns, const std::function<std::optional<std::string>()>& work) {
  const auto packet = run_in_child(
      [&] {
        if (::setns(ns.get(), CLONE_NEWNS) != 0 || ::syscall(SYS_setgroups, 0, nullptr) != 0 ||
            ::setresgid(kGid, kGid, kGid) != 0 || ::setresuid(kUid, kUid, kUid) != 0)
          return Packet{"cannot become the user in the namespace", {}};
        const auto text = work();
        return Packet{text ? *text : "errno " + std::to_string(errno), {}};
      },
      {std::chrono::seconds(5), ns.get()});
  return packet ? packet->bytes : packet.error().message;
}

}  // namespace

std::string read_in(const UniqueFd& ns, const std::filesystem::path& path) {
  return in_job(ns, [&]() -> std::optional<std::string> {
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) return std::nullopt;
    std::string text(4096, '\0');
    const auto size = ::read(file.get(), text.data(), text.size());
    if (size < 0) return std::nullopt;
    text.resize(static_cast<std::size_t>(size));
    return text.empty() ? "(empty)" : text;
  });
}

std::string write_in(const UniqueFd& ns, const std::filesystem::path& path, const std::string& text) {
  return in_job(ns, [&]() -> std::optional<std::string> {
    const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    if (!file || ::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
      return std::nullopt;
    return "written";
  });
}

ino_t identity_of(const UniqueFd& ns) {
  struct stat info {};
  return ::fstat(ns.get(), &info) == 0 ? info.st_ino : 0;
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

void write_file(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
  ::chmod(path.c_str(), 0644);
}

std::vector<std::string> mounts_below(const std::filesystem::path& directory) {
  std::ifstream in("/proc/self/mountinfo");
  std::vector<std::string> found;
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string skip, point;
    words >> skip >> skip >> skip >> skip >> point;
    if (point.starts_with(directory.string() + "/")) found.insert(found.begin(), point);
  }
  return found;
}

}  // namespace atlas::testing
