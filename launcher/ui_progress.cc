#include "launcher/ui_progress.h"

#include <algorithm>

#include "common/percent.h"
#include "common/table.h"

namespace atlas {
namespace {

/// How often a moving row is mentioned where nothing can be redrawn.
constexpr std::chrono::seconds kLineEvery{5};
constexpr std::size_t kBarWidth = 24, kBarMinimum = 8, kDatasetMinimum = 12;

std::string share(const WarmProgress& p) {
  if (p.phase == WarmPhase::complete) return "100%";
  if (p.bytes_total.count == 0) return "0%";
  const auto percent = static_cast<std::uint64_t>(100.0 * static_cast<double>(p.bytes_done.count) /
                                                  static_cast<double>(p.bytes_total.count));
  return std::to_string(std::min<std::uint64_t>(percent, 99)) + "%";
}

std::string left(const WarmProgress& p) {
  return p.phase == WarmPhase::fetching && p.eta.count() >= 0 ? format_duration(p.eta) + " left" : "";
}

std::string bad_blocks(const WarmProgress& p) {
  return std::to_string(p.bad_blocks) + " bad block" + (p.bad_blocks == 1 ? "" : "s") +
         (p.phase == WarmPhase::complete ? " fetched again" : "");
}

std::string amounts(const WarmProgress& p) {
  if (p.phase == WarmPhase::walking)
    return "looking: " + std::to_string(p.files_total) + " files, " + format_size(p.bytes_total) + " so far";
  return format_size(p.bytes_done) + "/" + format_size(p.bytes_total) + "  " + std::to_string(p.files_done) + "/" +
         std::to_string(p.files_total) + " files";
}

std::string bar(const WarmProgress& p, std::size_t width) {
  std::size_t filled = p.phase == WarmPhase::complete ? width : 0;
  if (p.phase != WarmPhase::complete && p.bytes_total.count != 0)
    filled = std::min(width - 1,
                      static_cast<std::size_t>(static_cast<double>(width) * static_cast<double>(p.bytes_done.count) /
                                               static_cast<double>(p.bytes_total.count)));
  return "[" + std::string(filled, '#') + std::string(width - filled, '-') + "]";
}

/// The end of a text, which is what tells paths apart, in at most `width` columns.
std::string shortened(std::string text, std::size_t width) {
  if (display_width(text) <= width) return text;
  while (!text.empty() && display_width(text) + 3 > width) {
    text.erase(0, 1);
    while (!text.empty() && (static_cast<unsigned char>(text[0]) & 0xc0U) == 0x80U) text.erase(0, 1);
  }
  return "..." + text;
}

std::string cut(std::string text, std::size_t width) {
  while (display_width(text) > width) text.pop_back();
  return text;
}

}  // namespace

std::string_view name_of(WarmPhase phase) {
  switch (phase) {
    case WarmPhase::walking:
      return "walking";
    case WarmPhase::fetching:
      return "fetching";
    case WarmPhase::sealing:
      return "sealing";
    case WarmPhase::complete:
      return "complete";
    case WarmPhase::failed:
      return "failed";
    case WarmPhase::verifying:
      return "verifying";
    default:
      return "waiting";
  }
}

std::string render_bar(const ProgressRow& row, std::size_t columns) {
  const auto& p = row.state;
  const std::string node = printable(p.node);
  std::string tail;
  if (p.phase == WarmPhase::failed) {
    tail = "failed: " + printable(p.message);
  } else if (p.phase == WarmPhase::walking) {
    tail = amounts(p);
  } else {
    const std::string percent = share(p);
    tail = std::string(4 - std::min<std::size_t>(4, percent.size()), ' ') + percent + "  " + amounts(p);
    if (p.phase == WarmPhase::complete) tail += "  complete";
    if (p.phase == WarmPhase::verifying) tail += "  verifying";
    if (p.bad_blocks > 0) tail += "  " + bad_blocks(p);
    if (p.phase == WarmPhase::sealing) tail += "  sealing";
    if (p.phase == WarmPhase::fetching) tail += "  " + format_size(p.per_second) + "/s";
    if (const auto time = left(p); !time.empty()) tail += "  " + time;
  }
  const bool with_bar = p.phase != WarmPhase::failed && p.phase != WarmPhase::walking;
  // The bar gives way first, then the dataset's path, then the end of the line.
  const std::size_t fixed = display_width(node) + display_width(tail) + 4;
  std::string dataset = printable(row.dataset);
  std::size_t bar_width = with_bar ? kBarWidth : 0;
  const auto room_for_dataset = [&] {
    const std::size_t used = fixed + (bar_width > 0 ? bar_width + 4 : 0);
    return columns > used ? columns - used : 0;
  };
  while (bar_width > kBarMinimum && room_for_dataset() < display_width(dataset)) --bar_width;
  if (bar_width == kBarMinimum && room_for_dataset() < kDatasetMinimum) bar_width = 0;
  dataset = shortened(std::move(dataset), std::max(room_for_dataset(), kDatasetMinimum));
  std::string out = node + "  " + dataset + "  ";
  if (bar_width > 0) out += bar(p, bar_width) + "  ";
  return cut(out + tail, columns);
}

std::string render_line(const ProgressRow& row) {
  const auto& p = row.state;
  std::string out = printable(p.node) + " " + printable(row.dataset) + ": " + std::string(name_of(p.phase));
  if (p.phase == WarmPhase::failed) return out + ": " + printable(p.message);
  if (p.phase == WarmPhase::none) return out;
  if (p.phase == WarmPhase::walking)
    return out + ", " + std::to_string(p.files_total) + " files, " + format_size(p.bytes_total) + " so far";
  out += " " + share(p) + ", " + format_size(p.bytes_done) + " of " + format_size(p.bytes_total) + ", " +
         std::to_string(p.files_done) + " of " + std::to_string(p.files_total) + " files";
  if (p.phase == WarmPhase::fetching) out += ", " + format_size(p.per_second) + "/s";
  if (p.phase == WarmPhase::complete) out += ", " + format_size(p.origin_bytes) + " read from the origin";
  if (p.phase == WarmPhase::complete && p.peer_bytes.count != 0)
    out += " and " + format_size(p.peer_bytes) + " from other nodes";
  if (p.bad_blocks > 0) out += ", " + bad_blocks(p);
  if (const auto time = left(p); !time.empty()) out += ", " + time;
  return out;
}

std::string ProgressView::erase() const {
  // To the start of the first bar's line, then everything below goes.
  return bars_.empty() ? "" : "\x1b[" + std::to_string(bars_.size()) + "F\x1b[J";
}

void ProgressView::show(const std::vector<ProgressRow>& rows) {
  if (!terminal_.live) {
    show_lines(rows);
    return;
  }
  std::vector<std::string> bars;
  bars.reserve(rows.size());
  for (const auto& row : rows) bars.push_back(render_bar(row, terminal_.columns > 1 ? terminal_.columns - 1 : 1));
  if (bars == bars_) return;
  std::string out = erase();
  for (const auto& line : bars) out += line + "\n";
  bars_ = std::move(bars);
  sink_(out);
}

void ProgressView::show_lines(const std::vector<ProgressRow>& rows) {
  const auto now = clock_.now();
  for (const auto& row : rows) {
    const auto& p = row.state;
    const auto [at, fresh] = shown_.try_emplace(p.node + '\n' + row.dataset);
    auto& last = at->second;
    const bool moved = last.bytes != p.bytes_done || last.files != p.files_done;
    if (!fresh && last.phase == p.phase && !(moved && now - last.at >= kLineEvery)) continue;
    last = {p.phase, now, p.bytes_done, p.files_done};
    if (p.phase != WarmPhase::none) sink_(render_line(row) + "\n");
  }
}

void ProgressView::note(std::string_view line) {
  std::string out = erase() + std::string(line) + "\n";
  for (const auto& kept : bars_) out += kept + "\n";
  sink_(out);
}

void ProgressView::leave() {
  bars_.clear();
}

}  // namespace atlas
