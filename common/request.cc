#include "common/request.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "common/io_limits.h"
#include "common/percent.h"

namespace atlas {
namespace {

constexpr std::string_view kVersion = "v1";
constexpr std::string_view kReadWrite = ":rw", kReadOnly = ":ro";
constexpr std::string_view kOwnBeginTag = "atlas-begin:";

bool is_name(std::string_view text) {
  return !text.empty() && text != "." && text != ".." && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  });
}

tl::unexpected<Error> malformed(std::string_view part) {
  return fail(Code::invalid_argument, "malformed request near '" + printable(part.substr(0, 60)) + "'");
}

std::string format_share(double share) {
  char out[32];
  std::snprintf(out, sizeof out, "%.6g", share);
  return out;
}

Status decode_field(Request& request, char key, std::string_view value) {
  switch (key) {
    case 'w': {
      if (request.warm != WarmMode::none || value.empty()) return malformed(value);
      ATLAS_ASSIGN(request.warm, parse_warm_option(value));
      return {};
    }
    case 'c': {
      if (request.cache) return malformed(value);
      ATLAS_ASSIGN(request.cache, parse_cache_option(value));
      return {};
    }
    case 'l': {
      const auto at = value.find('@');
      if (request.locality || at == std::string_view::npos) return malformed(value);
      ATLAS_ASSIGN(request.locality, parse_locality_option(std::string(value) + "s"));
      return {};
    }
    case 'i': {  // 0 = none
      const auto at = value.find('@');
      if (request.io_limit || at == std::string_view::npos) return malformed(value);
      const auto part = [](std::string_view text) { return text == "0" ? std::string_view() : text; };
      std::string text(part(value.substr(0, at)));
      if (const auto operations = part(value.substr(at + 1)); !operations.empty()) (text += ',') += operations;
      ATLAS_ASSIGN(request.io_limit, parse_io_limit_option(text));
      return {};
    }
    case 'o': {
      if (request.on_change != OnChange::refresh) return malformed(value);
      ATLAS_ASSIGN(request.on_change, parse_on_change_option(value));
      return {};
    }
    case 'r':
    case 'd': {
      ATLAS_ASSIGN(auto raw, percent_decode(value));
      ATLAS_ASSIGN(auto dataset, parse_dataset_option(raw));
      if (key == 'r') request.read_write.insert(dataset);
      request.datasets.push_back(std::move(dataset));
      return {};
    }
    default:
      return malformed(value);
  }
}

/// What follows `tag` in the first word that begins with it; an admin_comment holds what others have to say, too.
std::optional<std::string_view> word_after(std::string_view text, std::string_view tag) {
  constexpr std::string_view kBlank = " \t\r\n";
  for (auto at = text.find_first_not_of(kBlank); at != std::string_view::npos;
       at = text.find_first_not_of(kBlank, at)) {
    const auto word = text.substr(at, text.find_first_of(kBlank, at) - at);
    if (word.starts_with(tag)) return word.substr(tag.size());
    at += word.size();
  }
  return std::nullopt;
}

}  // namespace

std::string_view name_of(WarmMode mode) {
  switch (mode) {
    case WarmMode::wait:
      return "wait";
    case WarmMode::overlap:
      return "overlap";
    default:
      return "none";
  }
}

std::string_view name_of(OnChange what) {
  switch (what) {
    case OnChange::keep:
      return "keep";
    case OnChange::fail:
      return "fail";
    default:
      return "refresh";
  }
}

Result<std::string> encode(const Request& request) {
  std::string out(kVersion);
  if (request.warm != WarmMode::none) out += ",w=" + std::string(name_of(request.warm));
  if (request.cache) out += ",c=" + std::to_string(request.cache->count);
  if (request.locality)
    out += ",l=" + format_share(request.locality->share) + "@" + std::to_string(request.locality->max_wait.count());
  if (request.io_limit)
    out += ",i=" + std::to_string(request.io_limit->read.value_or(Bytes{}).count) + "@" +
           std::to_string(request.io_limit->operations.value_or(0));
  if (request.on_change != OnChange::refresh) out += ",o=" + std::string(name_of(request.on_change));
  for (const auto& dataset : request.datasets)
    out += (request.read_write.contains(dataset) ? ",r=" : ",d=") + percent_encode(dataset);
  if (out.size() > kMaxEncodedRequest)
    return fail(Code::out_of_range,
                "the dataset request is " + std::to_string(out.size()) + " bytes long, the limit is " +
                    std::to_string(kMaxEncodedRequest) +
                    ": name a common parent directory, or ask an operator for short names (atlasctl dataset create)");
  return out;
}

