atlas_test(announce_test LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/announce_test.cc DEPS atlas_view)
