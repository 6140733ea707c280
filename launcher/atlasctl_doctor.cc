#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/percent.h"
#include "launcher/atlasctl_verbs.h"
#include "launcher/ui_bounded.h"
#include "proto/munge.h"

namespace atlas::ctl {
namespace {

/// How long an origin's root may take to answer before it counts as hung.
constexpr milliseconds kOriginPatience{3000};

struct Finding {
  std::string what;
  std::string state;  ///< ok | warning | failed
  std::string detail;
  std::string next_step;
};

/// Run in a process of its own: an origin may hang. "" = fine, else "STATE\nDETAIL\nNEXT".
std::string look_at(const std::string& root) {
  struct stat about {};
  if (::stat(root.c_str(), &about) != 0)
    return "failed\n" + std::string(std::strerror(errno)) + "\nmount it there, or correct its root in atlas.toml";
  if (!S_ISDIR(about.st_mode)) return "failed\nnot a directory\ncorrect its root in atlas.toml";
  DIR* const dir = ::opendir(root.c_str());
  if (dir == nullptr)
    return "warning\n" + std::string(std::strerror(errno)) + "\nfine if only directories below it are yours to read";
  int entries = 0;
  while (entries < 3 && ::readdir(dir) != nullptr) ++entries;
  ::closedir(dir);
  // "." and ".." only: most likely the mount point without its mount.
  if (entries < 3) return "warning\nthe directory is empty\nis it mounted? see findmnt " + root;
  return "";
}

Finding check_origin(const OriginConfig& origin) {
  Finding out{"origin " + origin.name, "ok", printable(origin.root), ""};
  const auto said = run_bounded(kOriginPatience, [&] { return look_at(origin.root); });
  if (!said) {
    out.state = "failed";
    out.detail += ": " + said.error().message;
    out.next_step = "the storage hangs on this host; check its mount and server";
  } else if (!said->empty()) {
    const auto first = said->find('\n'), second = said->find('\n', first + 1);
    out.state = said->substr(0, first);
    out.detail += ": " + said->substr(first + 1, second - first - 1);
    out.next_step = said->substr(second + 1);
  }
  return out;
}

Finding check_munge(const Config& config) {
  const Munge munge(config.site.munge_socket);
  const auto credential = munge.encode("atlasctl doctor");
  const auto back = credential ? munge.decode(*credential) : Result<Munge::Decoded>(fail(credential.error()));
  if (!back) return {"munge", "failed", back.error().message, "systemctl status munge; the key must be the cluster's"};
  return {"munge", "ok", "makes and reads credentials", ""};
}

Finding check_sbatch() {
  const char* const path = std::getenv("PATH");  // NOLINT(concurrency-mt-unsafe): one thread
  for (std::string_view rest = path == nullptr ? "" : path; !rest.empty();) {
    const auto colon = std::min(rest.find(':'), rest.size());
    const std::string file = std::string(rest.substr(0, colon)) + "/sbatch";
    if (::access(file.c_str(), X_OK) == 0) return {"sbatch", "ok", file, ""};
    rest.remove_prefix(std::min(colon + 1, rest.size()));
  }
  return {"sbatch", "warning", "not in PATH", "atlas-submit needs it; install slurm-client or set PATH"};
}

void ask_controller(const Config& config, std::vector<Finding>& findings) {
  const auto client = ControllerClient::make(config);
  if (!client) {
    findings.push_back({"controller", "failed", client.error().message, "correct site.slurm_user in atlas.toml"});
    return;
  }
  const auto reply =
      (*client)->call(&ControllerClient::Stub::Doctor, "Controller.Doctor", v1::DoctorRequest{}, milliseconds(10000));
  if (!reply) {
    findings.push_back(
        {"controller", "failed", reply.error().message,
         "on " + config.controller.host + ": systemctl status atlas-controller, journalctl -u atlas-controller"});
    return;
  }
  findings.push_back({"controller", "ok", (*client)->peer() + " answers", ""});
  for (const auto& check : reply->checks())
    findings.push_back(
        {printable(check.what()), printable(check.state()), printable(check.detail()), printable(check.next_step())});
}

void print_findings(const std::vector<Finding>& findings, const Output& output) {
  if (output.json) {
    Json out = Json::array();
    for (const auto& f : findings)
      out.push_back({{"check", f.what}, {"state", f.state}, {"detail", f.detail}, {"next_step", f.next_step}});
    print_out(dump(out));
    return;
  }
  if (output.parsable) {
    Table table({{"CHECK"}, {"STATE"}, {"DETAIL"}, {"NEXT STEP"}});
    for (const auto& f : findings) table.add({f.what, f.state, f.detail, f.next_step});
    print_out(table.render({.header = !output.noheader, .parsable = true}));
    return;
  }
  std::size_t width = 0;
  for (const auto& f : findings) width = std::max(width, display_width(f.what));
  for (const auto& f : findings) {
    print_out(f.state + std::string(f.state.size() < 9 ? 9 - f.state.size() : 1, ' ') + f.what +
              std::string(width - display_width(f.what) + 2, ' ') + f.detail + "\n");
    if (!f.next_step.empty()) print_out(std::string(width + 11, ' ') + "next: " + f.next_step + "\n");
  }
}

}  // namespace

int doctor(const std::filesystem::path& config_file, const Output& output) {
  std::vector<Finding> findings;
  const auto config = load_config(config_file);
  if (config) {
    findings.push_back({"configuration", "ok", config_file.string(), ""});
    // First what forks, then what starts gRPC's threads.
    for (const auto& origin : config->origins) findings.push_back(check_origin(origin));
    if (config->origins.empty())
      findings.push_back(
          {"origins", "failed", "none is configured", "add an [[origin]] to atlas.toml: see atlas.toml(5)"});
    findings.push_back(check_sbatch());
    findings.push_back(check_munge(*config));
    if (findings.back().state == "ok") {
      ask_controller(*config, findings);
    } else {
      findings.push_back({"controller", "failed", "not asked: nothing can be asked without munge", ""});
    }
  } else {
    findings.push_back(
        {"configuration", "failed", config.error().message, "correct it, or name another with --config or ATLAS_CONF"});
    findings.push_back(check_sbatch());
  }
  print_findings(findings, output);
  for (const auto& finding : findings)
    if (finding.state == "failed") return kExitFailed;
  return kExitOk;
}

}  // namespace atlas::ctl
