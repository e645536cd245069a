# What every target of the project is built with. Components call qmq_component(); tests call qmq_test().

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set_property(GLOBAL PROPERTY USE_FOLDERS ON)

add_library(qmq_warnings INTERFACE)
target_compile_options(qmq_warnings INTERFACE
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wnon-virtual-dtor -Woverloaded-virtual)
# Locks and what they guard (sdk/client/src/base/mutex.h).
target_compile_options(qmq_warnings INTERFACE $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>)
# g++ 12 takes the value of a std::optional that is not engaged for one that is read.
target_compile_options(qmq_warnings INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
# Whoever has our warnings has the hardening: one name to link, and no program of ours is forgotten.
target_link_libraries(qmq_warnings INTERFACE qmq_hardening)
option(QMQ_WARNINGS_AS_ERRORS "Treat warnings as errors" OFF)
if(QMQ_WARNINGS_AS_ERRORS)
    target_compile_options(qmq_warnings INTERFACE -Werror)
endif()

# qmq_component(NAME HEADERS … SOURCES … [PUBLIC libs…] [PRIVATE libs…])
#
# Makes the static library qmq_NAME with the alias qmq::NAME. HEADERS are the public ones, below include/;
# a component without HEADERS (all of server/) has none to install, and is included from the repository's top.
# A component that links one which is not part of this build (QMQ_BUILD_SERVER=OFF) is not part of it either.
function(qmq_component name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "HEADERS;SOURCES;PUBLIC;PRIVATE")
    foreach(link IN LISTS arg_PUBLIC arg_PRIVATE)
        if(link MATCHES "^qmq::" AND NOT TARGET ${link})
            message(STATUS "qmq::${name} is not built: ${link} is not part of this build")
            return()
        endif()
    endforeach()
    add_library(qmq_${name} STATIC)
    add_library(qmq::${name} ALIAS qmq_${name})
    set_target_properties(qmq_${name} PROPERTIES EXPORT_NAME ${name})
    target_compile_features(qmq_${name} PUBLIC cxx_std_20)
    # An export set for each component, so that one may be installed without the others.
    set_property(GLOBAL APPEND PROPERTY QMQ_EXPORTED ${name})
    set(headers)
    file(GLOB_RECURSE unlisted RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} CONFIGURE_DEPENDS include/*.h)
    list(REMOVE_ITEM unlisted ${arg_HEADERS} "")
    if(unlisted)
        message(FATAL_ERROR "qmq::${name}: public headers that nobody would install: add ${unlisted} to its HEADERS")
    endif()
    if(arg_HEADERS)
        target_sources(qmq_${name} PUBLIC FILE_SET HEADERS BASE_DIRS include FILES ${arg_HEADERS})
        set(headers FILE_SET HEADERS COMPONENT ${name})
    endif()
    install(TARGETS qmq_${name} EXPORT qmq_${name}
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT ${name} ${headers})
    target_sources(qmq_${name} PRIVATE ${arg_SOURCES})
    target_include_directories(qmq_${name} PRIVATE ${PROJECT_SOURCE_DIR})
    target_link_libraries(qmq_${name} PUBLIC ${arg_PUBLIC} PRIVATE ${arg_PRIVATE} $<BUILD_INTERFACE:qmq_warnings>)
endfunction()

# qmq_test(NAME LABEL unit|integration SOURCES … LIBS …): one GoogleTest program, one ctest entry a test case.
# TIMEOUT is in seconds (60). PREFIX goes before the names that ctest knows, for cases that another program has as well.
# The targets unit_tests and integration_tests build all programs of that label.
function(qmq_test name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "LABEL;TIMEOUT;PREFIX" "SOURCES;LIBS")
    if(NOT arg_TIMEOUT)
        set(arg_TIMEOUT 60)
    endif()
    if(CMAKE_CXX_FLAGS MATCHES "-fsanitize=")
        math(EXPR arg_TIMEOUT "${arg_TIMEOUT} * 5") # a sanitizer's cost, with room for a busy machine
    endif()
    add_executable(${name} ${arg_SOURCES})
    target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
    if(CMAKE_BUILD_TYPE STREQUAL "Debug")
        # What is tested is optimized, the tests' own code need not be: under a sanitizer it compiles in half the time.
        # Fortified functions need an optimizer.
        target_compile_options(${name} PRIVATE -O0 -U_FORTIFY_SOURCE -Wno-cpp)
    endif()
    if(NOT TARGET ${arg_LABEL}_tests)
        add_custom_target(${arg_LABEL}_tests)
    endif()
    add_dependencies(${arg_LABEL}_tests ${name})
    target_link_libraries(${name} PRIVATE ${arg_LIBS} GTest::gmock GTest::gtest_main qmq_warnings)
    include(GoogleTest)
    # Values in a test's name are often addresses, which differ from run to run.
    gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST NO_PRETTY_VALUES TEST_PREFIX "${arg_PREFIX}"
        PROPERTIES LABELS ${arg_LABEL} TIMEOUT ${arg_TIMEOUT})
endfunction()
