atlas_test(placement_test LABEL unit
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/placement_test.cc ${CMAKE_CURRENT_LIST_DIR}/placement_cost_test.cc
          ${CMAKE_CURRENT_LIST_DIR}/placement_switches_test.cc ${CMAKE_CURRENT_LIST_DIR}/origin_turns_test.cc
          ${CMAKE_CURRENT_LIST_DIR}/timeline_test.cc
  DEPS atlas_placement)
