atlas_test(odd_files_test LABEL component TIMEOUT 180
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/odd_files_test.cc
  DEPS atlas_node_parts atlas_view_fuse atlas_slow_origin_process)
