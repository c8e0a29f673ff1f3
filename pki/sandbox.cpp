#include <array>
#include <memory>

#include <cap-ng.h>
#include <pwd.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "pki/daemon.hpp"

namespace postern::pki {
namespace {

// An epoll loop over sockets and files that it was given. No open, no socket, no connect, no clone, no exec.
constexpr std::array pki_calls = {
    SCMP_SYS(accept4),         SCMP_SYS(brk),          SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_nanosleep), SCMP_SYS(close),        SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_pwait),     SCMP_SYS(epoll_wait),   SCMP_SYS(exit),
    SCMP_SYS(exit_group),      SCMP_SYS(fcntl),        SCMP_SYS(fstat),
    SCMP_SYS(futex),           SCMP_SYS(getpid),       SCMP_SYS(getrandom),
    SCMP_SYS(getsockopt),      SCMP_SYS(gettid),       SCMP_SYS(gettimeofday),
    SCMP_SYS(madvise),         SCMP_SYS(mlock),        SCMP_SYS(mlock2),
    SCMP_SYS(mremap),          SCMP_SYS(munlock),      SCMP_SYS(munmap),
    SCMP_SYS(newfstatat),      SCMP_SYS(pread64),      SCMP_SYS(read),
    SCMP_SYS(recvfrom),        SCMP_SYS(recvmsg),      SCMP_SYS(restart_syscall),
    SCMP_SYS(rt_sigprocmask),  SCMP_SYS(rt_sigreturn), SCMP_SYS(sendmsg),
    SCMP_SYS(sendto),          SCMP_SYS(write),        SCMP_SYS(writev),
};
constexpr int nobody_else = 65533;  // where the user does not exist: not the "nobody" of the other children

Result<void> load_pki_filter() {
  const std::unique_ptr<void, decltype(&seccomp_release)> filter(seccomp_init(SCMP_ACT_KILL_PROCESS), seccomp_release);
  if (!filter) return fail("seccomp: out of memory", ENOMEM);
  for (const int call : pki_calls)
    if (const int code = seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, call, 0); code != 0)
      return fail("seccomp: allow a system call", -code);
  // Memory, but never executable memory.
  for (const int call : {SCMP_SYS(mmap), SCMP_SYS(mprotect)})
    if (const int code =
            seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, call, 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
        code != 0)
      return fail("seccomp: allow memory", -code);
  if (const int code = seccomp_load(filter.get()); code != 0) return fail("seccomp: load", -code);
  return {};
}

Result<void> become_pki_user() {
  const passwd* const user = ::getpwnam("postern-pki");
  const int uid = user != nullptr ? static_cast<int>(user->pw_uid) : nobody_else;
  const int gid = user != nullptr ? static_cast<int>(user->pw_gid) : nobody_else;
  capng_clear(CAPNG_SELECT_ALL);
  const auto flags = static_cast<capng_flags_t>(CAPNG_DROP_SUPP_GRP | CAPNG_CLEAR_BOUNDING);
  if (const int code = capng_change_id(uid, gid, flags); code != 0)
    return fail("drop privileges: capng_change_id says " + std::to_string(code), EPERM);
  capng_clear(CAPNG_SELECT_ALL);
  if (capng_apply(CAPNG_SELECT_ALL) != 0) return fail("drop capabilities", EPERM);
  return {};
}

}  // namespace

Result<void> enter_sandbox() {
  const rlimit none{0, 0};
  if (::setrlimit(RLIMIT_CORE, &none) != 0) return fail_errno("RLIMIT_CORE");
  if (::geteuid() == 0) POSTERN_CHECK(become_pki_user());
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return fail_errno("no_new_privs");
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return fail_errno("PR_SET_DUMPABLE");
  return load_pki_filter();
}

}  // namespace postern::pki
