// atlas-slow-origin: mirrors a directory, slowly. See --help.
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>

#include "tests/support/slow_origin/control.h"
#include "tests/support/slow_origin/filesystem.h"
#include "tests/support/slow_origin/session.h"

namespace atlas::slow_origin {
namespace {

constexpr const char* kAbout =
    "A stand-in for Lustre for tests, not Lustre: mirrors a directory through FUSE, delays each operation,\n"
    "caps the bandwidth of all together, counts operations and bytes per user, hangs and fails on command.";

struct Options {
  std::string directory, mountpoint, socket;
  std::string latency = "0", bandwidth = "0";
  unsigned threads = 256;
  Behaviour behaviour;
};

/// One descriptor for each open file of every client.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

Status run_until_told(Session& session, int listener, int signals, Gate& gate) {
  pollfd waits[] = {{signals, POLLIN, 0}, {listener, POLLIN, 0}, {session.gone_fd(), POLLIN, 0}};
  for (;;) {
    if (poll(waits, 3, -1) < 0) {
      if (errno == EINTR) continue;
      return fail_errno(errno, "poll");
    }
    if (waits[0].revents != 0) return {};
    if (waits[2].revents != 0) return {};
    if (waits[1].revents != 0) answer_client(listener, gate);
  }
}

Status serve(const Options& options) {
  Gate gate;
  ATLAS_ASSIGN(const auto latency, parse_milliseconds(options.latency));
  ATLAS_ASSIGN(const auto bandwidth, parse_rate(options.bandwidth));
  gate.set_latency(latency);
  gate.set_bandwidth(bandwidth);
  raise_descriptor_limit();
  umask(0);                        // modes arrive with the caller's umask applied
  prctl(PR_SET_TIMERSLACK, 1000);  // ns; inherited by the threads, keeps a latency of 0.1 ms honest

  sigset_t ends;
  sigemptyset(&ends);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&ends, signal);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  const UniqueFd signals(signalfd(-1, &ends, SFD_CLOEXEC));

  // Opened before mounting: the mountpoint may be the directory itself.
  Fd root(::open(options.directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root.ok()) return fail_errno(errno, "open " + options.directory);
  Filesystem fs{NodeTable(std::move(root)), gate, options.behaviour};
  ATLAS_ASSIGN(const UniqueFd listener, listen_at(options.socket));
  ATLAS_ASSIGN(const auto session, Session::start(fs, options.directory, options.mountpoint, options.threads));
  std::printf("atlas-slow-origin: %s at %s, a stand-in for Lustre for tests, not Lustre\n", options.directory.c_str(),
              options.mountpoint.c_str());
  std::fflush(stdout);

  const Status ended = run_until_told(*session, listener.get(), signals.get(), gate);
  session->unmount();
  unlink(options.socket.c_str());
  if (!ended) std::fprintf(stderr, "atlas-slow-origin: %s\n", ended.error().message.c_str());
  // Threads may hang in operations, for ever. The kernel answers what they hold when the descriptor closes.
  _exit(ended ? 0 : 1);
}

int run(int argc, char** argv) {
  CLI::App app(kAbout, "atlas-slow-origin");
  app.require_subcommand(1);
  Options options;
  CLI::App* serving = app.add_subcommand("serve", "mirror DIRECTORY at MOUNTPOINT until SIGTERM; they may be the same");
  serving->add_option("directory", options.directory)->required();
  serving->add_option("mountpoint", options.mountpoint)->required();
  serving->add_option("--socket", options.socket, "where `ctl` reaches it")->required();
  serving->add_option("--latency", options.latency, "milliseconds before each operation")->capture_default_str();
  serving->add_option("--bandwidth", options.bandwidth, "bytes per second of all together, e.g. 500M; 0 = no cap")
      ->capture_default_str();
  serving->add_option("--threads", options.threads, "operations in flight")
      ->capture_default_str()
      ->check(CLI::Range(1, 4096));
  serving->add_option("--cache", options.behaviour.cache_seconds, "seconds the kernel may trust names and attributes")
      ->capture_default_str();
  serving->add_flag("--root-squash", options.behaviour.root_squash, "root gets what `other` gets");
  serving->add_flag("--honour-interrupt", options.behaviour.honour_interrupt,
                    "a hung operation ends when its caller is killed (Lustre's does not)");
  CLI::App* controlling = app.add_subcommand("ctl", "speak to a running one");
  std::string socket;
  std::vector<std::string> words;
  controlling->add_option("socket", socket)->required();
  controlling
      ->add_option(
          "command", words,
          "stats | reset | hang [--path PATTERN] [OP...] | resume |\n"
          "fail PATTERN [--errno NAME] [OP...] | short [--cached] PATTERN BYTES | heal | latency MS | bandwidth RATE")
      ->required();
  // The options in a command are the command's.
  const bool command = argc >= 4 && std::string_view(argv[1]) == "ctl" && argv[2][0] != '-';
  if (command) {
    socket = argv[2];
    words.assign(argv + 3, argv + argc);
  } else {
    CLI11_PARSE(app, argc, argv);
  }

  if (command || *controlling) {
    const Result<std::string> answer = ask(socket, words);
    if (answer) {
      std::puts(answer->c_str());
      return 0;
    }
    std::fprintf(stderr, "atlas-slow-origin: %s\n", answer.error().message.c_str());
    return 1;
  }
  const Status served = serve(options);  // returns only when it could not start
  std::fprintf(stderr, "atlas-slow-origin: %s\n", served ? "ended" : served.error().message.c_str());
  return 1;
}

}  // namespace
}  // namespace atlas::slow_origin

int main(int argc, char** argv) {
  try {
    return atlas::slow_origin::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "atlas-slow-origin: %s\n", error.what());
    return 1;
  }
}
