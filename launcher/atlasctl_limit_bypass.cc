// What jobs have read past Atlas, as the servers of a Lustre have counted it.
#include <algorithm>
#include <fstream>
#include <iostream>
#include <sstream>

#include "common/percent.h"
#include "launcher/atlasctl_verbs.h"
#include "launcher/lustre_job_stats.h"

namespace atlas::ctl {
namespace {

Result<std::string> contents(const std::string& file) {
  std::ostringstream text;
  if (file == "-") {
    text << std::cin.rdbuf();
    return text.str();
  }
  std::ifstream in(file, std::ios::binary);
  if (!in) return fail_errno(errno, "cannot read " + printable(file));
  text << in.rdbuf();
  return text.str();
}

struct Row {
  std::string who;
  LustreReads reads;
};

void add(LustreReads& to, const LustreReads& from) {
  to.bytes += from.bytes;
  to.requests += from.requests;
}

/// Jobs, who reads most first; then what Atlas has read, and who is in no job.
std::vector<Row> rows_of(const std::map<std::string, LustreReads>& stats) {
  std::map<std::uint32_t, LustreReads> jobs;
  LustreReads agents, others;
  for (const auto& [id, reads] : stats) {
    if (const auto job = slurm_job(id)) {
      add(jobs[*job], reads);
    } else {
      add(is_cache_agent(id) ? agents : others, reads);
    }
  }
  std::vector<Row> out;
  for (const auto& [job, reads] : jobs) out.push_back({std::to_string(job), reads});
  std::stable_sort(out.begin(), out.end(), [](const Row& a, const Row& b) { return a.reads.bytes > b.reads.bytes; });
  out.push_back({"through Atlas", agents});
  out.push_back({"in no job", others});
  return out;
}

}  // namespace

Outcome limit_bypass(Session& session, const LimitBypass& args) {
  std::map<std::string, LustreReads> stats;
  for (const auto& file : args.files) {
    ATLAS_ASSIGN(const auto text, contents(file));
    const auto parsed = parse_job_stats(text);
    if (!parsed) return fail(parsed.error().in(printable(file)));
    for (const auto& [id, reads] : *parsed) add(stats[id], reads);
  }
  const auto rows = rows_of(stats);
  if (session.output().json) {
    Json out = Json::array();
    for (const auto& row : rows)
      out.push_back({{"who", row.who}, {"bytes", row.reads.bytes}, {"requests", row.reads.requests}});
    print_out(dump(out));
    return kExitOk;
  }
  Table table({{"JOB"}, {"READ", Table::Align::right}, {"REQUESTS", Table::Align::right}});
  for (const auto& row : rows) table.add({row.who, session.size(row.reads.bytes), std::to_string(row.reads.requests)});
  session.print(table);
  return kExitOk;
}

}  // namespace atlas::ctl
