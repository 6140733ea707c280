atlas_test(man_config_test LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/man_config_test.cc DEPS atlas_common)
target_compile_definitions(man_config_test PRIVATE ATLAS_MAN_DIR="${CMAKE_SOURCE_DIR}/man")

foreach(_pair atlas-submit.1:atlas-submit atlasctl.1:atlasctl atlas-sim.1:atlas-sim atlas-cache-agent.8:atlas-cache-agent
    atlas-controller.8:atlas-controller atlas-view-holder.8:atlas-view-holder)
  string(REPLACE ":" ";" _pair ${_pair})
  list(GET _pair 0 _page)
  list(GET _pair 1 _program)
  add_test(NAME man_options_${_program} COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/man_options_test.py
    ${CMAKE_SOURCE_DIR}/man ${_page} $<TARGET_FILE:${_program}>)
  set_tests_properties(man_options_${_program} PROPERTIES LABELS unit TIMEOUT 60)
endforeach()
