#pragma once
#include <chrono>
#include <cstdint>
#include <istream>
#include <string>
#include <vector>

#include "common/result.h"
#include "common/units.h"

// What the simulator replays: jobs, and the datasets they read.
namespace atlas::sim {

/// Simulated time, since the first instant of the trace.
using Time = std::chrono::duration<double>;

struct SimDataset {
  std::string name;
  Bytes size;
};

struct SimJob {
  std::string id;
  std::uint32_t user = 0;  ///< index into Workload::users
  Time submit{};
  Time runtime{};                       ///< without waiting for data
  Time limit{};                         ///< what the user asked for: all that a scheduler knows beforehand
  std::uint32_t nodes = 1;              ///< -N
  std::uint32_t cpus = 1;               ///< on each of them
  std::vector<std::uint32_t> datasets;  ///< indexes into Workload::datasets; each of its nodes reads all of them once
};

struct Workload {
  std::vector<std::string> users;
  std::vector<SimDataset> datasets;
  std::vector<SimJob> jobs;  ///< by submit time
};

/// How jobs of a trace that names no datasets get some: each (user, program) reads one, drawn by Zipf's law.
struct Catalogue {
  std::uint32_t datasets = 100;
  double zipf = 1.1;
  std::uint64_t seed = 1;
  double without = 0;  ///< share of (user, program) pairs that read none
};

/// "job,submit,nodes,cpus,runtime,limit,user,datasets": a header line names the columns, in any order; cpus are per
/// node, times in seconds or as Slurm writes them, datasets "NAME=SIZE;NAME=SIZE" (the size at the first mention, at
/// least). Empty lines and lines that begin with '#' are skipped. A malformed line is invalid_argument with its number.
[[nodiscard]] Result<Workload> read_csv(std::istream& in);
/// The Standard Workload Format: processors are spread over nodes of `cpus_per_node`.
[[nodiscard]] Result<Workload> read_swf(std::istream& in, std::uint32_t cpus_per_node, const Catalogue& catalogue);
/// `sacct -X -P -o JobIDRaw,User,JobName,Submit,NNodes,NCPUS,ElapsedRaw,TimelimitRaw`, columns in any order.
[[nodiscard]] Result<Workload> read_sacct(std::istream& in, const Catalogue& catalogue);

}  // namespace atlas::sim
