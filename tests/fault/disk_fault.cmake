atlas_test(disk_fault_test LABEL fault TIMEOUT 180
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/disk_fault_test.cc ${CMAKE_SOURCE_DIR}/tests/support/slow_origin_process.cc
  DEPS atlas_node_parts atlas_agent_jobs atlas_view_fuse atlas_slow_origin)
target_compile_definitions(disk_fault_test PRIVATE ATLAS_SLOW_ORIGIN="${CMAKE_BINARY_DIR}/bin/atlas-slow-origin")
add_dependencies(disk_fault_test atlas-slow-origin)
