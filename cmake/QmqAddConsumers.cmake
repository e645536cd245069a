# qmq_add_consumers(TARGET [LIBRARIES [LIBRARY…]])
#
# Makes sure that every handler declared with QMQ_CONSUMER or QMQ_CONSUMER_FN is in the program TARGET. A linker takes from a static
# library only what something refers to, and nothing refers to a handler: so each static library that TARGET links, directly or
# through others, and that can use qmq::annotations, is linked whole. Call it for a program, anywhere behind its add_executable; for
# a shared library with handlers too.
#
# It looks at libraries that are targets, also imported ones and those in generator expressions, whatever their conditions. What only
# the writing of the build files can know is an error; targets that are imported in other folders only are named in a line of output;
# libraries that are named by a path or a flag are never looked into. LIBRARIES names those with handlers: they are linked whole, and
# what cannot be looked into beside them is passed over. LIBRARIES without a name says that there are none beside those it finds.
#
# It also adds one small source, by which qmq::StartConsumers knows that this was done.
#
# docs/design/annotations.md says why it is done this way. Properties of targets that only this file knows:
#   QMQ_CONSUMERS            a program or shared library for which qmq_add_consumers was called
#   QMQ_CONSUMER_LIBRARIES   of such a one: the libraries that it was given
#   QMQ_CONSUMERS_NAMED      of such a one: it was given LIBRARIES, perhaps none
#   QMQ_CONSUMERS_SEEN       of such a one: what the first walk has looked into
#   QMQ_LINKED_WHOLE         a library that programs with QMQ_CONSUMERS link whole

cmake_policy(GET CMP0099 _qmq_policy)
set_property(GLOBAL PROPERTY QMQ_CMP0099 "${_qmq_policy}")
cmake_policy(PUSH)
cmake_policy(VERSION 3.24) # The policies of what stands below, whatever those of the user are.

function(qmq_add_consumers target)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "LIBRARIES")
    if(arg_UNPARSED_ARGUMENTS)
        message(FATAL_ERROR "qmq_add_consumers(${target}): '${arg_UNPARSED_ARGUMENTS}' is not understood: "
            "it takes LIBRARIES and names of libraries.")
    endif()
    if(NOT TARGET ${target})
        message(FATAL_ERROR "qmq_add_consumers(${target}): there is no target of that name yet: call it behind add_executable.")
    endif()
    _qmq_real_name(${target} target)
    get_target_property(type ${target} TYPE)
    if(NOT type MATCHES "^(EXECUTABLE|SHARED_LIBRARY|MODULE_LIBRARY)$")
        message(FATAL_ERROR "qmq_add_consumers(${target}): name the program, not a library: the program decides what is linked.")
    endif()
    if("LIBRARIES" IN_LIST ARGN)
        set_property(TARGET ${target} PROPERTY QMQ_CONSUMERS_NAMED ON)
    endif()
    set_property(TARGET ${target} APPEND PROPERTY QMQ_CONSUMER_LIBRARIES ${arg_LIBRARIES})
    get_property(added TARGET ${target} PROPERTY QMQ_CONSUMERS)
    if(added)
        return()
    endif()
    set_property(TARGET ${target} PROPERTY QMQ_CONSUMERS ON)
    get_target_property(folder ${target} BINARY_DIR)
    set(source "${folder}/${target}_qmq_consumers.cc")
    file(CONFIGURE OUTPUT "${source}" CONTENT [=[
// Made by qmq_add_consumers(@target@).
extern "C" const char* qmq_consumers_were_added();
extern "C" const char* qmq_consumers_were_added() { return "@target@"; }
]=] @ONLY)
    target_sources(${target} PRIVATE "${source}")
    # The first walk sees what is imported in this folder only, the last one what is linked in folders that are read later.
    if(NOT CMAKE_CURRENT_SOURCE_DIR STREQUAL CMAKE_SOURCE_DIR)
        cmake_language(EVAL CODE "cmake_language(DEFER CALL _qmq_link_consumers_whole ${target} FIRST)")
    endif()
    cmake_language(EVAL CODE "cmake_language(DEFER DIRECTORY [[${CMAKE_SOURCE_DIR}]] CALL _qmq_link_consumers_whole ${target} LAST)")
