atlas_test(common_test LABEL unit
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/units_test.cc ${CMAKE_CURRENT_LIST_DIR}/request_test.cc ${CMAKE_CURRENT_LIST_DIR}/percent_test.cc ${CMAKE_CURRENT_LIST_DIR}/config_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/hostlist_test.cc ${CMAKE_CURRENT_LIST_DIR}/job_tree_test.cc ${CMAKE_CURRENT_LIST_DIR}/mounts_test.cc ${CMAKE_CURRENT_LIST_DIR}/table_test.cc ${CMAKE_CURRENT_LIST_DIR}/patterns_test.cc
  DEPS atlas_common)
