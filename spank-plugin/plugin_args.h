#pragma once
#include <span>
#include <string>

namespace atlas::spank {

/// The words after the plugin's path in plugstack.conf: config=FILE libexec=DIR. Others are ignored.
struct PluginArgs {
  std::string config = "/etc/atlas/atlas.toml";
  std::string libexec = "/usr/libexec/atlas";
};
[[nodiscard]] PluginArgs parse_plugin_args(std::span<char*> words);

}  // namespace atlas::spank
