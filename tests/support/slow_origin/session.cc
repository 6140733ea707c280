#include "tests/support/slow_origin/session.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>

namespace atlas::slow_origin {
namespace {

/// The kernel's INIT request, whose answer libfuse 3.14 does not let us complete: it never asks for parallel directory
/// operations, and without them the kernel sends one lookup per directory at a time, whatever the latency.
std::atomic<std::uint64_t> init_request{0};

void allow_large_reads(dev_t device) {
  // libfuse offers 128 KiB of read-ahead; real clients read 1 MiB and more at once.
  const std::string path =
      "/sys/class/bdi/" + std::to_string(major(device)) + ":" + std::to_string(minor(device)) + "/read_ahead_kb";
  std::ofstream(path) << "1024";
}

}  // namespace

ssize_t Session::read_request(int fd, void* buffer, std::size_t size, void*) {
  const ssize_t got = ::read(fd, buffer, size);
  if (got >= static_cast<ssize_t>(sizeof(fuse_in_header))) {
    fuse_in_header header{};
    std::memcpy(&header, buffer, sizeof header);
    if (header.opcode == FUSE_INIT) init_request = header.unique;
  }
  return got;
}

ssize_t Session::write_reply(int fd, iovec* parts, int count, void*) {
  const std::uint64_t expected = init_request.load(std::memory_order_relaxed);
  if (expected != 0 && count >= 2 && parts[0].iov_len == sizeof(fuse_out_header)) {
    const auto* header = static_cast<const fuse_out_header*>(parts[0].iov_base);
    if (header->unique == expected && parts[1].iov_len >= FUSE_COMPAT_22_INIT_OUT_SIZE) {
      static_cast<fuse_init_out*>(parts[1].iov_base)->flags |= FUSE_PARALLEL_DIROPS;
      init_request = 0;
    }
  }
  return ::writev(fd, parts, count);
}

Session::Session(Filesystem& fs, std::string mountpoint)
    : mountpoint_(std::move(mountpoint)), gone_(eventfd(0, EFD_CLOEXEC)) {
  char program[] = "atlas-slow-origin";
  char* argv[] = {program, nullptr};
  fuse_args args = FUSE_ARGS_INIT(1, argv);
  session_ = fuse_session_new(&args, &operations(), sizeof(fuse_lowlevel_ops), &fs);
  fuse_opt_free_args(&args);
}

Result<std::unique_ptr<Session>> Session::start(Filesystem& fs, const std::string& source,
                                                const std::string& mountpoint, unsigned threads) {
  std::unique_ptr<Session> session(new Session(fs, mountpoint));
  if (session->session_ == nullptr) return fail(Code::internal, "libfuse refused the session");
  struct stat root {};
  if (fstat(fs.nodes.root_fd(), &root) != 0) return fail_errno(errno, "stat " + source);
  const int device = ::open("/dev/fuse", O_RDWR | O_CLOEXEC);
  if (device < 0) return fail_errno(errno, "open /dev/fuse");
  char options[128];
  std::snprintf(options, sizeof options, "fd=%d,rootmode=%o,user_id=0,group_id=0,default_permissions,allow_other",
                device, root.st_mode & S_IFMT);
  if (mount(("stand-in-for-lustre:" + source).c_str(), mountpoint.c_str(), "fuse.atlas-slow-origin",
            MS_NOSUID | MS_NODEV, options) != 0)
    return fail_errno(errno, "mount at " + mountpoint);
  static const fuse_custom_io kIo = [] {
    fuse_custom_io io{};  // newer versions have more members
    io.writev = write_reply;
    io.read = read_request;
    return io;
  }();
  if (fuse_session_custom_io(session->session_, &kIo, device) != 0) {
    umount2(mountpoint.c_str(), MNT_DETACH);
    return fail(Code::internal, "libfuse refused the connection");
  }
  for (unsigned i = 0; i < threads; ++i) session->threads_.emplace_back([&s = *session] { s.serve(); });
  struct stat mounted {};
  if (stat(mountpoint.c_str(), &mounted) != 0) return fail_errno(errno, "stat " + mountpoint);
  allow_large_reads(mounted.st_dev);
  return session;
}

void Session::serve() {
  fuse_buf request{};
  for (;;) {
    const int got = fuse_session_receive_buf(session_, &request);
    if (got == -EINTR || got == -EAGAIN) continue;
    if (got <= 0) break;
    fuse_session_process_buf(session_, &request);
  }
  std::free(request.mem);
  const std::uint64_t one = 1;
  (void)!::write(gone_.get(), &one, sizeof one);
}

void Session::unmount() {
  umount2(mountpoint_.c_str(), MNT_DETACH);
}

}  // namespace atlas::slow_origin