Result<Request> decode_request(std::string_view text) {
  if (text.size() > kMaxEncodedRequest) return fail(Code::out_of_range, "request longer than 8 KiB");
  if (text.substr(0, 3) != "v1,") return fail(Code::invalid_argument, "request of an unknown version");
  text.remove_prefix(3);
  Request request;
  while (true) {
    const auto comma = text.find(',');
    const auto field = text.substr(0, comma);
    if (field.size() < 3 || field[1] != '=') return malformed(field);
    ATLAS_TRY(decode_field(request, field[0], field.substr(2)));
    if (comma == std::string_view::npos) break;
    text.remove_prefix(comma + 1);
  }
  if (request.datasets.empty()) return fail(Code::invalid_argument, "the request names no dataset");
  return request;
}

Result<Bytes> parse_cache_option(std::string_view text) {
  auto size = parse_size(text);
  if (!size) return fail(std::move(size).error().in("--cache"));
  if (size->count == 0)
    return fail(Code::invalid_argument,
                "--cache: 0 leaves nothing to cache: give a size such as 200G, or leave the option out for the "
                "datasets' own size");
  return size;
}

Result<WarmMode> parse_warm_option(std::string_view text) {
  if (text.empty() || text == "wait") return WarmMode::wait;
  if (text == "overlap") return WarmMode::overlap;
  return fail(Code::invalid_argument,
              "--warm: '" + printable(text) + "' is neither 'wait' (the default) nor 'overlap'");
}

Result<OnChange> parse_on_change_option(std::string_view text) {
  for (const auto what : {OnChange::refresh, OnChange::keep, OnChange::fail})
    if (text == name_of(what)) return what;
  return fail(Code::invalid_argument,
              "--on-change: '" + printable(text) + "' is none of 'refresh' (the default), 'keep' and 'fail'");
}

Result<Bytes> parse_rate(std::string_view option, std::string_view text) {
  const std::string_view whole = text;
  if (text.ends_with("/s")) text.remove_suffix(2);
  auto rate = parse_size(text);
  if (!rate) return fail(std::move(rate).error().in(option));
  if (rate->count == 0 || rate->count > kFastestRead)
    return fail(Code::invalid_argument, std::string(option) + ": '" + printable(whole) +
                                            "': from 1 byte to 1 petabyte per second, e.g. 500M (0 would be no data)");
  return rate;
}

Result<std::uint64_t> parse_operations(std::string_view option, std::string_view text) {
  std::uint64_t count = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (ec != std::errc() || end != text.data() + text.size() || count == 0 || count > kMostOperations)
    return fail(Code::invalid_argument, std::string(option) + ": '" + printable(text) +
                                            "' operations per second: a whole number from 1 to 1000000000, e.g. 2000");
  return count;
}

Result<IoLimit> parse_io_limit_option(std::string_view text) {
  constexpr std::string_view kOption = "--io-limit";
  const auto comma = text.find(',');
  IoLimit out;
  if (text.empty())
    return fail(Code::invalid_argument,
                "--io-limit: empty: give bytes per second, e.g. 500M, and operations per second behind a comma");
  if (comma != 0) {
    ATLAS_ASSIGN(out.read, parse_rate(kOption, text.substr(0, comma)));
  }
  if (comma != std::string_view::npos) {
    ATLAS_ASSIGN(out.operations, parse_operations(kOption, text.substr(comma + 1)));
  }
  return out;
}

std::string show(const IoLimit& limit) {
  std::string out = limit.read ? exact_size(*limit.read) : "";
  if (limit.operations) out += "," + std::to_string(*limit.operations);
  return out;
}

