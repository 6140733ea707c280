#pragma once
#include <chrono>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/result.h"

namespace atlas {

/// A number of bytes. Arithmetic saturates nowhere: callers keep sizes below 2^63.
struct Bytes {
  std::uint64_t count = 0;
  constexpr auto operator<=>(const Bytes&) const = default;
  constexpr Bytes& operator+=(Bytes o) { return count += o.count, *this; }
  constexpr Bytes& operator-=(Bytes o) { return count -= o.count, *this; }
  friend constexpr Bytes operator+(Bytes a, Bytes b) { return {a.count + b.count}; }
  friend constexpr Bytes operator-(Bytes a, Bytes b) { return {a.count - b.count}; }
};
inline constexpr Bytes kKiB{1024}, kMiB{1024 * 1024}, kGiB{1024ULL * 1024 * 1024};

/// "200G" -> bytes. As in Slurm: K M G T P are powers of 1024, lower case and a trailing B or iB too; a plain number is
/// bytes; one decimal fraction is allowed ("1.5T"). Empty, negative, zero-length, unknown suffix and overflow are
/// invalid_argument, with an example.
[[nodiscard]] Result<Bytes> parse_size(std::string_view text);
/// Three significant digits for people: "512", "1.5K", "183G".
[[nodiscard]] std::string format_size(Bytes bytes);
/// The shortest text that parse_size() turns back into exactly this many bytes.
[[nodiscard]] std::string exact_size(Bytes bytes);

/// "90s", "30m", "2h", "7d", "500ms", or Slurm's own forms: "10" (minutes), "10:00" (MM:SS), "1:10:00", "2-12"
/// (days-hours), "2-12:30[:00]".
[[nodiscard]] Result<std::chrono::milliseconds> parse_duration(std::string_view text);
/// For people: "250ms", "12s", "3m20s", "2h05m", "3d04h".
[[nodiscard]] std::string format_duration(std::chrono::milliseconds duration);

using SteadyTime = std::chrono::steady_clock::time_point;
using WallTime = std::chrono::sys_time<std::chrono::nanoseconds>;

/// The only source of time below main(). Implementations are thread-safe and never block.
class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual SteadyTime now() const = 0;
  [[nodiscard]] virtual WallTime wall() const = 0;
};
/// The machine's clocks.
class SystemClock final : public Clock {
 public:
  [[nodiscard]] SteadyTime now() const override { return std::chrono::steady_clock::now(); }
  [[nodiscard]] WallTime wall() const override { return std::chrono::system_clock::now(); }
};

}  // namespace atlas
