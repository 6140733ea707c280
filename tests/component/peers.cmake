atlas_test(peers_test LABEL component SOURCES ${CMAKE_CURRENT_LIST_DIR}/peers_test.cc
  DEPS atlas_node_parts atlas_agent_rpc atlas_test_munged atlas_slow_origin_process)
atlas_test(shares_test LABEL component TIMEOUT 240 SOURCES ${CMAKE_CURRENT_LIST_DIR}/shares_test.cc
  DEPS atlas_node_parts atlas_agent_rpc atlas_view_fuse atlas_test_munged)
