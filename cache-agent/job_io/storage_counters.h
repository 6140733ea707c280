#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace atlas::agent {

// What the kernel says has been read from storage, out of its text files. Nothing that is cut off or malformed is
// guessed: no answer then.

/// Since a file system was mounted, or a disk found.
struct StorageReads {
  std::uint64_t bytes = 0;
  std::uint64_t operations = 0;  ///< requests to the storage
};

/// /proc/self/mountstats: what the NFS client has read from the server of the mount at `point`.
[[nodiscard]] std::optional<StorageReads> nfs_reads(std::string_view mountstats, std::string_view point);
/// osc.FSNAME-OSTxxxx-osc-*.stats of a Lustre client: what it has read from one object storage target, caches aside.
[[nodiscard]] std::optional<StorageReads> lustre_reads(std::string_view osc_stats);
/// The name of the file system in the source of a Lustre mount: "10.0.0.1@tcp:10.0.0.2@tcp:/work/home" is "work".
[[nodiscard]] std::string lustre_name(std::string_view source);
/// /sys/dev/block/MAJOR:MINOR/stat.
[[nodiscard]] std::optional<StorageReads> block_reads(std::string_view stat);
/// /proc/PID/io: what the process had fetched from storage: disks, NFS, but not FUSE. With what its children had that
/// have ended and been waited for.
[[nodiscard]] std::optional<std::uint64_t> process_reads(std::string_view io);
/// io.stat of cgroup v2, or blkio.throttle.io_service_bytes of v1: bytes read, by disk ("MAJOR:MINOR").
[[nodiscard]] std::map<std::string, std::uint64_t> reads_by_disk(std::string_view text);

}  // namespace atlas::agent