Result<Locality> parse_locality_option(std::string_view text) {
  const auto at = text.find('@');
  const auto share_text = text.substr(0, at);
  Locality locality;
  const auto [end, ec] = std::from_chars(share_text.data(), share_text.data() + share_text.size(), locality.share);
  if (ec != std::errc() || end != share_text.data() + share_text.size() ||
      !(locality.share >= 0 && locality.share <= 1))
    return fail(Code::invalid_argument,
                "--locality: '" + printable(share_text) +
                    "' is not a share from 0 to 1: use e.g. 0.9@10:00 (90% resident, wait at most 10 minutes)");
  if (at != std::string_view::npos) {
    auto wait = parse_duration(text.substr(at + 1));
    if (!wait) return fail(std::move(wait).error().in("--locality"));
    locality.max_wait = std::chrono::duration_cast<std::chrono::seconds>(*wait);
  }
  return locality;
}

Result<std::string> parse_dataset_option(std::string_view text) {
  if (text.empty())
    return fail(Code::invalid_argument,
                "--dataset: empty: give an absolute path or a dataset's name (atlasctl dataset list)");
  if (text.find('\0') != std::string_view::npos)
    return fail(Code::invalid_argument, "--dataset: a path cannot hold a NUL byte");
  if (text[0] == '/') {
    std::string path;
    while (!text.empty()) {
      const auto slash = text.find('/');
      const auto part = text.substr(0, slash);
      if (part == "." || part == "..")
        return fail(Code::invalid_argument,
                    "--dataset: '" + printable(text) + "': write the path without '" + std::string(part) + "'");
      if (!part.empty()) (path += '/') += part;
      text.remove_prefix(slash == std::string_view::npos ? text.size() : slash + 1);
    }
    if (path.empty())
      return fail(Code::invalid_argument,
                  "--dataset: '/' is not a dataset: name a directory below an origin (atlasctl doctor shows them)");
    return path;
  }
  const auto slash = text.find('/');
  const bool own = text[0] == '~' && slash != std::string_view::npos && is_name(text.substr(1, slash - 1)) &&
                   is_name(text.substr(slash + 1));
  if (!own && !is_name(text))
    return fail(Code::invalid_argument, "--dataset: '" + printable(text) +
                                            "' is neither an absolute path nor a dataset's name (atlasctl dataset "
                                            "list): relative paths are not accepted");
  return std::string(text);
}

Result<AskedDataset> parse_asked_dataset(std::string_view text) {
  const bool read_write = text.ends_with(kReadWrite);
  if (read_write || text.ends_with(kReadOnly)) text.remove_suffix(kReadWrite.size());
  ATLAS_ASSIGN(auto dataset, parse_dataset_option(text));
  return AskedDataset{std::move(dataset), read_write};
}

std::string show_asked(const std::string& dataset, bool read_write) {
  if (read_write) return dataset + std::string(kReadWrite);
  const bool looks_so = dataset.ends_with(kReadWrite) || dataset.ends_with(kReadOnly);
  return looks_so ? dataset + std::string(kReadOnly) : dataset;
}

std::optional<std::string_view> find_request(std::string_view burst_buffer, std::string_view admin_comment) {
  for (std::string_view rest = burst_buffer; !rest.empty();) {
    const auto line_end = rest.find('\n');
    const auto line = rest.substr(0, line_end);
    if (line.substr(0, kDirectiveTag.size()) == kDirectiveTag) {
      const auto at = line.find(" req=");
      if (at != std::string_view::npos) {
        const auto value = line.substr(at + 5);
        return value.substr(0, value.find_first_of(" \t\r"));
      }
    }
    if (line_end == std::string_view::npos) break;
    rest.remove_prefix(line_end + 1);
  }
  return word_after(admin_comment, "atlas:");
}

std::optional<std::chrono::sys_seconds> find_own_begin(std::string_view admin_comment) {
  const auto text = word_after(admin_comment, kOwnBeginTag);
  if (!text) return std::nullopt;
  std::int64_t value = 0;
  const auto [end, ec] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (ec != std::errc() || end != text->data() + text->size() || value < 0) return std::nullopt;
  return std::chrono::sys_seconds(std::chrono::seconds(value));
}

std::string add_own_begin(std::string_view admin_comment, std::chrono::sys_seconds begin) {
  return std::string(admin_comment) + (admin_comment.empty() ? "" : " ") + std::string(kOwnBeginTag) +
         std::to_string(begin.time_since_epoch().count());
}

}  // namespace atlas
