// Limits as other things than Atlas can hold programs to: what reads a storage past Atlas is out of its reach.
#include <grp.h>
#include <pwd.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <optional>
#include <vector>

#include "common/percent.h"
#include "launcher/atlasctl_verbs.h"

namespace atlas::ctl {
namespace {

using Stub = ControllerClient::Stub;

std::optional<std::uint32_t> id_of(const v1::LimitSubject& subject) {
  std::vector<char> buffer(65536);
  if (subject.kind() == "user") {
    passwd entry{};
    passwd* found = nullptr;
    getpwnam_r(subject.name().c_str(), &entry, buffer.data(), buffer.size(), &found);
    if (found != nullptr) return found->pw_uid;
  } else if (subject.kind() == "group") {
    group entry{};
    group* found = nullptr;
    getgrnam_r(subject.name().c_str(), &entry, buffer.data(), buffer.size(), &found);
    if (found != nullptr) return found->gr_gid;
  }
  return std::nullopt;
}

/// What one service partition of a server may take: requests per second, one at least.
std::uint64_t per_partition(double total, std::uint32_t partitions) {
  return static_cast<std::uint64_t>(std::max(1.0, std::floor(total / partitions)));
}

/// A rule's name: letters, digits and '_' are what lctl takes.
std::string rule_name(const v1::LimitSubject& subject) {
  std::string out = "atlas_" + subject.kind() + "_" + subject.name();
  std::replace_if(
      out.begin(), out.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return out;
}

std::string rule(const std::string& service, const std::string& name, const std::string& who, std::uint64_t rate) {
  const std::string set = "lctl set_param " + service + ".nrs_tbf_rule=";
  return set + "\"stop " + name + "\" 2>/dev/null\n" + set + "\"start " + name + " " + who +
         " rate=" + std::to_string(rate) + "\"\n";
}

std::string lustre_rules(const v1::ListLimitsReply& reply, const LimitExport& args, Bytes request) {
  std::string data, metadata, left;
  for (const auto& limit : reply.limits()) {
    if (!limit.has_read() && !limit.has_operations()) continue;
    const auto& subject = limit.subject();
    const std::string whose = subject.kind() + " " + printable(subject.name());
    const auto id = id_of(subject);
    if (!id) {
      left += "# left out: " + whose +
              (subject.kind() == "user" || subject.kind() == "group" ? " is not known on this host\n"
                                                                     : " is nothing that Lustre tells apart\n");
      continue;
    }
    const std::string who = (subject.kind() == "user" ? "uid={" : "gid={") + std::to_string(*id) + "}";
    if (limit.has_read())
      data += "# " + whose + ": " + format_size(Bytes{limit.read()}) + "/s\n" +
              rule("ost.OSS.ost_io", rule_name(subject), who,
                   per_partition(static_cast<double>(limit.read()) / static_cast<double>(request.count),
                                 args.data_partitions));
    if (limit.has_operations())
      metadata += "# " + whose + ": " + std::to_string(limit.operations()) + " operations/s\n" +
                  rule("mds.MDS.mdt", rule_name(subject), who,
                       per_partition(static_cast<double>(limit.operations()), args.metadata_partitions));
  }
  std::string out = "# Atlas' limits as rules of Lustre's token bucket filter; see atlasctl(1).\n";
  if (!data.empty())
    out += "# On each object storage server. A request moves up to " + format_size(request) + ", and " +
           std::to_string(args.data_partitions) +
           " service partitions share a rate:\n# requests/s = bytes/s / request / partitions.\n"
           "lctl set_param ost.OSS.ost_io.nrs_policies=tbf\n" +
           data;
  if (!metadata.empty()) out += "# On each metadata server.\nlctl set_param mds.MDS.mdt.nrs_policies=tbf\n" + metadata;
  return out + left;
}

}  // namespace

Outcome limit_export(Session& session, const LimitExport& args) {
  if (args.lustre == session.output().json)
    return fail(Code::invalid_argument, "say what for: --lustre-tbf, or --json for anything else");
  ATLAS_ASSIGN(const Bytes request, parse_size(args.request));
  if (request.count == 0) return fail(Code::invalid_argument, "--rpc-size: a request of no bytes moves nothing");
  ATLAS_ASSIGN(const auto reply, session.call(&Stub::ListLimits, "Controller.ListLimits", v1::ListLimitsRequest()));
  if (args.lustre) {
    print_out(lustre_rules(reply, args, request));
    return kExitOk;
  }
  Json out = Json::array();
  for (const auto& limit : reply.limits()) {
    if (!limit.has_read() && !limit.has_operations()) continue;
    const auto id = id_of(limit.subject());
    out.push_back({{"kind", limit.subject().kind()},
                   {"name", limit.subject().name()},
                   {"id", id ? Json(*id) : Json()},
                   {"read", limit.has_read() ? Json(limit.read()) : Json()},
                   {"operations", limit.has_operations() ? Json(limit.operations()) : Json()},
                   {"burst", limit.has_burst() ? Json(static_cast<double>(limit.burst()) / 1000) : Json()},
                   {"weight", limit.has_weight() ? Json(limit.weight()) : Json()}});
  }
  print_out(dump(out));
  return kExitOk;
}

}  // namespace atlas::ctl
