#include "cache-agent/view/fuse/kept_view.h"

#include <charconv>
#include <map>
#include <sstream>

#include "cache-agent/manifest/ids.h"
#include "common/percent.h"

namespace atlas::view {
namespace {

using Fields = std::map<std::string, std::string, std::less<>>;

template <class Int>
Status number(const Fields& fields, std::string_view name, Int& out) {
  const auto it = fields.find(name);
  const std::string text = it == fields.end() ? "" : it->second;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error == std::errc() && end == text.data() + text.size()) return {};
  return fail(Code::invalid_argument, "no " + std::string(name) + " in what the holder kept");
}

std::string text(const Fields& fields, std::string_view name) {
  const auto it = fields.find(name);
  return it == fields.end() ? "" : it->second;
}

}  // namespace

std::string pack(const KeptView& view) {
  std::ostringstream out;
  out << "job " << view.job.job_id << ", " << printable(agent::show(view.dataset)) << "\n";
  const auto field = [&](const char* name, const std::string& value) {
    out << name << "=" << percent_encode(value) << "\n";
  };
  field("cluster", view.job.cluster);
  field("job", std::to_string(view.job.job_id));
  field("restarts", std::to_string(view.job.restarts));
  field("submitted", std::to_string(view.job.submitted.time_since_epoch().count()));
  field("uid", std::to_string(view.as.uid));
  field("gid", std::to_string(view.as.gid));
  std::string groups;
  for (const auto group : view.as.groups) groups += std::to_string(group) + " ";
  field("groups", groups);
  field("origin", view.dataset.origin);
  field("path", view.dataset.path);
  field("generation", view.generation.bytes());
  field("noexec", view.noexec ? "1" : "0");
  field("writable", view.writable ? "1" : "0");
  return out.str();
}

Result<KeptView> unpack(std::string_view packed) {
  Fields fields;
  std::istringstream lines{std::string(packed)};
  std::string line;
  std::getline(lines, line);  // for people
  while (std::getline(lines, line)) {
    const auto sign = line.find('=');
    if (sign == std::string::npos) continue;
    ATLAS_ASSIGN(fields[line.substr(0, sign)], percent_decode(line.substr(sign + 1)));
  }
  KeptView view;
  std::int64_t submitted = 0;
  unsigned noexec = 0;
  view.job.cluster = text(fields, "cluster");
  ATLAS_TRY(number(fields, "job", view.job.job_id));
  ATLAS_TRY(number(fields, "restarts", view.job.restarts));
  ATLAS_TRY(number(fields, "submitted", submitted));
  ATLAS_TRY(number(fields, "uid", view.as.uid));
  ATLAS_TRY(number(fields, "gid", view.as.gid));
  ATLAS_TRY(number(fields, "noexec", noexec));
  view.job.submitted = std::chrono::sys_seconds(std::chrono::seconds(submitted));
  view.noexec = noexec != 0;
  view.writable = text(fields, "writable") == "1";  // earlier releases have no such field
  std::istringstream groups(text(fields, "groups"));
  for (std::uint32_t group = 0; groups >> group;) view.as.groups.push_back(group);
  view.dataset = {text(fields, "origin"), text(fields, "path")};
  view.generation = GenerationId::of(text(fields, "generation"));
  if (view.dataset.origin.empty() || view.generation.empty())
    return fail(Code::invalid_argument, "no dataset in what the holder kept");
  return view;
}

}  // namespace atlas::view
