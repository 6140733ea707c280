// The plugin as Slurm sees it: the symbols it looks up, each a guarded door to submission.h (in sbatch, srun, salloc)
// or node.h (in slurmstepd).
#include <limits.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <exception>
#include <memory>
#include <span>

#include "spank-plugin/node.h"
#include "spank-plugin/plugin_args.h"
#include "spank-plugin/spank_api.h"
#include "spank-plugin/submission.h"

#define ATLAS_EXPORT __attribute__((visibility("default")))

extern "C" {
// In C++ a const object is local to its file unless declared extern, so SPANK_PLUGIN() would export nothing.
extern ATLAS_EXPORT const char plugin_name[];
extern ATLAS_EXPORT const char plugin_type[];
extern ATLAS_EXPORT const unsigned int plugin_version;
extern ATLAS_EXPORT const unsigned int spank_plugin_version;
const char plugin_name[] = "atlas";
const char plugin_type[] = "spank";
const unsigned int plugin_version = SLURM_VERSION_NUMBER;
const unsigned int spank_plugin_version = 1;
}

namespace {

using namespace atlas::spank;

/// What one process keeps between Slurm's calls; Slurm's interface passes no context pointer to option callbacks.
struct Plugin {
  std::unique_ptr<Submission> submission;  ///< in sbatch, srun, salloc
  std::unique_ptr<NodeSide> node;          ///< in slurmstepd
};
Plugin& plugin() {
  static Plugin instance;
  return instance;
}

/// No exception may pass into Slurm.
template <class Work>
int guarded(const char* where, int on_exception, Work work) {
  try {
    return work();
  } catch (const std::exception& error) {
    slurm_error("atlas: %s: %s", where, error.what());
  } catch (...) {
    slurm_error("atlas: %s: unknown exception", where);
  }
  return on_exception;
}

bool at_submit() {
  const auto context = spank_context();
  return context == S_CTX_ALLOCATOR || context == S_CTX_LOCAL;
}

/// Only srun ever makes a step of a job that exists.
bool existing_job() {
  return spank_context() == S_CTX_LOCAL && inside_allocation();
}

int on_option(int key, const char* value, int remote) {
  if (remote != 0 || !at_submit()) return 0;  // the node side goes by the packed request
  return guarded("option", -1, [&] {
    if (!plugin().submission) return 0;
    // What was written in sbatch's script or command line; salloc and srun tell themselves apart by their name alone.
    const auto client = spank_context() == S_CTX_LOCAL || std::string_view(program_invocation_short_name) == "salloc"
                            ? Client::interactive
                            : Client::sbatch;
    // For a further component of a heterogeneous job Slurm hands an absent value on as this text.
    const bool absent = value == nullptr || std::string_view(value) == "(null)";
    auto done = plugin().submission->add(static_cast<OptionKey>(key), absent ? "" : value, client, existing_job());
    if (done) return 0;
    slurm_error("atlas: %s", done.error().message.c_str());
    return -1;
  });
}

struct Option {
  const char* name;
  const char* argument;
  const char* usage;
  int has_argument;  ///< 1 = needed, 2 = optional
  OptionKey key;
};
constexpr std::array kOptions{
    Option{"atlas-dataset", "PATH|NAME[:rw]", "a dataset that the job reads, with :rw also writes (may be repeated)", 1,
           OptionKey::dataset},
    Option{"atlas-cache", "SIZE", "space for the job's datasets on each node", 1, OptionKey::cache},
    Option{"atlas-warm", "wait|overlap", "fill the cache before the job starts, or while it runs", 2, OptionKey::warm},
    Option{"atlas-locality", "SHARE[@TIME]", "share of the data to wait for, and how long at most", 1,
           OptionKey::locality},
    Option{"atlas-on-change", "refresh|keep|fail", "what to do when the data changes before the job starts", 1,
           OptionKey::on_change},
    Option{"atlas-io-limit", "RATE[,OPS]", "the most the job reads from the storage, per second on all its nodes", 1,
           OptionKey::io_limit},
};

void register_options(spank_t spank) {
  for (const auto& option : kOptions) {
    // Slurm copies the texts; its struct merely lacks the const.
    spank_option table{const_cast<char*>(option.name),  const_cast<char*>(option.argument),
                       const_cast<char*>(option.usage), option.has_argument,
                       static_cast<int>(option.key),    on_option};
    spank_option_register(spank, &table);
  }
}

/// The plugin may be "optional" in plugstack.conf, and then Slurm goes on after an error here: the command is ended, so
/// that nobody's job runs without what its user asked for. Nothing has been allocated yet.
[[noreturn]] void refuse(const std::string& message) {
  slurm_error("atlas: %s", message.c_str());
  std::fflush(nullptr);
  ::_exit(1);
}

int submit(spank_t spank) {
  std::array<char, PATH_MAX> directory{};
  if (::getcwd(directory.data(), directory.size()) == nullptr) directory[0] = '\0';
  auto packed = plugin().submission->finish(existing_job() ? "" : directory.data());
  if (!packed) {
    if (!existing_job()) refuse(packed.error().message);
    slurm_error("atlas: %s (the options of this step are ignored)", packed.error().message.c_str());
    return 0;
  }
  if (!*packed) return 0;
  if (existing_job()) {
    slurm_spank_log(
        "atlas: --atlas options belong to a whole job, not to a step: ignored, the step sees the job's data");
    return 0;
  }
  for (const auto& warning : (*packed)->warnings) slurm_spank_log("atlas: warning: %s", warning.c_str());
  const char* request = (*packed)->request.c_str();
  if (spank_job_control_setenv(spank, "ATLAS_REQ", request, 1) != ESPANK_SUCCESS)
    refuse("Slurm did not take the dataset request");
  // sbatch and salloc hand the request on to the job's environment, srun does not.
  if (spank_context() == S_CTX_LOCAL) ::setenv("SLURM_SPANK_ATLAS_REQ", request, 1);  // NOLINT(concurrency-mt-unsafe)
  return 0;
}

}  // namespace

extern "C" {

ATLAS_EXPORT int slurm_spank_init(spank_t spank, int ac, char* argv[]) {
  return guarded("init", 0, [&] {
    const auto args = parse_plugin_args(std::span(argv, static_cast<std::size_t>(ac)));
    if (at_submit()) {
      forget_inherited(existing_job());
      plugin().submission = std::make_unique<Submission>(args, ::getuid());
    } else if (spank_context() == S_CTX_REMOTE) {
      plugin().node = std::make_unique<NodeSide>(args);
    } else {
      return 0;
    }
    register_options(spank);
    return 0;
  });
}

ATLAS_EXPORT int slurm_spank_init_post_opt(spank_t spank, int, char*[]) {
  return guarded("init_post_opt", 0, [&] {
    if (at_submit() && plugin().submission) return submit(spank);
    if (plugin().node) plugin().node->prepare(spank);
    return 0;
  });
}

ATLAS_EXPORT int slurm_spank_task_init_privileged(spank_t spank, int, char*[]) {
  return guarded("task_init_privileged", 0, [&] {
    if (plugin().node) plugin().node->join(spank);
    return 0;
  });
}

ATLAS_EXPORT int slurm_spank_task_init(spank_t spank, int, char*[]) {
  return guarded("task_init", 0, [&] {
    if (plugin().node) plugin().node->announce(spank);
    return 0;
  });
}

}  // extern "C"