endfunction()

# Walks what `target` links, and has the libraries with handlers linked whole. Only the LAST walk complains.
function(_qmq_link_consumers_whole target walk)
    _qmq_named_libraries(${target} ${walk} named)
    get_property(seen_before TARGET ${target} PROPERTY QMQ_CONSUMERS_SEEN)
    get_property(forgiving TARGET ${target} PROPERTY QMQ_CONSUMERS_NAMED)
    foreach(library IN LISTS named)
        _qmq_link_whole(${target} ${library})
    endforeach()
    set(seen "")
    set(unseen "")
    set(shared "")
    _qmq_links_of(${target} pending)
    list(APPEND pending ${named})
    list(LENGTH pending left) # Of a list with the one name "off" if() would say that it is false.
    while(left GREATER 0)
        list(POP_FRONT pending library)
        if(NOT library IN_LIST seen)
            list(APPEND seen "${library}")
            _qmq_is_ours("${library}" ours)
            if(ours)
                set(more "")
            elseif(TARGET "${library}")
                _qmq_may_declare_consumers(${library} declares)
                if(declares)
                    _qmq_link_whole(${target} ${library})
                endif()
                get_target_property(type ${library} TYPE)
                if(type MATCHES "^(SHARED_LIBRARY|EXECUTABLE)$") # What it links for itself is in it.
                    list(APPEND shared ${library})
                    _qmq_links_of(${library} more INTERFACE)
                else()
                    _qmq_links_of(${library} more)
                endif()
                list(APPEND pending ${more})
            elseif(NOT library IN_LIST seen_before)
                list(APPEND unseen "${library}")
            endif()
        endif()
        list(LENGTH pending left)
    endwhile()
    set_property(TARGET ${target} PROPERTY QMQ_CONSUMERS_SEEN "${seen}")
    if(walk STREQUAL "LAST" AND NOT forgiving)
        _qmq_report_unseen(${target} "${unseen}")
        foreach(library IN LISTS shared)
            _qmq_refuse_hidden(${target} ${library} "${seen}")
        endforeach()
    endif()
endfunction()

# The libraries that the user has named for `target`. They are linked, should they not be yet.
function(_qmq_named_libraries target walk result)
    get_property(named TARGET ${target} PROPERTY QMQ_CONSUMER_LIBRARIES)
    get_property(seen_before TARGET ${target} PROPERTY QMQ_CONSUMERS_SEEN)
    get_property(linked TARGET ${target} PROPERTY LINK_LIBRARIES)
    set(found "")
    foreach(library IN LISTS named)
        if(TARGET "${library}")
            _qmq_real_name(${library} library)
            get_target_property(type ${library} TYPE)
            if(type STREQUAL "INTERFACE_LIBRARY")
                message(FATAL_ERROR "qmq_add_consumers(${target} LIBRARIES …): ${library} is an interface library: name those behind it.")
            endif()
            if(NOT library IN_LIST linked) # Not by target_link_libraries, which may not be called in both of its forms.
                set_property(TARGET ${target} APPEND PROPERTY LINK_LIBRARIES ${library})
            endif()
            list(APPEND found ${library})
        elseif(walk STREQUAL "LAST" AND NOT library IN_LIST seen_before)
            message(FATAL_ERROR "qmq_add_consumers(${target} LIBRARIES …): there is no library target '${library}'.")
        endif()
    endforeach()
    set(${result} "${found}" PARENT_SCOPE)
endfunction()

