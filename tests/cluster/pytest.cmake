# One ctest entry for each pytest file; each has a cluster of its own, and they run one after another.
file(GLOB _files CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/cluster/test_*.py)
foreach(_file ${_files})
  get_filename_component(_name ${_file} NAME_WE)
  string(REPLACE "test_" "cluster_" _name ${_name})
  add_test(NAME ${_name} COMMAND /usr/bin/python3 -m pytest -q --junitxml=${CMAKE_BINARY_DIR}/results/${_name}.xml ${_file})
  get_filename_component(_preset ${CMAKE_BINARY_DIR} NAME)
  set_tests_properties(${_name} PROPERTIES LABELS cluster TIMEOUT 900 RUN_SERIAL ON
    ENVIRONMENT "LANG=C.UTF-8;LC_ALL=C.UTF-8;PYTHONDONTWRITEBYTECODE=1;ATLAS_PRESET=${_preset}")
endforeach()
