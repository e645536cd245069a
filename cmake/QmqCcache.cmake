# ccache makes a second build almost free; it is used when it is there and asked for by nobody.
find_program(QMQ_CCACHE ccache)
if(QMQ_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
    set(CMAKE_CXX_COMPILER_LAUNCHER "${QMQ_CCACHE}")
endif()
