atlas_test(disk_hang_test LABEL fault TIMEOUT 180 SOURCES ${CMAKE_CURRENT_LIST_DIR}/disk_hang_test.cc
  DEPS atlas_node_parts atlas_slow_origin_process)
