#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>
#include <sstream>

#include "sim/generate.h"
#include "sim/workload.h"

namespace atlas::sim {
namespace {

std::vector<std::string> split(const std::string& line, char separator) {
  std::vector<std::string> out;
  std::size_t from = 0;
  while (true) {
    const auto to = line.find(separator, from);
    auto field = line.substr(from, to == std::string::npos ? to : to - from);
    const auto begin = field.find_first_not_of(" \t\r");
    const auto end = field.find_last_not_of(" \t\r");
    out.push_back(begin == std::string::npos ? "" : field.substr(begin, end - begin + 1));
    if (to == std::string::npos) return out;
    from = to + 1;
  }
}

tl::unexpected<Error> bad(std::size_t line, const std::string& what) {
  return fail(Code::invalid_argument, "line " + std::to_string(line) + ": " + what);
}

std::optional<double> number(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

/// Seconds, or whatever a user may write as a duration.
std::optional<double> seconds(const std::string& text) {
  if (const auto plain = number(text)) return plain;
  if (const auto duration = parse_duration(text)) return std::chrono::duration<double>(*duration).count();
  return std::nullopt;
}

/// "2026-11-22T13:55:01" as seconds since 1970, as if it were UTC: differences are all that matters.
std::optional<double> timestamp(const std::string& text) {
  if (const auto plain = number(text)) return plain;
  int year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0;
  if (std::sscanf(text.c_str(), "%4d-%2d-%2dT%2d:%2d:%2d", &year, &month, &day, &hour, &minute, &second) != 6)
    return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  if (!date.ok()) return std::nullopt;
  return static_cast<double>(std::chrono::sys_days(date).time_since_epoch().count()) * 86400.0 + hour * 3600.0 +
         minute * 60.0 + second;
}

class Names {
 public:
  explicit Names(std::vector<std::string>& list) : list_(list) {}
  std::uint32_t operator[](const std::string& name) {
    const auto [at, added] = index_.try_emplace(name, static_cast<std::uint32_t>(list_.size()));
    if (added) list_.push_back(name);
    return at->second;
  }

 private:
  std::vector<std::string>& list_;
  std::map<std::string, std::uint32_t> index_;
};

/// Columns by name, of a file whose first line names them.
class Columns {
 public:
  explicit Columns(const std::vector<std::string>& header) {
    for (std::size_t i = 0; i < header.size(); ++i) at_[header[i]] = i;
  }
  [[nodiscard]] std::optional<std::string> missing(std::initializer_list<const char*> names) const {
    for (const auto* name : names)
      if (!at_.contains(name)) return name;
    return std::nullopt;
  }
  [[nodiscard]] std::string of(const std::vector<std::string>& fields, const std::string& name) const {
    const auto at = at_.find(name);
    return at == at_.end() || at->second >= fields.size() ? "" : fields[at->second];
  }

 private:
  std::map<std::string, std::size_t> at_;
};

/// Datasets for (user, program) pairs.
class Assigned {
 public:
  Assigned(const Catalogue& catalogue, Workload& out)
      : catalogue_(catalogue), zipf_(catalogue.datasets, catalogue.zipf), random_(catalogue.seed * 8 + 5) {
    Random sizes(catalogue.seed * 8 + 1);
    for (std::uint32_t i = 0; i < catalogue.datasets; ++i)
      out.datasets.push_back({"set" + std::to_string(i + 1), model_size(sizes)});
  }
  void give(SimJob& job, const std::string& program) {
    const auto [at, added] = of_.try_emplace({job.user, program});
    if (added && catalogue_.datasets > 0 && random_.uniform() >= catalogue_.without) at->second = zipf_.draw(random_);
    if (at->second) job.datasets = {*at->second};
  }

 private:
  const Catalogue& catalogue_;
  Zipf zipf_;
  Random random_;
  std::map<std::pair<std::uint32_t, std::string>, std::optional<std::uint32_t>> of_;
};

Result<Workload> finished(Workload out) {
  if (out.jobs.empty()) return fail(Code::invalid_argument, "the trace has no job that ran");
  std::stable_sort(out.jobs.begin(), out.jobs.end(), [](const auto& a, const auto& b) { return a.submit < b.submit; });
  const auto first = out.jobs.front().submit;
  for (auto& job : out.jobs) {
    job.submit -= first;
    job.limit = std::max(job.limit, job.runtime);
  }
  return out;
}

/// "speech=183G;noise".
Status read_datasets(const std::string& text, Workload& out, std::map<std::string, std::uint32_t>& known, SimJob& job) {
  if (text.empty()) return {};
  for (const auto& item : split(text, ';')) {
    const auto equals = item.rfind('=');
    const auto name = item.substr(0, equals);
    if (name.empty()) return fail(Code::invalid_argument, "a dataset without a name in '" + text + "'");
    const auto at = known.find(name);
    if (equals != std::string::npos) {
      ATLAS_ASSIGN(const auto size, parse_size(item.substr(equals + 1)));
      if (at != known.end() && out.datasets[at->second].size != size)
        return fail(Code::invalid_argument, "dataset '" + name + "' had another size before");
      if (at == known.end()) {
        known[name] = static_cast<std::uint32_t>(out.datasets.size());
        out.datasets.push_back({name, size});
      }
    } else if (at == known.end()) {
      return fail(Code::invalid_argument, "dataset '" + name + "' has no size yet: write " + name + "=SIZE");
    }
    const auto index = known.at(name);
    if (std::find(job.datasets.begin(), job.datasets.end(), index) == job.datasets.end()) job.datasets.push_back(index);
  }
  return {};
}

}  // namespace

Result<Workload> read_csv(std::istream& in) {
  Workload out;
  Names users(out.users);
  std::map<std::string, std::uint32_t> known;
  std::optional<Columns> columns;
  std::string line;
  for (std::size_t at = 1; std::getline(in, line); ++at) {
    const auto fields = split(line, ',');
    if (fields[0].starts_with("#") || (fields.size() == 1 && fields[0].empty())) continue;
    if (!columns) {
      columns.emplace(fields);
      if (const auto missing = columns->missing({"submit", "runtime"})) return bad(at, "no column '" + *missing + "'");
      continue;
    }
    const auto count = [&](const char* name) {
      const auto text = columns->of(fields, name);
      return text.empty() ? std::optional(1.0) : number(text);
    };
    const auto submit = seconds(columns->of(fields, "submit")), runtime = seconds(columns->of(fields, "runtime"));
    const auto limit_text = columns->of(fields, "limit");
    const auto limit = limit_text.empty() ? runtime : seconds(limit_text);
    const auto nodes = count("nodes"), cpus = count("cpus");
    if (!submit || !runtime || !limit || *runtime < 0)
      return bad(at, "submit, runtime and limit are seconds or durations: '" + line + "'");
    if (!nodes || !cpus || *nodes < 1 || *cpus < 1 || *nodes > 1e6 || *cpus > 1e6)
      return bad(at, "nodes and cpus are counts from 1: '" + line + "'");
    SimJob job;
    job.id = columns->of(fields, "job");
    if (job.id.empty()) job.id = std::to_string(out.jobs.size() + 1);
    const auto user = columns->of(fields, "user");
    job.user = users[user.empty() ? "user" : user];
    job.submit = Time(*submit);
    job.runtime = Time(*runtime);
    job.limit = Time(*limit);
    job.nodes = static_cast<std::uint32_t>(*nodes);
    job.cpus = static_cast<std::uint32_t>(*cpus);
    if (const auto read = read_datasets(columns->of(fields, "datasets"), out, known, job); !read)
      return bad(at, read.error().message);
    out.jobs.push_back(std::move(job));
  }
  return finished(std::move(out));
}

Result<Workload> read_swf(std::istream& in, std::uint32_t cpus_per_node, const Catalogue& catalogue) {
  enum Field {
    kId,
    kSubmit,
    kWait,
    kRun,
    kUsed,
    kCpuTime,
    kMemory,
    kAsked,
    kLimit,
    kAskedMemory,
    kStatus,
    kUser,
    kGroup,
    kProgram,
    kFields
  };
  Workload out;
  Names users(out.users);
  Assigned assigned(catalogue, out);
  std::string line;
  for (std::size_t at = 1; std::getline(in, line); ++at) {
    std::istringstream text(line);
    std::vector<double> fields;
    std::string word;
    while (text >> word && !word.starts_with(";")) {
      const auto value = number(word);
      if (!value) return bad(at, "'" + word + "' is not a number");
      fields.push_back(*value);
    }
    if (fields.empty()) continue;
    if (fields.size() < kFields) return bad(at, std::to_string(fields.size()) + " fields, 18 expected");
    const double processors = fields[kUsed] > 0 ? fields[kUsed] : fields[kAsked];
    if (fields[kRun] <= 0 || processors < 1 || processors > 1e7) continue;  // cancelled before it ran
    SimJob job;
    job.id = std::to_string(static_cast<long long>(fields[kId]));
    job.user = users[std::to_string(static_cast<long long>(fields[kUser]))];
    job.submit = Time(fields[kSubmit]);
    job.runtime = Time(fields[kRun]);
    job.limit = Time(std::max(fields[kLimit], fields[kRun]));
    const auto cpus = static_cast<std::uint32_t>(processors);
    job.nodes = (cpus + cpus_per_node - 1) / cpus_per_node;
    job.cpus = (cpus + job.nodes - 1) / job.nodes;
    assigned.give(job, std::to_string(static_cast<long long>(fields[kProgram])));
    out.jobs.push_back(std::move(job));
  }
  return finished(std::move(out));
}

Result<Workload> read_sacct(std::istream& in, const Catalogue& catalogue) {
  Workload out;
  Names users(out.users);
  Assigned assigned(catalogue, out);
  std::optional<Columns> columns;
  std::string line;
  for (std::size_t at = 1; std::getline(in, line); ++at) {
    const auto fields = split(line, '|');
    if (fields.size() == 1 && fields[0].empty()) continue;
    if (!columns) {
      columns.emplace(fields);
      if (const auto missing = columns->missing({"JobIDRaw", "User", "Submit", "NNodes", "NCPUS", "ElapsedRaw"}))
        return bad(at, "no column '" + *missing +
                           "': the input is that of sacct -a -X -P -o "
                           "JobIDRaw,User,JobName,Submit,NNodes,NCPUS,ElapsedRaw,TimelimitRaw");
      continue;
    }
    const auto submit = timestamp(columns->of(fields, "Submit"));
    const auto nodes = number(columns->of(fields, "NNodes")), cpus = number(columns->of(fields, "NCPUS"));
    const auto runtime = number(columns->of(fields, "ElapsedRaw"));
    if (!submit || !nodes || !cpus || !runtime) return bad(at, "cannot be read: '" + line + "'");
    if (*nodes < 1 || *cpus < 1 || *runtime <= 0 || *nodes > 1e6 || *cpus > 1e7) continue;  // it never ran
    const auto limit = number(columns->of(fields, "TimelimitRaw"));  // minutes; "UNLIMITED", "Partition_Limit"
    constexpr double kUnlimited = 7 * 86400;
    SimJob job;
    job.id = columns->of(fields, "JobIDRaw");
    job.user = users[columns->of(fields, "User")];
    job.submit = Time(*submit);
    job.runtime = Time(*runtime);
    job.limit = Time(limit ? *limit * 60 : kUnlimited);
    job.nodes = static_cast<std::uint32_t>(*nodes);
    job.cpus = static_cast<std::uint32_t>(std::ceil(*cpus / *nodes));
    assigned.give(job, columns->of(fields, "JobName"));
    out.jobs.push_back(std::move(job));
  }
  return finished(std::move(out));
}

}  // namespace atlas::sim
