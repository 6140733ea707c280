atlas_test(job_lists_test LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/job_lists_test.cc DEPS atlas_slurm)
