#include <array>

#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/cage.hpp"
#include "resolver/daemon.hpp"

namespace postern::resolver {
namespace {

// An epoll loop, threads, getaddrinfo(3), which reads files of /etc and talks to name servers, and libcurl's HTTP. No
// file is written, no program started; what has arguments that matter is below.
constexpr std::array resolver_calls = {
    SCMP_SYS(accept4),
    SCMP_SYS(bind),
    SCMP_SYS(brk),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(close),
    SCMP_SYS(connect),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(fcntl),
    SCMP_SYS(fstat),
    SCMP_SYS(futex),
    SCMP_SYS(getegid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getpeername),
    SCMP_SYS(getpid),
    SCMP_SYS(getrandom),
    SCMP_SYS(getsockname),
    SCMP_SYS(getsockopt),
    SCMP_SYS(gettid),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(getuid),
    SCMP_SYS(lseek),
    SCMP_SYS(madvise),
    SCMP_SYS(mremap),
    SCMP_SYS(munmap),
    SCMP_SYS(newfstatat),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(pread64),
    SCMP_SYS(read),
    SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(rseq),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sendmmsg),
    SCMP_SYS(sendmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(setsockopt),
    SCMP_SYS(sysinfo),
    SCMP_SYS(uname),
    SCMP_SYS(write),
    SCMP_SYS(writev),
};
constexpr CageUser resolver_user{"postern-resolver", nullptr, 65532};  // else not the "nobody" of the other children

Result<void> allow(scmp_filter_ctx filter, std::uint32_t action, int call, const scmp_arg_cmp& only) {
  if (const int code = seccomp_rule_add_array(filter, action, call, 1, &only); code != 0)
    return fail("seccomp: allow a system call", -code);
  return {};
}

// Sockets to name servers and web servers, and the kernel's list of addresses, by which the C library sorts; not
// nscd's; pairs of Unix sockets, by which libcurl's threads wake each other. Files are opened for reading. Threads are
// made, processes are not: clone3's flags are in memory, where a filter cannot look.
Result<void> more_calls(void* filter) {
  for (const scmp_datum_t family : {AF_INET, AF_INET6, AF_NETLINK})
    POSTERN_CHECK(allow(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), SCMP_A0(SCMP_CMP_EQ, family)));
  POSTERN_CHECK(allow(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), SCMP_A0(SCMP_CMP_EQ, AF_UNIX)));
  POSTERN_CHECK(allow(filter, SCMP_ACT_ALLOW, SCMP_SYS(socketpair), SCMP_A0(SCMP_CMP_EQ, AF_UNIX)));
  POSTERN_CHECK(allow(filter, SCMP_ACT_ALLOW, SCMP_SYS(openat),
                      SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY)));
  POSTERN_CHECK(allow(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), SCMP_A1(SCMP_CMP_EQ, FIONREAD)));
  POSTERN_CHECK(allow(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone),
                      SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD | CLONE_VM, CLONE_THREAD | CLONE_VM)));
  if (const int code = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0); code != 0)
    return fail("seccomp: refuse clone3", -code);
  return {};
}

}  // namespace

Result<void> enter_sandbox() { return enter_cage(resolver_user, resolver_calls, more_calls); }

}  // namespace postern::resolver
