add_executable(stalled-warm ${CMAKE_SOURCE_DIR}/tests/support/stalled_warm.cc)
target_link_libraries(stalled-warm PRIVATE atlas_node_parts atlas_options)
set_target_properties(stalled-warm PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
atlas_test(agent_fault_test LABEL fault TIMEOUT 180
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/agent_fault_test.cc ${CMAKE_SOURCE_DIR}/tests/support/slow_origin_process.cc
  DEPS atlas_node_parts atlas_slow_origin)
target_compile_definitions(agent_fault_test PRIVATE STALLED_WARM="$<TARGET_FILE:stalled-warm>"
  ATLAS_SLOW_ORIGIN="${CMAKE_BINARY_DIR}/bin/atlas-slow-origin")
add_dependencies(agent_fault_test stalled-warm atlas-slow-origin)
