#include "cache-agent/origin/walker.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "cache-agent/origin/beneath.h"
#include "common/percent.h"

namespace atlas::agent {
namespace {

/// Entries of one directory are looked at by several threads, so many each: a storage that takes a millisecond for
/// each stat would otherwise need seconds for one large directory.
constexpr std::size_t kNamesPerTask = 32;
constexpr std::size_t kListBuffer = 256 * 1024;

/// What getdents64 fills in; the name follows.
struct DirentHead {
  std::uint64_t inode;
  std::int64_t offset;
  unsigned short length;
  unsigned char type;
};
constexpr std::size_t kNameOffset = 19;

struct Name {
  std::string text;
  unsigned char type = DT_UNKNOWN;
};

EntryType type_of_dirent(unsigned char type) {
  switch (type) {
    case DT_DIR:
      return EntryType::directory;
    case DT_LNK:
      return EntryType::symlink;
    case DT_FIFO:
      return EntryType::fifo;
    case DT_SOCK:
      return EntryType::socket;
    case DT_CHR:
      return EntryType::char_device;
    case DT_BLK:
      return EntryType::block_device;
    default:
      return EntryType::file;
  }
}

std::int64_t nanoseconds(const timespec& t) {
  return static_cast<std::int64_t>(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
}

/// How to ask for attributes that may be trusted like those of an open(): NFS asks its server at each open, but takes
/// stat() from memory for up to a minute. Others keep their clients' memories true, or answer both in the same way.
int freshness_of(int directory) {
  struct statfs about {};
  return fstatfs(directory, &about) == 0 && about.f_type == NFS_SUPER_MAGIC ? AT_STATX_FORCE_SYNC : 0;
}

WalkedEntry entry_of(std::string name, const struct stat& st) {
  WalkedEntry e;
  e.name = std::move(name);
  e.attributes = attributes_of(st);
  e.device = st.st_dev;
  e.inode = st.st_ino;
  e.links = st.st_nlink;
  e.allocated =
      std::min<std::uint64_t>(static_cast<std::uint64_t>(st.st_size), static_cast<std::uint64_t>(st.st_blocks) * 512);
  return e;
}

WalkedEntry unknown_entry(std::string name, unsigned char type) {
  WalkedEntry e;
  e.name = std::move(name);
  e.attributes.type = type_of_dirent(type);
  // A device or a link without attributes cannot be made again: it is shown as a file that nobody can open.
  if (e.attributes.type != EntryType::directory) e.attributes.type = EntryType::file;
  e.attributes.flags = kOpaque | kUnknown;
  return e;
}

/// access(2) with the thread's file system identity; needs no file to be opened.
Status may(int at, const char* name, int how) {
  if (syscall(SYS_faccessat2, at, name, how, AT_EACCESS | AT_SYMLINK_NOFOLLOW) == 0) return {};
  return fail_errno(errno, "access");
}

bool refused(const Error& error) {
  return error.sys_errno == EACCES || error.sys_errno == EPERM;
}

struct Batch {
  std::uint32_t directory = 0;  // token
  std::vector<WalkedEntry> entries;
};

/// Shared by the walking thread and its tasks; tasks that a hung storage holds may outlive the walk.
struct Walk {
  WalkContext context;
  int sync = 0;      // flags of fstatat(); set before the first entry is looked at
  std::mutex mutex;  // guards everything below
  std::condition_variable changed;
  std::deque<Batch> batches;
  std::size_t tasks = 0;
  Status failure;
  bool given_up = false;

  [[nodiscard]] std::string display(const std::string& path) const {
    std::string text = context.root;
    if (!context.dataset.empty()) text += "/" + context.dataset;
    if (!path.empty()) text += "/" + path;
    return printable(text);
  }
};

using Post = std::function<void(std::function<void(Status)>)>;

class Tasks : public std::enable_shared_from_this<Tasks> {
 public:
  Tasks(std::shared_ptr<Walk> walk, Post post) : walk_(std::move(walk)), post_(std::move(post)) {}

  void list(std::uint32_t token, std::string path) {
    start([self = shared_from_this(), token, path = std::move(path)] { return self->list_now(token, path); });
  }

 private:
  /// Queues work that counts as part of the walk until it has returned.
  void start(std::function<Status()> work) {
    {
      const std::lock_guard lock(walk_->mutex);
      ++walk_->tasks;
    }
    post_([walk = walk_, work = std::move(work)](const Status& able) {
      bool given_up = false;
      {
        const std::lock_guard lock(walk->mutex);
        given_up = walk->given_up;
      }
      const Status done = given_up ? Status{} : able ? work() : able;
      const std::lock_guard lock(walk->mutex);
      if (!done && walk->failure) walk->failure = done;
      --walk->tasks;
      walk->changed.notify_all();
    });
  }

  Status list_now(std::uint32_t token, const std::string& path) {
    ATLAS_ASSIGN(const UniqueFd root, open_origin_root(walk_->context.root));
    std::string full = walk_->context.dataset;
    if (!path.empty()) full += (full.empty() ? "" : "/") + path;
    count(1);
    auto opened = open_beneath(root.get(), full, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
    if (!opened) {
      if (opened.error().sys_errno == ENOENT || opened.error().sys_errno == ENOTDIR ||
          opened.error().sys_errno == ELOOP)
        return fail(Code::aborted, walk_->display(path) + " went away while the dataset was walked");
      return fail(opened.error().in("cannot list " + walk_->display(path)));
    }
    if (path.empty()) walk_->sync = freshness_of(opened->get());
    const auto directory = std::make_shared<const UniqueFd>(std::move(*opened));
    std::vector<char> buffer(kListBuffer);
    std::vector<Name> names;
    for (;;) {
      count(1);
      const long got = syscall(SYS_getdents64, directory->get(), buffer.data(), buffer.size());
      if (got < 0) return fail_errno(errno, "cannot list " + walk_->display(path));
      if (got == 0) break;
      for (long at = 0; at < got;) {
        DirentHead entry{};
        std::memcpy(&entry, buffer.data() + at, kNameOffset);
        const std::string_view name = buffer.data() + at + kNameOffset;
        at += entry.length;
        if (name == "." || name == "..") continue;
        names.push_back({std::string(name), entry.type});
        if (names.size() == kNamesPerTask) look_later(token, path, directory, std::exchange(names, {}));
      }
    }
    // The last ones are looked at right here.
    return names.empty() ? Status{} : look_now(token, path, *directory, names);
  }

  void look_later(std::uint32_t token, const std::string& path, std::shared_ptr<const UniqueFd> directory,
                  std::vector<Name> names) {
    start([self = shared_from_this(), token, path, directory = std::move(directory),
           names = std::move(names)]() mutable { return self->look_now(token, path, *directory, names); });
  }

  Status look_now(std::uint32_t token, const std::string& path, const UniqueFd& directory, std::vector<Name>& names) {
    Batch batch{token, {}};
    batch.entries.reserve(names.size());
    for (auto& name : names) {
      auto entry = look_at(directory, std::move(name));
      if (!entry && entry.error().sys_errno == ENOENT) continue;  // removed meanwhile
      if (!entry) return fail(entry.error().in("in " + walk_->display(path)));
      batch.entries.push_back(std::move(*entry));
    }
    const std::lock_guard lock(walk_->mutex);
    walk_->batches.push_back(std::move(batch));
    walk_->changed.notify_all();
    return {};
  }

  Result<WalkedEntry> look_at(const UniqueFd& directory, Name name) {
    struct stat st {};
    count(1);
    if (fstatat(directory.get(), name.text.c_str(), &st, AT_SYMLINK_NOFOLLOW | walk_->sync) != 0) {
      if (errno == EACCES || errno == EPERM) return unknown_entry(std::move(name.text), name.type);
      return fail_errno(errno, printable(name.text));
    }
    WalkedEntry entry = entry_of(std::move(name.text), st);
    if (S_ISLNK(st.st_mode)) {
      ATLAS_ASSIGN(entry.target, target_of(directory, entry.name, static_cast<std::size_t>(st.st_size)));
      entry.attributes.size = entry.target.size();
    } else if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) {
      ATLAS_TRY(judge(directory, entry));
    }
    return entry;
  }

  /// Sets kOpaque (and kBlind) where the principal may not read.
  Status judge(const UniqueFd& directory, WalkedEntry& entry) {
    auto& a = entry.attributes;
    const bool is_directory = a.type == EntryType::directory;
    const std::uint32_t owners = is_directory ? 0500U : 0400U;
    if (a.uid == walk_->context.as.uid && (a.mode & owners) == owners && geteuid() == 0)
      return {};  // saves an operation
    count(1);
    const Status readable = may(directory.get(), entry.name.c_str(), is_directory ? R_OK | X_OK : R_OK);
    if (readable) return {};
    if (!refused(readable.error())) return fail(readable.error());
    if (!is_directory) {
      a.flags |= kOpaque;
      return {};
    }
    // Listed but not entered: names are known, attributes are not (each entry is kUnknown). Entered but not listed:
    // blind.
    if (may(directory.get(), entry.name.c_str(), R_OK)) return {};
    a.flags |= kOpaque;
    if (may(directory.get(), entry.name.c_str(), X_OK)) a.flags |= kBlind;
    return {};
  }

  Result<std::string> target_of(const UniqueFd& directory, const std::string& name, std::size_t hint) {
    std::string target(std::max<std::size_t>(hint + 1, 256), '\0');
    for (;;) {
      count(1);
      const ssize_t got = readlinkat(directory.get(), name.c_str(), target.data(), target.size());
      if (got < 0) return fail_errno(errno, printable(name));
      if (static_cast<std::size_t>(got) < target.size()) {
        target.resize(static_cast<std::size_t>(got));
        return target;
      }
      target.resize(target.size() * 2);
    }
  }

  void count(std::uint64_t operations) {
    walk_->context.counters->operations.fetch_add(operations, std::memory_order_relaxed);
  }

  std::shared_ptr<Walk> walk_;
  Post post_;
};

}  // namespace

EntryAttributes attributes_of(const struct stat& st) {
  EntryAttributes a;
  switch (st.st_mode & S_IFMT) {
    case S_IFDIR:
      a.type = EntryType::directory;
      break;
    case S_IFLNK:
      a.type = EntryType::symlink;
      break;
    case S_IFIFO:
      a.type = EntryType::fifo;
      break;
    case S_IFSOCK:
      a.type = EntryType::socket;
      break;
    case S_IFCHR:
      a.type = EntryType::char_device;
      break;
    case S_IFBLK:
      a.type = EntryType::block_device;
      break;
    default:
      a.type = EntryType::file;
  }
  a.mode = a.type == EntryType::symlink ? 0777U : st.st_mode & 07777U;
  a.uid = st.st_uid;
  a.gid = st.st_gid;
  if (a.type == EntryType::file || a.type == EntryType::symlink) a.size = static_cast<std::uint64_t>(st.st_size);
  if (a.type == EntryType::char_device || a.type == EntryType::block_device) a.rdev = st.st_rdev;
  a.mtime = nanoseconds(st.st_mtim);
  a.ctime = nanoseconds(st.st_ctim);
  return a;
}

Result<UniqueFd> open_origin_root(const std::string& root) {
  UniqueFd fd(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "origin root " + printable(root));
  return fd;
}

Result<UniqueFd> open_dataset(const WalkContext& context) {
  const std::string path = printable(context.root + (context.dataset.empty() ? "" : "/") + context.dataset);
  ATLAS_ASSIGN(const UniqueFd root, open_origin_root(context.root));
  context.counters->operations.fetch_add(1, std::memory_order_relaxed);
  auto fd = open_beneath(root.get(), context.dataset, O_PATH);
  if (fd) return fd;
  const int err = fd.error().sys_errno;
  if (err == EACCES || err == EPERM)
    return fail(Error{Code::permission_denied, path + ": " + show(context.as) + " may not enter it", err});
  if (err == ENOENT || err == ENOTDIR) return fail(Error{Code::not_found, path + ": no such dataset", err});
  if (err == ELOOP || err == EXDEV)
    return fail(Error{Code::invalid_argument,
                      path + ": a part of the path is a symlink; name the dataset by the path the link leads to", err});
  return fail(fd.error().in("cannot open the dataset"));
}

Result<WalkedEntry> look_at_root(const WalkContext& context) {
  const std::string path = printable(context.root + (context.dataset.empty() ? "" : "/") + context.dataset);
  ATLAS_ASSIGN(const UniqueFd fd, open_dataset(context));
  struct stat st {};
  if (fstat(fd.get(), &st) != 0) return fail_errno(errno, path);
  if (S_ISLNK(st.st_mode))
    return fail(Code::invalid_argument, path + ": is a symlink; name the dataset by the path the link leads to");
  if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
    return fail(Code::invalid_argument, path + ": neither a directory nor a regular file; only those can be cached");
  context.counters->operations.fetch_add(2, std::memory_order_relaxed);
  const int how = S_ISDIR(st.st_mode) ? R_OK | X_OK : R_OK;
  if (syscall(SYS_faccessat2, fd.get(), "", how, AT_EACCESS | AT_EMPTY_PATH) != 0) {
    const int err = errno;
    if (err == EACCES || err == EPERM)
      return fail(Error{Code::permission_denied,
                        path + ": " + show(context.as) + " may not " + (S_ISDIR(st.st_mode) ? "list" : "read") + " it",
                        err});
    return fail_errno(err, path);
  }
  return entry_of("", st);
}

Status walk_tree(const WalkContext& context, const Patterns& exclude, EntrySink& sink, const std::stop_token& stop,
                 const Post& post) {
  const auto walk = std::make_shared<Walk>();
  walk->context = context;
  const auto tasks = std::make_shared<Tasks>(walk, post);
  const std::stop_callback wake(stop, [walk] {
    const std::lock_guard lock(walk->mutex);
    walk->given_up = true;
    walk->changed.notify_all();
  });
  std::vector<std::string> paths{""};  // of directories by token; others stay empty
  const auto give = [&](std::uint32_t parent, WalkedEntry entry) {
    auto& a = entry.attributes;
    const bool directory = a.type == EntryType::directory;
    std::string path;
    if ((directory || !exclude.empty()) && !entry.name.empty())
      path = paths[parent].empty() ? entry.name : paths[parent] + "/" + entry.name;
    if (!exclude.empty() && !path.empty() && exclude.match(path, directory)) {
      if (!directory) return;
      a.flags = kWindow | (a.flags & kUnknown);  // whoever may do what in it is the origin's business
    }
    const bool descend = directory && (a.flags & (kOpaque | kWindow)) == 0;
    const std::uint32_t token = sink.add(parent, std::move(entry));
    if (token >= paths.size()) paths.resize(token + 1);
    if (descend) {
      paths[token] = path;
      tasks->list(token, path);
    }
  };

  // The first look runs on the pool too: the calling thread is not the user.
  {
    const std::lock_guard lock(walk->mutex);
    ++walk->tasks;
  }
  post([walk](const Status& able) {
    Result<WalkedEntry> root = able ? look_at_root(walk->context) : Result<WalkedEntry>(fail(able.error()));
    const std::lock_guard lock(walk->mutex);
    if (root) {
      walk->batches.push_back({0, {}});
      walk->batches.back().entries.push_back(std::move(*root));
    } else {
      walk->failure = fail(root.error());
    }
    --walk->tasks;
    walk->changed.notify_all();
  });

  std::unique_lock lock(walk->mutex);
  for (;;) {
    walk->changed.wait(lock,
                       [&] { return walk->given_up || !walk->failure || !walk->batches.empty() || walk->tasks == 0; });
    if (walk->given_up) return fail(Code::cancelled, "the walk of " + walk->display("") + " was cancelled");
    if (!walk->failure) {
      walk->given_up = true;
      return walk->failure;
    }
    if (walk->batches.empty()) return {};  // and no task is left to bring more
    std::deque<Batch> batches;
    std::swap(batches, walk->batches);
    lock.unlock();
    for (auto& batch : batches)
      for (auto& entry : batch.entries) give(batch.directory, std::move(entry));
    lock.lock();
  }
}

}  // namespace atlas::agent
