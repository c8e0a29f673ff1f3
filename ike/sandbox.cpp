#include "ike/sandbox.hpp"

#include <array>
#include <memory>

#include <cap-ng.h>
#include <pwd.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

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

Result<void> allow_calls(scmp_filter_ctx filter) {
  for (const int call : allowed_calls)
    if (const int code = seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 0); code != 0)
      return fail("seccomp: allow a system call", -code);
  // Memory, but never executable memory.
  for (const int call : {SCMP_SYS(mmap), SCMP_SYS(mprotect)})
    if (const int code = seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
        code != 0)
      return fail("seccomp: allow memory", -code);
  if (const int code = seccomp_load(filter); code != 0) return fail("seccomp: load", -code);
  return {};
}

Result<void> load_filter() {
  const std::unique_ptr<void, decltype(&seccomp_release)> filter(seccomp_init(SCMP_ACT_KILL_PROCESS), seccomp_release);
  if (!filter) return fail("seccomp: out of memory", ENOMEM);
  return allow_calls(filter.get());
}

Result<void> drop_privileges() {
  const passwd* user = ::getpwnam("postern");
  if (user == nullptr) user = ::getpwnam("nobody");
  const int uid = user != nullptr ? static_cast<int>(user->pw_uid) : 65534;
  const int gid = user != nullptr ? static_cast<int>(user->pw_gid) : 65534;
  capng_clear(CAPNG_SELECT_ALL);
  if (const int code =
          capng_change_id(uid, gid, static_cast<capng_flags_t>(CAPNG_DROP_SUPP_GRP | CAPNG_CLEAR_BOUNDING));
      code != 0)
    return fail("drop privileges: capng_change_id says " + std::to_string(code), EPERM);
  capng_clear(CAPNG_SELECT_ALL);
  if (capng_apply(CAPNG_SELECT_ALL) != 0) return fail("drop capabilities", EPERM);
  return {};
}

}  // namespace

Result<void> enter_sandbox() {
  const rlimit none{0, 0};
  if (::setrlimit(RLIMIT_CORE, &none) != 0) return fail_errno("RLIMIT_CORE");
  if (::geteuid() == 0) POSTERN_CHECK(drop_privileges());
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return fail_errno("no_new_privs");
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return fail_errno("PR_SET_DUMPABLE");
  return load_filter();
}

}  // namespace postern::ike
