#include "cache-agent/view/fuse/writable.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <exception>

#include "cache-agent/view/fuse/connection.h"
#include "cache-agent/view/fuse/view_core.h"
#include "common/percent.h"

namespace atlas::view {
namespace {

/// Attributes are the origin's for so long: a program that reads a file would else ask for its size before each read.
/// Names are looked up each time, which brings fresh attributes: what one node closes another sees when it opens it.
constexpr double kAttributes = 1.0;

struct timespec time_of(const statx_timestamp& time) {
  return {static_cast<time_t>(time.tv_sec), static_cast<long>(time.tv_nsec)};
}

Live live_of(const struct statx& x) {
  Live live;
  auto& st = live.st;
  st.st_dev = makedev(x.stx_dev_major, x.stx_dev_minor);
  st.st_ino = x.stx_ino;
  st.st_mode = x.stx_mode;
  st.st_nlink = x.stx_nlink;
  st.st_uid = x.stx_uid;
  st.st_gid = x.stx_gid;
  st.st_rdev = makedev(x.stx_rdev_major, x.stx_rdev_minor);
  st.st_size = static_cast<off_t>(x.stx_size);
  st.st_blksize = static_cast<blksize_t>(x.stx_blksize);
  st.st_blocks = static_cast<blkcnt_t>(x.stx_blocks);
  st.st_atim = time_of(x.stx_atime);
  st.st_mtim = time_of(x.stx_mtime);
  st.st_ctim = time_of(x.stx_ctime);
  if ((x.stx_mask & STATX_BTIME) != 0) live.born = x.stx_btime.tv_sec * 1'000'000'000 + x.stx_btime.tv_nsec;
  return live;
}

}  // namespace

Writable::Writable(const PartialViewParts& parts, const agent::Manifest& manifest) : nodes(manifest), parts_(parts) {}

Writable::~Writable() {
  for (auto& [handle, file] : files_)
    parts_.origin->run(parts_.as, agent::Urgency::fault, [last = std::move(file)](const Status&) {});
}

/// New files belong to the group that the program runs with, if it is one of the job's own.
Principal Writable::principal_of(const fuse_ctx& caller) const {
  Principal as = parts_.as;
  if (caller.uid == as.uid && std::binary_search(as.groups.begin(), as.groups.end(), caller.gid)) as.gid = caller.gid;
  return as;
}

void Writable::run(fuse_req_t req, std::uint64_t node, Work work) {
  const auto& caller = *fuse_req_ctx(req);
  // Others have their own rights at the origin, which nobody asks for here. Root becomes the user. What the kernel
  // does by itself (pages of a mapped file) comes from nobody.
  if (caller.uid != parts_.as.uid && caller.uid != 0 && caller.uid != static_cast<uid_t>(-1))
    return void(fuse_reply_err(req, EACCES));
  const auto place = nodes.place(node);
  const std::string below = place ? place->path : "a file that is gone";
  const auto parked = Connection::of(req).lot().park(
      req, printable(agent::show(parts_.replica->dataset()) + (below.empty() ? "" : "/" + below)));
  run(parked, principal_of(caller), std::move(work));
}

void Writable::run(const std::shared_ptr<Parked>& parked, const Principal& as, Work work) const {
  const auto task = [core = core_.lock(), parked, work = std::move(work)](const Status& able) {
    if (parked->answered()) return;
    parked->answer(able ? work() : refuse(able.error()));
  };
  try {
    parts_.origin->run(as, agent::Urgency::fault, task);
  } catch (const std::exception&) {
    parked->fail(EIO);
  }
}

void Writable::run(const std::shared_ptr<Parked>& parked, Work work) const {
  run(parked, parts_.as, std::move(work));
}

Result<Live> Writable::look(int fd) {
  return look_at(fd, "");
}

Result<Live> Writable::look_at(int directory, const char* name) {
  struct statx x {};
  if (statx(directory, name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, &x) != 0)
    return fail_errno(errno, "statx");
  return live_of(x);
}

Result<UniqueFd> Writable::open(std::uint64_t node, int flags) const {
  const auto place = nodes.place(node);
  if (!place) return fail_errno(ESTALE, "a file that is gone");
  auto fd = parts_.origin->open_live(origin_path(parts_.replica->dataset(), place->path), flags);
  if (!fd) {
    // On the way to a node that the kernel knows there was no link.
    if (fd.error().sys_errno == ENOENT || fd.error().sys_errno == ENOTDIR || fd.error().sys_errno == ELOOP)
      return fail_errno(ESTALE, place->path);
    return fd;
  }
  ATLAS_ASSIGN(const auto live, look(fd->get()));
  if (!place->is(live)) return fail_errno(ESTALE, place->path);
  return fd;
}

Result<UniqueFd> Writable::find(std::uint64_t node) const {
  auto fd = open(node, O_PATH);
  if (fd || fd.error().sys_errno != ESTALE) return fd;
  std::shared_ptr<OpenFile> open;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [handle, file] : files_)
      if (file->node == node) open = file;
  }
  if (!open) return fd;
  UniqueFd copy(fcntl(open->fd.get(), F_DUPFD_CLOEXEC, 3));
  if (!copy) return fail_errno(errno, "dup");
  return copy;
}

std::uint64_t Writable::keep(std::shared_ptr<OpenFile> file) {
  const std::lock_guard lock(mutex_);
  files_[next_] = std::move(file);
  return next_++;
}

std::shared_ptr<Writable::OpenFile> Writable::file(std::uint64_t handle) const {
  const std::lock_guard lock(mutex_);
  const auto at = files_.find(handle);
  return at == files_.end() ? nullptr : at->second;
}

void Writable::close(std::uint64_t handle) {
  std::shared_ptr<OpenFile> last;
  {
    const std::lock_guard lock(mutex_);
    const auto at = files_.find(handle);
    if (at == files_.end()) return;
    last = std::move(at->second);
    files_.erase(at);
  }
  parts_.origin->run(parts_.as, agent::Urgency::fault, [last = std::move(last)](const Status&) {});
}

void Writable::count(Bytes bytes) const {
  parts_.origin->count(bytes);
  if (const auto core = core_.lock()) core->note_read(bytes);
}

bool set_mask(mode_t mask) {
  static thread_local const bool kOwn = unshare(CLONE_FS) == 0;  // else it would be every thread's
  if (kOwn) ::umask(mask);
  return kOwn;
}

Writable& writable_of(fuse_req_t req) {
  return *Connection::of(req).core().writable();
}

Writable::Answer refuse(int error) {
  return [error](fuse_req_t req) { fuse_reply_err(req, error); };
}

Writable::Answer refuse(const Error& error) {
  return refuse(errno_of(error));
}

Writable::Answer done() {
  return [](fuse_req_t req) { fuse_reply_err(req, 0); };
}

fuse_entry_param entry_of(Writable& self, std::uint64_t parent, const std::string& name, const Live& live) {
  fuse_entry_param entry{};
  entry.ino = self.nodes.found(parent, name, live);
  static_cast<void>(self.nodes.cached(entry.ino, live.st));  // what is seen to be another one is that from now on
  entry.attr = live.st;
  entry.attr_timeout = kAttributes;
  return entry;
}

Writable::Answer tell_entry(Writable& self, std::uint64_t parent, std::string name, const Live& live) {
  return [&self, parent, name = std::move(name), live](fuse_req_t req) {
    const auto entry = entry_of(self, parent, name, live);
    if (fuse_reply_entry(req, &entry) != 0) self.nodes.forget(entry.ino, 1);
  };
}

}  // namespace atlas::view
