#include "loader/process.hpp"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace postern::loader {
namespace {

constexpr int first_passed_fd = 3;

int pidfd_open(pid_t pid) { return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)); }
int pidfd_signal(int pidfd, int signal) {
  return static_cast<int>(::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0));
}

// What the child needs between fork and exec, prepared before: no allocation there.
struct Prepared {
  std::vector<std::string> strings;
  std::vector<char*> arguments, environment;
  std::vector<int> fds;  // copies above every target number, so that no dup2 overwrites a source
  int null = -1;
  int report = -1;
};

[[noreturn]] void report_and_exit(int report) {
  const int code = errno;
  [[maybe_unused]] const auto sent = ::write(report, &code, sizeof code);
  ::_exit(127);
}

// After fork: async-signal-safe calls only.
[[noreturn]] void become(const char* program, const Prepared& prepared) {
  ::setsid();
  for (int number = 1; number < NSIG; ++number) {
    struct sigaction default_action{};
    default_action.sa_handler = SIG_DFL;
    ::sigaction(number, &default_action, nullptr);
  }
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  if (::dup2(prepared.null, 0) < 0) report_and_exit(prepared.report);
  int target = first_passed_fd;
  for (const int fd : prepared.fds)
    if (::dup2(fd, target++) < 0) report_and_exit(prepared.report);
  if (::dup3(prepared.report, target, O_CLOEXEC) < 0) report_and_exit(prepared.report);
  if (::syscall(SYS_close_range, target + 1, ~0U, 0) != 0) report_and_exit(target);
  ::execve(program, prepared.arguments.data(), prepared.environment.data());
  report_and_exit(target);
}

Result<Fd> duplicate_above(int fd, int lowest) {
  Fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, lowest));
  if (!copy) return fail_errno("duplicate a descriptor for a child");
  return copy;
}

void set_words(Prepared& prepared, const Command& command) {
  prepared.strings.push_back(command.program);
  prepared.strings.insert(prepared.strings.end(), command.arguments.begin(), command.arguments.end());
  const auto argument_count = prepared.strings.size();
  prepared.strings.push_back("PATH=/usr/sbin:/usr/bin:/sbin:/bin");
  if (const char* const journal = std::getenv("JOURNAL_STREAM"))
    prepared.strings.push_back("JOURNAL_STREAM=" + std::string(journal));
  for (std::size_t i = 0; i < prepared.strings.size(); ++i)
    (i < argument_count ? prepared.arguments : prepared.environment).push_back(prepared.strings[i].data());
  prepared.arguments.push_back(nullptr);
  prepared.environment.push_back(nullptr);
}

// The exec's error, or nothing when the pipe closed by exec.
Result<void> exec_outcome(int report, const std::string& program) {
  int code = 0;
  ssize_t got;
  do got = ::read(report, &code, sizeof code);
  while (got < 0 && errno == EINTR);
  if (got == 0) return {};
  return fail("start " + program, got == sizeof code ? code : EIO);
}

}  // namespace

Result<Child> spawn(const Command& command) {
  Prepared prepared;
  set_words(prepared, command);
  const int lowest = first_passed_fd + static_cast<int>(command.fds.size()) + 2;
  std::vector<Fd> copies;
  for (const int fd : command.fds) {
    POSTERN_TRY(copy, duplicate_above(fd, lowest));
    prepared.fds.push_back(copy.get());
    copies.push_back(std::move(copy));
  }
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno("pipe for a child");
  const Fd report_read(ends[0]);
  Fd report_low(ends[1]);
  POSTERN_TRY(report_write, duplicate_above(report_low.get(), lowest));
  report_low.reset();
  const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null) return fail_errno("open /dev/null");
  POSTERN_TRY(high_null, duplicate_above(null.get(), lowest));
  prepared.null = high_null.get();
  prepared.report = report_write.get();

  const pid_t pid = ::fork();
  if (pid < 0) return fail_errno("fork for " + command.program);
  if (pid == 0) become(command.program.c_str(), prepared);
  report_write.reset();
  Child child{{pid, 0}, Fd(pidfd_open(pid))};
  if (!child.pidfd) return fail_errno("pidfd_open of " + command.program);
  if (auto executed = exec_outcome(report_read.get(), command.program); !executed) {
    ::waitpid(pid, nullptr, 0);
    return std::unexpected(executed.error());
  }
  if (const auto id = process_id(pid)) child.id = *id;
  return child;
}

Result<ProcessId> process_id(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  const std::string text(std::istreambuf_iterator<char>(file), {});
  // proc(5): the second field, the name, is in parentheses and may hold anything; field 3 follows the last ')'.
  auto at = text.rfind(')');
  if (at == std::string::npos) return fail("process " + std::to_string(pid), ESRCH);
  for (int field = 2; field < 22 && at != std::string::npos; ++field) at = text.find(' ', at + 1);
  if (at == std::string::npos) return fail("read /proc/" + std::to_string(pid) + "/stat");
  ProcessId id{pid, 0};
  std::from_chars(text.data() + at + 1, text.data() + text.size(), id.start_ticks);
  return id;
}

std::optional<Child> find_process(const ProcessId& id) {
  if (id.pid <= 0) return std::nullopt;
  Child child{id, Fd(pidfd_open(id.pid))};
  if (!child.pidfd) return std::nullopt;
  const auto now = process_id(id.pid);  // after pidfd_open: the number cannot change its owner any more
  if (!now || *now != id) return std::nullopt;
  pollfd ended{child.pidfd.get(), POLLIN, 0};
  if (::poll(&ended, 1, 0) != 0) return std::nullopt;
  return child;
}

std::string end_process(const Child& child, std::chrono::milliseconds patience) {
  pollfd ended{child.pidfd.get(), POLLIN, 0};
  pidfd_signal(child.pidfd.get(), SIGTERM);
  if (::poll(&ended, 1, static_cast<int>(patience.count())) == 0) {
    pidfd_signal(child.pidfd.get(), SIGKILL);
    ::poll(&ended, 1, -1);
  }
  return reap(child);
}

std::string reap(const Child& child) {
  int status = 0;
  if (::waitpid(child.id.pid, &status, WNOHANG) != child.id.pid) return "gone";
  if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status));
  return "exit " + std::to_string(WEXITSTATUS(status));
}

std::string program_directory() {
  if (const char* const given = std::getenv("POSTERN_LIBEXEC")) return given;
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).parent_path().string();
}

}  // namespace postern::loader
