#include "launcher/atlas_submit_args.h"

#include <algorithm>

namespace atlas {
namespace {

constexpr std::string_view kPluginPrefix = "atlas-";

const SubmitOption* find_own(std::string_view name) {
  if (name.starts_with(kPluginPrefix)) {
    const auto* own = find_own(name.substr(kPluginPrefix.size()));
    return own != nullptr && own->for_plugin ? own : nullptr;
  }
  const auto& all = submit_options();
  const auto found = std::find_if(all.begin(), all.end(), [&](const auto& o) { return o.name == name; });
  return found == all.end() ? nullptr : &*found;
}

/// One option of ours applied. `value` is absent where none was written.
Status apply_own(SubmitArgs& out, const SubmitOption& own, const std::optional<std::string>& value) {
  if (own.for_plugin) return out.atlas.set(own.name, value.value_or(""));
  if (own.name == "config") out.config = *value;
  if (own.name == "explain") out.explain = true;
  if (own.name == "follow") out.follow = true;
  if (own.name == "json") out.json = true;
  if (own.name == "help") out.help = true;
  if (own.name == "version") out.version = true;
  return {};
}

/// A cursor over words that knows how getopt pairs options with values.
class Words {
 public:
  explicit Words(const std::vector<std::string>& words) : words_(words) {}
  [[nodiscard]] bool done() const { return at_ >= words_.size(); }
  /// The next word, nullptr at the end.
  [[nodiscard]] const std::string* take() { return done() ? nullptr : &words_[at_++]; }

