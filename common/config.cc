#include "common/config.h"

#include <toml++/toml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <limits>
#include <sstream>

#include "common/patterns.h"

namespace atlas {
namespace {

/// What a field's parser is given: the node and the place to store it.
using Setter = std::function<Status(Config&, const toml::node&)>;
using Getter = std::function<std::string(const Config&)>;

struct Field {
  ConfigField doc;
  Setter set;  ///< empty for fields of [[origin]] and [[tier]]
  Getter get;
};

std::string quoted(const std::string& text) {
  return "\"" + text + "\"";
}

tl::unexpected<Error> want(std::string_view type) {
  return fail(Code::invalid_argument, "expected " + std::string(type));
}

Status read_value(const toml::node& node, std::string& out) {
  const auto value = node.value_exact<std::string>();
  if (!value) return want("a string in quotes");
  out = *value;
  return {};
}
Status read_value(const toml::node& node, Bytes& out) {
  const auto value = node.value_exact<std::string>();
  if (!value) return want("a size in quotes, e.g. \"200G\"");
  ATLAS_ASSIGN(out, parse_size(*value));
  return {};
}
Status read_value(const toml::node& node, milliseconds& out) {
  const auto value = node.value_exact<std::string>();
  if (!value) return want("a time in quotes, e.g. \"30m\"");
  ATLAS_ASSIGN(out, parse_duration(*value));
  return {};
}
template <class Int>
Status read_integer(const toml::node& node, Int& out, std::int64_t low, std::int64_t high) {
  const auto value = node.value_exact<std::int64_t>();
  if (!value || *value < low || *value > high)
    return want("a whole number from " + std::to_string(low) + " to " + std::to_string(high));
  out = static_cast<Int>(*value);
  return {};
}
Status read_value(const toml::node& node, bool& out) {
  const auto value = node.value_exact<bool>();
  if (!value) return want("true or false, without quotes");
  out = *value;
  return {};
}
Status read_value(const toml::node& node, std::uint16_t& out) {
  return read_integer(node, out, 1, 65535);
}
Status read_value(const toml::node& node, std::uint32_t& out) {
  return read_integer(node, out, 1, 4096);
}
Status read_value(const toml::node& node, std::uint64_t& out) {
  return read_integer(node, out, 0, std::int64_t{1} << 48);
}
/// A part of something: "95%" is 0.95.
Status read_value(const toml::node& node, double& out) {
  constexpr std::string_view kWant = "a part from \"1%\" to \"100%\", in quotes";
  const auto text = node.value_exact<std::string>();
  if (!text || text->empty() || text->back() != '%') return want(kWant);
  double percent = 0;
  const char* const end = text->data() + text->size() - 1;
  const auto [at, error] = std::from_chars(text->data(), end, percent, std::chars_format::fixed);
  if (error != std::errc() || at != end || !(percent >= 1 && percent <= 100)) return want(kWant);
  out = percent / 100;
  return {};
}
Status read_value(const toml::node& node, std::vector<std::string>& out) {
  const auto* array = node.as_array();
  if (array == nullptr) return want("an array of strings, e.g. [\"alice\", \"bob\"]");
  out.clear();
  for (const auto& item : *array) {
    const auto value = item.value_exact<std::string>();
    if (!value) return want("an array of strings, e.g. [\"alice\", \"bob\"]");
    out.push_back(*value);
  }
  return {};
}

std::string show_value(const std::string& v) {
  return quoted(v);
}
std::string show_value(Bytes v) {
  return quoted(exact_size(v));
}
std::string show_value(milliseconds v) {
  const auto ms = v.count();
  if (ms % 60000 == 0 && ms != 0) return quoted(std::to_string(ms / 60000) + "m");
  if (ms % 1000 == 0) return quoted(std::to_string(ms / 1000) + "s");
  return quoted(std::to_string(ms) + "ms");
}
std::string show_value(bool v) {
  return v ? "true" : "false";
}
std::string show_value(std::uint16_t v) {
  return std::to_string(v);
}
std::string show_value(std::uint32_t v) {
  return std::to_string(v);
}
std::string show_value(std::uint64_t v) {
  return std::to_string(v);
}
std::string show_value(double part) {
  char text[32];
  const auto shown = std::to_chars(text, text + sizeof text, std::round(part * 1e6) / 1e4);
  return quoted(std::string(text, shown.ptr) + "%");
}
std::string show_value(const std::vector<std::string>& v) {
  std::string out = "[";
  for (const auto& item : v) out += (out.size() > 1 ? ", " : "") + quoted(item);
  return out + "]";
}

/// A scalar of Config: `access` maps a Config to the member.
template <class Access>
Field scalar(std::string_view table, std::string_view key, std::string_view type, std::string_view help,
             Access access) {
  static const Config kDefaults;
  static std::map<std::string, std::string> texts;  // keeps the default's text alive for the string_view
  auto& text = texts[std::string(table) + "." + std::string(key)];
  text = show_value(access(const_cast<Config&>(kDefaults)));
  return {{table, key, type, text, help},
          [access](Config& c, const toml::node& n) { return read_value(n, access(c)); },
          [access](const Config& c) { return show_value(access(const_cast<Config&>(c))); }};
}
Field element(std::string_view table, std::string_view key, std::string_view type, std::string_view fallback,
              std::string_view help) {
  return {{table, key, type, fallback, help}, {}, {}};
}

#define ATLAS_FIELD(table, key, type, help) \
  scalar(                                   \
      #table, #key, type, help, [](Config & c) -> auto& { return c.table.key; })

const std::vector<Field>& fields() {
  static const std::vector<Field> kFields = {
      ATLAS_FIELD(site, slurm_user, "string",
                  "Account that slurmctld and atlas-controller run under (slurm.conf: SlurmUser)."),
      ATLAS_FIELD(site, operators, "strings",
                  "Accounts that may pin, drain, name datasets and evict for others, besides root and slurm_user."),
      ATLAS_FIELD(site, munge_socket, "string", "munged's socket; empty = munge's default."),
      ATLAS_FIELD(site, burst_buffer, "boolean",
                  "false: Slurm has another burst buffer plug-in; jobs wait by their begin time, without hooks."),
      ATLAS_FIELD(site, observe, "boolean",
                  "true: jobs run as without Atlas, and what it would have done with them is logged and summed up."),
      ATLAS_FIELD(controller, host, "string", "Host that atlas-controller runs on, as the nodes and users reach it."),
      ATLAS_FIELD(controller, port, "integer", "Its port; below 1024, so that no user's program can take its place."),
      ATLAS_FIELD(controller, listen, "string", "Address it listens on."),
      ATLAS_FIELD(controller, database, "string", "Its catalogue (SQLite), on a local disk."),
      ATLAS_FIELD(controller, poll, "duration", "How often Slurm's queue is read while a job is staged."),
      ATLAS_FIELD(controller, metrics, "string",
                  "HOST:PORT of its OpenMetrics endpoint (GET /metrics), for Prometheus; empty = none."),
      ATLAS_FIELD(controller, log_level, "string", "trace, debug, info, warning or error."),
      ATLAS_FIELD(agent, port, "integer", "Port of atlas-cache-agent on each node; below 1024."),
      ATLAS_FIELD(agent, listen, "string", "Address it listens on."),
      ATLAS_FIELD(agent, socket, "string", "Local socket that the plugin talks to; %n = the node's name."),
      ATLAS_FIELD(agent, run_dir, "string",
                  "Directory for job namespaces and other state that ends with a boot; %n = the node's name."),
      ATLAS_FIELD(agent, attach_timeout, "duration",
                  "The most a job start waits for the agent; then the job runs on the origin."),
      ATLAS_FIELD(agent, origin_silence, "duration",
                  "An origin that does not answer for so long is passed over at a job's start."),
      ATLAS_FIELD(agent, read_deadline, "duration",
                  "The most a job's read waits for the origin before it fails; at most half of UnkillableStepTimeout."),
      ATLAS_FIELD(
          agent, takeover_deadline, "duration",
          "The most a job's read waits for an agent that ended or hangs; at most half of UnkillableStepTimeout."),
      ATLAS_FIELD(agent, passthrough, "boolean",
                  "Large files of partial replicas are read by the kernel itself, where it can (Linux 6.9)."),
      ATLAS_FIELD(agent, operations, "integer", "Fetches in flight on a node."),
      ATLAS_FIELD(agent, scrub_period, "duration",
                  "Each complete replica is compared with its checksums once in so long; \"0s\" = never."),
      ATLAS_FIELD(agent, scrub_rate, "size", "Bytes per second that this comparison reads at most; \"0\" = no limit."),
      ATLAS_FIELD(
          agent, count_bypass, "boolean",
          "What jobs read from origins past Atlas is measured, where it can be, and counts against their limits."),
      ATLAS_FIELD(agent, metrics, "string",
                  "HOST:PORT of its OpenMetrics endpoint (GET /metrics), for Prometheus; empty = none."),
      ATLAS_FIELD(agent, log_level, "string", "trace, debug, info, warning or error."),
      ATLAS_FIELD(disk, read, "size",
                  "Bytes per second that a job may read from each disk of a node; \"0\" = no limit."),
      ATLAS_FIELD(disk, write, "size",
                  "Bytes per second that a job may write to each disk of a node; \"0\" = no limit."),
      ATLAS_FIELD(disk, operations, "integer",
                  "Reads, and as many writes, per second of a job on each disk of a node; 0 = no limit."),
      ATLAS_FIELD(disk, scratch, "strings",
                  "Directories of jobs on disks of the node, to which this applies besides the tiers; %n = the node's "
                  "name."),
      ATLAS_FIELD(warm, max_wait, "duration",
                  "The most a job with --warm waits for its data; then it starts cold, with the reason on record."),
      ATLAS_FIELD(warm, max_idle, "duration",
                  "A warm-up that would keep free nodes idle for longer overlaps with the job instead."),
      ATLAS_FIELD(warm, chunk, "size", "Piece in which a big file is fetched."),
      ATLAS_FIELD(warm, revalidate, "duration",
                  "How long a finished walk of the origin vouches for a generation; \"0s\" = walk for every job."),
      ATLAS_FIELD(warm, settle, "duration",
                  "Files that changed within this time are not added to a cache that holds an older version, unless "
                  "somebody asks for a warm-up; \"0s\" = they are."),
      ATLAS_FIELD(warm, controller_grace, "duration",
                  "How long a job waits for an unreachable controller before it starts without."),
      ATLAS_FIELD(warm, peers, "boolean",
                  "Nodes that warm the same data divide the reading of the origin and copy the rest from each other."),
      ATLAS_FIELD(warm, peer_wait, "duration",
                  "The most a node waits for a piece of a file from another node; then it reads the origin."),
      ATLAS_FIELD(submit, resolve_timeout, "duration", "The most a submit spends on checking one path."),
      element("origin", "name", "string", "", "Short name of the storage, e.g. \"lustre\". Required."),
      element("origin", "root", "string", "", "Absolute path where it is mounted, the same on every node. Required."),
      element("origin", "reader", "string", "\"user\"",
              "\"user\": files are read as the job's user, with the user's groups."),
      element("origin", "operations", "integer", "48", "Operations in flight to it from one node."),
      element("origin", "exclude", "strings", "[]",
              "Patterns of what is never cached: \"*.tmp\" is left out, \"checkpoints/\" stays the origin's."),
      element("tier", "name", "string", "", "Short name of the medium, e.g. \"nvme\". Required."),
      element("tier", "path", "string", "",
              "Directory for replicas, on a disk of the node; %n = the node's name. Required."),
      element("tier", "quota", "size", "", "Bytes that Atlas may use there. Required."),
      element("tier", "inodes", "integer", "0",
              "Files, directories and links that Atlas may have there; 0 = no limit."),
      element("tier", "low_mark", "percent", "\"95%\"",
              "Atlas fills the disk, of bytes and of inodes, no further than this, whoever else uses it."),
      element("tier", "high_mark", "percent", "\"98%\"",
              "When others fill it further than this, Atlas evicts what no job holds, down to low_mark."),
  };
  return kFields;
}
#undef ATLAS_FIELD

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0U : 1U)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string suggestion(std::string_view given, const std::vector<std::string_view>& known) {
  const auto best = std::min_element(known.begin(), known.end(),
                                     [&](auto a, auto b) { return edit_distance(given, a) < edit_distance(given, b); });
  if (best == known.end() || edit_distance(given, *best) > std::max<std::size_t>(2, given.size() / 3)) return "";
  return "; did you mean '" + std::string(*best) + "'?";
}

std::string place(const std::filesystem::path& file, const toml::source_region& at) {
  return file.string() + ":" + std::to_string(at.begin.line) + ":" + std::to_string(at.begin.column);
}

std::vector<std::string_view> keys_of(std::string_view table) {
  std::vector<std::string_view> keys;
  for (const auto& field : fields())
    if (field.doc.table == table) keys.push_back(field.doc.key);
  return keys;
}

class Reader {
 public:
  Reader(Config& config, const std::filesystem::path& file) : config_(config), file_(file) {}

