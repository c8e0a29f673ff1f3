// posternd, when its node is up: calls that it never makes again are refused, those that it needs are not.
#include <array>
#include <string>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "loader/privileges.hpp"
#include "tests/sandboxes/inside.hpp"

using namespace postern;
using test::call;
using test::inside;

namespace {

int read_own_memory() {
  int from = 7;
  int to = 0;
  const iovec local{&to, sizeof to};
  const iovec remote{&from, sizeof from};
  return call(SYS_process_vm_readv, ::getpid(), &local, 1L, &remote, 1L, 0L);
}

int trace_me() { return call(SYS_ptrace, PTRACE_TRACEME, 0, nullptr, nullptr); }

// With arguments that the kernel would find bad, and say so with another errno, before it looked at the caller or
// after.
template <long number>
int empty_call() {
  return call(number, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr);
}

}  // namespace

TEST_CASE("posternd: what it never does again is refused, also where anybody may") {
  CHECK(inside(nullptr, trace_me) == 0);
  CHECK(inside(nullptr, read_own_memory) == 0);
  CHECK(inside(loader::drop_privileges, trace_me) == EPERM);
  CHECK(inside(loader::drop_privileges, read_own_memory) == EPERM);
  CHECK(inside(loader::drop_privileges, empty_call<SYS_process_vm_writev>) == EPERM);
}

TEST_CASE("posternd: administration of the machine is refused") {
  for (const test::Attempt attempt : {empty_call<SYS_kexec_load>,    empty_call<SYS_kexec_file_load>,
                                      empty_call<SYS_init_module>,   empty_call<SYS_finit_module>,
                                      empty_call<SYS_delete_module>, empty_call<SYS_mount>,
                                      empty_call<SYS_umount2>,       empty_call<SYS_pivot_root>,
                                      empty_call<SYS_chroot>,        empty_call<SYS_move_mount>,
                                      empty_call<SYS_open_tree>,     empty_call<SYS_fsopen>,
                                      empty_call<SYS_fsmount>,       empty_call<SYS_reboot>,
                                      empty_call<SYS_swapon>,        empty_call<SYS_settimeofday>,
                                      empty_call<SYS_clock_settime>, empty_call<SYS_adjtimex>,
                                      empty_call<SYS_syslog>,        empty_call<SYS_iopl>,
                                      empty_call<SYS_userfaultfd>,   empty_call<SYS_add_key>,
                                      empty_call<SYS_keyctl>,        empty_call<SYS_perf_event_open>})
    CHECK(inside(loader::drop_privileges, attempt) == EPERM);
}

TEST_CASE("posternd: what it needs it still may") {
  CHECK(inside(loader::drop_privileges, [] { return call(SYS_socket, AF_NETLINK, SOCK_RAW, 0); }) == 0);
  CHECK(inside(loader::drop_privileges, [] { return call(SYS_openat, AT_FDCWD, "/dev/null", O_WRONLY); }) == 0);
  CHECK(inside(loader::drop_privileges, [] { return ::fork() < 0 ? errno : 0; }) == 0);
}

TEST_CASE("posternd: no core file, no tracer, no file for others, from the first moment") {
  CHECK(inside(nullptr, [] {
          loader::protect_process();
          rlimit limit{1, 1};
          ::getrlimit(RLIMIT_CORE, &limit);
          return limit.rlim_cur == 0 && limit.rlim_max == 0 && ::prctl(PR_GET_DUMPABLE) == 0 && ::umask(0) == 077 ? 0
                                                                                                                  : 1;
        }) == 0);
}
