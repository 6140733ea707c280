# atlas-submit and atlasctl, and what both show people.
find_package(CLI11 CONFIG REQUIRED)
find_package(nlohmann_json CONFIG REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(NCURSES REQUIRED IMPORTED_TARGET ncursesw)

# What needs no network.
atlas_library(atlas_ui_base SOURCES lustre_job_stats.cc ui.cc ui_bounded.cc DEPS atlas_common)
atlas_library(atlas_submit SOURCES atlas_submit_args.cc atlas_submit_options.cc atlas_submit_plan.cc atlas_submit_run.cc
  atlas_submit_script.cc DEPS atlas_ui_base)
# What talks to the controller.
atlas_library(atlas_ui SOURCES ui_controller.cc ui_job.cc ui_json.cc ui_plan.cc ui_progress.cc
  DEPS atlas_ui_base atlas_rpc atlas_services nlohmann_json::nlohmann_json)

atlas_executable(atlas-submit SOURCES atlas_submit_main.cc atlas_submit_explain.cc atlas_submit_names.cc DEPS atlas_submit atlas_ui)
target_compile_definitions(atlas-submit PRIVATE ATLAS_VERSION="${PROJECT_VERSION}")

atlas_executable(atlasctl SOURCES atlasctl_main.cc atlasctl_dataset.cc atlasctl_doctor.cc atlasctl_job.cc atlasctl_limit.cc atlasctl_limit_bypass.cc atlasctl_limit_export.cc
  atlasctl_node.cc atlasctl_placement.cc atlasctl_observed.cc atlasctl_screen.cc atlasctl_session.cc atlasctl_top.cc DEPS atlas_ui CLI11::CLI11 PkgConfig::NCURSES)
target_compile_definitions(atlasctl PRIVATE ATLAS_VERSION="${PROJECT_VERSION}")

install(TARGETS atlas-submit atlasctl RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
