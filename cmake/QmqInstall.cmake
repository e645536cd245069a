# Makes find_package(qmq COMPONENTS …) work on what `cmake --install` lays down.
#
# Each component has an export file of its own. What it needs, of ours and of others, is read from what its target
# links, so that no second list can go stale: qmqConfig.cmake then looks for nothing that was not asked for.
include(CMakePackageConfigHelpers)

set(QMQ_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/qmq)

# The package that has the imported targets of a namespace, and the Debian package to name when it is missing.
set(QMQ_PACKAGE_OF_Threads Threads)
set(QMQ_PACKAGE_OF_protobuf Protobuf)
set(QMQ_PACKAGE_OF_gRPC gRPC)
set(QMQ_PACKAGE_OF_SQLite SQLite3)
set(QMQ_PACKAGE_OF_OpenSSL OpenSSL)
set(QMQ_PACKAGE_OF_ZLIB ZLIB)

# qmq_read_links(TARGET COMPONENTS_VAR PACKAGES_VAR)
function(qmq_read_links target components_var packages_var)
    set(components)
    set(packages)
    get_target_property(links ${target} INTERFACE_LINK_LIBRARIES)
    foreach(link IN LISTS links)
        if(link MATCHES "BUILD_INTERFACE")
            continue()
        elseif(link MATCHES "qmq(::|_)([a-z_]+)")
            list(APPEND components ${CMAKE_MATCH_2})
        elseif(link MATCHES "([A-Za-z0-9_]+)::")
            set(namespace ${CMAKE_MATCH_1})
            if(NOT QMQ_PACKAGE_OF_${namespace})
                message(FATAL_ERROR "${target} links ${link}: add QMQ_PACKAGE_OF_${namespace} to cmake/QmqInstall.cmake, "
                    "so that find_package(qmq) can look for it.")
            endif()
            list(APPEND packages ${QMQ_PACKAGE_OF_${namespace}})
        endif()
    endforeach()
    list(REMOVE_DUPLICATES components)
    list(REMOVE_DUPLICATES packages)
    set(${components_var} "${components}" PARENT_SCOPE)
    set(${packages_var} "${packages}" PARENT_SCOPE)
endfunction()

get_property(QMQ_EXPORTED GLOBAL PROPERTY QMQ_EXPORTED)
set(QMQ_NEEDS "")
foreach(component IN LISTS QMQ_EXPORTED)
    qmq_read_links(qmq_${component} components packages)
    string(APPEND QMQ_NEEDS "set(_qmq_needs_${component} \"${components}\")\n")
    string(APPEND QMQ_NEEDS "set(_qmq_packages_${component} \"${packages}\")\n")
    install(EXPORT qmq_${component} NAMESPACE qmq:: FILE qmq_${component}.cmake
        DESTINATION ${QMQ_CMAKE_DIR} COMPONENT ${component})
endforeach()

set(config_dir "${PROJECT_BINARY_DIR}/cmake")
configure_package_config_file(cmake/qmqConfig.cmake.in "${config_dir}/qmqConfig.cmake"
    INSTALL_DESTINATION ${QMQ_CMAKE_DIR} NO_SET_AND_CHECK_MACRO NO_CHECK_REQUIRED_COMPONENTS_MACRO)
# Before 1.0 a new minor version may break its users.
write_basic_package_version_file("${config_dir}/qmqConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${config_dir}/qmqConfig.cmake" "${config_dir}/qmqConfigVersion.cmake"
    DESTINATION ${QMQ_CMAKE_DIR} COMPONENT core)
if(EXISTS "${PROJECT_SOURCE_DIR}/cmake/QmqAddConsumers.cmake")
    install(FILES cmake/QmqAddConsumers.cmake DESTINATION ${QMQ_CMAKE_DIR} COMPONENT annotations)
endif()
