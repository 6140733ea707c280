add_test(NAME includes_test COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/includes_test.py)
set_tests_properties(includes_test PROPERTIES LABELS unit TIMEOUT 30)
