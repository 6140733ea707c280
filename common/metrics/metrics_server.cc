#include "common/metrics/metrics_server.h"

#include <httplib.h>

#include <charconv>
#include <thread>

namespace atlas {
namespace {

constexpr int kPatience = 5;  ///< seconds for a request to come, and for its answer to be taken
constexpr std::size_t kThreads = 2;

}  // namespace

struct MetricsServer::Impl {
  httplib::Server server;
  std::thread thread;
  int port = 0;
};

MetricsServer::MetricsServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<MetricsServer>> MetricsServer::start(const std::string& listen, Text text) {
  const auto colon = listen.rfind(':');
  std::string host = listen.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  std::uint16_t port = 0;
  const std::string_view digits =
      colon == std::string::npos ? std::string_view() : std::string_view(listen).substr(colon + 1);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (host.empty() || digits.empty() || error != std::errc() || end != digits.data() + digits.size())
    return fail(Code::invalid_argument, "metrics: '" + listen + "' is not HOST:PORT");
  auto impl = std::make_unique<Impl>();
  auto& server = impl->server;
  server.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  server.set_read_timeout(kPatience);
  server.set_write_timeout(kPatience);
  server.set_keep_alive_timeout(kPatience);
  server.set_payload_max_length(0);
  // Its default is SO_REUSEPORT, by which any process could take a part of the requests.
  server.set_socket_options([](socket_t socket) {
    const int yes = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
  server.Get("/metrics", [text = std::move(text)](const httplib::Request&, httplib::Response& response) {
    auto now = text();
    if (now) return response.set_content(*now, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.status = 503;
    response.set_content(now.error().message + "\n", "text/plain; charset=utf-8");
  });
  impl->port = port == 0 ? server.bind_to_any_port(host) : (server.bind_to_port(host, port) ? port : -1);
  if (impl->port <= 0)
    return fail(Code::unavailable, "metrics: cannot listen on " + listen + ": is the port taken (ss -ltnp)?");
  impl->thread = std::thread([&server] { server.listen_after_bind(); });
  while (!server.is_running()) std::this_thread::yield();  // stop() before that would be forgotten
  return std::unique_ptr<MetricsServer>(new MetricsServer(std::move(impl)));
}

MetricsServer::~MetricsServer() {
  impl_->server.stop();
  impl_->thread.join();
}

int MetricsServer::port() const {
  return impl_->port;
}

}  // namespace atlas
