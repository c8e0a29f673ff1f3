#include "worker/sandbox.hpp"

#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>

#include <cap-ng.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <pwd.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.hpp"

namespace postern {
namespace {

constexpr std::array any_arguments = {
    // The data path.
    SCMP_SYS(io_uring_enter), SCMP_SYS(clock_gettime), SCMP_SYS(futex),
    // The data path where io_uring is refused, sockets, capture, eventfd, the SA channel.
    SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(writev), SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(sendto),
    SCMP_SYS(recvfrom), SCMP_SYS(sendmsg), SCMP_SYS(recvmsg), SCMP_SYS(accept4), SCMP_SYS(close), SCMP_SYS(getsockopt),
    SCMP_SYS(getsockname), SCMP_SYS(fstat), SCMP_SYS(newfstatat),
    // Memory: UMEM and ring mappings, the allocator, pages of keys.
    SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(brk), SCMP_SYS(madvise), SCMP_SYS(mlock), SCMP_SYS(mlock2),
    SCMP_SYS(munlock),
    // Random IVs and keys of hash tables, waiting for readers of the SAD, a thread's end.
    SCMP_SYS(getrandom), SCMP_SYS(sched_yield), SCMP_SYS(nanosleep), SCMP_SYS(clock_nanosleep), SCMP_SYS(exit),
    SCMP_SYS(exit_group), SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigprocmask), SCMP_SYS(restart_syscall), SCMP_SYS(getpid),
    SCMP_SYS(gettid), SCMP_SYS(sched_getaffinity), SCMP_SYS(rseq)};

// How a sanitizer looks whether memory may be read, and how its threads end.
#ifdef __SANITIZE_ADDRESS__
constexpr std::array instrumentation = {SCMP_SYS(pipe2), SCMP_SYS(sigaltstack)};
#else
constexpr std::array<int, 0> instrumentation{};
#endif

struct SocketOption {
  int level, name;
};
constexpr std::array socket_options = {SocketOption{IPPROTO_IP, IP_PKTINFO}, SocketOption{IPPROTO_IP, IP_RECVTOS},
                                       SocketOption{IPPROTO_IPV6, IPV6_RECVPKTINFO},
                                       SocketOption{IPPROTO_IPV6, IPV6_RECVTCLASS}};

// Names by number, for the handler: it cannot allocate.
std::array<std::array<char, 32>, 512> call_names;

void on_forbidden_call(int, siginfo_t* info, void*) {
  const auto say = [](const char* text) { (void)!::write(STDERR_FILENO, text, std::strlen(text)); };
  const auto number = static_cast<std::size_t>(info->si_syscall);
  say("postern-worker: forbidden system call: ");
  say(number < call_names.size() && call_names[number][0] != '\0' ? call_names[number].data() : "unknown");
  say("\n");
  ::_exit(128 + SIGSYS);
}

Result<void> name_forbidden_calls() {
  for (std::size_t number = 0; number < call_names.size(); ++number) {
    char* const name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, static_cast<int>(number));
    if (name == nullptr) continue;
    std::strncpy(call_names[number].data(), name, call_names[number].size() - 1);
    std::free(name);
  }
  struct sigaction action{};
  action.sa_sigaction = on_forbidden_call;
  action.sa_flags = SA_SIGINFO;
  if (::sigaction(SIGSYS, &action, nullptr) != 0) return fail_errno("sigaction SIGSYS");
  return {};
}

using Filter = std::unique_ptr<void, decltype([](void* filter) { seccomp_release(filter); })>;

Result<void> added(int result) {
  if (result != 0) return fail("seccomp rule", -result);
  return {};
}

