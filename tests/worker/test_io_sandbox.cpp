// The cage, each time in a child process: what is on the list works, what is not ends it and is named.
#include <csignal>
#include <functional>
#include <string>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.hpp"
#include "worker/sandbox.hpp"

using namespace postern;

namespace {

struct Outcome {
  int exit = -1;
  std::string said;
};

Outcome in_cage(const std::function<bool()>& deed) {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  Fd reader(ends[0]), writer(ends[1]);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::dup2(writer.get(), STDERR_FILENO);
    if (!open_sandbox() || !close_sandbox()) ::_exit(99);
    ::_exit(deed() ? 0 : 1);
  }
  writer.reset();
  Outcome out;
  char buffer[256];
  for (ssize_t got; (got = ::read(reader.get(), buffer, sizeof buffer)) > 0;)
    out.said.append(buffer, static_cast<std::size_t>(got));
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  out.exit = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  return out;
}

void* anonymous(int protection) { return ::mmap(nullptr, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }

}  // namespace

TEST_CASE("sandbox: what the worker does is allowed") {
  CHECK(in_cage([] {
          char bytes[16];
          return ::getrandom(bytes, sizeof bytes, 0) == sizeof bytes &&
                 anonymous(PROT_READ | PROT_WRITE) != MAP_FAILED &&
                 ::close(::fcntl(STDERR_FILENO, F_GETFL) < 0 ? -1 : STDIN_FILENO) == 0;
        }).exit == 0);
}

TEST_CASE("sandbox: what it does not do ends the process, and is named") {
  const int killed = 128 + SIGSYS;
  const auto check = [&](const char* name, const std::function<bool()>& deed) {
    CAPTURE(name);
    const Outcome outcome = in_cage(deed);
    CHECK(outcome.exit == killed);
    CHECK(outcome.said.find(std::string("forbidden system call: ") + name) != std::string::npos);
  };
  check("socket", [] { return ::socket(AF_INET, SOCK_DGRAM, 0) >= 0; });
  check("openat", [] { return ::open("/etc/passwd", O_RDONLY) >= 0; });
  check("execve", [] { return ::execl("/bin/true", "true", nullptr) == 0; });
  check("mmap", [] { return anonymous(PROT_READ | PROT_WRITE | PROT_EXEC) != MAP_FAILED; });
  check("clone", [] { return ::fork() >= 0; });
  check("setsockopt", [] {
    const int on = 1;
    return ::setsockopt(0, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0;
  });
  check("kill", [] { return ::kill(1, 0) == 0; });
}
