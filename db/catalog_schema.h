#pragma once
#include <span>

#include "db/sqlite.h"

namespace atlas {

/// The catalogue's schema, version by version (db/catalog_schema.cc).
[[nodiscard]] std::span<const Migration> catalog_migrations();

}  // namespace atlas
