#include "tests/support/slow_origin/control.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "common/units.h"

namespace atlas::slow_origin {
namespace {

constexpr std::size_t kLongestMessage = 1 << 20;

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return fail(Code::invalid_argument, "socket path longer than 107 bytes: " + path);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

void send_all(int fd, const std::string& text) {
  for (std::size_t sent = 0; sent < text.size();) {
    const ssize_t n = send(fd, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) return;
    sent += static_cast<std::size_t>(n);
  }
}

std::string receive_line(int fd) {
  std::string text;
  char buffer[4096];
  while (text.size() < kLongestMessage && text.find('\n') == std::string::npos) {
    const ssize_t n = recv(fd, buffer, sizeof buffer, 0);
    if (n <= 0) break;
    text.append(buffer, static_cast<std::size_t>(n));
  }
  return text.substr(0, text.find('\n'));
}

Result<int> errno_from_name(const std::string& name) {
  static const std::map<std::string, int> kErrors{{"EIO", EIO},       {"EACCES", EACCES},       {"ENOENT", ENOENT},
                                                  {"ESTALE", ESTALE}, {"ETIMEDOUT", ETIMEDOUT}, {"ENOSPC", ENOSPC},
                                                  {"EAGAIN", EAGAIN}, {"EINTR", EINTR},         {"EPERM", EPERM}};
  const auto found = kErrors.find(name);
  if (found == kErrors.end()) return fail(Code::invalid_argument, "unknown errno '" + name + "', e.g. EIO");
  return found->second;
}

struct Arguments {
  Selection what;
  int error = EIO;
};

/// [--path P] [--errno NAME] [OP...]
Result<Arguments> parse_selection(const std::vector<std::string>& words, std::size_t from) {
  Arguments result;
  for (std::size_t i = from; i < words.size(); ++i) {
    if ((words[i] == "--path" || words[i] == "--errno") && i + 1 == words.size())
      return fail(Code::invalid_argument, words[i] + " needs a value");
    if (words[i] == "--path") {
      result.what.pattern = words[++i];
    } else if (words[i] == "--errno") {
      ATLAS_ASSIGN(result.error, errno_from_name(words[++i]));
    } else if (const auto op = op_from_name(words[i])) {
      result.what.ops.insert(*op);
    } else {
      return fail(Code::invalid_argument, "unknown operation '" + words[i] + "', e.g. read, open, lookup");
    }
  }
  return result;
}

Result<std::string> change_speed(const std::vector<std::string>& words, Gate& gate) {
  if (words.size() != 2) return fail(Code::invalid_argument, words[0] + " takes one value");
  if (words[0] == "latency") {
    ATLAS_ASSIGN(const auto latency, parse_milliseconds(words[1]));
    gate.set_latency(latency);
  } else {
    ATLAS_ASSIGN(const auto rate, parse_rate(words[1]));
    gate.set_bandwidth(rate);
  }
  return std::string("ok");
}

}  // namespace

Result<std::uint64_t> parse_rate(const std::string& text) {
  if (text == "0" || text == "unlimited") return std::uint64_t{0};
  ATLAS_ASSIGN(const Bytes rate, parse_size(text));
  return rate.count;
}

Result<std::chrono::microseconds> parse_milliseconds(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !(value >= 0 && value < 3.6e6))
    return fail(Code::invalid_argument, "'" + text + "' is no number of milliseconds, e.g. 0.5");
  return std::chrono::microseconds(static_cast<std::int64_t>(value * 1000));
}

Result<std::string> execute(const std::vector<std::string>& words, Gate& gate) {
  const std::string command = words.empty() ? "" : words[0];
  if (command == "stats") return gate.stats().dump();
  if (command == "latency" || command == "bandwidth") return change_speed(words, gate);
  if (command == "reset") {
    gate.reset();
  } else if (command == "resume") {
    gate.resume();
  } else if (command == "heal") {
    gate.heal();
  } else if (command == "hang") {
    ATLAS_ASSIGN(Arguments arguments, parse_selection(words, 1));
    gate.hang(std::move(arguments.what));
  } else if (command == "short" && words.size() >= 3) {
    const bool cached = words[1] == "--cached" && words.size() == 4;
    ATLAS_ASSIGN(const std::uint64_t most, parse_rate(words.back()));
    gate.shorten({words[cached ? 2 : 1], most, cached});
  } else if (command == "fail" && words.size() >= 2) {
    ATLAS_ASSIGN(Arguments arguments, parse_selection(words, 2));
    arguments.what.pattern = words[1];
    gate.fail(std::move(arguments.what), arguments.error);
  } else {
    return fail(Code::invalid_argument, "unknown command '" + command +
                                            "': stats, reset, hang, resume, fail PATTERN, short [--cached] PATTERN "
                                            "BYTES, heal, latency MS, bandwidth RATE");
  }
  return std::string("ok");
}

Result<UniqueFd> listen_at(const std::string& path) {
  ATLAS_ASSIGN(const sockaddr_un address, address_of(path));
  UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  unlink(path.c_str());
  const mode_t before = umask(0177);
  const int bound = bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const int error = errno;
  umask(before);
  if (bound != 0) return fail_errno(error, "bind " + path);
  if (listen(listener.get(), 16) != 0) return fail_errno(errno, "listen at " + path);
  return listener;
}

void answer_client(int listener, Gate& gate) {
  const UniqueFd client(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  if (!client) return;
  const timeval patience{2, 0};  // a client that connects and says nothing must not block the others
  setsockopt(client.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  // The words come as a JSON array, so that patterns may hold blanks.
  const nlohmann::json words = nlohmann::json::parse(receive_line(client.get()), nullptr, false);
  Result<std::string> answer = fail(Code::invalid_argument, "expected a JSON array of strings");
  if (words.is_array() && std::all_of(words.begin(), words.end(), [](const auto& w) { return w.is_string(); }))
    answer = execute(words.get<std::vector<std::string>>(), gate);
  send_all(client.get(), (answer ? *answer : "error: " + answer.error().message) + "\n");
}

Result<std::string> ask(const std::string& socket_path, const std::vector<std::string>& words) {
  ATLAS_ASSIGN(const sockaddr_un address, address_of(socket_path));
  const UniqueFd client(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return fail_errno(errno, "connect to " + socket_path + " (is that slow origin running?)");
  send_all(client.get(), nlohmann::json(words).dump() + "\n");
  std::string answer = receive_line(client.get());
  if (answer.empty()) return fail(Code::unavailable, "no answer from " + socket_path);
  if (answer.starts_with("error: ")) return fail(Code::invalid_argument, answer.substr(7));
  return answer;
}

}  // namespace atlas::slow_origin
