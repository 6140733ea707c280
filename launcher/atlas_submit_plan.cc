#include "launcher/atlas_submit_plan.h"

#include <toml++/toml.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "common/percent.h"
#include "launcher/atlas_submit_script.h"
#include "launcher/ui_bounded.h"

namespace atlas {
namespace {

constexpr const char* kProjectFile = ".atlas.toml";

std::string where(const std::string& name, const toml::source_region& at) {
  return name + ":" + std::to_string(at.begin.line) + ":" + std::to_string(at.begin.column) + ": ";
}

Status read_project_key(AtlasOptions& out, std::string_view key, const toml::node& value) {
  if (key == "datasets") {
    const auto* list = value.as_array();
    if (list == nullptr || list->empty()) return fail(Code::invalid_argument, "datasets = [\"PATH or NAME\", ...]");
    for (const auto& item : *list) {
      const auto text = item.value_exact<std::string>();
      if (!text) return fail(Code::invalid_argument, "datasets = [\"PATH or NAME\", ...]");
      ATLAS_TRY(out.set("dataset", *text));
    }
    return {};
  }
  if (key == "warm" && value.is_boolean()) {
    if (*value.value_exact<bool>()) out.warm = WarmMode::wait;
    return {};
  }
  if (key == "locality" && value.is_number()) {
    char text[32];
    std::snprintf(text, sizeof text, "%.6g", value.value_or(0.0));
    return out.set("locality", text);
  }
  if (key == "on_change") key = "on-change";
  if (key == "io_limit") key = "io-limit";
  if (key != "cache" && key != "warm" && key != "locality" && key != "on-change" && key != "io-limit")
    return fail(Code::invalid_argument,
                "unknown key; this file has datasets, cache, warm, locality, on_change and io_limit");
  const auto text = value.value_exact<std::string>();
  if (!text) return fail(Code::invalid_argument, "expected a string in quotes");
  return out.set(key, *text);
}

bool within(const std::filesystem::path& path, const std::filesystem::path& root) {
  const auto relative = path.lexically_relative(root);
  return !relative.empty() && *relative.begin() != "..";
}

/// The path with symlinks of its existing part resolved; itself where that fails.
std::filesystem::path canonical_path(const std::filesystem::path& path) {
  std::error_code error;
  auto out = std::filesystem::weakly_canonical(path, error);
  return error ? path.lexically_normal() : out;
}

/// The read-only dataset that a path lies in, as the user wrote it; nullptr if none. Names of datasets are not known
/// here. Symlinks are followed in a process of its own: storage that hangs must not hang the submission.
const std::string* dataset_of(const Request& request, const std::filesystem::path& path, milliseconds patience) {
  const auto find = [&](const auto& form) -> const std::string* {
    for (const auto& dataset : request.datasets)
      if (dataset[0] == '/' && !request.read_write.contains(dataset) && within(form(path), form(dataset)))
        return &dataset;
    return nullptr;
  };
  if (const auto* found = find([](const std::filesystem::path& p) { return p.lexically_normal(); })) return found;
  const auto found = run_bounded(patience, [&] {
    const auto* dataset = find(canonical_path);
    return dataset == nullptr ? "" : std::to_string(dataset - request.datasets.data());
  });
  return found && !found->empty() ? &request.datasets[std::stoul(*found)] : nullptr;
}

/// A script with what is known about it.
struct Script {
  std::string name;  ///< for messages
  std::string text;
  Directives directives;
};

Result<Script> read_script(const SubmitArgs& args, SubmitPlan& plan) {
  Script script;
  if (args.script) {
    script.name = args.sbatch[*args.script];
    // What cannot be found or read is sbatch's to report: it has the last word on where scripts are.
    const auto path = find_script(script.name, args.view);
    if (!path) return script;
    if (auto text = read_whole_file(*path)) script.text = std::move(*text);
  } else if (args.view.wrap) {
    script.name = "--wrap";
    script.text = *args.view.wrap;
    return script;  // sbatch makes the script; there are no directives in it
  } else {
    script.name = "standard input";
    ATLAS_ASSIGN(script.text, read_whole_fd(STDIN_FILENO, script.name));
    plan.stdin_script = script.text;
  }
  ATLAS_ASSIGN(script.directives, read_directives(script.text, script.name));
  return script;
}

}  // namespace

Result<AtlasOptions> parse_project_file(std::string_view text, const std::string& name) {
  AtlasOptions out;
  try {
    const toml::table root = toml::parse(text, name);
    for (const auto& [key, value] : root) {
      if (auto ok = read_project_key(out, key.str(), value); !ok)
        return fail(Code::invalid_argument,
                    where(name, value.source()) + std::string(key.str()) + ": " + ok.error().message);
    }
    return out;
  } catch (const toml::parse_error& error) {
    return fail(Code::invalid_argument, where(name, error.source()) + std::string(error.description()));
  }
}

std::string no_dataset_message(std::string_view script, std::string_view script_name,
                               const std::vector<std::string>& roots, const SubmitArgs& args) {
  const auto mentions = find_origin_paths(script, roots);
  std::string out =
      "no dataset is named: not on the command line, not in #SBATCH --atlas-dataset lines, and there is no " +
      std::string(kProjectFile) + " here";
  if (mentions.empty()) {
    out += "\nName the data the job reads:\n  atlas-submit --dataset PATH";
  } else {
    out += "\nPaths below an origin in " + printable(script_name) + ":";
    for (const auto& mention : mentions)
      out += "\n  line " + std::to_string(mention.line) + ": " + printable(mention.path);
    out += "\nIf the job reads them, type:\n  atlas-submit";
    for (const auto& mention : mentions) {
      // A path inside another one of the list comes with it.
      const bool covered = std::any_of(mentions.begin(), mentions.end(), [&](const Mention& other) {
        return other.path != mention.path && within(mention.path, other.path);
      });
      if (!covered) out += " --dataset " + printable(shell_word(mention.path));
    }
  }
  for (const auto& option : args.atlas.for_sbatch())
    out += " " + shell_word("--" + option.substr(sizeof "--atlas-" - 1));
  for (const auto& word : args.sbatch) out += " " + printable(shell_word(word));
  if (roots.empty()) out += "\n(origins are not known here: atlas.toml could not be read; see atlasctl doctor)";
  return out;
}

Request resolved(const Request& request, milliseconds patience) {
  Request out = request;
  for (auto& dataset : out.datasets) {
    if (dataset[0] != '/') continue;
    auto path = run_bounded(patience, [&] { return canonical_path(dataset).string(); });
    if (!path || path->empty()) continue;
    if (out.read_write.erase(dataset) != 0) out.read_write.insert(*path);
    dataset = std::move(*path);
  }
  return out;
}

Status check_outputs(const Request& request, const SbatchView& view, const std::string& cwd, milliseconds patience,
                     std::vector<std::string>& warnings) {
  const std::filesystem::path work = std::filesystem::path(cwd) / view.chdir.value_or("");
  for (const auto& [option, value] : {std::pair("--output", view.output), std::pair("--error", view.error)}) {
    if (!value || *value == "/dev/null") continue;
    const auto* dataset = dataset_of(request, work / *value, patience);
    if (dataset != nullptr)
      return fail(Code::invalid_argument, std::string(option) + " '" + printable(*value) +
                                              "' lies inside the dataset " + printable(*dataset) +
                                              ", which is read-only in the job: write it elsewhere");
  }
  // Of the directory that the command is typed in, the plugin warns.
  const auto* dataset = view.chdir ? dataset_of(request, work / ".", patience) : nullptr;
  if (dataset != nullptr)
    warnings.push_back("--chdir '" + printable(*view.chdir) + "' lies inside the dataset " + printable(*dataset) +
                       ", which is read-only in the job" +
                       (view.output ? "" : "; the job's output goes there too unless you give --output"));
  return {};
}

Result<SubmitPlan> plan_submit(const SubmitArgs& args, const std::optional<Config>& config) {
  SubmitPlan plan;
  ATLAS_ASSIGN(const auto script, read_script(args, plan));
  AtlasOptions given = args.atlas;
  const AtlasOptions known = given.over(script.directives.atlas);
  if (known.datasets.empty()) {
    AtlasOptions project;
    if (auto text = read_whole_file(kProjectFile)) {
      ATLAS_ASSIGN(project, parse_project_file(*text, kProjectFile));
    } else if (text.error().code != Code::not_found) {
      return fail(std::move(text).error());
    }
    if (project.datasets.empty()) {
      std::vector<std::string> roots;
      if (config)
        for (const auto& origin : config->origins) roots.push_back(origin.root);
      return fail(Code::invalid_argument, no_dataset_message(script.text, script.name, roots, args));
    }
    // sbatch must not see a scalar of the project file where the script's own line should win.
    if (known.cache) project.cache.reset();
    if (known.warm) project.warm.reset();
    if (known.locality) project.locality.reset();
    if (known.on_change) project.on_change.reset();
    if (known.io_limit) project.io_limit.reset();
    given = given.over(project);
  }
  plan.request = given.over(script.directives.atlas).request();
  ATLAS_TRY(encode(plan.request));
  plan.view = args.view.over(script.directives.view);
  std::error_code error;
  const auto cwd = std::filesystem::current_path(error);
  if (error) return fail(Code::failed_precondition, "the working directory is gone: " + error.message());
  ATLAS_TRY(check_outputs(plan.request, plan.view, cwd.string(), config.value_or(Config{}).submit.resolve_timeout,
                          plan.warnings));
  plan.sbatch = given.for_sbatch();
  plan.sbatch.insert(plan.sbatch.end(), args.sbatch.begin(), args.sbatch.end());
  return plan;
}

}  // namespace atlas
