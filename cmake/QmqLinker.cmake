# mold or lld, when they are there and work with this compiler, link many times faster than the default.
#
# QMQ_LINKER: auto (the fastest that works), default (the compiler's own), or a name for -fuse-ld=.
include(CheckLinkerFlag)
set(QMQ_LINKER auto CACHE STRING "Linker: auto, default, or a name for -fuse-ld= (mold, lld, gold, bfd)")

if(CMAKE_EXE_LINKER_FLAGS MATCHES "-fuse-ld=" OR QMQ_LINKER STREQUAL "default")
    return()
endif()
if(QMQ_LINKER STREQUAL "auto")
    set(candidates mold lld)
else()
    set(candidates ${QMQ_LINKER})
endif()
foreach(linker IN LISTS candidates)
    check_linker_flag(CXX "-fuse-ld=${linker}" QMQ_LINKER_WORKS_${linker})
    if(QMQ_LINKER_WORKS_${linker})
        add_link_options("-fuse-ld=${linker}")
        return()
    endif()
endforeach()
if(NOT QMQ_LINKER STREQUAL "auto")
    message(FATAL_ERROR "QMQ_LINKER=${QMQ_LINKER}: ${CMAKE_CXX_COMPILER} cannot link with -fuse-ld=${QMQ_LINKER}. "
        "Install that linker, or use -DQMQ_LINKER=auto.")
endif()
