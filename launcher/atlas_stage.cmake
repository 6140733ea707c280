find_package(CLI11 CONFIG REQUIRED)
atlas_library(atlas_stage SOURCES atlas_stage.cc DEPS atlas_common)
atlas_executable(atlas-stage SOURCES atlas_stage_main.cc DEPS atlas_stage atlas_slurm atlas_rpc atlas_services CLI11::CLI11)