  Status read(const toml::table& root) {
    std::vector<std::string_view> tables;
    for (const auto& field : fields())
      if (tables.empty() || tables.back() != field.doc.table) tables.push_back(field.doc.table);
    for (const auto& [key, node] : root) {
      const std::string_view name = key.str();
      if (std::find(tables.begin(), tables.end(), name) == tables.end())
        return at(key.source(), "unknown table [" + std::string(name) + "]" + suggestion(name, tables));
      if (name == "origin" || name == "tier") {
        ATLAS_TRY(read_list(name, node));
      } else {
        ATLAS_TRY(read_table(name, node));
      }
    }
    return check();
  }

 private:
  [[nodiscard]] tl::unexpected<Error> at(const toml::source_region& where, const std::string& what) const {
    return fail(Code::invalid_argument, place(file_, where) + ": " + what);
  }

  Status read_table(std::string_view table, const toml::node& node) {
    const auto* entries = node.as_table();
    if (entries == nullptr) return at(node.source(), "expected a table: [" + std::string(table) + "]");
    for (const auto& [key, value] : *entries) {
      const auto field = std::find_if(fields().begin(), fields().end(), [&, k = key.str()](const Field& f) {
        return f.doc.table == table && f.doc.key == k;
      });
      if (field == fields().end())
        return at(key.source(), "unknown key '" + std::string(key.str()) + "' in [" + std::string(table) + "]" +
                                    suggestion(key.str(), keys_of(table)));
      if (auto ok = field->set(config_, value); !ok)
        return at(value.source(), std::string(table) + "." + std::string(key.str()) + ": " + ok.error().message);
      config_.provenance[std::string(table) + "." + std::string(key.str())] =
          file_.string() + ":" + std::to_string(value.source().begin.line);
    }
    return {};
  }

