// keep-policy BLOCKS PERCENT EPOCHS SEED: hit ratios by epoch as JSON, of what replicas do and of least-recently-used.
#include <cstdio>
#include <cstdlib>

#include "tests/support/keep_policy.h"

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: keep-policy BLOCKS PERCENT EPOCHS SEED\n");
    return 2;
  }
  const auto number = [&](int i) { return std::strtoull(argv[i], nullptr, 10); };
  const auto ratios = atlas::testing::compare_policies(
      number(1), number(1) * number(2) / 100, static_cast<unsigned>(number(3)), static_cast<unsigned>(number(4)));
  const auto print = [](const char* name, const std::vector<double>& values, const char* end) {
    std::printf("\"%s\": [", name);
    for (std::size_t i = 0; i < values.size(); ++i) std::printf("%s%.4f", i == 0 ? "" : ", ", values[i]);
    std::printf("]%s", end);
  };
  std::printf("{");
  print("kept", ratios.kept, ", ");
  print("lru", ratios.lru, "}\n");
  return 0;
}
