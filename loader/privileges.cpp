#include "loader/privileges.hpp"

#include <array>
#include <memory>
#include <vector>

#include <cap-ng.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

namespace postern::loader {
namespace {

// SYS_ADMIN: kernels before 5.8, and pinned links of other owners, know no CAP_BPF. SETUID, SETGID, SETPCAP, KILL:
// children change their user and drop their capabilities themselves. DAC_OVERRIDE: secret files of other owners.
// IPC_LOCK: keys.
constexpr std::array kept = {CAP_NET_ADMIN,    CAP_NET_RAW,      CAP_BPF,    CAP_PERFMON, CAP_SYS_ADMIN,
                             CAP_IPC_LOCK,     CAP_SETUID,       CAP_SETGID, CAP_SETPCAP, CAP_KILL,
                             CAP_DAC_OVERRIDE, CAP_SYS_RESOURCE, CAP_CHOWN,  CAP_FOWNER,  CAP_NET_BIND_SERVICE};

constexpr std::array denied_calls = {
    SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load),
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(delete_module),
    SCMP_SYS(ptrace),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(pivot_root),
    SCMP_SYS(chroot),
    SCMP_SYS(move_mount),
    SCMP_SYS(open_tree),
    SCMP_SYS(fsopen),
    SCMP_SYS(fsmount),
    SCMP_SYS(reboot),
    SCMP_SYS(swapon),
    SCMP_SYS(swapoff),
    SCMP_SYS(settimeofday),
    SCMP_SYS(clock_settime),
    SCMP_SYS(clock_adjtime),
    SCMP_SYS(adjtimex),
    SCMP_SYS(acct),
    SCMP_SYS(quotactl),
    SCMP_SYS(syslog),
    SCMP_SYS(iopl),
    SCMP_SYS(ioperm),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(add_key),
    SCMP_SYS(request_key),
    SCMP_SYS(keyctl),
    SCMP_SYS(perf_event_open),
};

Result<void> deny_calls() {
  const std::unique_ptr<void, decltype(&seccomp_release)> filter(seccomp_init(SCMP_ACT_ALLOW), seccomp_release);
  if (!filter) return fail("seccomp: out of memory", ENOMEM);
  for (const int call : denied_calls)
    if (const int code = seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(EPERM), call, 0); code != 0)
      return fail("seccomp: deny a system call", -code);
  if (const int code = seccomp_load(filter.get()); code != 0) return fail("seccomp: load", -code);
  return {};
}

// Of `kept`, those that we have: a container may have fewer.
Result<void> drop_capabilities() {
  if (capng_get_caps_process() != 0) return fail("read capabilities", EPERM);
  const bool may_change_bounding = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP) == 1;
  std::vector<unsigned> ours;
  for (const auto capability : kept)
    if (capng_have_capability(CAPNG_EFFECTIVE, capability) == 1) ours.push_back(capability);
  capng_clear(CAPNG_SELECT_ALL);
  for (const auto capability : ours)
    if (capng_update(CAPNG_ADD, static_cast<capng_type_t>(CAPNG_EFFECTIVE | CAPNG_PERMITTED | CAPNG_BOUNDING_SET),
                     capability) != 0)
      return fail("choose capabilities", EINVAL);
  if (capng_apply(may_change_bounding ? CAPNG_SELECT_BOTH : CAPNG_SELECT_CAPS) != 0)
    return fail("drop capabilities", EPERM);
  return {};
}

}  // namespace

void protect_process() {
  ::umask(077);
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

Result<void> drop_privileges() {
  POSTERN_CHECK(drop_capabilities());
  // Filters, too, are inherited: none of the children makes these calls either.
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return fail_errno("no_new_privs");
  return deny_calls();
}

}  // namespace postern::loader
