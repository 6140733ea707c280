#pragma once
#include <exception>
#include <string>

#include "common/result.h"

namespace atlas::agent {

/// What has gone wrong without words (memory, most likely) is the end of one warm-up, not of the agent. `work` returns
/// a Result. Private to warm/.
template <class Work>
auto guarded(const Work& work) -> decltype(work()) {
  try {
    return work();
  } catch (const std::exception& error) {
    return fail(Code::internal, std::string("the warm-up broke off: ") + error.what());
  }
}

}  // namespace atlas::agent
