# What the plugin runs on a node: messages only, no gRPC, so that it starts in a few milliseconds.
atlas_library(atlas_attach_lib SOURCES atlas_attach_cgroup.cc atlas_attach_client.cc atlas_attach_mounts.cc DEPS atlas_common atlas_messages)
atlas_executable(atlas-attach SOURCES atlas_attach.cc DEPS atlas_attach_lib)
install(TARGETS atlas-attach DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/atlas)
atlas_executable(atlas-enter SOURCES atlas_enter.cc DEPS atlas_attach_lib)
install(TARGETS atlas-enter DESTINATION ${CMAKE_INSTALL_SBINDIR})
