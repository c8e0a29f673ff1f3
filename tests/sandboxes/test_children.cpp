// The cages of postern-ike, postern-pki and postern-resolver: what each does not need ends it.
#include <array>
#include <string>

#include <fcntl.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>

#include "ike/sandbox.hpp"
#include "pki/daemon.hpp"
#include "resolver/daemon.hpp"
#include "tests/sandboxes/inside.hpp"

using namespace postern;
using test::call;
using test::inside;

namespace {

struct Case {
  const char* what;
  test::Attempt attempt;
};

int execute() {
  char program[] = "/bin/true";
  char* const words[] = {program, nullptr};
  return call(SYS_execve, program, words, nullptr);
}

int executable_memory() {
  return call(SYS_mmap, nullptr, 4096L, long{PROT_READ | PROT_EXEC}, long{MAP_PRIVATE | MAP_ANONYMOUS}, -1L, 0L);
}

int made_executable() {
  void* const page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return page == MAP_FAILED ? errno : call(SYS_mprotect, page, 4096L, long{PROT_READ | PROT_EXEC});
}

// Forbidden to all three.
constexpr std::array forbidden = {
    Case{"a raw packet socket", [] { return call(SYS_socket, AF_PACKET, SOCK_RAW, 0); }},
    Case{"a file opened for writing", [] { return call(SYS_openat, AT_FDCWD, "/dev/null", O_WRONLY); }},
    Case{"a file created", [] { return call(SYS_openat, AT_FDCWD, "/dev/shm/postern", O_RDONLY | O_CREAT, 0600); }},
    Case{"execve", execute},
    Case{"ptrace", [] { return call(SYS_ptrace, PTRACE_TRACEME, 0, nullptr, nullptr); }},
    Case{"another process's memory",
         [] { return call(SYS_process_vm_readv, ::getppid(), nullptr, 0L, nullptr, 0L, 0L); }},
    Case{"fork", [] { return call(SYS_fork); }},
    Case{"a process by clone", [] { return call(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr); }},
    Case{"a signal", [] { return call(SYS_kill, ::getpid(), 0); }},
    Case{"bpf", [] { return call(SYS_bpf, 0, nullptr, 0); }},
    Case{"an io_uring", [] { return call(SYS_io_uring_setup, 1, nullptr); }},
    Case{"root again", [] { return call(SYS_setuid, 0); }},
    Case{"a mount", [] { return call(SYS_mount, "none", "/", "tmpfs", 0L, nullptr); }},
    Case{"a listening socket", [] { return call(SYS_listen, 0, 1); }},
    Case{"memory that can be executed", executable_memory},
    Case{"memory made executable", made_executable},
};

// Forbidden to those that get their sockets and files from posternd.
constexpr std::array forbidden_without_network = {
    Case{"a UDP socket", [] { return call(SYS_socket, AF_INET, SOCK_DGRAM, 0); }},
    Case{"a local socket", [] { return call(SYS_socket, AF_UNIX, SOCK_STREAM, 0); }},
    Case{"connect", [] { return call(SYS_connect, 0, nullptr, 0); }},
    Case{"bind", [] { return call(SYS_bind, 0, nullptr, 0); }},
    Case{"a file opened for reading", [] { return call(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY); }},
    Case{"a thread", [] { return call(SYS_clone3, nullptr, 0L); }},
};

constexpr std::array allowed = {
    Case{"memory",
         [] {
           return call(SYS_mmap, nullptr, 4096L, long{PROT_READ | PROT_WRITE}, long{MAP_PRIVATE | MAP_ANONYMOUS}, -1L,
                       0L);
         }},
    Case{"its pid", [] { return call(SYS_getpid); }},
};

template <std::size_t count>
void check_each(Result<void> (*enter)(), const std::array<Case, count>& cases, int wanted) {
  for (const Case& one : cases) {
    CAPTURE(std::string(one.what));
    CHECK(inside(enter, one.attempt) == wanted);
  }
}

}  // namespace

TEST_CASE("postern-ike is ended by what it does not need") {
  check_each(ike::enter_sandbox, forbidden, test::killed);
  check_each(ike::enter_sandbox, forbidden_without_network, test::killed);
  check_each(ike::enter_sandbox, allowed, 0);
}

TEST_CASE("postern-pki is ended by what it does not need") {
  check_each(pki::enter_sandbox, forbidden, test::killed);
  check_each(pki::enter_sandbox, forbidden_without_network, test::killed);
  check_each(pki::enter_sandbox, allowed, 0);
}

TEST_CASE("postern-resolver asks name servers and reads files, and nothing else") {
  check_each(resolver::enter_sandbox, forbidden, test::killed);
  check_each(resolver::enter_sandbox, allowed, 0);
  CHECK(inside(resolver::enter_sandbox, [] { return call(SYS_socket, AF_INET, SOCK_DGRAM, 0); }) == 0);
  CHECK(inside(resolver::enter_sandbox, [] { return call(SYS_socket, AF_INET6, SOCK_DGRAM, 0); }) == 0);
  CHECK(inside(resolver::enter_sandbox, [] { return call(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY); }) == 0);
  // The C library asks for these and goes another way when it is told no.
  CHECK(inside(resolver::enter_sandbox, [] { return call(SYS_socket, AF_UNIX, SOCK_STREAM, 0); }) == EAFNOSUPPORT);
  CHECK(inside(resolver::enter_sandbox, [] { return call(SYS_clone3, nullptr, 0L); }) == ENOSYS);
}

TEST_CASE("without a sandbox none of this ends a process") {
  for (const Case& one : forbidden) {
    CAPTURE(std::string(one.what));
    if (std::string(one.what) == "a process by clone" || std::string(one.what) == "fork")
      continue;  // two would come back
    CHECK(inside(nullptr, one.attempt) != test::killed);
  }
  CHECK(inside(nullptr, [] { return call(SYS_ptrace, PTRACE_TRACEME, 0, nullptr, nullptr); }) == 0);
  CHECK(inside(nullptr, execute) == 0);
  CHECK(inside(nullptr, executable_memory) == 0);
}
