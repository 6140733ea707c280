find_package(nlohmann_json CONFIG REQUIRED)
atlas_executable(slurm-port-probe SOURCES ${CMAKE_CURRENT_LIST_DIR}/slurm_port_probe.cc DEPS atlas_slurm nlohmann_json::nlohmann_json)
set_target_properties(slurm-port-probe PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
