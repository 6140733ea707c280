#pragma once
#include <atomic>
#include <memory>
#include <string>

#include "cache-agent/origin/open_directories.h"
#include "cache-agent/origin/origin.h"
#include "cache-agent/origin/reader_pool.h"

namespace atlas::agent {

/// A mounted file system (Lustre, NFS, Ceph, a local directory). Only regular files are ever opened for data; other
/// kinds are recorded and never opened. Thread-safe.
class PosixOrigin final : public Origin {
 public:
  /// `root` absolute and canonical; `operations` = how many may be in flight to it.
  PosixOrigin(std::string name, std::string root, unsigned operations);

  [[nodiscard]] const std::string& name() const override { return name_; }
  [[nodiscard]] const std::string& root() const override { return root_; }
  [[nodiscard]] Status walk(const Principal& as, const std::string& dataset, const Patterns& exclude, EntrySink& sink,
                            std::stop_token stop) override;
  [[nodiscard]] Status check_access(const Principal& as, const std::string& dataset,
                                    std::chrono::milliseconds limit) override;
  [[nodiscard]] Result<std::unique_ptr<OriginFile>> open(const std::string& path,
                                                         const EntryAttributes& expected) override;
  [[nodiscard]] Result<FileMeta> meta_of(const std::string& path, const EntryAttributes& expected) override;
  [[nodiscard]] Result<UniqueFd> open_live(const std::string& path, int flags) override;
  void count(Bytes read) override;
  void run(const Principal& as, Urgency urgency, std::function<void(Status)> task) override;
  void run_for(const std::string& path, const Principal& as, Urgency urgency,
               std::function<void(Status)> task) override;
  [[nodiscard]] OriginCounters counters() const override;

  struct Counters {
    std::atomic<std::uint64_t> operations{0}, bytes{0};
  };

 private:
  /// By an opening of its directory that is not older than that; `fresh` = made just now.
  [[nodiscard]] Result<std::unique_ptr<OriginFile>> open_since(OpenDirectories::Time since, const std::string& path,
                                                               const EntryAttributes& expected, bool& fresh);

  const std::string name_, root_;
  std::shared_ptr<Counters> counters_ = std::make_shared<Counters>();
  OpenDirectories directories_;
  ReaderPool pool_;
};

}  // namespace atlas::agent
