# ccache makes a second build almost free; it is used when it is there and nobody asked for another launcher.
#
# Paths below the project are hashed as relative ones, so that a clone elsewhere (CI's, a second work tree) finds what
# another has compiled. The price: the debug information of a file may name the build folder of that other clone.
find_program(QMQ_CCACHE ccache)
if(QMQ_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
    set(CMAKE_CXX_COMPILER_LAUNCHER env "CCACHE_BASEDIR=${PROJECT_SOURCE_DIR}" CCACHE_NOHASHDIR=1 "${QMQ_CCACHE}")
endif()
