add_subdirectory(support/slow_origin)
