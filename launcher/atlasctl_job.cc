#include "common/percent.h"
#include "launcher/atlasctl_verbs.h"
#include "launcher/ui_job.h"
#include "launcher/ui_plan.h"
#include "proto/convert.h"

namespace atlas::ctl {
namespace {

using Stub = ControllerClient::Stub;

std::string datasets_of(const Session& session, const v1::JobStatus& job) {
  std::string out;
  for (const auto& dataset : job.datasets())
    out += (out.empty() ? "" : ",") + path_of(session.config(), from_wire(dataset));
  return out.empty() ? "-" : out;
}

void print_one(const Session& session, const v1::JobStatus& job) {
  std::string out = job_line(job) + "\n";
  const auto row = [&out](std::string_view title, const std::string& value) {
    if (!value.empty())
      out += "  " + std::string(title) + std::string(12 - title.size(), ' ') + printable(value) + "\n";
  };
  row("user", job.user());
  row("name", job.name());
  row("slurm", job.slurm_state());
  row("datasets", datasets_of(session, job));
  if (const auto request = decode_request(job.request())) {
    row("warm", std::string(name_of(request->warm)));
    if (request->on_change != OnChange::refresh) row("on change", std::string(name_of(request->on_change)));
    if (request->io_limit) row("io limit", show(*request->io_limit));
    if (request->cache) row("cache", format_size(*request->cache));
    if (request->locality)
      row("locality",
          std::to_string(request->locality->share) + " within " + format_duration(request->locality->max_wait));
  }
  if (job.deadline() > 0 && !job.has_receipt())
    row("starts by", format_time(WallTime(std::chrono::seconds(job.deadline()))));
  row("waited", format_duration(milliseconds(job.waited())) + " for the cache");
  print_out(out);
  for (const auto& progress : job.warming()) print_out("  " + render_line(row_of(progress, session.config())) + "\n");
  if (const auto weighed = plan_table(job.plan()); !weighed.empty())
    print_out("weighed when its nodes were chosen\n" + weighed);
  print_out(receipt_text(job));
}

}  // namespace

Outcome job_list(Session& session, const JobList& args) {
  v1::ListJobsRequest request;
  request.set_all(args.all);
  ATLAS_ASSIGN(const auto reply, session.call(&Stub::ListJobs, "Controller.ListJobs", request));
  if (session.output().json) {
    Json out = Json::array();
    for (const auto& job : reply.jobs()) out.push_back(to_json(job, session.config()));
    print_out(dump(out));
    return kExitOk;
  }
  Table table({{"JOBID", Table::Align::right},
               {"USER"},
               {"NAME"},
               {"PHASE"},
               {"NODES"},
               {"WAITED", Table::Align::right},
               {"OUTCOME"},
               {"DATASETS"},
               {"REASON"}});
  for (const auto& job : reply.jobs())
    table.add({std::to_string(job.job().job_id()), job.user(), job.name(), std::string(phase_name(job.phase())),
               job.nodes().empty() ? "-" : job.nodes(), session.duration(job.waited()),
               job.has_receipt() ? job.receipt().outcome() : "-", datasets_of(session, job), job.reason()});
  session.print(table);
  return kExitOk;
}

Outcome job_show(Session& session, const JobShow& args) {
  if (args.follow) return follow_job(kTool, session.config(), args.job_id, session.output().json);
  v1::WatchJobRequest request;
  request.set_job_id(args.job_id);
  hold_signals();
  ATLAS_ASSIGN(auto* const client, session.controller());
  std::optional<v1::JobStatus> job;
  const auto end = client->watch(&ControllerClient::Async::WatchJob, "Controller.WatchJob", request,
                                 [&job](const v1::JobStatus& status) { job = status; });
  if (!end.status && !job) return fail(end.status.error());
  if (!job)
    return fail(Code::not_found, "job " + std::to_string(args.job_id) + " asked Atlas for nothing: see squeue -j " +
                                     std::to_string(args.job_id));
  if (session.output().json) {
    print_out(dump(to_json(*job, session.config())));
  } else {
    print_one(session, *job);
  }
  return kExitOk;
}

}  // namespace atlas::ctl