  Status read_list(std::string_view table, const toml::node& node) {
    const auto* list = node.as_array();
    if (list == nullptr)
      return at(node.source(), "write [[" + std::string(table) + "]], with double brackets: there may be several");
    for (const auto& item : *list) {
      const auto* entries = item.as_table();
      if (entries == nullptr) return at(item.source(), "expected a table: [[" + std::string(table) + "]]");
      OriginConfig origin;
      TierConfig tier;
      bool has_quota = false;
      for (const auto& [key, value] : *entries) {
        const std::string_view k = key.str();
        Status ok;
        if (k == "name") {
          ok = read_value(value, table == "origin" ? origin.name : tier.name);
        } else if (table == "origin" && k == "root") {
          ok = read_value(value, origin.root);
        } else if (table == "origin" && k == "reader") {
          ok = read_value(value, origin.reader);
          if (ok && origin.reader != "user")
            ok = fail(Code::invalid_argument, "'" + origin.reader + "' is not known; this version reads as \"user\"");
        } else if (table == "origin" && k == "operations") {
          ok = read_value(value, origin.operations);
        } else if (table == "origin" && k == "exclude") {
          ok = read_value(value, origin.exclude);
          for (const auto& pattern : origin.exclude)
            if (ok) ok = check_pattern(pattern);
        } else if (table == "tier" && k == "path") {
          ok = read_value(value, tier.path);
        } else if (table == "tier" && k == "quota") {
          ok = read_value(value, tier.quota);
          has_quota = true;
        } else if (table == "tier" && k == "inodes") {
          ok = read_value(value, tier.inodes);
        } else if (table == "tier" && k == "low_mark") {
          ok = read_value(value, tier.low);
        } else if (table == "tier" && k == "high_mark") {
          ok = read_value(value, tier.high);
        } else {
          return at(key.source(), "unknown key '" + std::string(k) + "' in [[" + std::string(table) + "]]" +
                                      suggestion(k, keys_of(table)));
        }
        if (!ok) return at(value.source(), std::string(table) + "." + std::string(k) + ": " + ok.error().message);
      }
      if (table == "origin") {
        ATLAS_TRY(add_origin(std::move(origin), item));
      } else {
        ATLAS_TRY(add_tier(std::move(tier), has_quota, item));
      }
    }
    return {};
  }

