atlas_test(io_shares_test LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/io_shares_test.cc DEPS atlas_limits)
atlas_test(limit_governor_test LABEL unit
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/token_bucket_test.cc ${CMAKE_CURRENT_LIST_DIR}/limit_governor_test.cc
          ${CMAKE_CURRENT_LIST_DIR}/warmed_jobs_test.cc
          ${CMAKE_CURRENT_LIST_DIR}/../support/count_allocations.cc
  DEPS atlas_agent_limit)
atlas_test(limit_loop_test LABEL unit
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/limit_loop_test.cc ${CMAKE_CURRENT_LIST_DIR}/../support/limit_loop.cc DEPS atlas_limits atlas_agent_limit)
