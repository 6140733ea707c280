#include "tests/support/node_processes.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>
#include <stdexcept>

#include "atlas/v1/local.pb.h"
#include "cache-agent/view/holder/client.h"
#include "common/packet.h"
#include "proto/client.h"
#include "proto/convert.h"

namespace atlas::agent {
namespace {

using namespace std::chrono_literals;

/// Waits on a condition that only another process can tell of. With patience: a new database is synced, and the disk
/// may be busy with what others have left it to do.
template <class Condition>
void until(const std::string& what, Condition&& condition) {
  for (const auto end = std::chrono::steady_clock::now() + 120s; !condition();) {
    if (std::chrono::steady_clock::now() > end) throw std::runtime_error("not within 2 minutes: " + what);
    ::poll(nullptr, 0, 2);
  }
}

/// A channel needs a moment to see that there is another agent now.
template <class Call>
Status again_while_away(Call&& call) {
  for (const auto end = std::chrono::steady_clock::now() + 20s;;) {
    const auto reply = call();
    if (reply) return {};
    if (reply.error().code != Code::unavailable || std::chrono::steady_clock::now() > end) return fail(reply.error());
    ::poll(nullptr, 0, 20);
  }
}

/// Below the ports that connections get by themselves: it must be free again when the next agent comes.
int free_port() {
  const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  for (int port = 20'000 + getpid() % 10'000; port < 32'000; ++port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return port;
  }
  throw std::runtime_error("no port");
}

Result<UniqueFd> connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return fail_errno(errno, path);
  return socket;
}

}  // namespace

NodeProcesses::NodeProcesses(std::string directory, Options options)
    : directory_(std::move(directory)), options_(std::move(options)) {
  auth_ = std::make_unique<Authenticator>(Munge(munged_.socket()), std::set<uid_t>{0});
  port_ = free_port();
  // Inherited; not set between fork and exec, when other threads of the test may hold locks.
  if (options_.slots) {
    setenv("ATLAS_TEST_SLOTS", "1", 1);
  } else {
    unsetenv("ATLAS_TEST_SLOTS");
  }
  std::ofstream(directory_ + "/atlas.toml")
      << "[site]\nslurm_user = \"root\"\nmunge_socket = \"" << munged_.socket()
      << "\"\n[controller]\nhost = \"127.0.0.1\"\nport = 1\n[agent]\nlisten = \"127.0.0.1\"\nport = " << port_
      << "\nsocket = \"" << directory_ << "/run/agent.sock\"\nrun_dir = \"" << directory_ << "/run\"\n"
      << options_.agent_extra << "\n[[origin]]\nname = \"o\"\nroot = \"" << options_.origin
      << "\"\n[[tier]]\nname = \"nvme\"\npath = \"" << directory_ << "/tier\"\nquota = \"1G\"\n";
}

NodeProcesses::~NodeProcesses() {
  if (agent_ > 0) {
    signal_agent(SIGCONT);
    end_agent(SIGKILL);
  }
  if (holder_ > 0) end_holder(SIGKILL);
  umount2((directory_ + "/run/ns").c_str(), MNT_DETACH);
}

pid_t NodeProcesses::start(const char* program, const std::string& log, const std::vector<std::string>& more) const {
  std::vector<std::string> words{program, "--config", directory_ + "/atlas.toml", "--node", "n1"};
  words.insert(words.end(), more.begin(), more.end());
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const std::string file = directory_ + "/" + log + ".log";
  const pid_t pid = fork();
  if (pid != 0) return pid;
  const int out = open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  dup2(out, STDOUT_FILENO);
  dup2(out, STDERR_FILENO);
  execv(program, argv.data());
  _exit(127);
}

bool NodeProcesses::answers(const std::string& socket) const {
  return connect_to(directory_ + "/run/" + socket).has_value();
}

void NodeProcesses::start_holder() {
  holder_ = start(ATLAS_VIEW_HOLDER, "holder", {});
  until("the view holder listens", [&] { return answers("holder.sock"); });
}

void NodeProcesses::start_agent() {
  agent_ = start(ATLAS_AGENT, "agent", {});
  until("the agent listens", [&] {
    if (waitpid(agent_, nullptr, WNOHANG) == agent_) throw std::runtime_error("the agent ended:\n" + log("agent"));
    return answers("agent.sock");
  });
  if (!channel_) {
    channel_ = make_channel("127.0.0.1:" + std::to_string(port_));
    stub_ = v1::Agent::NewStub(channel_);
  }
}