  Status add_origin(OriginConfig origin, const toml::node& item) {
    if (origin.name.empty() || origin.root.empty()) return at(item.source(), "an [[origin]] needs name and root");
    if (origin.root[0] != '/' || origin.root == "/")
      return at(item.source(), "origin '" + origin.name + "': root must be an absolute path below /");
    while (origin.root.back() == '/') origin.root.pop_back();
    for (const auto& other : config_.origins) {
      if (other.name == origin.name) return at(item.source(), "origin '" + origin.name + "' is named twice");
      if (other.root == origin.root)
        return at(item.source(), "origins '" + other.name + "' and '" + origin.name + "' have the same root");
    }
    config_.origins.push_back(std::move(origin));
    return {};
  }

  Status add_tier(TierConfig tier, bool has_quota, const toml::node& item) {
    if (tier.name.empty() || tier.path.empty() || !has_quota)
      return at(item.source(), "a [[tier]] needs name, path and quota");
    if (tier.path[0] != '/') return at(item.source(), "tier '" + tier.name + "': path must be absolute");
    if (tier.quota.count == 0)
      return at(item.source(), "tier '" + tier.name + "': a quota of 0 caches nothing; leave the tier out instead");
    if (tier.low > tier.high)
      return at(item.source(), "tier '" + tier.name + "': low_mark " + show_value(tier.low) + " is above high_mark " +
                                   show_value(tier.high));
    for (const auto& other : config_.tiers)
      if (other.name == tier.name || other.path == tier.path)
        return at(item.source(), "tier '" + tier.name + "' repeats a name or path");
    config_.tiers.push_back(std::move(tier));
    return {};
  }