Result<void> add_rules(scmp_filter_ctx filter) {
  for (const int call : any_arguments) POSTERN_CHECK(added(seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 0)));
  for (const int call : instrumentation) POSTERN_CHECK(added(seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 0)));
  for (const int call : {SCMP_SYS(mmap), SCMP_SYS(mprotect)})
    POSTERN_CHECK(added(seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0))));
  // The ring itself is restricted as well (worker/ring_uring.cpp).
  for (const int request : {IORING_REGISTER_FILES_UPDATE, IORING_UNREGISTER_RING_FDS})
    POSTERN_CHECK(added(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(io_uring_register), 1,
                                         SCMP_A1(SCMP_CMP_EQ, static_cast<scmp_datum_t>(request)))));
  for (const int command : {F_GETFL, F_SETFL, F_GETFD})
    POSTERN_CHECK(added(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
                                         SCMP_A1(SCMP_CMP_EQ, static_cast<scmp_datum_t>(command)))));
  for (const SocketOption& option : socket_options)
    POSTERN_CHECK(added(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(setsockopt), 2,
                                         SCMP_A1(SCMP_CMP_EQ, static_cast<scmp_datum_t>(option.level)),
                                         SCMP_A2(SCMP_CMP_EQ, static_cast<scmp_datum_t>(option.name)))));
  // abort() signals its own process only.
  return added(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                                SCMP_A0(SCMP_CMP_EQ, static_cast<scmp_datum_t>(::getpid()))));
}

Result<void> filter_calls() {
  POSTERN_CHECK(name_forbidden_calls());
  const Filter filter(seccomp_init(SCMP_ACT_TRAP));
  if (!filter) return fail("seccomp_init", ENOMEM);
  POSTERN_CHECK(added(seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_TSYNC, 1)));
  POSTERN_CHECK(added(seccomp_attr_set(filter.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS)));
  POSTERN_CHECK(add_rules(filter.get()));
  if (const int result = seccomp_load(filter.get()); result != 0) return fail("seccomp_load", -result);
  return {};
}

// setresuid() of glibc changes every thread, and the kernel takes each one's capabilities with its uid 0.
Result<void> become_unprivileged() {
  const passwd* user = ::getpwnam("postern");
  if (user == nullptr) user = ::getpwnam("nobody");
  if (user == nullptr) return fail("neither user postern nor nobody exists", ENOENT);
  const uid_t uid = user->pw_uid;
  const gid_t gid = user->pw_gid;
  if (::setgroups(0, nullptr) != 0) return fail_errno("setgroups");
  if (::setresgid(gid, gid, gid) != 0) return fail_errno("setresgid");
  if (::setresuid(uid, uid, uid) != 0) return fail_errno("setresuid");
  if (::setuid(0) == 0) return fail("privileges came back", EPERM);
  return {};
}

Result<void> keep_memory_private() {
  const rlimit none{0, 0};
  if (::setrlimit(RLIMIT_CORE, &none) != 0) return fail_errno("RLIMIT_CORE");
  if (::prctl(PR_SET_DUMPABLE, 0) != 0) return fail_errno("PR_SET_DUMPABLE");
  return {};
}

void raise_to_hard_limit(decltype(RLIMIT_CORE) resource) {
  rlimit limit{};
  if (::getrlimit(resource, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(resource, &limit);
}

}  // namespace

Result<void> open_sandbox() {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return fail_errno("PR_SET_NO_NEW_PRIVS");
  POSTERN_CHECK(keep_memory_private());
  const bool root = ::geteuid() == 0;
  const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
  // A container may forbid it: then as far as it goes, and what could not be locked says so.
  if (!root || ::setrlimit(RLIMIT_MEMLOCK, &unlimited) != 0) raise_to_hard_limit(RLIMIT_MEMLOCK);
  raise_to_hard_limit(RLIMIT_NOFILE);
  if (root) {
    // Effective capabilities stay until the memory is locked and the rings are made; the bounding set goes at once.
    capng_get_caps_process();
    capng_clear(CAPNG_SELECT_BOUNDS);
    if (capng_apply(CAPNG_SELECT_BOUNDS) != 0) return fail("cannot empty the capability bounding set", EPERM);
  } else {
    capng_clear(CAPNG_SELECT_CAPS);
    if (capng_apply(CAPNG_SELECT_CAPS) != 0) return fail("cannot drop capabilities", EPERM);
  }
  return {};
}

Result<void> close_sandbox() {
  if (::geteuid() == 0) POSTERN_CHECK(become_unprivileged());
  POSTERN_CHECK(keep_memory_private());  // a change of user makes the process dumpable again
  return filter_calls();
}

}  // namespace postern
