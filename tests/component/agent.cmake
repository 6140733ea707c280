atlas_test(agent_warm_test LABEL component SOURCES ${CMAKE_CURRENT_LIST_DIR}/warm_test.cc DEPS atlas_node_parts)
atlas_test(agent_generations_test LABEL component SOURCES ${CMAKE_CURRENT_LIST_DIR}/generations_test.cc DEPS atlas_node_parts)
atlas_test(agent_policy_test LABEL component
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/policy_test.cc
  DEPS atlas_node_parts atlas_agent_jobs atlas_slow_origin_process)
atlas_test(equal_files_test LABEL component SOURCES ${CMAKE_CURRENT_LIST_DIR}/equal_files_test.cc DEPS atlas_node_parts)
atlas_test(agent_store_test LABEL component SOURCES ${CMAKE_CURRENT_LIST_DIR}/store_test.cc DEPS atlas_node_parts)
add_executable(call-agent ${CMAKE_SOURCE_DIR}/tests/support/call_agent.cc)
target_link_libraries(call-agent PRIVATE atlas_rpc atlas_services atlas_options)
set_target_properties(call-agent PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
atlas_test(agent_process_test LABEL component SOURCES ${CMAKE_CURRENT_LIST_DIR}/agent_process_test.cc
  DEPS atlas_node_parts atlas_rpc atlas_services atlas_limits atlas_test_munged)
target_compile_definitions(agent_process_test PRIVATE ATLAS_AGENT="${CMAKE_BINARY_DIR}/bin/atlas-cache-agent"
  CALL_AGENT="$<TARGET_FILE:call-agent>")
add_dependencies(agent_process_test atlas-cache-agent call-agent)
atlas_test(agent_jobs_test LABEL component SOURCES ${CMAKE_CURRENT_LIST_DIR}/job_table_test.cc
  DEPS atlas_node_parts atlas_agent_jobs)
atlas_test(store_contract_test LABEL component SOURCES ${CMAKE_CURRENT_LIST_DIR}/store_contract_test.cc DEPS atlas_node_parts)
atlas_test(origin_contract_test LABEL component
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/origin_contract_test.cc
  DEPS atlas_node_parts atlas_slow_origin_process)
atlas_test(limits_test LABEL component
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/limits_test.cc ${CMAKE_CURRENT_LIST_DIR}/shared_cost_test.cc
  DEPS atlas_node_parts atlas_agent_limit atlas_view_fuse)