  [[nodiscard]] Status check() const {
    static constexpr std::string_view kLevels[] = {"trace", "debug", "info", "warning", "error"};
    for (const auto& level : {config_.controller.log_level, config_.agent.log_level})
      if (std::find(std::begin(kLevels), std::end(kLevels), level) == std::end(kLevels))
        return fail(Code::invalid_argument,
                    file_.string() + ": log_level '" + level + "' is none of trace, debug, info, warning, error");
    if (config_.warm.chunk < kMiB || config_.warm.chunk.count % kMiB.count != 0)
      return fail(Code::invalid_argument, file_.string() + ": warm.chunk must be a multiple of 1M");
    for (const auto& directory : config_.disk.scratch)
      if (!directory.starts_with('/'))
        return fail(Code::invalid_argument, file_.string() + ": disk.scratch: '" + directory + "' must be absolute");
    if (config_.controller.poll < milliseconds(100))
      return fail(Code::invalid_argument, file_.string() + ": controller.poll must be at least 100ms");
    return {};
  }

  Config& config_;
  const std::filesystem::path& file_;
};

}  // namespace

const std::vector<ConfigField>& config_fields() {
  static const std::vector<ConfigField> kDocs = [] {
    std::vector<ConfigField> docs;
    for (const auto& field : fields()) docs.push_back(field.doc);
    return docs;
  }();
  return kDocs;
}

Result<Config> parse_config(std::string_view text, const std::filesystem::path& name) {
  Config config;
  config.source = name;
  try {
    const toml::table root = toml::parse(text, name.string());
    ATLAS_TRY(Reader(config, name).read(root));
    return config;
  } catch (const toml::parse_error& error) {
    return fail(Code::invalid_argument, place(name, error.source()) + ": " + std::string(error.description()));
  } catch (const std::exception& error) {
    return fail(Code::internal, name.string() + ": " + error.what());
  }
}

Result<Config> load_config(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in)
    return fail_errno(errno, "cannot read the configuration " + file.string() + " (set ATLAS_CONF or give --config)");
  std::ostringstream text;
  text << in.rdbuf();
  if (!in) return fail(Code::unavailable, "cannot read the configuration " + file.string());
  return parse_config(text.str(), file);
}

