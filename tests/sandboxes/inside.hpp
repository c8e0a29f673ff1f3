// What becomes of a system call in a process that has entered its sandbox.
#pragma once

#include <cerrno>

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/result.hpp"

namespace postern::test {

// 0: it was done. An errno: it was refused. `killed`: the filter ended the process.
constexpr int killed = 1000;
constexpr int no_sandbox = 1001;  // it could not be entered

// Makes one system call; 0 or its errno.
using Attempt = int (*)();

template <class... Arguments>
int call(long number, Arguments... arguments) {
  errno = 0;
  return ::syscall(number, arguments...) >= 0 ? 0 : errno;
}

// In a child process of this one. `enter` may be nullptr: without a sandbox.
inline int inside(Result<void> (*enter)(), Attempt attempt) {
  constexpr int not_entered = 255;  // no errno is as large
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    if (enter != nullptr && !enter()) ::_exit(not_entered);
    ::_exit(attempt());
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  if (WIFSIGNALED(status)) {
    CHECK(WTERMSIG(status) == SIGSYS);
    return killed;
  }
  return WEXITSTATUS(status) == not_entered ? no_sandbox : WEXITSTATUS(status);
}

}  // namespace postern::test
