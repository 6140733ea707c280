# atlas-submit and atlasctl, and what both show people.
find_package(CLI11 CONFIG REQUIRED)
find_package(nlohmann_json CONFIG REQUIRED)

atlas_library(atlas_submit SOURCES atlas_submit_args.cc atlas_submit_options.cc atlas_submit_plan.cc atlas_submit_run.cc
  atlas_submit_script.cc DEPS atlas_common)
atlas_library(atlas_ui SOURCES ui.cc ui_controller.cc ui_job.cc ui_json.cc ui_progress.cc
  DEPS atlas_common atlas_rpc atlas_services nlohmann_json::nlohmann_json)

atlas_executable(atlas-submit SOURCES atlas_submit_main.cc atlas_submit_explain.cc DEPS atlas_submit atlas_ui)
target_compile_definitions(atlas-submit PRIVATE ATLAS_VERSION="${PROJECT_VERSION}")