void NodeProcesses::signal_agent(int number) const {
  kill(agent_, number);
  // The signal has been taken when one thread has seen it; the others run on until then.
  int status = 0;
  if (number == SIGSTOP) waitpid(agent_, &status, WUNTRACED);
}

int NodeProcesses::end_agent(int number) {
  kill(agent_, number);
  int status = 0;
  waitpid(std::exchange(agent_, -1), &status, 0);
  return status;
}

int NodeProcesses::end_holder(int number) {
  kill(holder_, number);
  int status = 0;
  waitpid(std::exchange(holder_, -1), &status, 0);
  return status;
}

Status NodeProcesses::plan(std::uint32_t job, const Principal& as, const std::string& dataset, std::uint64_t limit,
                           bool read_write) {
  v1::PlanRequest request;
  *request.mutable_job() = to_wire(key(job));
  *request.mutable_as() = to_wire(as);
  auto* planned = request.add_datasets();
  *planned->mutable_dataset() = to_wire(DatasetId{"o", dataset});
  planned->set_read_write(read_write);
  request.set_cache_limit(limit);
  return again_while_away(
      [&] { return call(*auth_, *stub_, &v1::Agent::Stub::Plan, "Agent.Plan", request, 10s, "the agent"); });
}

Status NodeProcesses::release(std::uint32_t job) {
  v1::ReleaseRequest request;
  *request.mutable_job() = to_wire(key(job));
  return again_while_away(
      [&] { return call(*auth_, *stub_, &v1::Agent::Stub::Release, "Agent.Release", request, 10s, "the agent"); });
}

Result<UniqueFd> NodeProcesses::attach(std::uint32_t job, const Principal& as) const {
  ATLAS_ASSIGN(const auto socket, connect_to(directory_ + "/run/agent.sock"));
  v1::LocalRequest request;
  request.set_version(1);
  request.mutable_attach()->set_job_id(job);
  request.mutable_attach()->mutable_as()->set_uid(as.uid);
  request.mutable_attach()->mutable_as()->set_gid(as.gid);
  for (const auto group : as.groups) request.mutable_attach()->mutable_as()->add_groups(group);
  ATLAS_TRY(send_packet(socket.get(), request.SerializeAsString()));
  ATLAS_ASSIGN(auto packet, receive_packet(socket.get(), std::chrono::steady_clock::now() + 20s));
  v1::LocalReply reply;
  if (!reply.ParseFromString(packet.bytes)) return fail(Code::internal, "malformed reply");
  if (reply.code() != 0) return fail(static_cast<Code>(reply.code()), reply.message());
  if (packet.fds.size() != 1) return fail(Code::failed_precondition, "no mount: " + reply.announcement());
  return std::move(packet.fds.front());
}

std::vector<std::string> NodeProcesses::kept() const {
  view::HolderChannel channel;
  if (!channel.connect(view::holder_socket(directory_ + "/run"))) return {"no holder"};
  const auto all = channel.kept();
  if (!all) return {all.error().message};
  std::vector<std::string> lines;
  for (const auto& kept : *all) lines.push_back(kept.about.substr(0, kept.about.find('\n')));
  return lines;
}

std::string NodeProcesses::log(const std::string& program) const {
  std::ifstream in(directory_ + "/" + program + ".log");
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

WaitingRequests::WaitingRequests(int mount) {
  struct statx st {};
  const UniqueFd context(fsopen("fusectl", FSOPEN_CLOEXEC));
  if (statx(mount, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) != 0 || !context ||
      fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0)
    throw std::runtime_error("no fusectl");
  const UniqueFd control(fsmount(context.get(), FSMOUNT_CLOEXEC, 0));
  control_ = UniqueFd(openat(control.get(), std::to_string(st.stx_dev_minor).c_str(), O_RDONLY | O_CLOEXEC));
  if (!control_) throw std::runtime_error("no such connection");
}

unsigned WaitingRequests::count() const {
  return static_cast<unsigned>(view::waiting_requests(control_.get()));
}

}  // namespace atlas::agent
