#pragma once
#include <string>
#include <string_view>

#include "common/identity.h"
#include "common/result.h"

namespace atlas::view {

/// What a later agent must know of a connection to serve it again. Everything else is in the node's store.
struct KeptView {
  JobKey job;
  Principal as;  ///< normalized
  DatasetId dataset;
  GenerationId generation;
  bool noexec = false;
  bool writable = false;
};
/// As text: a line for people, then one for each field. Fields that a later release adds are passed over.
[[nodiscard]] std::string pack(const KeptView& view);
[[nodiscard]] Result<KeptView> unpack(std::string_view text);

}  // namespace atlas::view
