#pragma once
#include <functional>
#include <memory>

#include "controller/slurm/slurm_port.h"
#include "controller/staging/executor.h"

namespace atlas {

/// SlurmPort without blocking: calls run on Slurm's own thread, answers on the strand.
class SlurmCalls {
 public:
  SlurmCalls(Executor& strand, Executor& slurm_thread, SlurmPort& port)
      : strand_(strand), thread_(slurm_thread), port_(port) {}

  using Queue = std::shared_ptr<const QueueSnapshot>;
  void cluster_name(std::function<void(Result<std::string>)> done) {
    run<std::string>([](SlurmPort& port) { return port.cluster_name(); }, std::move(done));
  }
  void load(std::function<void(Result<Queue>)> done) {
    run<Queue>(
        [](SlurmPort& port) -> Result<Queue> {
          ATLAS_ASSIGN(auto queue, port.load());
          return std::make_shared<const QueueSnapshot>(std::move(queue));
        },
        std::move(done));
  }
  void load_job(std::uint32_t job_id, std::function<void(Result<JobRecord>)> done) {
    run<JobRecord>([job_id](SlurmPort& port) { return port.load_job(job_id); }, std::move(done));
  }
  void apply(const JobPatch& patch, std::function<void(Status)> done) {
    run<void>([patch](SlurmPort& port) { return port.apply(patch); }, std::move(done));
  }

 private:
  template <class T, class Call>
  void run(Call call, std::function<void(Result<T>)> done) {
    thread_.post([this, call = std::move(call), done = std::move(done)] {
      strand_.post([done, answer = call(port_)] { done(answer); });
    });
  }

  Executor& strand_;
  Executor& thread_;
  SlurmPort& port_;
};

}  // namespace atlas
