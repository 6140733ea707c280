add_subdirectory(support/slow_origin)
# For tests that run it as a process of its own (tests/support/slow_origin_process.h).
add_library(atlas_slow_origin_process STATIC ${CMAKE_SOURCE_DIR}/tests/support/slow_origin_process.cc)
target_compile_definitions(atlas_slow_origin_process PRIVATE ATLAS_SLOW_ORIGIN="${CMAKE_BINARY_DIR}/bin/atlas-slow-origin")
target_link_libraries(atlas_slow_origin_process PUBLIC atlas_slow_origin PRIVATE atlas_options)
add_dependencies(atlas_slow_origin_process atlas-slow-origin)
