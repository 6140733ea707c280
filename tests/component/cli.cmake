find_package(nlohmann_json CONFIG REQUIRED)
atlas_test(cli_test LABEL component SOURCES ${CMAKE_CURRENT_LIST_DIR}/cli_test.cc
  DEPS atlas_rpc atlas_services atlas_test_munged atlas_test_run_program nlohmann_json::nlohmann_json)
target_compile_definitions(cli_test PRIVATE ATLASCTL="$<TARGET_FILE:atlasctl>" ATLAS_SUBMIT="$<TARGET_FILE:atlas-submit>")
add_dependencies(cli_test atlasctl atlas-submit)
atlas_test(sbatch_options_test LABEL component SOURCES ${CMAKE_CURRENT_LIST_DIR}/sbatch_options_test.cc
  DEPS atlas_submit atlas_test_run_program)
