#include "cache-agent/view/fuse/connection.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

#include <cerrno>
#include <csignal>
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

/// From 6.9 on the kernel sends unanswered requests again when it is told so. Not in the headers of Debian 12.
constexpr std::uint32_t kRepeats = 1U << 7;  // FUSE_HAS_RESEND, in flags2 of INIT
constexpr std::int32_t kNotifyResend = 7;    // FUSE_NOTIFY_RESEND
/// The kernel sends its first request at once; the threads only have to start.
constexpr std::chrono::seconds kInitPatience{10};
/// From 6.9 on the kernel reads by itself what it is handed a descriptor of. Not in the headers of Debian 12 either.
struct BackingMap {
  std::int32_t fd;
  std::uint32_t flags;
  std::uint64_t padding;
};
constexpr unsigned long kBackingOpen = _IOW(229, 1, BackingMap);      // FUSE_DEV_IOC_BACKING_OPEN
constexpr unsigned long kBackingClose = _IOW(229, 2, std::uint32_t);  // FUSE_DEV_IOC_BACKING_CLOSE
/// Between looks at files that the kernel reads by itself.
constexpr std::chrono::seconds kLookAfter{2};
/// Its default is to be ignored, and nothing in this process uses it.
constexpr int kWake = SIGURG;

Result<UniqueFd> duplicate(int fd) {
  UniqueFd made(fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!made) return fail_errno(errno, "dup");
  return made;
}

}  // namespace

Connection::Connection(std::shared_ptr<ViewCore> core, std::shared_ptr<ParkingLot> lot, const Options& options)
    : core_(std::move(core)),
      lot_(std::move(lot)),
      holder_(options.holder),
      writable_(core_->writable() != nullptr),
      threads_(options.threads) {}

Connection::~Connection() {
  if (!leaving_) forget();
  lot_->close();
  if (session_ != nullptr) fuse_session_destroy(session_);  // closes the device
}

/// libfuse insists on one; requests are read by serve().
ssize_t Connection::read_request(int fd, void* buffer, std::size_t size, void* /*self*/) {
  return ::read(fd, buffer, size);
}

