// Network namespaces for the tests of loader/: made by the test process itself, without a name, gone with it.
#pragma once

#include <chrono>
#include <cstdlib>
#include <string>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.hpp"
#include "base/fd.hpp"

namespace postern::net_test {

inline Fd current_namespace() { return Fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)); }

// This thread is in another namespace while it lives.
class Inside {
 public:
  explicit Inside(int fd) : before_(current_namespace()) { REQUIRE(::setns(fd, CLONE_NEWNET) == 0); }
  ~Inside() { (void)::setns(before_.get(), CLONE_NEWNET); }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

 private:
  Fd before_;
};

class Namespace {
 public:
  Namespace() {
    const Fd before = current_namespace();
    REQUIRE(::unshare(CLONE_NEWNET) == 0);
    fd_ = current_namespace();
    REQUIRE(::setns(before.get(), CLONE_NEWNET) == 0);
  }
  [[nodiscard]] int fd() const { return fd_.get(); }
  // For `ip link set ... netns PATH`.
  [[nodiscard]] std::string path() const {
    return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(fd_.get());
  }
  template <class Do>
  auto run(Do work) const {
    const Inside inside(fd_.get());
    return work();
  }

 private:
  Fd fd_;
};

// The test itself in a namespace of its own.
struct OwnNamespace {
  Namespace made;
  Inside inside{made.fd()};
};

// A command line in this thread's namespace; true: it exited with 0.
[[nodiscard]] inline bool succeeds(const std::string& command) {
  const int status = std::system(command.c_str());
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
inline void shell(const std::string& command) {
  CAPTURE(command);
  REQUIRE(succeeds(command));
}

// Until the kernel has noticed the carrier of a new cable, what is sent over it is dropped.
inline void until_it_carries(const std::string& device) {
  shell("timeout 10 sh -c 'until ip link show dev " + device + " | grep -q \"state UP\"; do :; done'");
}

[[nodiscard]] inline bool readable(int fd, Duration patience) {
  pollfd one{fd, POLLIN, 0};
  return ::poll(&one, 1, static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(patience).count())) > 0;
}

}  // namespace postern::net_test

// What follows needs root: namespaces and devices. Says so where it is not.
#define POSTERN_NEEDS_ROOT()                                      \
  do {                                                            \
    if (::geteuid() != 0) {                                       \
      MESSAGE("skipped: needs root to make a network namespace"); \
      return;                                                     \
    }                                                             \
  } while (false)

// The value of a Result, or the test ends with its message.
#define POSTERN_GET(variable, expression)                                                             \
  auto variable##_or = (expression);                                                                  \
  REQUIRE_MESSAGE(variable##_or.has_value(), (variable##_or ? "" : variable##_or.error().message())); \
  auto variable = std::move(*variable##_or)

#define POSTERN_OK(expression)                                                                             \
  do {                                                                                                     \
    const auto checked_result = (expression);                                                              \
    REQUIRE_MESSAGE(checked_result.has_value(), (checked_result ? "" : checked_result.error().message())); \
  } while (false)
