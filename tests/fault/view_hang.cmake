atlas_test(view_hang_test LABEL fault
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/view_hang_test.cc ${CMAKE_CURRENT_LIST_DIR}/../component/view_sandbox.cc
  DEPS atlas_view atlas_submission atlas_attach_lib)
target_compile_definitions(view_hang_test PRIVATE ATLAS_ATTACH="$<TARGET_FILE:atlas-attach>"
  ATLAS_SLOW_ORIGIN="$<TARGET_FILE:atlas-slow-origin>")
add_dependencies(view_hang_test atlas-attach atlas-slow-origin)
