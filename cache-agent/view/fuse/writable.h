#pragma once
#include <fuse_lowlevel.h>

#include <cerrno>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "cache-agent/view/fuse/parked.h"
#include "cache-agent/view/fuse/partial_views.h"
#include "cache-agent/view/fuse/writable_nodes.h"
#include "common/result.h"
#include "common/unique_fd.h"

namespace atlas::view {

/// Largest write that the kernel sends in one piece.
inline constexpr Bytes kMaxWrite = kMiB;

/// A dataset that its job writes to. Names, attributes and permissions are the origin's at every moment: each request
/// is made there, as the job's user, on the origin's threads. Only the data of files comes from the cache, as long as
/// the origin shows exactly the file that was walked and this view has not written to it. Nothing is kept back: what is
/// answered has been done at the origin. Thread-safe.
class Writable {
 public:
  /// Answers a request. The second half of an operation: runs only if nobody has answered before.
  using Answer = std::function<void(fuse_req_t)>;
  /// The first half of it, on a thread of the origin that acts as the user.
  using Work = std::function<Answer()>;

  struct OpenFile {
    UniqueFd fd;  ///< at the origin
    std::uint64_t node = 0;
    bool appends = false;
  };

  Writable(const PartialViewParts& parts, const agent::Manifest& manifest);
  /// The view that it is a part of, which everything under way keeps. Once, before use.
  void belongs_to(std::weak_ptr<ViewCore> core) { core_ = std::move(core); }
  /// What is still open is closed by the origin's threads: the storage may hang.
  ~Writable();

  /// Parks the request and has `work` done as whoever asks; refuses others than the job's user and root.
  void run(fuse_req_t req, std::uint64_t node, Work work);
  /// Same, for one that is parked already. Nothing is done for one that has its answer.
  void run(const std::shared_ptr<Parked>& parked, Work work) const;

  /// What follows is for `work`: it blocks. The node itself, unless it is another file by now (ESTALE).
  [[nodiscard]] Result<UniqueFd> open(std::uint64_t node, int flags) const;
  /// Same, for its attributes (O_PATH). One that has no name any more is found if it is open.
  [[nodiscard]] Result<UniqueFd> find(std::uint64_t node) const;
  [[nodiscard]] static Result<Live> look(int fd);
  [[nodiscard]] static Result<Live> look_at(int directory, const char* name);

  [[nodiscard]] std::uint64_t keep(std::shared_ptr<OpenFile> file);
  [[nodiscard]] std::shared_ptr<OpenFile> file(std::uint64_t handle) const;
  void close(std::uint64_t handle);

  /// An operation on an open file, and what it read.
  void count(Bytes bytes) const;
  WritableNodes nodes;

 private:
  [[nodiscard]] Principal principal_of(const fuse_ctx& caller) const;
  void run(const std::shared_ptr<Parked>& parked, const Principal& as, Work work) const;

  const PartialViewParts& parts_;
  std::weak_ptr<ViewCore> core_;
  mutable std::mutex mutex_;  ///< guards what follows
  std::uint64_t next_ = 1;
  std::map<std::uint64_t, std::shared_ptr<OpenFile>> files_;
};

/// The kernel's requests on names and attributes, see writable_names.cc, and on data, see writable_files.cc.
[[nodiscard]] const fuse_lowlevel_ops& writable_operations();
void add_file_operations(fuse_lowlevel_ops& ops);

/// The one translation from C++ to the kernel for a handler: no exception passes. What throws has not parked anything.
template <auto Handler>
struct Edge;
template <class... Arguments, void (*Handler)(fuse_req_t, Arguments...)>
struct Edge<Handler> {
  static void call(fuse_req_t req, Arguments... arguments) {
    try {
      Handler(req, arguments...);
    } catch (const std::exception&) {
      fuse_reply_err(req, EIO);
    }
  }
};

/// Of the view that the request is for.
[[nodiscard]] Writable& writable_of(fuse_req_t req);
/// The calling thread's own mask for what it makes, from now on. False: it has none of its own.
[[nodiscard]] bool set_mask(mode_t mask);
/// An answer that is an error.
[[nodiscard]] Writable::Answer refuse(int error);
[[nodiscard]] Writable::Answer refuse(const Error& error);
[[nodiscard]] Writable::Answer done();
/// Tells the kernel of an entry, which counts as known from then on.
[[nodiscard]] Writable::Answer tell_entry(Writable& self, std::uint64_t parent, std::string name, const Live& live);
[[nodiscard]] fuse_entry_param entry_of(Writable& self, std::uint64_t parent, const std::string& name,
                                        const Live& live);

}  // namespace atlas::view
