atlas_test(fuse_view_test LABEL component TIMEOUT 180
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/fuse_view_test.cc
  DEPS atlas_node_parts atlas_view_fuse atlas_slow_origin_process)
atlas_test(read_ahead_test LABEL unit SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/read_ahead_test.cc DEPS atlas_view_fuse)
atlas_test(request_slots_test LABEL unit SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/request_slots_test.cc DEPS atlas_view_fuse)
atlas_test(keep_policy_test LABEL unit SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/keep_policy_test.cc DEPS atlas_agent_store)
atlas_test(writable_view_test LABEL component TIMEOUT 180
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/writable_view_test.cc
  DEPS atlas_node_parts atlas_view_fuse atlas_slow_origin_process)
atlas_test(read_window_test LABEL unit SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/read_window_test.cc DEPS atlas_view_fuse)
atlas_test(passthrough_test LABEL component TIMEOUT 180
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/passthrough_test.cc
  DEPS atlas_node_parts atlas_view_fuse)
atlas_test(backings_test LABEL unit SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/backings_test.cc DEPS atlas_view_fuse)
