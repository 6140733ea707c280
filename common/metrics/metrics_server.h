#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "common/result.h"

namespace atlas {

/// Answers GET /metrics with what a function says. Owns a thread and two for answers; whoever asks slowly is dropped.
class MetricsServer {
 public:
  /// The text of OpenMetrics, or why there is none at the moment (503). Called on the server's threads.
  using Text = std::function<Result<std::string>()>;
  /// `listen` is HOST:PORT, port 0 = any that is free. invalid_argument, or unavailable when the address is taken.
  [[nodiscard]] static Result<std::unique_ptr<MetricsServer>> start(const std::string& listen, Text text);
  /// Waits for answers under way.
  ~MetricsServer();
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;
  [[nodiscard]] int port() const;

 private:
  struct Impl;
  explicit MetricsServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace atlas