 private:
  const std::vector<std::string>& words_;
  std::size_t at_ = 0;
};

/// "--name" or "--name=value" taken apart.
struct Long {
  std::string_view name;
  std::optional<std::string> value;
};
Long take_long_apart(std::string_view word) {
  word.remove_prefix(2);
  const auto equals = word.find('=');
  if (equals == std::string_view::npos) return {word, std::nullopt};
  return {word.substr(0, equals), std::string(word.substr(equals + 1))};
}

/// An option word of sbatch's: passes it and its value on, and notes what it says.
void read_sbatch_word(const std::string& word, Words& words, SbatchView& view, std::vector<std::string>* pass_on) {
  const auto pass = [&](const std::string& w) {
    if (pass_on != nullptr) pass_on->push_back(w);
  };
  const auto next_value = [&]() -> std::optional<std::string> {
    const auto* value = words.take();
    if (value == nullptr) return std::nullopt;
    pass(*value);
    return *value;
  };
  pass(word);
  if (word.starts_with("--")) {
    auto [name, value] = take_long_apart(word);
    const auto option = find_sbatch_option(name);
    if (!option) return;  // another plugin's: a flag, unless written with '='
    if (!value && option->takes == Takes::required) value = next_value();
    if (value) view.set(option->name, *value);
    return;
  }
  for (std::size_t i = 1; i < word.size(); ++i) {
    const auto option = find_sbatch_option(word[i]);
    if (!option) return;
    if (option->takes == Takes::none) continue;
    std::optional<std::string> value;
    if (i + 1 < word.size()) {
      value = word.substr(i + 1);
    } else if (option->takes == Takes::required) {
      value = next_value();
    }
    if (value) view.set(option->name, *value);
    return;
  }
}

/// The value of an option of ours, from the word or the next one.
Result<std::optional<std::string>> own_value(const SubmitOption& own, Long given, Words& words) {
  const std::string name = "--" + std::string(given.name);
  if (own.takes == Takes::none && given.value) return fail(Code::invalid_argument, name + " takes no value");
  if (own.takes == Takes::required && !given.value) {
    if (const auto* next = words.take(); next != nullptr) given.value = *next;
    if (!given.value)
      return fail(Code::invalid_argument, name + " needs a value: " + name + "=" + std::string(own.value));
  }
  return std::move(given.value);
}

}  // namespace

const std::vector<SubmitOption>& submit_options() {
  static const std::vector<SubmitOption> kOptions = {
      {"dataset", Takes::required, "PATH|NAME[:rw]",
       "data the job reads: a directory or file below an origin, or a name "
       "(atlasctl dataset list); with :rw it also writes there; may be repeated",
       true},
      {"cache", Takes::required, "SIZE", "node-local space for all datasets together, e.g. 200G; default: their size",
       true},
      {"warm", Takes::optional, "wait|overlap",
       "have the data on the node before the job starts (wait, the default of --warm), or copy while it runs (overlap)",
       true},
      {"locality", Takes::required, "SHARE[@MAXWAIT]",
       "share of the bytes (0 to 1) that must be on the nodes, and the longest wait for it, e.g. 0.9@10:00", true},
      {"on-change", Takes::required, "refresh|keep|fail",
       "when the data changes before the job starts: read what is there then (refresh, the default), be content with "
       "an "
       "older copy (keep), or do not start (fail)",
       true},
      {"io-limit", Takes::required, "RATE[,OPS]",
       "the most the job reads from the storage, bytes and operations per second on all its nodes, e.g. 500M,2000",
       true},
      {"explain", Takes::none, "", "decide, print the candidates and why, submit nothing"},
      {"follow", Takes::none, "", "after submitting, show the warm-up and the job until it ends, then its receipt"},
      {"json", Takes::none, "", "print one JSON object (a line each with --follow) instead of text"},
      {"config", Takes::required, "FILE", "atlas.toml; default: $ATLAS_CONF, else /etc/atlas/atlas.toml"},
      {"help", Takes::none, "", "this text; sbatch's own options: sbatch --help"},
      {"version", Takes::none, "", "print the version"},
  };
  return kOptions;
}

Status AtlasOptions::set(std::string_view name, std::string_view value) {
  if (name == "dataset") {
    ATLAS_ASSIGN(auto asked, parse_asked_dataset(value));
    if (asked.read_write) read_write.insert(asked.dataset);
    if (std::find(datasets.begin(), datasets.end(), asked.dataset) == datasets.end())
      datasets.push_back(std::move(asked.dataset));
  } else if (name == "cache") {
    ATLAS_ASSIGN(cache, parse_cache_option(value));
  } else if (name == "warm") {
    ATLAS_ASSIGN(warm, parse_warm_option(value));
  } else if (name == "locality") {
    ATLAS_ASSIGN(locality, parse_locality_option(value));
  } else if (name == "on-change") {
    ATLAS_ASSIGN(on_change, parse_on_change_option(value));
  } else if (name == "io-limit") {
    ATLAS_ASSIGN(io_limit, parse_io_limit_option(value));
  }
  return {};
}

AtlasOptions AtlasOptions::over(const AtlasOptions& under) const {
  AtlasOptions out = *this;
  for (const auto& dataset : under.datasets)
    if (std::find(out.datasets.begin(), out.datasets.end(), dataset) == out.datasets.end())
      out.datasets.push_back(dataset);
  out.read_write.insert(under.read_write.begin(), under.read_write.end());
  if (!out.cache) out.cache = under.cache;
  if (!out.warm) out.warm = under.warm;
  if (!out.locality) out.locality = under.locality;
  if (!out.on_change) out.on_change = under.on_change;
  if (!out.io_limit) out.io_limit = under.io_limit;
  return out;
}

Request AtlasOptions::request() const {
  return {.datasets = datasets,
          .cache = cache,
          .warm = warm.value_or(WarmMode::none),
          .locality = locality,
          .on_change = on_change.value_or(OnChange::refresh),
          .read_write = read_write,
          .io_limit = io_limit};
}

std::vector<std::string> AtlasOptions::for_sbatch() const {
  std::vector<std::string> out;
  for (const auto& dataset : datasets)
    out.push_back("--atlas-dataset=" + show_asked(dataset, read_write.contains(dataset)));
  if (cache) out.push_back("--atlas-cache=" + exact_size(*cache));
  if (warm) out.push_back("--atlas-warm=" + std::string(name_of(*warm)));
  if (locality) {
    char text[64];
    std::snprintf(text, sizeof text, "--atlas-locality=%.6g@%llds", locality->share,
                  static_cast<long long>(locality->max_wait.count()));
    out.emplace_back(text);
  }
  if (io_limit) out.push_back("--atlas-io-limit=" + show(*io_limit));
  if (on_change) out.push_back("--atlas-on-change=" + std::string(name_of(*on_change)));
  return out;
}

void SbatchView::set(std::string_view name, std::string_view value) {
  const std::pair<std::string_view, std::optional<std::string>*> known[] = {
      {"output", &output},       {"error", &error},       {"chdir", &chdir},     {"nodes", &nodes},
      {"partition", &partition}, {"nodelist", &nodelist}, {"exclude", &exclude}, {"wrap", &wrap}};
  for (const auto& [known_name, member] : known)
    if (known_name == name) *member = std::string(value);
}

SbatchView SbatchView::over(const SbatchView& under) const {
  const auto either = [](const std::optional<std::string>& a, const std::optional<std::string>& b) {
    return a ? a : b;
  };
  return {.output = either(output, under.output),
          .error = either(error, under.error),
          .chdir = either(chdir, under.chdir),
          .nodes = either(nodes, under.nodes),
          .partition = either(partition, under.partition),
          .nodelist = either(nodelist, under.nodelist),
          .exclude = either(exclude, under.exclude),
          .wrap = either(wrap, under.wrap)};
}

Result<SubmitArgs> split_submit_args(const std::vector<std::string>& argv) {
  SubmitArgs out;
  Words words(argv);
  bool options = true;
  while (options && !words.done()) {
    const std::string& word = *words.take();
    if (word == ":") {  // between the components of a heterogeneous job
      out.sbatch.push_back(word);
    } else if (word.size() < 2 || word[0] != '-' || word == "--") {
      options = false;
      if (word == "--") out.sbatch.push_back(word);
      const auto* script = word == "--" ? words.take() : &word;
      if (script != nullptr) {
        out.script = out.sbatch.size();
        out.sbatch.push_back(*script);
      }
    } else if (const auto* own = word.starts_with("--") ? find_own(take_long_apart(word).name) : nullptr) {
      ATLAS_ASSIGN(const auto value, own_value(*own, take_long_apart(word), words));
      ATLAS_TRY(apply_own(out, *own, value));
    } else if (word == "-h") {
      out.help = true;
    } else {
      read_sbatch_word(word, words, out.view, &out.sbatch);
    }
  }
  while (const auto* word = words.take()) out.sbatch.push_back(*word);
  return out;
}

Status read_option_words(const std::vector<std::string>& list, AtlasOptions& atlas, SbatchView& view) {
  Words words(list);
  while (const auto* word = words.take()) {
    if (word->size() < 2 || (*word)[0] != '-') continue;
    const auto given = word->starts_with("--") ? take_long_apart(*word) : Long{};
    const auto* own = given.name.starts_with(kPluginPrefix) ? find_own(given.name) : nullptr;
    if (own == nullptr) {
      read_sbatch_word(*word, words, view, nullptr);
      continue;
    }
    ATLAS_ASSIGN(const auto value, own_value(*own, given, words));
    ATLAS_TRY(atlas.set(own->name, value.value_or("")));
  }
  return {};
}

}  // namespace atlas
