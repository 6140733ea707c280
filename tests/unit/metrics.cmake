atlas_test(metrics_test LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/metrics_test.cc DEPS atlas_metrics PkgConfig::HTTPLIB)
