#include "common/dataset_policy.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "common/patterns.h"
#include "common/percent.h"

namespace atlas {
namespace {

constexpr std::size_t kMostPatterns = 64;

tl::unexpected<Error> malformed(std::string_view part) {
  return fail(Code::invalid_argument, "malformed settings of a dataset near '" + printable(part.substr(0, 60)) + "'");
}

template <class Number>
Status read_number(std::string_view text, Number& into) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), into);
  if (error != std::errc() || end != text.data() + text.size()) return malformed(text);
  return {};
}

Status read_milliseconds(std::string_view text, std::chrono::milliseconds& into) {
  std::int64_t count = 0;
  ATLAS_TRY(read_number(text, count));
  if (count < 0) return malformed(text);
  into = std::chrono::milliseconds(count);
  return {};
}

Status read_revalidate(std::string_view text, DatasetPolicy& out) {
  const auto at = text.find('@');
  for (const auto what : {Revalidate::always, Revalidate::ttl, Revalidate::never})
    if (text.substr(0, at) == name_of(what)) {
      out.revalidate = what;
      if ((what == Revalidate::ttl) != (at != std::string_view::npos)) return malformed(text);
      return at == std::string_view::npos ? Status{} : read_milliseconds(text.substr(at + 1), out.revalidate_after);
    }
  return malformed(text);
}

Status read_grant(std::string_view text, DatasetPolicy& out) {
  Grant grant;
  const auto first = text.find('@');
  const auto second = first == std::string_view::npos ? first : text.find('@', first + 1);
  if (second == std::string_view::npos) return malformed(text);
  ATLAS_TRY(read_number(text.substr(0, first), grant.group));
  ATLAS_TRY(read_number(text.substr(first + 1, second - first - 1), grant.owner));
  ATLAS_TRY(read_number(text.substr(second + 1), grant.owner_group));
  out.grants.push_back(grant);
  return {};
}

Status read_field(char key, std::string_view value, DatasetPolicy& out) {
  switch (key) {
    case 'r':
      return read_revalidate(value, out);
    case 'x': {
      ATLAS_ASSIGN(auto pattern, percent_decode(value));
      ATLAS_TRY(check_pattern(pattern));
      if (out.exclude.size() == kMostPatterns)
        return fail(Code::out_of_range, "a dataset may have " + std::to_string(kMostPatterns) + " patterns at most");
      out.exclude.push_back(std::move(pattern));
      return {};
    }
    case 'c':
      return read_number(value, out.cache.count);
    case 'm': {
      ATLAS_ASSIGN(out.tier, percent_decode(value));
      return {};
    }
    case 't':
      return read_milliseconds(value, out.ttl);
    case 'n':
      return read_number(value, out.replicas);
    case 'g':
      return read_grant(value, out);
    default:
      return malformed(value);
  }
}

}  // namespace

std::string_view name_of(Revalidate what) {
  switch (what) {
    case Revalidate::always:
      return "always";
    case Revalidate::ttl:
      return "ttl";
    case Revalidate::never:
      return "never";
    default:
      return "default";
  }
}

std::string encode(const DatasetPolicy& policy) {
  std::string out;
  const auto add = [&](char key, const std::string& value) {
    out += (out.empty() ? "" : ",") + std::string(1, key) + "=" + value;
  };
  if (policy.revalidate != Revalidate::standard)
    add('r', std::string(name_of(policy.revalidate)) +
                 (policy.revalidate == Revalidate::ttl ? "@" + std::to_string(policy.revalidate_after.count()) : ""));
  for (const auto& pattern : policy.exclude) add('x', percent_encode(pattern));
  if (policy.cache.count != 0) add('c', std::to_string(policy.cache.count));
  if (!policy.tier.empty()) add('m', percent_encode(policy.tier));
  if (policy.ttl.count() != 0) add('t', std::to_string(policy.ttl.count()));
  if (policy.replicas != 0) add('n', std::to_string(policy.replicas));
  for (const auto& grant : policy.grants)
    add('g', std::to_string(grant.group) + "@" + std::to_string(grant.owner) + "@" + std::to_string(grant.owner_group));
  return out;
}

Result<DatasetPolicy> decode_policy(std::string_view text) {
  DatasetPolicy out;
  while (!text.empty()) {
    const auto comma = text.find(',');
    const auto field = text.substr(0, comma);
    if (field.size() < 3 || field[1] != '=') return malformed(field);
    ATLAS_TRY(read_field(field[0], field.substr(2), out));
    if (comma == std::string_view::npos) break;
    text.remove_prefix(comma + 1);
    if (text.empty()) return malformed(text);
  }
  return out;
}

Status parse_revalidate_option(std::string_view text, DatasetPolicy& into) {
  constexpr std::string_view kTtl = "ttl=";
  auto what = Revalidate::standard;
  std::chrono::milliseconds after{0};
  if (text == "always") {
    what = Revalidate::always;
  } else if (text == "never") {
    what = Revalidate::never;
  } else if (text.starts_with(kTtl)) {
    what = Revalidate::ttl;
    auto parsed = parse_duration(text.substr(kTtl.size()));
    if (!parsed) return fail(std::move(parsed).error().in("--revalidate"));
    after = *parsed;
  } else if (text != "default") {
    return fail(Code::invalid_argument,
                "--revalidate: '" + printable(text) + "' is none of 'always', 'never', 'default' and 'ttl=DURATION'");
  }
  into.revalidate = what;
  into.revalidate_after = after;
  return {};
}

std::string show_revalidate(const DatasetPolicy& policy) {
  std::string out(name_of(policy.revalidate));
  if (policy.revalidate == Revalidate::ttl) out += "=" + format_duration(policy.revalidate_after);
  return out;
}

}  // namespace atlas