# Has `library` linked whole by all programs with QMQ_CONSUMERS that link it.
#
# By an option and not by the feature WHOLE_ARCHIVE: CMake names an archive more than once, and the linker would take all of it each
# time. An option comes once to every program that links the library, however far away, and stands before the libraries.
function(_qmq_link_whole target library)
    get_target_property(type ${library} TYPE)
    if(type STREQUAL "SHARED_LIBRARY")
        set(state --no-as-needed) # Nothing refers to a handler: many compilers then leave the library out.
    elseif(type MATCHES "^(STATIC|UNKNOWN)_LIBRARY$")
        set(state --whole-archive)
        set_property(TARGET ${target} PROPERTY LINK_LIBRARY_OVERRIDE_${library} DEFAULT) # The user's WHOLE_ARCHIVE would be a second.
    else()
        return() # Of an object library all is linked.
    endif()
    set(options "SHELL:-Wl,--push-state,${state} \"$<TARGET_LINKER_FILE:${library}>\" -Wl,--pop-state")
    get_property(options_come_from_private GLOBAL PROPERTY QMQ_CMP0099)
    get_property(done TARGET ${library} PROPERTY QMQ_LINKED_WHOLE)
    if(NOT options_come_from_private STREQUAL "NEW") # Older than 3.17: the program has it, whatever the conditions.
        set_property(TARGET ${target} APPEND PROPERTY LINK_OPTIONS "${options}")
    elseif(NOT done)
        set_property(TARGET ${library} PROPERTY QMQ_LINKED_WHOLE ON)
        set_property(TARGET ${library} APPEND PROPERTY INTERFACE_LINK_OPTIONS
            "$<BUILD_INTERFACE:$<$<BOOL:$<TARGET_PROPERTY:QMQ_CONSUMERS>>:${options}>>")
    endif()
endfunction()

# What cannot be looked into: fails when it stands behind a generator expression, and names what is imported elsewhere only. (To
# fail for these would stop each project that finds its packages in the folders that need them.)
function(_qmq_report_unseen target names)
    set(elsewhere "")
    foreach(name IN LISTS names)
        if(name MATCHES "^unseen (.*)")
            message(FATAL_ERROR "qmq_add_consumers(${target}): cannot look for handlers in what ${CMAKE_MATCH_1} links by "
                "a generator expression. Name the libraries that declare consumers, if there are any: "
                "qmq_add_consumers(${target} LIBRARIES …).")
        endif()
        _qmq_is_imported_below("${CMAKE_SOURCE_DIR}" "${name}" imported)
        if(imported AND NOT name MATCHES "^qmq::")
            list(APPEND elsewhere ${name})
        endif()
    endforeach()
    if(elsewhere)
        list(JOIN elsewhere ", " elsewhere)
        message(STATUS "qmq_add_consumers(${target}): no look for handlers in ${elsewhere}, imported in other folders only "
            "(GLOBAL, or LIBRARIES, if they declare consumers)")
    endif()
endfunction()

# Fails when the shared library has an archive with handlers in it of which nobody has said that it is to be linked whole.
function(_qmq_refuse_hidden target library seen)
    get_property(added TARGET ${library} PROPERTY QMQ_CONSUMERS)
    get_target_property(imported ${library} IMPORTED)
    if(added OR imported)
        return()
    endif()
    _qmq_links_of(${library} pending)
    list(LENGTH pending left)
    while(left GREATER 0)
        list(POP_FRONT pending next)
        if(TARGET "${next}" AND NOT next IN_LIST seen)
            list(APPEND seen "${next}")
            _qmq_may_declare_consumers(${next} declares)
            if(declares)
                message(FATAL_ERROR "qmq_add_consumers(${target}): the shared library ${library} links ${next}, which may declare "
                    "consumers: call qmq_add_consumers(${library}), too.")
            endif()
            get_target_property(type ${next} TYPE)
            if(NOT type STREQUAL "SHARED_LIBRARY")
                _qmq_links_of(${next} more)
                list(APPEND pending ${more})
            endif()
        endif()
        list(LENGTH pending left)
    endwhile()
endfunction()

function(_qmq_is_imported_below folder name result)
    get_property(found DIRECTORY "${folder}" PROPERTY IMPORTED_TARGETS)
    get_property(folders DIRECTORY "${folder}" PROPERTY SUBDIRECTORIES)
    set(imported OFF)
    if(name IN_LIST found)
        set(imported ON)
    endif()
    foreach(below IN LISTS folders)
        if(NOT imported)
            _qmq_is_imported_below("${below}" "${name}" imported)
        endif()
    endforeach()
    set(${result} ${imported} PARENT_SCOPE)
endfunction()

