#include "common/percent.h"
#include "launcher/atlasctl_verbs.h"

namespace atlas::ctl {
namespace {

using Stub = ControllerClient::Stub;

double seconds(std::int64_t ms) {
  return static_cast<double>(ms) / 1000;
}

Json to_json(const v1::ObservedReply& reply) {
  Json accounts = Json::array();
  for (const auto& account : reply.accounts()) {
    Json row;
    put_text(row, "account", account.account());
    row["since"] = account.since();
    row["jobs"] = account.jobs();
    row["same_nodes"] = account.same_nodes();
    row["waited"] = seconds(account.waited());
    row["estimated"] = account.estimated();
    row["start"] = seconds(account.start());
    row["stall"] = seconds(account.stall());
    row["bytes"] = account.total_bytes();
    row["held_bytes"] = account.held_bytes();
    accounts.push_back(std::move(row));
  }
  return {{"observing", reply.observing()}, {"accounts", std::move(accounts)}};
}

/// Of one job, on average.
std::string mean(const Session& session, std::int64_t ms, std::uint64_t jobs) {
  return jobs == 0 ? "-" : session.duration(ms / static_cast<std::int64_t>(jobs));
}

}  // namespace

Outcome observed(Session& session, const ObservedArgs& /*args*/) {
  ATLAS_ASSIGN(const auto reply, session.call(&Stub::Observed, "Controller.Observed", v1::ObservedRequest()));
  if (session.output().json) {
    print_out(dump(to_json(reply)));
    return kExitOk;
  }
  if (!session.output().parsable && reply.accounts_size() == 0)
    print_out(reply.observing() ? "no job that names a dataset has begun yet\n"
                                : "jobs are not only looked at here: site.observe is false\n");
  const auto right = Table::Align::right;
  Table table({{"ACCOUNT"},
               {"JOBS", right},
               {"SAME NODES", right},
               {"WAITED", right},
               {"WOULD WAIT", right},
               {"WOULD STALL", right},
               {"DATA", right},
               {"WOULD HOLD", right},
               {"WOULD HOLD %", right},
               {"SINCE"}});
  for (const auto& account : reply.accounts())
    table.add({account.account().empty() ? "-" : account.account(), std::to_string(account.jobs()),
               std::to_string(account.same_nodes()), mean(session, account.waited(), account.jobs()),
               mean(session, account.start(), account.estimated()), mean(session, account.stall(), account.estimated()),
               session.size(account.total_bytes()), session.size(account.held_bytes()),
               format_percent(Bytes{account.held_bytes()}, Bytes{account.total_bytes()}),
               session.ago(account.since() * 1'000'000'000)});
  if (reply.accounts_size() > 0 || session.output().parsable) session.print(table);
  return kExitOk;
}

}  // namespace atlas::ctl
