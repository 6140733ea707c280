#include <algorithm>
#include <filesystem>

#include "common/hostlist.h"
#include "common/percent.h"
#include "launcher/atlasctl_verbs.h"

namespace atlas::ctl {

Result<ControllerClient*> Session::controller() {
  if (!client_) {
    ATLAS_ASSIGN(client_, ControllerClient::make(config_));
  }
  return client_.get();
}

void Session::print(const Table& table) const {
  print_out(table.render({.header = !output_.noheader, .parsable = output_.parsable}));
}

std::string Session::size(std::uint64_t bytes) const {
  return output_.parsable ? std::to_string(bytes) : format_size(Bytes{bytes});
}

std::string Session::ago(std::int64_t nanoseconds) const {
  if (output_.parsable) return std::to_string(nanoseconds / 1'000'000'000);
  return format_ago(WallTime(std::chrono::nanoseconds(nanoseconds)), SystemClock().wall());
}

std::string Session::duration(std::int64_t ms) const {
  return output_.parsable ? std::to_string(ms / 1000) : format_duration(milliseconds(ms));
}

Result<std::string> dataset_argument(const std::string& text) {
  std::string full = text;
  const bool relative =
      !text.empty() && text[0] != '/' && text[0] != '~' && (text[0] == '.' || text.find('/') != std::string::npos);
  if (relative) full = (std::filesystem::current_path() / text).lexically_normal().string();
  auto dataset = parse_dataset_option(full);
  if (dataset) return dataset;
  auto error = std::move(dataset).error();
  constexpr std::string_view kOption = "--dataset: ";
  if (error.message.starts_with(kOption)) error.message.replace(0, kOption.size(), "dataset: ");
  return fail(std::move(error));
}

Result<std::string> hostlist_argument(const std::string& text) {
  ATLAS_ASSIGN(const auto names, expand_hostlist(text));
  return compress_hostlist(names);
}

}  // namespace atlas::ctl