/// libfuse 3.14 never asks for parallel directory operations; without them the kernel sends one lookup per directory at
/// a time. And nothing is ever written here: the kernel may leave room for names only. So its answer to INIT is
/// completed here.
ssize_t Connection::write_reply(int fd, iovec* parts, int count, void* raw) {
  auto& self = *static_cast<Connection*>(raw);
  const std::uint64_t expected = self.init_request_.load(std::memory_order_relaxed);
  if (expected != 0 && count >= 2 && parts[0].iov_len == sizeof(fuse_out_header)) {
    const auto* header = static_cast<const fuse_out_header*>(parts[0].iov_base);
    if (header->unique == expected && parts[1].iov_len >= FUSE_COMPAT_22_INIT_OUT_SIZE) {
      auto* out = static_cast<fuse_init_out*>(parts[1].iov_base);
      out->flags |= FUSE_PARALLEL_DIROPS;
      if (self.writable_) {
        out->flags |= FUSE_HANDLE_KILLPRIV_V2;  // the origin does, to whoever is not root
      } else {
        out->max_write = 4096;
      }
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
  ATLAS_TRY(set(c, FSCONFIG_SET_STRING, "fd", std::to_string(device_)));
  ATLAS_TRY(set(c, FSCONFIG_SET_STRING, "rootmode", root_mode));
  ATLAS_TRY(set(c, FSCONFIG_SET_STRING, "user_id", "0"));
  ATLAS_TRY(set(c, FSCONFIG_SET_STRING, "group_id", "0"));
  ATLAS_TRY(set(c, FSCONFIG_SET_STRING, "max_read", std::to_string(kMaxRead.count)));
  ATLAS_TRY(set(c, FSCONFIG_SET_FLAG, "allow_other", ""));
  // Where the job writes the origin decides about each request.
  if (!writable_)
    for (const char* flag : {"default_permissions", "ro"}) ATLAS_TRY(set(c, FSCONFIG_SET_FLAG, flag, ""));
  if (fsconfig(c, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) return fail_errno(errno, "create a fuse superblock");
  UniqueFd mount(fsmount(c, FSMOUNT_CLOEXEC,
                         MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOATIME |
                             (writable_ ? 0U : MOUNT_ATTR_RDONLY) | (options.noexec ? MOUNT_ATTR_NOEXEC : 0U)));
  if (!mount) return fail_errno(errno, "fsmount fuse");
  return mount;
}

/// The control file system need not be mounted anywhere for its switches to work.
Status Connection::prepare_control(int mount) {
  struct statx st {};
  if (statx(mount, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) != 0) return fail_errno(errno, "statx");
  const UniqueFd context(fsopen("fusectl", FSOPEN_CLOEXEC));
  if (!context) return fail_errno(errno, "fsopen fusectl");
  if (fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) return fail_errno(errno, "fusectl");
  const UniqueFd control(fsmount(context.get(), FSMOUNT_CLOEXEC, 0));
  if (!control) return fail_errno(errno, "fsmount fusectl");
  number_ = makedev(st.stx_dev_major, st.stx_dev_minor);
  const std::string connection = std::to_string(st.stx_dev_minor);
  control_ = UniqueFd(openat(control.get(), connection.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!control_) return fail_errno(errno, "the connection's switches");
  return {};
}

/// Makes the session, which owns the device from now on.
Status Connection::adopt(UniqueFd device) {
  char program[] = "atlas-cache-agent", flag[] = "-o", value[32];
  std::snprintf(value, sizeof value, "max_read=%llu", static_cast<unsigned long long>(kMaxRead.count));
  char* arguments[] = {program, flag, value, nullptr};
  fuse_args args = FUSE_ARGS_INIT(3, arguments);
  session_ = fuse_session_new(&args, &(writable_ ? writable_operations() : view_operations()),
                              sizeof(fuse_lowlevel_ops), this);
  fuse_opt_free_args(&args);
  if (session_ == nullptr) return fail(Code::internal, "libfuse refused the session");
  static const fuse_custom_io kIo = [] {
    fuse_custom_io io{};  // newer versions have more members
    io.writev = write_reply;
    io.read = read_request;
    return io;
  }();
  if (fuse_session_custom_io(session_, &kIo, device.get()) != 0)
    return fail(Code::internal, "libfuse refused the connection");
  device_ = device.release();
  return {};
}

Result<Connection::Opened> Connection::open(std::shared_ptr<ViewCore> core, std::shared_ptr<ParkingLot> lot,
                                            const Options& options) {
  UniqueFd device(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!device) return fail_errno(errno, "open /dev/fuse");
  std::shared_ptr<Connection> self(new Connection(std::move(core), std::move(lot), options));
  ATLAS_TRY(self->adopt(std::move(device)));
  ATLAS_ASSIGN(self->slots_, RequestSlots::make(options.threads));
  if (options.passthrough && !options.slots) {
    ATLAS_ASSIGN(self->backings_, Backings::make(self->core_->manifest->size(), self->backing_calls()));
  }
  ATLAS_ASSIGN(UniqueFd mount, self->mount(options));
  ATLAS_TRY(self->prepare_control(mount.get()));
  self->start();
  ATLAS_TRY(self->wait_for_init());
  set_read_ahead(self->number_, options.read_ahead);
  if (auto deposited = self->deposit(options); !deposited) {
    self->abort();
    return fail(std::move(deposited).error());
  }
  if (self->backings() != nullptr) self->look_after_later();
  return Opened{std::move(self), std::move(mount)};
}

/// Not by a look at the mount: a process that is killed while it waits for its own answer never dies.
Status Connection::wait_for_init() {
  std::unique_lock lock(mutex_);
  over_.wait_for(lock, kInitPatience, [&] { return ready_ || running_.empty(); });
  if (!ready_) return fail(Code::unavailable, "the kernel began no conversation on a new fuse mount");
  return {};
}

/// After INIT, and before anybody can read: until then there is nothing that a later agent could go on with.
Status Connection::deposit(const Options& options) {
  if (!holder_) return {};
  fuse_init_in in{};
  if (init_.size() >= sizeof(fuse_in_header) + sizeof in)
    std::memcpy(&in, init_.data() + sizeof(fuse_in_header), sizeof in);
  const bool repeats = (in.flags & FUSE_INIT_EXT) != 0 && (in.flags2 & kRepeats) != 0;
  Kept kept{holder_->new_id(), options.about, init_, {}, {}, {}};
  ATLAS_ASSIGN(kept.device, duplicate(device_));
  ATLAS_ASSIGN(kept.control, duplicate(control_.get()));
  if (options.slots || !repeats) {
    ATLAS_ASSIGN(kept.memory, duplicate(slots_->memory()));
    lot_->keep_in(slots_);
  } else if (backings() != nullptr) {
    ATLAS_ASSIGN(kept.memory, duplicate(backings_->memory()));
  }
  {
    const std::lock_guard lock(mutex_);
    id_ = kept.id;
  }
  holder_->keep(std::move(kept));
  return {};
}

Result<std::shared_ptr<Connection>> Connection::take_over(std::shared_ptr<ViewCore> core,
                                                          std::shared_ptr<ParkingLot> lot, Kept kept,
                                                          const Options& options) {
  std::shared_ptr<Connection> self(new Connection(std::move(core), std::move(lot), options));
  const bool replay = bool(kept.memory) && !Backings::made(kept.memory.get());
  ATLAS_TRY(self->recall(kept, options));
  ATLAS_ASSIGN(auto device, duplicate(kept.device.get()));
  ATLAS_ASSIGN(self->control_, duplicate(kept.control.get()));
  ATLAS_TRY(self->adopt(std::move(device)));
  const std::string init = kept.init;
  {
    const std::lock_guard lock(self->mutex_);
    self->id_ = kept.id;
  }
  // Before anything is read: killed from here on, the next agent finds what this one has.
  self->holder_->keep(std::move(kept));
  // What the kernel and libfuse agreed on then. The answer finds nobody who waits for it.
  self->process(std::as_bytes(std::span(init)));
  if (replay) {
    self->replay();
  } else {
    const fuse_out_header repeat{sizeof(fuse_out_header), kNotifyResend, 0};
    if (::write(self->device_, &repeat, sizeof repeat) != static_cast<ssize_t>(sizeof repeat))
      return fail_errno(errno, "the kernel does not repeat its requests");
  }
  self->start();
  if (self->backings() != nullptr) self->look_after_later();
  return self;
}

/// The memory that an earlier agent has left: requests, or what the kernel reads by itself.
Status Connection::recall(const Kept& kept, const Options& options) {
  if (!kept.memory || Backings::made(kept.memory.get())) {
    ATLAS_ASSIGN(slots_, RequestSlots::make(options.threads));
    if (!kept.memory) return {};
    ATLAS_ASSIGN(auto memory, duplicate(kept.memory.get()));
    ATLAS_ASSIGN(backings_, Backings::map(std::move(memory), core_->manifest->size(), backing_calls()));
    return {};
  }
  ATLAS_ASSIGN(auto memory, duplicate(kept.memory.get()));
  ATLAS_ASSIGN(slots_, RequestSlots::map(std::move(memory)));
  threads_ = slots_->threads();
  lot_->keep_in(slots_);
  return {};
}

bool Connection::pass() {
  passes_.store(backings_ != nullptr, std::memory_order_release);
  return backings_ != nullptr;
}

Backings::Kernel Connection::backing_calls() {
  Backings::Kernel calls;
  // The kernel keeps the file; the descriptor is not needed any more.
  calls.open = [this](agent::FileIndex file) -> Result<std::int32_t> {
    ATLAS_ASSIGN(const UniqueFd fd, core_->parts.replica->open_file(*core_->manifest, file));
    BackingMap map{fd.get(), 0, 0};
    const int id = ioctl(device_, kBackingOpen, &map);
    if (id > 0) return id;
    const int err = errno;
    // ELOOP: the tier is an overlay. The files are read through this process, then.
    if (!told_.exchange(true)) {
      core_->parts.warn("job " + std::to_string(core_->parts.payer.job_id) +
                        ": the kernel does not read files of tier " + core_->parts.replica->tier() +
                        " by itself: " + std::strerror(err));  // NOLINT: see error()
    }
    return fail_errno(err, "passthrough");
  };
  calls.close = [this](std::int32_t id) { ioctl(device_, kBackingClose, &id); };
  return calls;
}

/// What the kernel reads by itself passes no checksum. When a comparison elsewhere has found a bad block in such a
/// file, it is fetched again at once, into the same file: who has it open sees the right bytes from then on.
void Connection::look_after_later() {
  const std::lock_guard lock(mutex_);
  look_ = core_->parts.timers->post_at(core_->parts.clock->now() + kLookAfter, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self || self->leaving_ || self->ended()) return;
    for (const auto file : self->backings_->open_files()) self->core_->mend(file);
    self->look_after_later();
  });
}

void Connection::replay() {
  slots_->replay([this](std::span<const std::byte> request) {
    fuse_in_header header{};
    std::memcpy(&header, request.data(), sizeof header);
    if (header.opcode != FUSE_INIT && header.opcode != FUSE_INTERRUPT) process(request);
  });
  lot_->suspect_all();
}

/// The threads of this connection, each with its own slot.
void Connection::start() {
  const std::lock_guard lock(mutex_);
  for (unsigned i = 0; i < threads_; ++i) {
    std::thread thread([self = shared_from_this(), slot = slots_->of_thread(i)] {
      // What is written comes in one piece, and is for no later agent.
      std::vector<std::byte> room(self->writable_ ? kMaxWrite.count + kRequestRoom : 0);
      self->serve(self->writable_ ? std::span(room) : slot);
    });
    running_.push_back(thread.native_handle());
    thread.detach();
  }
}

void Connection::process(std::span<const std::byte> request) {
  fuse_in_header header{};
  std::memcpy(&header, request.data(), sizeof header);
  if (header.opcode == FUSE_INIT) {
    init_.assign(reinterpret_cast<const char*>(request.data()), request.size());
    init_request_ = header.unique;
  }
  fuse_buf buffer{};
  buffer.mem = const_cast<std::byte*>(request.data());
  buffer.size = request.size();
  buffer.fd = -1;
  fuse_session_process_buf(session_, &buffer);
  if (header.opcode != FUSE_INIT) return;
  const std::lock_guard lock(mutex_);
  ready_ = true;
  over_.notify_all();
}

void Connection::serve(std::span<std::byte> slot) {
  while (!leaving_) {
    RequestSlots::clear(slot);
    const ssize_t got = ::read(device_, slot.data(), slot.size());
    if (got < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT)) continue;
    if (got < static_cast<ssize_t>(sizeof(fuse_in_header))) break;
    const auto request = slot.first(static_cast<std::size_t>(got));
    RequestSlots::current(request);
    process(request);
  }
  RequestSlots::clear(slot);
  bool last = false;
  {
    const std::lock_guard lock(mutex_);
    std::erase(running_, pthread_self());
    last = running_.empty();
    if (last) over_.notify_all();
  }
  if (last && !leaving_) forget();
}

/// It is over: a later agent shall not find it.
void Connection::forget() {
  std::uint64_t id = 0;
  {
    const std::lock_guard lock(mutex_);
    id = std::exchange(id_, 0);
  }
  if (holder_ && id != 0) holder_->drop(id);
}

void Connection::abort() {
  if (control_) abort_connection(control_.get());
}

bool Connection::wait(SteadyTime until) {
  std::unique_lock lock(mutex_);
  const bool over = over_.wait_until(lock, until, [&] { return running_.empty(); });
  lock.unlock();
  if (over) lot_->close();
  return over;
}

bool Connection::ended() const {
  const std::lock_guard lock(mutex_);
  return running_.empty();
}

bool Connection::kept() const {
  const std::lock_guard lock(mutex_);
  return holder_ && id_ != 0 && holder_->keeps(id_);
}

bool Connection::leave(SteadyTime until) {
  // Only so that a read of the device ends; whoever is not in one looks at leaving_ next.
  static const bool kReady = [] {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    return sigaction(kWake, &action, nullptr) == 0;
  }();
  leaving_ = true;
  bool over = !kReady;
  std::unique_lock lock(mutex_);
  while (!over) {
    for (const pthread_t thread : running_) pthread_kill(thread, kWake);
    over = over_.wait_for(lock, std::chrono::milliseconds(5), [&] { return running_.empty(); });
    if (std::chrono::steady_clock::now() >= until) break;
  }
  over = running_.empty();
  lock.unlock();
  lot_->leave();
  return over;
}

}  // namespace atlas::view
