atlas_test(atlas_stage_test LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/atlas_stage_test.cc DEPS atlas_stage)
