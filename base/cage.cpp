#include "base/cage.hpp"

#include <memory>

#include <cap-ng.h>
#include <pwd.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

namespace postern {
namespace {

Result<void> load_filter(std::span<const int> calls, MoreCalls more) {
  const std::unique_ptr<void, decltype(&seccomp_release)> filter(seccomp_init(SCMP_ACT_KILL_PROCESS), seccomp_release);
  if (!filter) return fail("seccomp: out of memory", ENOMEM);
  for (const int call : calls)
    if (const int code = seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, call, 0); code != 0)
      return fail("seccomp: allow a system call", -code);
  for (const int call : {SCMP_SYS(mmap), SCMP_SYS(mprotect)})
    if (const int code =
            seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, call, 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
        code != 0)
      return fail("seccomp: allow memory", -code);
  if (more != nullptr) POSTERN_CHECK(more(filter.get()));
  if (const int code = seccomp_load(filter.get()); code != 0) return fail("seccomp: load", -code);
  return {};
}

Result<void> become(const CageUser& wanted) {
  const passwd* user = ::getpwnam(wanted.name);
  if (user == nullptr && wanted.otherwise != nullptr) user = ::getpwnam(wanted.otherwise);
  const int uid = user != nullptr ? static_cast<int>(user->pw_uid) : wanted.number;
  const int gid = user != nullptr ? static_cast<int>(user->pw_gid) : wanted.number;
  capng_clear(CAPNG_SELECT_ALL);
  const auto flags = static_cast<capng_flags_t>(CAPNG_DROP_SUPP_GRP | CAPNG_CLEAR_BOUNDING);
  if (const int code = capng_change_id(uid, gid, flags); code != 0)
    return fail("drop privileges: capng_change_id says " + std::to_string(code), EPERM);
  capng_clear(CAPNG_SELECT_ALL);
  if (capng_apply(CAPNG_SELECT_ALL) != 0) return fail("drop capabilities", EPERM);
  return {};
}

}  // namespace

Result<void> enter_cage(const CageUser& user, std::span<const int> calls, MoreCalls more) {
  const rlimit none{0, 0};
  if (::setrlimit(RLIMIT_CORE, &none) != 0) return fail_errno("RLIMIT_CORE");
  if (::geteuid() == 0) POSTERN_CHECK(become(user));
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return fail_errno("no_new_privs");
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return fail_errno("PR_SET_DUMPABLE");
  return load_filter(calls, more);
}

}  // namespace postern
