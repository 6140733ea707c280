#include "common/memory.h"

#include <malloc.h>

namespace atlas {

void settle_allocator() {
  ::mallopt(M_MMAP_THRESHOLD, 256 * 1024);
}

void return_free_memory() {
  ::malloc_trim(0);
}

}  // namespace atlas
