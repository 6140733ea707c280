#include "launcher/atlas_submit_script.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "common/percent.h"
#include "common/unique_fd.h"

namespace atlas {
namespace {

constexpr std::string_view kDirective = "#SBATCH";
constexpr std::size_t kMaxScript = 64UL << 20;

bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

/// The words of one directive line by sbatch's rules: blanks separate, quotes and backslashes protect, '#' starts a
/// comment.
std::vector<std::string> split_directive(std::string_view line) {
  std::vector<std::string> words;
  std::string word;
  bool in_word = false;
  char quote = 0;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (c == '\\' && i + 1 < line.size()) {
      word += line[++i];
      in_word = true;
    } else if (quote != 0) {
      if (c == quote) {
        quote = 0;
      } else {
        word += c;
      }
    } else if (c == '"' || c == '\'') {
      quote = c;
      in_word = true;
    } else if (c == '#') {
      break;
    } else if (is_blank(c)) {
      if (in_word) words.push_back(std::move(word));
      word.clear();
      in_word = false;
    } else {
      word += c;
      in_word = true;
    }
  }
  if (in_word) words.push_back(std::move(word));
  return words;
}

/// Calls `visit(number, line)` for each line until it returns false.
template <class Visit>
void each_line(std::string_view text, Visit visit) {
  for (std::size_t number = 1; !text.empty(); ++number) {
    const auto end = std::min(text.find('\n'), text.size());
    if (!visit(number, text.substr(0, end))) return;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

bool ends_path(char c) {
  return static_cast<unsigned char>(c) <= ' ' ||
         std::string_view("\"'`$;&|<>(){}*?[],:\\#=").find(c) != std::string_view::npos;
}
bool may_precede_path(char c) {
  return ends_path(c);
}

}  // namespace

Result<Directives> read_directives(std::string_view script, std::string_view name) {
  Directives out;
  Status status;
  each_line(script, [&](std::size_t number, std::string_view line) {
    if (line.starts_with(kDirective)) {
      const auto words = split_directive(line.substr(kDirective.size()));
      status = read_option_words(words, out.atlas, out.view);
      if (!status) status = fail(std::move(status).error().in(printable(name) + ":" + std::to_string(number)));
      return status.has_value();
    }
    const auto first = std::find_if_not(line.begin(), line.end(), is_blank);
    return first == line.end() || *first == '#';
  });
  if (!status) return fail(std::move(status).error());
  return out;
}

std::vector<Mention> find_origin_paths(std::string_view script, const std::vector<std::string>& roots) {
  std::vector<Mention> out;
  each_line(script, [&](std::size_t number, std::string_view line) {
    for (std::size_t at = line.find('/'); at != std::string_view::npos;) {
      std::size_t end = at;
      while (end < line.size() && !ends_path(line[end])) ++end;
      auto path = line.substr(at, end - at);
      while (path.size() > 1 && (path.back() == '/' || path.back() == '.')) path.remove_suffix(1);
      const bool below = (at == 0 || may_precede_path(line[at - 1])) &&
                         std::any_of(roots.begin(), roots.end(), [&](const std::string& root) {
                           return path.starts_with(root) && (path.size() == root.size() || path[root.size()] == '/');
                         });
      const bool known = std::any_of(out.begin(), out.end(), [&](const Mention& m) { return m.path == path; });
      if (below && !known) out.push_back({number, std::string(path)});
      at = line.find('/', std::max(end, at + 1));
    }
    return true;
  });
  return out;
}

std::optional<std::string> find_script(std::string_view name, const SbatchView& view) {
  const auto readable = [](const std::string& path) {
    std::error_code ignored;
    return std::filesystem::is_regular_file(path, ignored);
  };
  if (name.empty()) return std::nullopt;
  if (name[0] == '/' || name[0] == '.') {
    std::string path(name);
    return readable(path) ? std::optional(path) : std::nullopt;
  }
  std::vector<std::string> places{view.chdir.value_or("")};
  const char* const env = std::getenv("PATH");  // NOLINT(concurrency-mt-unsafe): one thread so far
  for (std::string_view path = env == nullptr ? "" : env; !path.empty();) {
    const auto colon = std::min(path.find(':'), path.size());
    places.emplace_back(path.substr(0, colon));
    path.remove_prefix(std::min(colon + 1, path.size()));
  }
  for (const auto& place : places) {
    const std::string path = place.empty() ? std::string(name) : place + "/" + std::string(name);
    if (readable(path)) return path;
  }
  return std::nullopt;
}

Result<std::string> read_whole_fd(int fd, std::string_view what) {
  std::string text;
  char buffer[65536];
  while (true) {
    const auto got = ::read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "cannot read " + printable(what));
    if (got == 0) return text;
    text.append(buffer, static_cast<std::size_t>(got));
    if (text.size() > kMaxScript)
      return fail(Code::out_of_range, printable(what) + " is larger than 64 MiB: no batch script");
  }
}

Result<std::string> read_whole_file(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "cannot read " + printable(path));
  return read_whole_fd(fd.get(), path);
}

std::string shell_word(std::string_view word) {
  const auto plain = [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
           std::string_view("_./,=@%:+~-").find(c) != std::string_view::npos;
  };
  if (!word.empty() && word[0] != '~' && std::all_of(word.begin(), word.end(), plain)) return std::string(word);
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

}  // namespace atlas
