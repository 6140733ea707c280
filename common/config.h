#pragma once
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "common/units.h"

namespace atlas {

using std::chrono::milliseconds;

/// Shared storage that an admin has named.
struct OriginConfig {
  std::string name;
  std::string root;  ///< absolute, canonical: where the origin is mounted, the same on every node
  std::string reader =
      "user";  ///< "user": read with the job's uid and groups; "service": read as the agent's own reader account
  std::uint32_t operations = 48;     ///< operations in flight per node
  std::vector<std::string> exclude;  ///< patterns of what is never cached, see common/patterns.h
};

/// A directory of a node that replicas live in, with the bytes Atlas may use there.
struct TierConfig {
  std::string name;
  std::string path;  ///< absolute; %n stands for the node's name
  Bytes quota;
  std::uint64_t inodes = 0;  ///< files, directories and links that Atlas may have there; 0 = no limit
  /// Used parts of its file system, of bytes or inodes whichever is more: Atlas fills it up to `low`; when others bring
  /// it beyond `high`, it gives way down to `low`.
  double low = 0.95, high = 0.98;
};

/// Everything atlas.toml says. Defaults are design decisions, documented key by key in etc/atlas.toml and
/// atlas.toml(5).
struct Config {
  struct {
    std::string slurm_user = "slurm";    ///< the account slurmctld and atlas-controller run under
    std::vector<std::string> operators;  ///< accounts that may pin, drain, evict for others, name datasets
    std::string munge_socket;            ///< empty = munge's own default
    bool observe = false;                ///< jobs are looked at and nothing is done; read by atlas_submit.lua, too
    bool burst_buffer = true;            ///< jobs may carry a directive of burst_buffer/lua; read by atlas_submit.lua
  } site;
  struct {
    std::string host = "localhost";
    std::uint16_t port = 817;
    std::string listen = "0.0.0.0";
    std::string database = "/var/lib/atlas/catalog.db";
    milliseconds poll{1000};  ///< how often the queue is read while anything is staged
    std::string metrics;      ///< HOST:PORT of its OpenMetrics endpoint; empty = none
    std::string log_level = "info";
  } controller;
  struct {
    std::uint16_t port = 818;
    std::string listen = "0.0.0.0";
    std::string socket = "/run/atlas/agent.sock";  ///< plugin and atlas-attach talk to it; %n = node name
    std::string run_dir = "/run/atlas";            ///< namespaces are held below it; %n = node name
    milliseconds attach_timeout{5000};             ///< the most a job start waits for the agent
    milliseconds origin_silence{2000};       ///< an origin that does not answer an attach for so long is passed over
    milliseconds read_deadline{30'000};      ///< the most a read through a view waits for the origin
    milliseconds takeover_deadline{30'000};  ///< the most a read through a view waits for an agent
    bool passthrough = true;                 ///< the kernel may read large files of views from the store by itself
    std::uint32_t operations = 48;           ///< fetches in flight
    milliseconds scrub_period{7LL * 24 * 3600 *
                              1000};     ///< each replica is compared with its checksums so often; 0 = never
    Bytes scrub_rate{32 * 1024 * 1024};  ///< per second, at most; 0 = no limit
    bool count_bypass = false;           ///< what jobs read past Atlas counts against their limits
    std::string metrics;                 ///< HOST:PORT of its OpenMetrics endpoint; empty = none
    std::string log_level = "info";
  } agent;
  struct {
    Bytes read, write;                 ///< per second, of one job on each disk of a node; 0 = no limit
    std::uint64_t operations = 0;      ///< reads, and as many writes, per second; 0 = no limit
    std::vector<std::string> scratch;  ///< directories whose disks count besides the tiers'; %n = the node's name
  } disk;
  struct {
    milliseconds max_wait{30 * 60 * 1000};  ///< the most a job waits for its data
    milliseconds max_idle{2 * 60 *
                          1000};         ///< the most nodes are kept idle by a warm-up before it overlaps with the job
    Bytes chunk{32 * 1024 * 1024};       ///< piece in which a big file is fetched
    milliseconds revalidate{60 * 1000};  ///< how long a completed walk of the origin vouches for a generation
    milliseconds settle{2 * 60 * 1000};  ///< what changed more recently is read through, not kept, unless asked for
    milliseconds controller_grace{60 * 1000};  ///< how long a job waits for an unreachable controller
    bool peers = true;                         ///< nodes read from each other's caches what another has read already
    milliseconds peer_wait{60 * 1000};         ///< the most a node waits for a piece from another one
  } warm;
  struct {
    milliseconds resolve_timeout{200};  ///< the most a submit spends on checking one path
  } submit;
  std::vector<OriginConfig> origins;
  std::vector<TierConfig> tiers;

  std::filesystem::path source;                   ///< the file it came from
  std::map<std::string, std::string> provenance;  ///< key -> "FILE:LINE"; keys not in it have their default
};

/// One row of the table that drives parsing, --show-config, suggestions, the sample and the manual.
struct ConfigField {
  std::string_view table;  ///< "controller", or "origin"/"tier" for a field of each [[origin]] / [[tier]]
  std::string_view key;
  std::string_view type;      ///< string | size | duration | integer | boolean | strings | percent
  std::string_view fallback;  ///< default as it would be written in TOML
  std::string_view help;      ///< one line
};
/// All keys, in the order of the sample.
[[nodiscard]] const std::vector<ConfigField>& config_fields();

/// Reads and checks a file. Errors name file:line:column, what is wrong, and for an unknown key the nearest known one.
/// Never throws.
[[nodiscard]] Result<Config> load_config(const std::filesystem::path& file);
[[nodiscard]] Result<Config> parse_config(std::string_view text, const std::filesystem::path& name);
/// $ATLAS_CONF, else /etc/atlas/atlas.toml. For programs a user runs; daemons and the plugin are told by argument.
[[nodiscard]] std::filesystem::path default_config_path();
/// "table.key = value  # where from", a line each, in the order of config_fields().
[[nodiscard]] std::string show_config(const Config& config);
/// The text with %n replaced by the node's name (and %% by %).
[[nodiscard]] std::string expand_node(std::string_view text, std::string_view node);
/// The origin whose root is a prefix of an absolute path (longest wins); nullptr if none.
[[nodiscard]] const OriginConfig* origin_of(const Config& config, std::string_view absolute_path);

}  // namespace atlas
