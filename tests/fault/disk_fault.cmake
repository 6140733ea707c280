atlas_test(disk_fault_test LABEL fault TIMEOUT 180
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/disk_fault_test.cc
  DEPS atlas_node_parts atlas_agent_jobs atlas_view_fuse atlas_slow_origin_process)