# Whether `library` has code in it whose sources can include qmq/consumer.h, and which the linker may leave out.
function(_qmq_may_declare_consumers library result)
    set(${result} OFF PARENT_SCOPE)
    get_target_property(type ${library} TYPE)
    if(type STREQUAL "UNKNOWN_LIBRARY") # A find module did not say.
        get_target_property(location ${library} LOCATION)
        if(location MATCHES "\\.a$")
            set(type STATIC_LIBRARY)
        endif()
    endif()
    if(library MATCHES "^qmq(_|::)annotations$" OR NOT type MATCHES "^(STATIC|SHARED)_LIBRARY$")
        return()
    endif()
    get_property(added TARGET ${library} PROPERTY QMQ_CONSUMERS)
    _qmq_links_of(${library} pending)
    if(type STREQUAL "SHARED_LIBRARY")
        if(added OR "qmq::annotations" IN_LIST pending OR "qmq_annotations" IN_LIST pending)
            set(${result} ON PARENT_SCOPE)
        endif()
        return()
    endif()
    _qmq_objects_of(${library} SOURCES objects)
    list(APPEND pending ${objects})
    set(seen "")
    list(LENGTH pending left)
    while(left GREATER 0)
        list(POP_FRONT pending next)
        if(next MATCHES "^qmq(_|::)annotations$" OR next STREQUAL "unseen objects")
            set(${result} ON PARENT_SCOPE)
            return()
        endif()
        # What the walk from another library has shown not to lead there.
        get_property(leads_nowhere GLOBAL PROPERTY "QMQ_NO_CONSUMERS ${CMAKE_CURRENT_BINARY_DIR} ${next}")
        if(TARGET "${next}" AND NOT next IN_LIST seen AND NOT leads_nowhere)
            list(APPEND seen ${next})
            # The objects of an object library are in the archive: what it links counts as the archive's own.
            get_target_property(type ${next} TYPE)
            if(type STREQUAL "OBJECT_LIBRARY")
                _qmq_links_of(${next} more)
            else()
                _qmq_links_of(${next} more HEADERS)
            endif()
            _qmq_objects_of(${next} INTERFACE_SOURCES objects)
            list(APPEND pending ${more} ${objects})
        endif()
        list(LENGTH pending left)
    endwhile()
    foreach(next IN LISTS seen)
        set_property(GLOBAL PROPERTY "QMQ_NO_CONSUMERS ${CMAKE_CURRENT_BINARY_DIR} ${next}" ON)
    endforeach()
endfunction()

# _qmq_links_of(TARGET RESULT [INTERFACE | HEADERS])
#
# The libraries that `target` links. INTERFACE: those that it hands on. HEADERS: those whose headers come with its own. A target that
# hides some behind a generator expression has "unseen TARGET" among them.
function(_qmq_links_of target result)
    get_target_property(type ${target} TYPE)
    get_target_property(imported ${target} IMPORTED)
    set(properties INTERFACE_LINK_LIBRARIES INTERFACE_LINK_LIBRARIES_DIRECT)
    if(imported)
        list(APPEND properties IMPORTED_LINK_INTERFACE_LIBRARIES)
        get_target_property(configurations ${target} IMPORTED_CONFIGURATIONS)
        foreach(configuration IN LISTS configurations)
            list(APPEND properties IMPORTED_LINK_INTERFACE_LIBRARIES_${configuration})
        endforeach()
    elseif(NOT ARGN AND NOT type STREQUAL "INTERFACE_LIBRARY")
        list(APPEND properties LINK_LIBRARIES)
    endif()
    set(all "")
    foreach(property IN LISTS properties)
        get_property(links TARGET ${target} PROPERTY ${property})
        list(APPEND all ${links})
    endforeach()
    _qmq_names_in("${all}" found ${ARGN})
    list(TRANSFORM found REPLACE "^\\?$" "unseen ${target}")
    set(${result} "${found}" PARENT_SCOPE)
endfunction()

# The object libraries whose objects stand in a property of sources of `target`; "unseen objects" when they cannot be known.
function(_qmq_objects_of target property result)
    get_property(sources TARGET ${target} PROPERTY ${property})
    set(found "")
    if(sources MATCHES "TARGET_OBJECTS:")
        _qmq_names_in("${sources}" names)
        foreach(name IN LISTS names)
            if(name STREQUAL "?")
                list(APPEND found "unseen objects")
            elseif(TARGET "${name}")
                list(APPEND found "${name}")
            endif()
        endforeach()
    endif()
    set(${result} "${found}" PARENT_SCOPE)
