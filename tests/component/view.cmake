atlas_test(view_attach_test LABEL component
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/view_attach_test.cc ${CMAKE_CURRENT_LIST_DIR}/view_sandbox.cc
  DEPS atlas_view atlas_submission atlas_attach_lib)
target_compile_definitions(view_attach_test PRIVATE ATLAS_ATTACH="$<TARGET_FILE:atlas-attach>")
add_dependencies(view_attach_test atlas-attach)
