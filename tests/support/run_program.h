#pragma once
#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace atlas::test {

/// What a program did.
struct Ran {
  int status = -1;  ///< exit code, 128+N when signal N ended it
  std::string out, err;
};

/// Runs a program to its end and collects what it wrote. With `terminal` its standard error and output are one pseudo
/// terminal of 100 columns (both end up in `out`). `on_output` sees everything written so far, with the pid, whenever
/// more has come: to send a signal at the right moment. Killed after 60 s.
struct RunOptions {
  std::map<std::string, std::string> environment{};  ///< added to this process's
  std::string input{};
  bool terminal = false;
  std::function<void(const Ran& so_far, int pid)> on_output{};
  /// With `terminal`: what somebody types there who has seen so much; asked whenever more has come. No `input` then.
  std::function<std::string(const Ran& so_far)> type{};
};
[[nodiscard]] Ran run_program(const std::vector<std::string>& argv, const RunOptions& options = {});

}  // namespace atlas::test
