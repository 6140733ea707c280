atlas_test(fuse_view_test LABEL component TIMEOUT 180
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/fuse_view_test.cc ${CMAKE_SOURCE_DIR}/tests/support/slow_origin_process.cc
  DEPS atlas_node_parts atlas_view_fuse atlas_slow_origin)
target_compile_definitions(fuse_view_test PRIVATE ATLAS_SLOW_ORIGIN="${CMAKE_BINARY_DIR}/bin/atlas-slow-origin")
add_dependencies(fuse_view_test atlas-slow-origin)
atlas_test(read_ahead_test LABEL unit SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/read_ahead_test.cc DEPS atlas_view_fuse)
atlas_test(request_slots_test LABEL unit SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/request_slots_test.cc DEPS atlas_view_fuse)
atlas_test(keep_policy_test LABEL unit SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/keep_policy_test.cc DEPS atlas_agent_store)
atlas_test(writable_view_test LABEL component TIMEOUT 180
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/writable_view_test.cc ${CMAKE_SOURCE_DIR}/tests/support/slow_origin_process.cc
  DEPS atlas_node_parts atlas_view_fuse atlas_slow_origin)
target_compile_definitions(writable_view_test PRIVATE ATLAS_SLOW_ORIGIN="${CMAKE_BINARY_DIR}/bin/atlas-slow-origin")
add_dependencies(writable_view_test atlas-slow-origin)
atlas_test(read_window_test LABEL unit SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/read_window_test.cc DEPS atlas_view_fuse)
