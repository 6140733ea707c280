atlas_test(view_model_test LABEL fault TIMEOUT 300 SOURCES ${CMAKE_CURRENT_LIST_DIR}/view_model_test.cc
  DEPS atlas_node_parts atlas_view_fuse)
