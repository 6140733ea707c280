#pragma once
#include <chrono>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "common/units.h"

namespace atlas {

/// --warm: none = never delays; wait = do not start before the data is resident; overlap = warm while the job starts.
enum class WarmMode { none, wait, overlap };

/// --on-change: the data at the origin is not what it was when the job was submitted. refresh = the job reads what is
/// there; keep = an older version that is complete on its node will do; fail = it must not start.
enum class OnChange { refresh, keep, fail };

/// --locality F[@MAXWAIT]: the resident share (bytes-weighted, 0..1) to wait for, and for how long at most.
struct Locality {
  double share = 0;
  std::chrono::seconds max_wait{0};
  bool operator==(const Locality&) const = default;
};

/// --io-limit RATE[,OPS]: the most that a job reads from origins, per second, on all its nodes together.
struct IoLimit {
  std::optional<Bytes> read;
  std::optional<std::uint64_t> operations;
  bool operator==(const IoLimit&) const = default;
};

/// What a job asked for, as written by the user and checked for form only: whoever acts on it checks it against the
/// job's own uid.
struct Request {
  std::vector<std::string>
      datasets;                ///< absolute path below an origin (any bytes but NUL), or a name: "speech", "~user/name"
  std::optional<Bytes> cache;  ///< per node, all datasets together
  WarmMode warm = WarmMode::none;
  std::optional<Locality> locality;
  OnChange on_change = OnChange::refresh;
  std::set<std::string, std::less<>> read_write{};  ///< of the datasets, those that the job writes to (":rw")

  std::optional<IoLimit> io_limit{};

  bool operator==(const Request&) const = default;
};

/// Largest encoded request: it travels in fields of Slurm's job record (job_submit refuses more, with a message).
inline constexpr std::size_t kMaxEncodedRequest = 8 * 1024;

/// One line of [A-Za-z0-9._/,=@%-], safe in a Slurm field, lua and shell:
/// "v1,w=wait,c=2147483648,l=0.9@600,i=524288000@2000,d=/lustre/speech"; "r=" instead of "d=" for one that is written
/// to. out_of_range when longer than kMaxEncodedRequest.
[[nodiscard]] Result<std::string> encode(const Request& request);
/// Strict inverse: unknown version or key, repeated scalar, empty or NUL-holding dataset, no dataset: invalid_argument.
[[nodiscard]] Result<Request> decode_request(std::string_view text);

/// The values of the options, each with a message that names the option, shows what was given and how to write it.
[[nodiscard]] Result<Bytes> parse_cache_option(std::string_view text);  ///< --cache: > 0
[[nodiscard]] Result<WarmMode> parse_warm_option(
    std::string_view text);  ///< --warm: "" (bare) and "wait" = wait, "overlap"
[[nodiscard]] Result<Locality> parse_locality_option(std::string_view text);   ///< --locality: 0..1, optional @time
[[nodiscard]] Result<OnChange> parse_on_change_option(std::string_view text);  ///< --on-change
[[nodiscard]] Result<IoLimit> parse_io_limit_option(std::string_view text);    ///< --io-limit: RATE, RATE,OPS or ,OPS
/// How a user writes that.
[[nodiscard]] std::string show(const IoLimit& limit);
/// A rate: a size, with or without "/s"; `option` is named in errors. More than 0.
[[nodiscard]] Result<Bytes> parse_rate(std::string_view option, std::string_view text);
/// Operations per second. More than 0.
[[nodiscard]] Result<std::uint64_t> parse_operations(std::string_view option, std::string_view text);
/// --dataset: an absolute path without "." or ".." components or NUL, or a name of [A-Za-z0-9._-] with an optional
/// "~user/" in front. Returns it with doubled and trailing slashes removed.
[[nodiscard]] Result<std::string> parse_dataset_option(std::string_view text);
/// The same with the mode that users may add: ":rw", or ":ro" (the default, for names that end in ":rw" themselves).
struct AskedDataset {
  std::string dataset;
  bool read_write = false;
};
[[nodiscard]] Result<AskedDataset> parse_asked_dataset(std::string_view text);
/// How a user writes that.
[[nodiscard]] std::string show_asked(const std::string& dataset, bool read_write);

[[nodiscard]] std::string_view name_of(WarmMode mode);
[[nodiscard]] std::string_view name_of(OnChange what);

/// The directive that job_submit writes and the controller reads back from the job record: "#BB_LUA atlas pool=atlas
/// capacity=1 req=...".
inline constexpr std::string_view kDirectiveTag = "#BB_LUA atlas ";
/// The encoded request inside a job's burst_buffer or admin_comment text ("... req=v1,..." resp. "atlas:v1,...");
/// nullopt if there is none.
[[nodiscard]] std::optional<std::string_view> find_request(std::string_view burst_buffer,
                                                           std::string_view admin_comment);

/// The begin time a job had before Atlas moved it (--begin, or its submit time), kept as "atlas-begin:SECONDS" in
/// admin_comment; nullopt if Atlas did not move it. No release comes before it.
[[nodiscard]] std::optional<std::chrono::sys_seconds> find_own_begin(std::string_view admin_comment);
/// The comment with that mark appended to what is there.
[[nodiscard]] std::string add_own_begin(std::string_view admin_comment, std::chrono::sys_seconds begin);

}  // namespace atlas
