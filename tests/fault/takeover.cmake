# The programs as processes; takeover through the view holder.
atlas_test(takeover_test LABEL fault TIMEOUT 600
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/takeover_test.cc ${CMAKE_SOURCE_DIR}/tests/support/node_processes.cc
  DEPS atlas_node_parts atlas_rpc atlas_services atlas_view_holder atlas_test_munged atlas_slow_origin_process)
target_compile_definitions(takeover_test PRIVATE ATLAS_AGENT="$<TARGET_FILE:atlas-cache-agent>"
  ATLAS_VIEW_HOLDER="$<TARGET_FILE:atlas-view-holder>")
add_dependencies(takeover_test atlas-cache-agent atlas-view-holder)
atlas_test(takeover_passthrough_test LABEL fault TIMEOUT 600
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/takeover_passthrough_test.cc ${CMAKE_SOURCE_DIR}/tests/support/node_processes.cc
  DEPS atlas_node_parts atlas_rpc atlas_services atlas_view_holder atlas_view_fuse atlas_test_munged atlas_slow_origin_process)
target_compile_definitions(takeover_passthrough_test PRIVATE ATLAS_AGENT="$<TARGET_FILE:atlas-cache-agent>"
  ATLAS_VIEW_HOLDER="$<TARGET_FILE:atlas-view-holder>")
add_dependencies(takeover_passthrough_test atlas-cache-agent atlas-view-holder)
