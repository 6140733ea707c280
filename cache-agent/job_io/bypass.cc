#include "cache-agent/job_io/bypass.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>

#include "cache-agent/job_io/disk_limits.h"
#include "common/note.h"

namespace atlas::agent {
namespace {

namespace fs = std::filesystem;

/// Bytes that Atlas can have counted before the storage's client does, or found in memory.
constexpr double kMostAhead = 256.0 * 1024 * 1024;
/// Where Lustre's client tells what it reads, in older and newer versions.
constexpr const char* kLustreClients[] = {"/proc/fs/lustre/osc", "/sys/kernel/debug/lustre/osc"};

std::optional<StorageReads> all_of_lustre(const std::string& name) {
  std::optional<StorageReads> out;
  for (const auto* clients : kLustreClients) {
    std::error_code error;
    for (const auto& target : fs::directory_iterator(clients, error)) {
      if (!target.path().filename().string().starts_with(name + "-OST")) continue;
      const auto reads = lustre_reads(read_note(target.path() / "stats"));
      if (!reads) continue;
      if (!out) out.emplace();
      out->bytes += reads->bytes;
      out->operations += reads->operations;
    }
    if (out) return out;
  }
  return out;
}

std::uint64_t growth(std::uint64_t now, std::uint64_t before) {
  return now >= before ? now - before : now;  // less than before: it was counted anew
}

}  // namespace

std::optional<Bypass::Place> Bypass::look(const Origin& origin, const std::vector<Mount>& mounts,
                                          const std::string& mountstats) const {
  const auto* mount = mount_of(mounts, origin.root);
  if (mount == nullptr) return std::nullopt;
  for (const auto& other : options_.origins) {  // what is read of one would be taken for the other's
    const auto* its = other.name == origin.name ? nullptr : mount_of(mounts, other.root);
    if (its == nullptr) continue;
    const bool lustre = mount->type == "lustre" && its->type == "lustre";
    if (its->device == mount->device || (lustre && lustre_name(its->source) == lustre_name(mount->source)))
      return std::nullopt;
  }
  const auto found = [](std::optional<StorageReads> all, std::string disk) {
    return all ? std::optional(Place{*all, std::move(disk)}) : std::nullopt;
  };
  if (mount->type.starts_with("nfs")) return found(nfs_reads(mountstats, mount->point), "");
  if (mount->type == "lustre") return found(all_of_lustre(lustre_name(mount->source)), "");
  // A disk counts for all that is on it: it is to be the origin's alone.
  if (mount->point == "/") return std::nullopt;
  for (const auto& cache : options_.caches)
    if (const auto* other = mount_of(mounts, cache); other != nullptr && other->device == mount->device)
      return std::nullopt;
  return found(block_reads(read_note("/sys/dev/block/" + mount->device + "/stat")), disk_of(mounts, origin.root));
}

/// What its processes have had fetched since the last time. Of a job that was there before, and is seen for the first
/// time, nothing is new.
void Bypass::look(Job& job, const JobCgroup& cgroup, const std::string& counted_in, const std::set<std::string>& disks,
                  bool known) {
  std::map<pid_t, std::uint64_t> processes;
  job.fresh = job.charged = 0;
  for (const auto pid : cgroup.pids()) {
    const auto read = process_reads(read_note("/proc/" + std::to_string(pid) + "/io"));
    if (!read) continue;  // gone
    const auto before = job.processes.find(pid);
    if (known) job.fresh += growth(*read, before == job.processes.end() ? 0 : before->second);
    processes[pid] = *read;
  }
  // What a process has read becomes its parent's when it has ended.
  for (const auto& [pid, before] : job.processes)
    if (!processes.contains(pid)) job.fresh -= std::min(job.fresh, before);
  job.processes = std::move(processes);
  job.fresh_by_disk.clear();
  if (counted_in.empty()) return;
  auto read = reads_by_disk(read_note(counted_in));  // of the same second or a little later: in doubt it is theirs
  for (const auto& [disk, bytes] : read) {
    const auto before = job.disks.find(disk);
    if (known && disks.contains(disk))
      job.fresh_by_disk[disk] = growth(bytes, before == job.disks.end() ? 0 : before->second);
  }
  job.disks = std::move(read);
}

/// The most that a job can have read of an origin on that disk ("" = of one that is on none of this node's).
std::uint64_t Bypass::could_be(const Job& job, const std::string& disk) {
  std::uint64_t not_its = job.charged;
  for (const auto& [one, bytes] : job.fresh_by_disk)
    if (one != disk) not_its += bytes;
  return job.fresh - std::min(job.fresh, not_its);
}

void Bypass::divide(const Origin& origin, const std::string& disk, const std::map<std::uint32_t, JobCgroup>& jobs,
                    std::vector<Charged>& out) {
  auto& seen = seen_[origin.name];
  double all = 0;
  for (const auto& [job_id, job] : read_) all += static_cast<double>(could_be(job, disk));
  if (all <= 0 || seen.past < 1) return;
  const double part = std::min(1.0, seen.past / all);
  for (auto& [job_id, job] : read_) {
    const auto who = jobs.find(job_id);
    const auto bytes = static_cast<std::uint64_t>(static_cast<double>(could_be(job, disk)) * part);
    if (who == jobs.end() || bytes == 0) continue;
    const double operations = seen.operation > 0 ? std::ceil(static_cast<double>(bytes) / seen.operation) : 1;
    constexpr double kMost = std::numeric_limits<std::uint32_t>::max();
    governor_.charge({origin.name, who->second.uid, who->second.gid, job_id, Urgency::fault, Bytes{bytes},
                      static_cast<std::uint32_t>(std::min(operations, kMost))});
    job.charged += bytes;
    seen.past -= static_cast<double>(bytes);
    out.push_back({job_id, who->second.uid, origin.name, bytes});
  }
}

std::vector<Bypass::Charged> Bypass::sample(const std::map<std::uint32_t, JobCgroup>& jobs,
                                            const std::function<std::string(std::uint32_t)>& counted_in) {
  std::vector<Charged> out;
  const auto mounts = mounts_now();
  const bool nfs = std::any_of(mounts.begin(), mounts.end(), [](const auto& m) { return m.type.starts_with("nfs"); });
  const std::string mountstats = nfs ? read_note("/proc/self/mountstats") : "";
  std::set<std::string> disks;  // no others: what lies below one of them is counted for both
  for (const auto& cache : options_.caches)
    if (auto disk = disk_of(mounts, cache); !disk.empty()) disks.insert(std::move(disk));
  std::erase_if(read_, [&](const auto& job) { return !jobs.contains(job.first); });
  for (const auto& [job_id, cgroup] : jobs) {
    const auto [job, fresh] = read_.try_emplace(job_id);
    look(job->second, cgroup, counted_in(job_id), disks, !fresh);
  }
  unmeasured_.clear();
  for (const auto& origin : options_.origins) {
    const auto place = look(origin, mounts, mountstats);
    if (!place) {
      seen_.erase(origin.name);
      unmeasured_.push_back(origin.name);
      continue;
    }
    const auto through = options_.through(origin.name);
    const auto [at, first] = seen_.try_emplace(origin.name, Seen{place->all, through});
    auto& seen = at->second;
    const auto bytes = growth(place->all.bytes, seen.all.bytes);
    const auto operations = growth(place->all.operations, seen.all.operations);
    if (operations != 0) seen.operation = static_cast<double>(bytes) / static_cast<double>(operations);
    seen.past += static_cast<double>(bytes) - static_cast<double>(growth(through, seen.through));
    seen.all = place->all;
    seen.through = through;
    divide(origin, place->disk, jobs, out);
    // What is left is nobody's here, or Atlas has read it and not counted it yet; less than nothing: the other way
    // round.
    seen.past = seen.past > 0 ? seen.past / 2 : std::max(seen.past, -kMostAhead);
  }
  return out;
}

}  // namespace atlas::agent
