atlas_test(submit_test LABEL unit
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/submit_args_test.cc ${CMAKE_CURRENT_LIST_DIR}/submit_script_test.cc DEPS atlas_submit)
atlas_test(ui_test LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/ui_test.cc ${CMAKE_CURRENT_LIST_DIR}/lustre_job_stats_test.cc DEPS atlas_ui)
