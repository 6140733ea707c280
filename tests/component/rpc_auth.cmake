atlas_test(rpc_auth_test LABEL component SOURCES ${CMAKE_CURRENT_LIST_DIR}/rpc_auth_test.cc
  DEPS atlas_rpc atlas_services atlas_test_munged)
