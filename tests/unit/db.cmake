atlas_test(db_test LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/sqlite_test.cc ${CMAKE_CURRENT_LIST_DIR}/catalog_test.cc ${CMAKE_CURRENT_LIST_DIR}/node_manifest_test.cc DEPS atlas_db)
