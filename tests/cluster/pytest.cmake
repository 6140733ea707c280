# One ctest entry for each pytest file. Each has a cluster of its own in namespaces of its own, so several run at once: they
# mostly wait. Only the file that loads the whole machine itself runs alone.
set(_alone cluster_many_jobs)
set(_longest cluster_trouble cluster_queue_changes cluster_staging_hooks)  # they begin first, else the others wait for them at the end
file(GLOB _files CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/cluster/test_*.py)
foreach(_file ${_files})
  get_filename_component(_name ${_file} NAME_WE)
  string(REPLACE "test_" "cluster_" _name ${_name})
  add_test(NAME ${_name} COMMAND /usr/bin/python3 -m pytest -q --junitxml=${CMAKE_BINARY_DIR}/results/${_name}.xml ${_file})
  get_filename_component(_preset ${CMAKE_BINARY_DIR} NAME)
  set_tests_properties(${_name} PROPERTIES LABELS cluster TIMEOUT 900
    ENVIRONMENT "LANG=C.UTF-8;LC_ALL=C.UTF-8;PYTHONDONTWRITEBYTECODE=1;ATLAS_PRESET=${_preset}")
  if(_name IN_LIST _alone)
    set_tests_properties(${_name} PROPERTIES RUN_SERIAL ON)
  elseif(_name IN_LIST _longest)
    set_tests_properties(${_name} PROPERTIES COST 100)
  endif()
endforeach()
