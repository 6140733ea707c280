#pragma once
#include <cstdint>
#include <string>

#include "atlas/v1/controller.pb.h"
#include "launcher/ui_controller.h"
#include "launcher/ui_progress.h"

namespace atlas {

/// "job 17: warming n001: nobody holds it; starts at 14:05:09 at the latest".
[[nodiscard]] std::string job_line(const v1::JobStatus& job);
/// What the job got, a few lines. Empty without a receipt.
[[nodiscard]] std::string receipt_text(const v1::JobStatus& job);

/// Shows a job to a person as its states come in: a line when phase or nodes change, bars or lines for warm-ups, the
/// receipt at the end.
class JobView {
 public:
  JobView(const Config& config, ProgressView& view) : config_(config), view_(view) {}
  void show(const v1::JobStatus& job);
  [[nodiscard]] bool ended() const { return ended_; }

 private:
  const Config& config_;
  ProgressView& view_;
  std::string last_;
  bool ended_ = false;
};

/// The rows of a job's or dataset's warm-ups.
[[nodiscard]] ProgressRow row_of(const v1::Progress& progress, const Config& config);

/// Watches a job until it ends. Text goes to standard error, with `json` an object a line to standard output. Returns
/// the exit code to use when nothing else says one: 0 when the job was seen to the end or left with Ctrl-C, else 1; has
/// told the user why.
[[nodiscard]] int follow_job(const std::string& tool, const Config& config, std::uint32_t job_id, bool json);

}  // namespace atlas
