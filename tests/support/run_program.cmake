atlas_library(atlas_test_run_program SOURCES ${CMAKE_SOURCE_DIR}/tests/support/run_program.cc DEPS atlas_common)
