# An agent's parts below its edges, for tests and for ./dev bench.
find_package(GTest REQUIRED)
include_guard(GLOBAL)
add_library(atlas_node_parts STATIC ${CMAKE_SOURCE_DIR}/tests/support/node_parts.cc)
target_link_libraries(atlas_node_parts PUBLIC atlas_agent_warm GTest::gtest PRIVATE atlas_options)
