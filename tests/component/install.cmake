add_test(NAME install_test COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/install_test.py ${CMAKE_BINARY_DIR})
set_tests_properties(install_test PROPERTIES LABELS component TIMEOUT 120)
