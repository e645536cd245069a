# qmq_hardening: what makes an exploit harder, as far as this compiler and this linker know it.
#
# Every flag is tried before it is used, so that another compiler or architecture only loses what it lacks.
# Each target of ours gets it through qmq_warnings; users of the installed libraries are not affected.
include(CheckCXXCompilerFlag)
include(CheckLinkerFlag)
include(CheckPIESupported)

option(QMQ_HARDENING "Build with stack protector, FORTIFY_SOURCE, control-flow protection, RELRO" ON)

add_library(qmq_hardening INTERFACE)

# Without this CMAKE_POSITION_INDEPENDENT_CODE compiles programs for PIE but does not link them so.
check_pie_supported(LANGUAGES CXX)

function(qmq_harden_compile flag variable)
    check_cxx_compiler_flag("${flag}" ${variable})
    if(${variable})
        target_compile_options(qmq_hardening INTERFACE "${flag}")
    endif()
endfunction()

function(qmq_harden_link flag variable)
    check_linker_flag(CXX "${flag}" ${variable})
    if(${variable})
        target_link_options(qmq_hardening INTERFACE "${flag}")
    endif()
endfunction()

string(TOUPPER "${CMAKE_BUILD_TYPE}" build_type)
set(all_flags "${CMAKE_CXX_FLAGS} ${CMAKE_CXX_FLAGS_${build_type}}")
string(FIND "${all_flags}" "-fsanitize=" sanitized)

if(QMQ_HARDENING)
    qmq_harden_compile(-fstack-protector-strong QMQ_HAS_STACK_PROTECTOR)
    qmq_harden_compile(-fstack-clash-protection QMQ_HAS_STACK_CLASH)
    qmq_harden_compile(-fcf-protection QMQ_HAS_CF_PROTECTION)
    qmq_harden_link(-Wl,-z,relro,-z,now QMQ_HAS_RELRO)
    qmq_harden_link(-Wl,-z,noexecstack QMQ_HAS_NOEXECSTACK)
    qmq_harden_link(-Wl,--as-needed QMQ_HAS_AS_NEEDED)
    # FORTIFY_SOURCE does nothing without optimisation, and hides from a sanitizer what it would report.
    if(all_flags MATCHES "-O[123s]" AND sanitized EQUAL -1)
        target_compile_options(qmq_hardening INTERFACE -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
    endif()
    # Bounds checks in the standard library's containers: in every build but those that are measured and shipped.
    if(build_type STREQUAL "DEBUG")
        target_compile_definitions(qmq_hardening INTERFACE _GLIBCXX_ASSERTIONS)
    endif()
endif()
