atlas_test(spank_submission_test LABEL unit
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/spank_submission_test.cc ${CMAKE_CURRENT_LIST_DIR}/attach_report_test.cc
  DEPS atlas_submission)
add_test(NAME spank_exports_test COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/spank_exports_test.py $<TARGET_FILE:spank_atlas>)
set_tests_properties(spank_exports_test PROPERTIES LABELS unit TIMEOUT 30)
atlas_test(attach_cgroup_test LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/attach_cgroup_test.cc DEPS atlas_attach_lib)
