#include "launcher/ui_controller.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

namespace atlas {
namespace {

sigset_t ending_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

}  // namespace

void hold_signals() {
  const auto set = ending_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

ControllerClient::ControllerClient(Authenticator auth, const std::string& address)
    : auth_(std::move(auth)),
      peer_("the controller at " + address),
      stub_(v1::Controller::NewStub(make_channel(address))) {}

Result<std::unique_ptr<ControllerClient>> ControllerClient::make(const Config& config) {
  ATLAS_ASSIGN(auto auth, Authenticator::from_config(config));
  return std::unique_ptr<ControllerClient>(
      new ControllerClient(std::move(auth), config.controller.host + ":" + std::to_string(config.controller.port)));
}

Error ControllerClient::explain(Error error) const {
  const bool away = error.code == Code::unavailable || error.code == Code::deadline_exceeded;
  if (away && error.message.find(peer_) != std::string::npos)
    error.message += ". Jobs submit and run without it. Next: atlasctl doctor";
  if (error.code == Code::unimplemented)
    error.message = peer_ + " does not know this request: it is older than this command; install the same version";
  return error;
}

ControllerClient::EndOfStream::EndOfStream() : ended_(::eventfd(0, EFD_CLOEXEC)) {}

void ControllerClient::EndOfStream::set(Status status) {
  status_ = std::move(status);
  const std::uint64_t one = 1;
  // The write is the last use of *this here: the waiter may be gone right after it.
  while (::write(ended_.get(), &one, sizeof one) < 0 && errno == EINTR) {
  }
}

bool ControllerClient::EndOfStream::wait(const std::function<void()>& cancel) {
  const auto set = ending_signals();
  const UniqueFd signals(::signalfd(-1, &set, SFD_CLOEXEC));
  bool interrupted = false;
  while (true) {
    pollfd fds[] = {{ended_.get(), POLLIN, 0}, {interrupted ? -1 : signals.get(), POLLIN, 0}};
    if (::poll(fds, 2, -1) < 0) continue;
    if ((fds[0].revents & POLLIN) != 0) return interrupted;
    if ((fds[1].revents & POLLIN) != 0) {
      interrupted = true;
      cancel();
    }
  }
}

}  // namespace atlas
