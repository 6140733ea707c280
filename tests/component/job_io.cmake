atlas_test(job_io_test LABEL component SOURCES ${CMAKE_CURRENT_LIST_DIR}/job_io_test.cc DEPS atlas_node_parts atlas_agent_job_io atlas_agent_limit)
