atlas_test(staging_test LABEL unit
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/staging_test.cc ${CMAKE_CURRENT_LIST_DIR}/staging_plan_test.cc ${CMAKE_CURRENT_LIST_DIR}/staging_observe_test.cc ${CMAKE_CURRENT_LIST_DIR}/staging_policy_test.cc ${CMAKE_CURRENT_LIST_DIR}/staging_trouble_test.cc
          ${CMAKE_CURRENT_LIST_DIR}/staging_changes_test.cc
          ${CMAKE_CURRENT_LIST_DIR}/staging_peers_test.cc ${CMAKE_CURRENT_LIST_DIR}/staging_scale_test.cc ${CMAKE_CURRENT_LIST_DIR}/cache_space_test.cc
          ${CMAKE_CURRENT_LIST_DIR}/../support/staging_world.cc
  DEPS atlas_staging)
