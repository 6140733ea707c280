# The lua modules under the interpreter that Slurm links (5.1).
foreach(_name submit stage)
  add_test(NAME lua_${_name}_test COMMAND ${CMAKE_CURRENT_LIST_DIR}/lua/run.sh ${_name}_test.lua)
  set_tests_properties(lua_${_name}_test PROPERTIES LABELS unit TIMEOUT 60)
endforeach()
