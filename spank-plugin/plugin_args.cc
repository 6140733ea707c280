#include "spank-plugin/plugin_args.h"

#include <string_view>

namespace atlas::spank {

PluginArgs parse_plugin_args(std::span<char*> words) {
  PluginArgs args;
  for (const std::string_view word : words) {
    if (word.starts_with("config=")) args.config = word.substr(7);
    if (word.starts_with("libexec=")) args.libexec = word.substr(8);
  }
  return args;
}

}  // namespace atlas::spank
