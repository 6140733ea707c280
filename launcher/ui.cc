#include "launcher/ui.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>

namespace atlas {
namespace {

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const auto written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace

int exit_code_of(const Error& error) {
  return error.code == Code::invalid_argument || error.code == Code::out_of_range ? kExitUsage : kExitFailed;
}

Terminal terminal_of(int fd) {
  Terminal out;
  const char* const kind = std::getenv("TERM");  // NOLINT(concurrency-mt-unsafe): before any thread
  out.live = ::isatty(fd) == 1 && kind != nullptr && std::string_view(kind) != "dumb";
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) out.columns = size.ws_col;
  return out;
}

void print_out(std::string_view text) {
  write_all(STDOUT_FILENO, text);
}
void print_err(std::string_view text) {
  write_all(STDERR_FILENO, text);
}

int report(std::string_view tool, const Error& error) {
  print_err(std::string(tool) + ": " + error.message + "\n");
  return exit_code_of(error);
}

std::string path_of(const Config& config, const DatasetId& dataset) {
  const auto origin = std::find_if(config.origins.begin(), config.origins.end(),
                                   [&](const OriginConfig& o) { return o.name == dataset.origin; });
  if (origin == config.origins.end()) return dataset.origin + ":" + dataset.path;
  return dataset.path.empty() ? origin->root : origin->root + "/" + dataset.path;
}

std::string format_time(WallTime time) {
  if (time == WallTime{}) return "-";
  const auto seconds =
      std::chrono::system_clock::to_time_t(std::chrono::time_point_cast<std::chrono::system_clock::duration>(time));
  std::tm parts{};
  localtime_r(&seconds, &parts);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts)};
}

std::string format_ago(WallTime time, WallTime now) {
  if (time == WallTime{}) return "-";
  return format_duration(std::chrono::duration_cast<milliseconds>(std::max(now - time, WallTime::duration{}))) + " ago";
}

std::string format_percent(Bytes part, Bytes whole) {
  if (whole.count == 0) return "-";
  const double share = std::min(1.0, static_cast<double>(part.count) / static_cast<double>(whole.count));
  char text[32];
  // 99.96 % must not read as all of it.
  std::snprintf(text, sizeof text, "%.1f", part < whole ? std::min(99.9, std::floor(share * 1000) / 10) : 100.0);
  return text;
}

}  // namespace atlas
