add_executable(stalled-warm ${CMAKE_SOURCE_DIR}/tests/support/stalled_warm.cc)
target_link_libraries(stalled-warm PRIVATE atlas_node_parts atlas_options)
set_target_properties(stalled-warm PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
atlas_test(agent_fault_test LABEL fault TIMEOUT 180
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/agent_fault_test.cc
  DEPS atlas_node_parts atlas_slow_origin_process)
target_compile_definitions(agent_fault_test PRIVATE STALLED_WARM="$<TARGET_FILE:stalled-warm>")
add_dependencies(agent_fault_test stalled-warm)
