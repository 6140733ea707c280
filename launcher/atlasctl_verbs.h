#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/table.h"
#include "launcher/ui_controller.h"
#include "launcher/ui_json.h"

namespace atlas::ctl {

inline constexpr const char* kTool = "atlasctl";

/// --json, --noheader, --parsable2.
struct Output {
  bool json = false;
  bool noheader = false;
  bool parsable = false;
};

/// What every verb is handed: configuration, how to print, the controller.
class Session {
 public:
  Session(Config config, Output output) : config_(std::move(config)), output_(output) {}

  [[nodiscard]] const Config& config() const { return config_; }
  [[nodiscard]] const Output& output() const { return output_; }
  /// Made at the first use.
  [[nodiscard]] Result<ControllerClient*> controller();

  /// One call to the controller.
  template <class Request, class Reply>
  [[nodiscard]] Result<Reply> call(grpc::Status (ControllerClient::Stub::*method)(grpc::ClientContext*, const Request&,
                                                                                  Reply*),
                                   std::string_view name, const Request& request,
                                   milliseconds patience = ControllerClient::kPatience) {
    ATLAS_ASSIGN(auto* const client, controller());
    return client->call(method, name, request, patience);
  }

  void print(const Table& table) const;
  // Cells: for people, or exact for scripts (--parsable2: bytes, seconds since the epoch, seconds).
  [[nodiscard]] std::string size(std::uint64_t bytes) const;
  [[nodiscard]] std::string ago(std::int64_t nanoseconds) const;
  [[nodiscard]] std::string duration(std::int64_t ms) const;

 private:
  Config config_;
  Output output_;
  std::unique_ptr<ControllerClient> client_;
};

/// A dataset as typed: a name, or a path (relative ones are completed with the working directory).
[[nodiscard]] Result<std::string> dataset_argument(const std::string& text);
/// A hostlist as typed, checked; may be empty.
[[nodiscard]] Result<std::string> hostlist_argument(const std::string& text);

/// Exit code, or what went wrong.
using Outcome = Result<int>;

/// Settings of a dataset as typed; nothing = as it is.
struct SettingsText {
  std::optional<std::string> revalidate, cache, tier, ttl;
  std::optional<std::uint32_t> replicas;
  std::vector<std::string> exclude;
  bool no_exclude = false;
};
struct DatasetCreate {
  std::string name, path;
  SettingsText settings;
};
struct DatasetSet {
  std::string dataset;
  SettingsText settings;
};
struct DatasetShareWith {
  std::string dataset, group;
  bool remove = false;
};
struct DatasetWarm {
  std::string dataset, nodes, files_from;
  std::vector<std::string> patterns;
  bool metadata_only = false;
};
struct DatasetOne {
  std::string dataset;
};
struct Placement {
  std::string dataset, nodes;
  std::uint32_t job_id = 0;  ///< 0 = whoever holds it
};
struct DatasetOnNodes {
  std::string dataset, nodes;
};
struct Nodes {
  std::string nodes;
};
struct JobList {
  bool all = false;
};
struct JobShow {
  std::uint32_t job_id = 0;
  bool follow = false;
};

struct ObservedArgs {};

struct TopArgs {
  std::string table;  ///< nodes | users | datasets; "" = all
  std::string sort = "origin";
  bool once = false, reverse = false;
};

struct LimitFor {
  std::string user, group, account, node, origin;
};
struct LimitBypass {
  std::vector<std::string> files;  ///< of job_stats; "-" = standard input
};
struct LimitExport {
  bool lustre = false;
  std::string request = "4M";  ///< what one request of Lustre's clients moves
  std::uint32_t data_partitions = 1, metadata_partitions = 1;
};
struct LimitSet {
  LimitFor subject;
  std::optional<std::string> cache, read, operations, burst;
  std::optional<std::uint32_t> weight;
};

Outcome dataset_create(Session& session, const DatasetCreate& args);
Outcome dataset_list(Session& session, const DatasetOne& args);
Outcome dataset_show(Session& session, const DatasetOne& args);
Outcome dataset_set(Session& session, const DatasetSet& args);
Outcome dataset_share(Session& session, const DatasetShareWith& args);
Outcome dataset_warm(Session& session, const DatasetWarm& args);
Outcome dataset_verify(Session& session, const DatasetOnNodes& args);
Outcome dataset_delete(Session& session, const DatasetOne& args);
Outcome placement(Session& session, const Placement& args);
Outcome pin(Session& session, const DatasetOne& args);
Outcome unpin(Session& session, const DatasetOne& args);
Outcome evict(Session& session, const DatasetOnNodes& args);
Outcome node_list(Session& session, const Nodes& args);
Outcome node_show(Session& session, const Nodes& args);
Outcome node_drain(Session& session, const Nodes& args);
Outcome node_resume(Session& session, const Nodes& args);
Outcome limit_set(Session& session, const LimitSet& args);
Outcome limit_show(Session& session, const LimitFor& args);
Outcome limit_list(Session& session, const LimitFor& args);
Outcome limit_delete(Session& session, const LimitFor& args);
Outcome limit_bypass(Session& session, const LimitBypass& args);
Outcome limit_export(Session& session, const LimitExport& args);
Outcome top(Session& session, const TopArgs& args);
Outcome observed(Session& session, const ObservedArgs& args);
Outcome job_list(Session& session, const JobList& args);
Outcome job_show(Session& session, const JobShow& args);
/// Takes the configuration's path, not a session: that it cannot be read is one of the findings.
[[nodiscard]] int doctor(const std::filesystem::path& config_file, const Output& output);

}  // namespace atlas::ctl
