atlas_test(sample_config_test LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/sample_config_test.cc DEPS atlas_common)
target_compile_definitions(sample_config_test PRIVATE ATLAS_ETC_DIR="${CMAKE_SOURCE_DIR}/etc")
