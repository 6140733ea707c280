#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "atlas/v1/controller.pb.h"
#include "common/config.h"
#include "common/request.h"

namespace atlas {

using Json = nlohmann::ordered_json;

/// Puts bytes under `key` as text; where they are not UTF-8 or hold control bytes, the printable form, and the exact
/// bytes percent-encoded under "KEY_encoded".
void put_text(Json& object, const std::string& key, std::string_view bytes);
/// One line, newline included.
[[nodiscard]] std::string dump_line(const Json& value);
/// Indented, newline included.
[[nodiscard]] std::string dump(const Json& value);

// Messages of the wire as JSON: sizes in bytes, durations in seconds, times in seconds since the epoch.
[[nodiscard]] Json to_json(const Request& request);
[[nodiscard]] Json to_json(const v1::Progress& progress, const Config& config);
[[nodiscard]] Json to_json(const v1::JobStatus& job, const Config& config);
[[nodiscard]] Json to_json(const v1::ExplainReply& reply, const Config& config);
[[nodiscard]] Json to_json(const v1::Dataset& dataset, const Config& config);
[[nodiscard]] Json to_json(const v1::PlacementReply::Row& row, const Config& config);
[[nodiscard]] Json to_json(const v1::ListNodesReply::Node& node);

/// "queued", "surveying", ...
[[nodiscard]] std::string_view phase_name(v1::JobStatus::Phase phase);
[[nodiscard]] std::string_view state_name(v1::ReplicaState state);

}  // namespace atlas