endfunction()

# _qmq_names_in(LINKS RESULT [HEADERS])
#
# What a list of libraries names when each condition in it holds, aliases resolved; "?" stands for what is known only when the
# build files are written. Works from the innermost generator expression to the outermost.
function(_qmq_names_in links result)
    string(REGEX REPLACE "\\$([^<]|$)" "!\\1" links "${links}") # No expression, as in -Wl,-rpath,$ORIGIN.
    while(links MATCHES "\\$<([^$<>]*)>")
        set(expression "${CMAKE_MATCH_0}")
        string(REGEX MATCH "^([A-Za-z0-9_-]*)(:?)(.*)$" inner "${CMAKE_MATCH_1}")
        set(operator "${CMAKE_MATCH_1}")
        set(colon "${CMAKE_MATCH_2}")
        set(content "${CMAKE_MATCH_3}")
        string(FIND "${links}" "${expression}" begin)
        string(LENGTH "${expression}" length)
        math(EXPR end "${begin} + ${length}")
        string(SUBSTRING "${links}" 0 ${begin} head)
        string(SUBSTRING "${links}" ${end} -1 tail)
        if(operator MATCHES "^(ANGLE-R|COMMA|QUOTE)$")
            set(content "!") # In no name of a target.
        elseif(operator STREQUAL "SEMICOLON")
            set(content ";")
        elseif(head MATCHES "([^;,:<]|::)$" OR tail MATCHES "^[^;,:>]")
            set(content "?") # A part of a name.
        elseif(operator MATCHES "^(0|1|BUILD_INTERFACE|BUILD_LOCAL_INTERFACE|COMPILE_ONLY|TARGET_NAME|TARGET_NAME_IF_EXISTS|TARGET_OBJECTS)$")
            # The content as it is.
        elseif(operator STREQUAL "LINK_ONLY")
            if("HEADERS" IN_LIST ARGN)
                set(content "")
            endif()
        elseif(operator MATCHES "^(IF|LINK_LIBRARY|LINK_GROUP)$") # Behind the condition or the feature.
            string(REGEX MATCH "^[^,]*,(.*)$" content "${content}")
            string(REPLACE "," ";" content "${CMAKE_MATCH_1}")
        elseif(operator STREQUAL "INSTALL_INTERFACE")
            set(content "")
        elseif(colon AND operator MATCHES "^(BOOL|NOT|AND|OR|CONFIG|STREQUAL|EQUAL|IN_LIST|PATH_EQUAL|VERSION_.*|PLATFORM_ID|TARGET_EXISTS|TARGET_POLICY|COMPILE_.*|LINK_LANG.*|.*_COMPILER_.*|DEVICE_LINK|HOST_LINK)$")
            set(content 1)
        else()
            set(content "?")
        endif()
        set(links "${head}${content}${tail}")
    endwhile()
    set(found "")
    foreach(name IN LISTS links)
        if(name MATCHES "^-|/|^::@|^$") # A flag, a path; or in which folder names are to be looked up.
            continue()
        elseif(name MATCHES "[?]|[$]<")
            set(name "?")
        elseif(TARGET "${name}")
            _qmq_real_name(${name} name)
        endif()
        list(APPEND found "${name}")
    endforeach()
    list(REMOVE_DUPLICATES found)
    set(${result} "${found}" PARENT_SCOPE)
endfunction()

# Whether `library` is one of this project, in which there are no handlers.
function(_qmq_is_ours library result)
    get_property(components GLOBAL PROPERTY QMQ_EXPORTED) # In the project's own build.
    string(REGEX REPLACE "^qmq(_|::)" "" component "${library}")
    set(${result} OFF PARENT_SCOPE)
    if(library MATCHES "^qmq::" OR library MATCHES "^qmq_" AND component IN_LIST components)
        set(${result} ON PARENT_SCOPE)
    endif()
endfunction()

# The target that a name stands for.
function(_qmq_real_name name result)
    get_property(aliased TARGET ${name} PROPERTY ALIASED_TARGET)
    if(NOT "${aliased}" STREQUAL "")
        set(name ${aliased})
    endif()
    set(${result} ${name} PARENT_SCOPE)
endfunction()

cmake_policy(POP)
