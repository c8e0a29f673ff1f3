# postern_room(NAME SOURCES ... USES room ... LIBRARIES target ...)
#   One static library postern_NAME. Headers are included as "NAME/file.hpp" from the top of the tree.
#   USES are other rooms (public), LIBRARIES are third-party targets (private: no other room may lean on them).
# postern_program(NAME SOURCES ... USES room ... LIBRARIES target ...)
# postern_test(NAME SOURCES ... USES room ... LIBRARIES target ...)   one doctest executable and one ctest entry
# postern_fuzzer(NAME SOURCES ... USES room ...)                      one libFuzzer target, with -DPOSTERN_FUZZ=ON
add_library(postern_options INTERFACE)
target_compile_options(postern_options INTERFACE -Wall -Wextra -Wconversion -Werror -fno-omit-frame-pointer
  -fstack-protector-strong)
# -Wno-restrict: GCC bug 105651. clang alone has -Wsign-conversion in -Wconversion, and looks for missing initializers inside
# the macros of libbpf and libseccomp; both compilers shall judge alike.
target_compile_options(postern_options INTERFACE
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict> $<$<CXX_COMPILER_ID:Clang>:-Wno-sign-conversion>
  $<$<CXX_COMPILER_ID:Clang>:-Wno-missing-field-initializers>)
# Where the files of a room are compiled several at a time, GCC takes their unnamed namespaces for a header's.
if(CMAKE_UNITY_BUILD)
  target_compile_options(postern_options INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
endif()
if(CMAKE_BUILD_TYPE STREQUAL "Release")
  target_compile_definitions(postern_options INTERFACE _FORTIFY_SOURCE=2)
endif()
target_include_directories(postern_options INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
target_link_options(postern_options INTERFACE -Wl,-z,relro,-z,now)
if(POSTERN_SANITIZE)
  target_compile_options(postern_options INTERFACE -fsanitize=${POSTERN_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(postern_options INTERFACE -fsanitize=${POSTERN_SANITIZE})
  # AddressSanitizer stops at a null pointer and past an object's end too; said twice it costs a third of the compile time.
  target_compile_options(postern_options INTERFACE -fno-sanitize=null,vptr,object-size)
  # GCC sees uninitialized members of std::regex once its own checks are in between (GCC bug 105562).
  target_compile_options(postern_options INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
endif()
if(POSTERN_FUZZ)
  target_compile_options(postern_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

function(postern_room NAME)
  cmake_parse_arguments(ARG "" "" "SOURCES;USES;LIBRARIES" ${ARGN})
  add_library(postern_${NAME} STATIC ${ARG_SOURCES})
  list(TRANSFORM ARG_USES PREPEND postern_)
  target_link_libraries(postern_${NAME} PUBLIC postern_options ${ARG_USES} PRIVATE ${ARG_LIBRARIES})
endfunction()

function(postern_program NAME)
  cmake_parse_arguments(ARG "" "" "SOURCES;USES;LIBRARIES" ${ARGN})
  add_executable(${NAME} ${ARG_SOURCES})
  list(TRANSFORM ARG_USES PREPEND postern_)
  target_link_libraries(${NAME} PRIVATE postern_options ${ARG_USES} ${ARG_LIBRARIES})
  install(TARGETS ${NAME})
endfunction()

function(postern_test NAME)
  if(NOT POSTERN_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;USES;LIBRARIES" ${ARGN})
  add_executable(${NAME} ${ARG_SOURCES} ${PROJECT_SOURCE_DIR}/tests/doctest_main.cpp)
  list(TRANSFORM ARG_USES PREPEND postern_)
  target_link_libraries(${NAME} PRIVATE postern_options ${ARG_USES} ${ARG_LIBRARIES} doctest::doctest)
  set_target_properties(${NAME} PROPERTIES UNITY_BUILD OFF)  # tests name their helpers alike, and may
  target_compile_options(${NAME} PRIVATE -O1)  # nobody waits for a test's own code, but everybody for its compiler
  add_test(NAME ${NAME} COMMAND ${NAME})
endfunction()

function(postern_fuzzer NAME)
  if(NOT POSTERN_FUZZ)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;USES;LIBRARIES" ${ARGN})
  add_executable(${NAME} ${ARG_SOURCES})
  list(TRANSFORM ARG_USES PREPEND postern_)
  target_link_libraries(${NAME} PRIVATE postern_options ${ARG_USES} ${ARG_LIBRARIES})
  target_link_options(${NAME} PRIVATE -fsanitize=fuzzer)
endfunction()
