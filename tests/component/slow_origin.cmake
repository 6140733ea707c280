atlas_test(slow_origin_test LABEL component
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/slow_origin_test.cc
  DEPS atlas_slow_origin_process)
