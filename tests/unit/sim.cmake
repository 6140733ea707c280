atlas_test(sim_test LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/sim_test.cc ${CMAKE_CURRENT_LIST_DIR}/sim_trace_test.cc DEPS atlas_simulation)
