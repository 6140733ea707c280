#include "cache-agent/view/fuse/connection.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <thread>

#include "cache-agent/view/fuse/view_core.h"

namespace atlas::view {
namespace {

Status set(int context, unsigned command, const char* key, const std::string& value) {
  if (fsconfig(context, command, key, value.empty() ? nullptr : value.c_str(), 0) != 0)
    return fail_errno(errno, std::string("mount option ") + key);
  return {};
}

/// The kernel's own read-ahead: libfuse offers 128 KiB, and each request costs a round trip.
void set_read_ahead(dev_t device, Bytes size) {
  const std::string path =
      "/sys/class/bdi/" + std::to_string(major(device)) + ":" + std::to_string(minor(device)) + "/read_ahead_kb";
  std::ofstream(path) << size.count / 1024;
}

}  // namespace

Connection::Connection(std::shared_ptr<ViewCore> core, std::shared_ptr<ParkingLot> lot, UniqueFd device)
    : core_(std::move(core)), lot_(std::move(lot)), device_(std::move(device)) {}

Connection::~Connection() {
  lot_->close();
  if (session_ != nullptr) fuse_session_destroy(session_);
  if (adopted_) static_cast<void>(device_.release());  // libfuse has closed it with the session
}

ssize_t Connection::read_request(int fd, void* buffer, std::size_t size, void* self) {
  const ssize_t got = ::read(fd, buffer, size);
  if (got >= static_cast<ssize_t>(sizeof(fuse_in_header))) {
    fuse_in_header header{};
    std::memcpy(&header, buffer, sizeof header);
    if (header.opcode == FUSE_INIT) static_cast<Connection*>(self)->init_request_ = header.unique;
  }
  return got;
}

/// libfuse 3.14 never asks for parallel directory operations; without them the kernel sends one lookup per directory at
/// a time. So its answer to INIT is completed here.
ssize_t Connection::write_reply(int fd, iovec* parts, int count, void* raw) {
  auto& self = *static_cast<Connection*>(raw);
  const std::uint64_t expected = self.init_request_.load(std::memory_order_relaxed);
  if (expected != 0 && count >= 2 && parts[0].iov_len == sizeof(fuse_out_header)) {
    const auto* header = static_cast<const fuse_out_header*>(parts[0].iov_base);
    if (header->unique == expected && parts[1].iov_len >= FUSE_COMPAT_22_INIT_OUT_SIZE) {
      static_cast<fuse_init_out*>(parts[1].iov_base)->flags |= FUSE_PARALLEL_DIROPS;
      self.init_request_ = 0;
    }
  }
  return ::writev(fd, parts, count);
}

Result<UniqueFd> Connection::mount(const Options& options) const {
  const UniqueFd context(fsopen("fuse", FSOPEN_CLOEXEC));
  if (!context) return fail_errno(errno, "fsopen fuse");
  char root_mode[16];
  std::snprintf(root_mode, sizeof root_mode, "%o", options.root_type);
  const int c = context.get();
  ATLAS_TRY(set(c, FSCONFIG_SET_STRING, "source", options.source));
  ATLAS_TRY(set(c, FSCONFIG_SET_STRING, "subtype", "atlas"));
  ATLAS_TRY(set(c, FSCONFIG_SET_STRING, "fd", std::to_string(device_.get())));
  ATLAS_TRY(set(c, FSCONFIG_SET_STRING, "rootmode", root_mode));
  ATLAS_TRY(set(c, FSCONFIG_SET_STRING, "user_id", "0"));
  ATLAS_TRY(set(c, FSCONFIG_SET_STRING, "group_id", "0"));
  ATLAS_TRY(set(c, FSCONFIG_SET_STRING, "max_read", std::to_string(kMaxRead.count)));
  for (const char* flag : {"default_permissions", "allow_other", "ro"}) ATLAS_TRY(set(c, FSCONFIG_SET_FLAG, flag, ""));
  if (fsconfig(c, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) return fail_errno(errno, "create a fuse superblock");
  UniqueFd mount(fsmount(c, FSMOUNT_CLOEXEC,
                         MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOATIME |
                             (options.noexec ? MOUNT_ATTR_NOEXEC : 0U)));
  if (!mount) return fail_errno(errno, "fsmount fuse");
  return mount;
}

/// The control file system need not be mounted anywhere for its switches to work.
Status Connection::prepare_abort(int mount) {
  struct statx st {};
  if (statx(mount, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) != 0) return fail_errno(errno, "statx");
  const UniqueFd context(fsopen("fusectl", FSOPEN_CLOEXEC));
  if (!context) return fail_errno(errno, "fsopen fusectl");
  if (fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) return fail_errno(errno, "fusectl");
  const UniqueFd control(fsmount(context.get(), FSMOUNT_CLOEXEC, 0));
  if (!control) return fail_errno(errno, "fsmount fusectl");
  abort_ = UniqueFd(openat(control.get(), (std::to_string(st.stx_dev_minor) + "/abort").c_str(), O_WRONLY | O_CLOEXEC));
  if (!abort_) return fail_errno(errno, "the connection's switch");
  return {};
}

Result<Connection::Opened> Connection::open(std::shared_ptr<ViewCore> core, std::shared_ptr<ParkingLot> lot,
                                            const Options& options) {
  UniqueFd device(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!device) return fail_errno(errno, "open /dev/fuse");
  std::shared_ptr<Connection> self(new Connection(std::move(core), std::move(lot), std::move(device)));
  char program[] = "atlas-cache-agent", flag[] = "-o", value[32];
  std::snprintf(value, sizeof value, "max_read=%llu", static_cast<unsigned long long>(kMaxRead.count));
  char* arguments[] = {program, flag, value, nullptr};
  fuse_args args = FUSE_ARGS_INIT(3, arguments);
  self->session_ = fuse_session_new(&args, &view_operations(), sizeof(fuse_lowlevel_ops), self.get());
  fuse_opt_free_args(&args);
  if (self->session_ == nullptr) return fail(Code::internal, "libfuse refused the session");
  ATLAS_ASSIGN(UniqueFd mount, self->mount(options));
  static const fuse_custom_io kIo = [] {
    fuse_custom_io io{};  // newer versions have more members
    io.writev = write_reply;
    io.read = read_request;
    return io;
  }();
  if (fuse_session_custom_io(self->session_, &kIo, self->device_.get()) != 0)
    return fail(Code::internal, "libfuse refused the connection");
  self->adopted_ = true;
  self->running_ = options.threads;
  for (unsigned i = 0; i < options.threads; ++i) std::thread([self] { self->serve(); }).detach();
  ATLAS_TRY(self->prepare_abort(mount.get()));
  struct stat root {};
  if (fstat(mount.get(), &root) != 0) return fail_errno(errno, "the mount's root");  // after INIT
  set_read_ahead(root.st_dev, options.read_ahead);
  return Opened{std::move(self), std::move(mount)};
}

void Connection::serve() {
  fuse_buf request{};
  for (;;) {
    const int got = fuse_session_receive_buf(session_, &request);
    if (got == -EINTR || got == -EAGAIN) continue;
    if (got <= 0) break;
    fuse_session_process_buf(session_, &request);
  }
  std::free(request.mem);
  {
    const std::lock_guard lock(mutex_);
    if (--running_ == 0) over_.notify_all();
  }
}

void Connection::abort() {
  if (abort_) (void)!::write(abort_.get(), "1", 1);
}

bool Connection::wait(SteadyTime until) {
  std::unique_lock lock(mutex_);
  const bool over = over_.wait_until(lock, until, [&] { return running_ == 0; });
  lock.unlock();
  if (over) lot_->close();
  return over;
}

bool Connection::ended() const {
  const std::lock_guard lock(mutex_);
  return running_ == 0;
}

}  // namespace atlas::view
