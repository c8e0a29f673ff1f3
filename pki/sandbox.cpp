#include <array>

#include <seccomp.h>

#include "base/cage.hpp"
#include "pki/daemon.hpp"

namespace postern::pki {
namespace {

// An epoll loop over sockets and files that it was given. No open, no socket, no connect, no clone, no exec.
constexpr std::array pki_calls = {
    SCMP_SYS(accept4),      SCMP_SYS(brk),          SCMP_SYS(clock_gettime),   SCMP_SYS(clock_nanosleep),
    SCMP_SYS(close),        SCMP_SYS(epoll_ctl),    SCMP_SYS(epoll_pwait),     SCMP_SYS(epoll_wait),
    SCMP_SYS(exit),         SCMP_SYS(exit_group),   SCMP_SYS(fcntl),           SCMP_SYS(fstat),
    SCMP_SYS(futex),        SCMP_SYS(getpid),       SCMP_SYS(getrandom),       SCMP_SYS(getsockopt),
    SCMP_SYS(gettid),       SCMP_SYS(gettimeofday), SCMP_SYS(madvise),
    SCMP_SYS(memfd_create),  // an answer that is longer than a datagram
    SCMP_SYS(mlock),        SCMP_SYS(mlock2),       SCMP_SYS(mremap),          SCMP_SYS(munlock),
    SCMP_SYS(munmap),       SCMP_SYS(newfstatat),   SCMP_SYS(pread64),         SCMP_SYS(read),
    SCMP_SYS(recvfrom),     SCMP_SYS(recvmsg),      SCMP_SYS(restart_syscall), SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn), SCMP_SYS(sendmsg),      SCMP_SYS(sendto),          SCMP_SYS(write),
    SCMP_SYS(writev),
};
constexpr CageUser pki_user{"postern-pki", nullptr, 65533};  // else not the "nobody" of the other children

}  // namespace

Result<void> enter_sandbox() { return enter_cage(pki_user, pki_calls); }

}  // namespace postern::pki
