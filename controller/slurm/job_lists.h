#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

namespace atlas::slurm {

/// How many tasks Slurm's "0-9:2,15,20-29%4" stands for, at most `most` (0 = no limit; the part after % repeats it).
/// Slurm cuts long lists short ("1,3,5,..."): such a list counts as a million.
[[nodiscard]] std::uint32_t count_array_tasks(std::string_view ids, std::uint32_t most);

/// The jobs in "afterok:12(unfulfilled),afterany:13_*(unfulfilled)?after:14_3+5(unfulfilled)", each once; of arrays and
/// their tasks the array's number.
[[nodiscard]] std::vector<std::uint32_t> followed_jobs(std::string_view dependency);

}  // namespace atlas::slurm
