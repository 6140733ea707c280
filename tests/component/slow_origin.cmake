atlas_test(slow_origin_test LABEL component
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/slow_origin_test.cc ${CMAKE_SOURCE_DIR}/tests/support/slow_origin_process.cc
  DEPS atlas_slow_origin)
target_compile_definitions(slow_origin_test PRIVATE ATLAS_SLOW_ORIGIN="${CMAKE_BINARY_DIR}/bin/atlas-slow-origin")
add_dependencies(slow_origin_test atlas-slow-origin)
