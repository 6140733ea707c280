atlas_test(agent_manifest_test LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/manifest_test.cc DEPS atlas_agent_origin)
atlas_test(peer_choice_test LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/peer_choice_test.cc DEPS atlas_agent_fetch)
atlas_test(share_test LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/share_test.cc DEPS atlas_agent_fetch)
atlas_test(storage_counters_test LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/storage_counters_test.cc DEPS atlas_agent_job_io)