std::filesystem::path default_config_path() {
  const char* env = std::getenv("ATLAS_CONF");  // NOLINT(concurrency-mt-unsafe): read before any thread starts
  return env != nullptr && *env != '\0' ? env : "/etc/atlas/atlas.toml";
}

std::string show_config(const Config& config) {
  std::string out;
  for (const auto& field : fields()) {
    if (!field.get) continue;
    const std::string key = std::string(field.doc.table) + "." + std::string(field.doc.key);
    const auto from = config.provenance.find(key);
    out +=
        key + " = " + field.get(config) + "  # " + (from == config.provenance.end() ? "default" : from->second) + "\n";
  }
  for (const auto& o : config.origins)
    out += "origin." + o.name + " = { root = " + quoted(o.root) + ", reader = " + quoted(o.reader) +
           ", operations = " + std::to_string(o.operations) + ", exclude = " + show_value(o.exclude) + " }\n";
  for (const auto& t : config.tiers)
    out += "tier." + t.name + " = { path = " + quoted(t.path) + ", quota = " + quoted(exact_size(t.quota)) +
           ", inodes = " + std::to_string(t.inodes) + ", low_mark = " + show_value(t.low) +
           ", high_mark = " + show_value(t.high) + " }\n";
  return out;
}

std::string expand_node(std::string_view text, std::string_view node) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 1 < text.size() && (text[i + 1] == 'n' || text[i + 1] == '%')) {
      out += text[++i] == 'n' ? node : std::string_view("%");
    } else {
      out += text[i];
    }
  }
  return out;
}

const OriginConfig* origin_of(const Config& config, std::string_view path) {
  const OriginConfig* best = nullptr;
  for (const auto& origin : config.origins) {
    const bool below =
        path.starts_with(origin.root) && (path.size() == origin.root.size() || path[origin.root.size()] == '/');
    if (below && (best == nullptr || origin.root.size() > best->root.size())) best = &origin;
  }
  return best;
}

}  // namespace atlas
