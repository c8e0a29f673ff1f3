#include "ike/sandbox.hpp"

#include <array>

#include <seccomp.h>

#include "base/cage.hpp"

namespace postern::ike {
namespace {

// What an epoll loop over sockets that it was given needs, locked pages for keys, and the C library under it. No open,
// no socket, no bpf, no clone, no exec.
constexpr std::array allowed_calls = {
    SCMP_SYS(accept4),        SCMP_SYS(brk),
    SCMP_SYS(clock_gettime),  SCMP_SYS(clock_nanosleep),
    SCMP_SYS(close),          SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_pwait),    SCMP_SYS(epoll_wait),
    SCMP_SYS(exit),           SCMP_SYS(exit_group),
    SCMP_SYS(fcntl),          SCMP_SYS(fstat),
    SCMP_SYS(futex),          SCMP_SYS(getpid),
    SCMP_SYS(getrandom),      SCMP_SYS(getsockname),
    SCMP_SYS(getsockopt),     SCMP_SYS(gettid),
    SCMP_SYS(gettimeofday),   SCMP_SYS(madvise),
    SCMP_SYS(memfd_create),  // an answer that is longer than a datagram
    SCMP_SYS(mlock),          SCMP_SYS(mlock2),
    SCMP_SYS(mremap),         SCMP_SYS(munmap),
    SCMP_SYS(newfstatat),     SCMP_SYS(poll),
    SCMP_SYS(read),           SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),        SCMP_SYS(restart_syscall),
    SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sendmsg),        SCMP_SYS(sendto),
    SCMP_SYS(write),          SCMP_SYS(writev),
};

constexpr CageUser ike_user{"postern", "nobody"};

}  // namespace

Result<void> enter_sandbox() { return enter_cage(ike_user, allowed_calls); }

}  // namespace postern::ike
