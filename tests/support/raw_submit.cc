// raw-submit: submits a batch job through libslurm with whatever a client may send, as a hostile user could: forged
// SPANK variables, burst buffer text, anything. Prints the job's id; the script comes from stdin.
//   raw-submit [--spank NAME=VALUE]... [--bb TEXT] [--array SPEC] [--begin SECONDS] [--nodes N] [--name NAME]
#include <slurm/slurm.h>
#include <slurm/slurm_errno.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

namespace {

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> out;
  for (auto& text : strings) out.push_back(text.data());
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  slurm_init(nullptr);
  job_desc_msg_t job;
  slurm_init_job_desc_msg(&job);
  std::vector<std::string> spank, environment{"PATH=/usr/bin:/bin", "SLURM_GET_USER_ENV=0"};
  std::string bb, array, name = "raw";
  job.min_nodes = 1;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i], value = argv[i + 1];
    if (option == "--spank") spank.push_back(value);
    if (option == "--bb") bb = value;
    if (option == "--array") array = value;
    if (option == "--name") name = value;
    if (option == "--begin") job.begin_time = std::stol(value);
    if (option == "--nodes") job.min_nodes = job.max_nodes = static_cast<std::uint32_t>(std::stoul(value));
  }
  std::string script((std::istreambuf_iterator<char>(std::cin)), {});
  std::string directory = "/tmp", output = "/dev/null";
  auto spank_env = pointers(spank), env = pointers(environment);
  job.user_id = ::getuid();
  job.group_id = ::getgid();
  job.name = name.data();
  job.script = script.data();
  job.work_dir = directory.data();
  job.std_out = output.data();
  job.environment = env.data();
  job.env_size = static_cast<std::uint32_t>(env.size());
  job.spank_job_env = spank_env.data();
  job.spank_job_env_size = static_cast<std::uint32_t>(spank_env.size());
  if (!bb.empty()) job.burst_buffer = bb.data();
  if (!array.empty()) job.array_inx = array.data();
  submit_response_msg_t* answer = nullptr;
  if (slurm_submit_batch_job(&job, &answer) != SLURM_SUCCESS) {
    std::cerr << "raw-submit: " << slurm_strerror(errno) << std::endl;
    return 1;
  }
  if (answer->job_submit_user_msg != nullptr) std::cerr << answer->job_submit_user_msg << std::endl;
  std::cout << answer->job_id << std::endl;
  slurm_free_submit_response_response_msg(answer);
  return 0;
}
