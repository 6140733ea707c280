atlas_test(array_tasks_test LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/array_tasks_test.cc DEPS atlas_slurm)
