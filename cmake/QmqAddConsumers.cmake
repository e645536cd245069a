# qmq_add_consumers(TARGET)
#
# Makes sure that every handler declared with QMQ_CONSUMER or QMQ_CONSUMER_FN is in the program TARGET. A linker takes from a static
# library only what something refers to, and nothing refers to a handler: so each static library that TARGET links, directly or
# through others, and that uses qmq::annotations, is linked whole. Call it once for a program, anywhere in the folder that makes it.
#
# It also adds one small source, by which qmq::StartConsumers knows that this was done.

function(qmq_add_consumers target)
    get_target_property(type ${target} TYPE)
    if(NOT type STREQUAL "EXECUTABLE" AND NOT type STREQUAL "SHARED_LIBRARY" AND NOT type STREQUAL "MODULE_LIBRARY")
        message(FATAL_ERROR "qmq_add_consumers(${target}): name the program, not a library: the program decides what is linked.")
    endif()
    set(source "${CMAKE_CURRENT_BINARY_DIR}/${target}_qmq_consumers.cc")
    file(CONFIGURE OUTPUT "${source}" CONTENT [=[
// Made by qmq_add_consumers(@target@).
extern "C" const char* qmq_consumers_were_added();
extern "C" const char* qmq_consumers_were_added() { return "@target@"; }
]=] @ONLY)
    target_sources(${target} PRIVATE "${source}")
    # Its libraries may be named after this call: look when the folder is done.
    cmake_language(EVAL CODE "cmake_language(DEFER CALL _qmq_link_consumers_whole ${target})")
endfunction()

function(_qmq_link_consumers_whole target)
    set(_qmq_seen "")
    set(_qmq_whole "")
    _qmq_find_consumers(${target})
    foreach(library IN LISTS _qmq_whole)
        set_property(TARGET ${target} PROPERTY LINK_LIBRARY_OVERRIDE_${library} WHOLE_ARCHIVE)
    endforeach()
endfunction()

# Walks the libraries of `target`; appends the static ones that use qmq::annotations to _qmq_whole of the caller.
macro(_qmq_find_consumers target)
    _qmq_libraries_of(${target} _qmq_pending)
    while(_qmq_pending)
        list(POP_FRONT _qmq_pending _qmq_library)
        if(_qmq_library IN_LIST _qmq_seen)
            continue()
        endif()
        list(APPEND _qmq_seen ${_qmq_library})
        _qmq_libraries_of(${_qmq_library} _qmq_more)
        get_target_property(_qmq_type ${_qmq_library} TYPE)
        get_target_property(_qmq_imported ${_qmq_library} IMPORTED)
        if(_qmq_type STREQUAL "STATIC_LIBRARY" AND NOT _qmq_imported AND
           ("qmq::annotations" IN_LIST _qmq_more OR "qmq_annotations" IN_LIST _qmq_more))
            list(APPEND _qmq_whole ${_qmq_library})
        endif()
        list(APPEND _qmq_pending ${_qmq_more})
    endwhile()
endmacro()

# The targets that `target` links or hands on, their aliases resolved but for our own name.
function(_qmq_libraries_of target result)
    set(found "")
    foreach(property IN ITEMS LINK_LIBRARIES INTERFACE_LINK_LIBRARIES)
        get_target_property(libraries ${target} ${property})
        foreach(library IN LISTS libraries)
            string(REGEX REPLACE "^\\$<LINK_ONLY:(.*)>$" "\\1" library "${library}")
            if(TARGET "${library}")
                get_target_property(aliased ${library} ALIASED_TARGET)
                if(aliased)
                    set(library ${aliased})
                endif()
                list(APPEND found ${library})
            endif()
        endforeach()
    endforeach()
    list(REMOVE_DUPLICATES found)
    set(${result} "${found}" PARENT_SCOPE)
endfunction()
