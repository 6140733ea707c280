// stalled-warm ORIGIN TIER DATASET UID N: warms until N fetches are through, says so, and waits to be killed.
#include <unistd.h>

#include <cstdio>
#include <string>

#include "tests/support/node_parts.h"
#include "tests/support/stall_governor.h"

int main(int argc, char** argv) {
  using namespace atlas;
  using namespace atlas::agent;
  if (argc != 6) return 2;
  StallGovernor governor(static_cast<unsigned>(std::stoul(argv[5])));
  NodeParts::Options options;
  options.origin = argv[1];
  options.tiers = {{"nvme", argv[2], kGiB}};
  options.governor = &governor;
  NodeParts node(options);
  const auto running =
      node.start({{"o", argv[3]}, user(static_cast<std::uint32_t>(std::stoul(argv[4]))), {}, {}, false});
  governor.wait_until_stalled();
  std::puts("stalled");
  std::fflush(stdout);
  for (;;) pause();
}
