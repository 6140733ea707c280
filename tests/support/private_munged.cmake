add_library(atlas_test_munged STATIC ${CMAKE_CURRENT_LIST_DIR}/private_munged.cc)
target_link_libraries(atlas_test_munged PUBLIC atlas_rpc PRIVATE atlas_options)
