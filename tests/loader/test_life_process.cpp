// Children see exactly what they shall: a shell in the child's place reports its descriptors, environment and session.
#include <algorithm>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loader/children.hpp"
#include "loader/process.hpp"

using namespace postern;
using namespace postern::loader;

namespace {

struct Pipe {
  Fd read_end, write_end;
  Pipe() {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    read_end = Fd(ends[0]);
    write_end = Fd(ends[1]);
  }
};

// All that comes until the other end closes.
std::string read_all(const Fd& from) {
  std::string out;
  char chunk[4096];
  for (ssize_t got; (got = ::read(from.get(), chunk, sizeof chunk)) > 0;)
    out.append(chunk, static_cast<std::size_t>(got));
  return out;
}

// What a shell script in a child says on its descriptor 3; `more` are its descriptors 4, 5, ...
std::string say(const std::string& script, std::vector<int> more = {}) {
  Pipe pipe;
  std::vector<int> fds = {pipe.write_end.get()};
  fds.insert(fds.end(), more.begin(), more.end());
  auto child = spawn({"/bin/sh", {"-c", script}, fds});
  REQUIRE_MESSAGE(child.has_value(), (child ? "" : child.error().message()));
  pipe.write_end.reset();
  auto said = read_all(pipe.read_end);
  end_process(*child, std::chrono::milliseconds(2000));
  return said;
}

// Every descriptor that is still open once the glob has closed its own directory.
constexpr const char* list_descriptors = "for f in /proc/$$/fd/*; do [ -e $f ] && echo ${f##*/} >&3; done";

}  // namespace

TEST_CASE("a child has descriptors 0, 1, 2 and those given, and no other") {
  const Fd leak(::open("/dev/null", O_RDONLY));  // without close-on-exec, as a library might open it
  const Fd leak_high(::fcntl(leak.get(), F_DUPFD, 200));
  const Fd given(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  REQUIRE(leak);
  CHECK(say(list_descriptors) == "0\n1\n2\n3\n");
  CHECK(say(list_descriptors, {given.get()}) == "0\n1\n2\n3\n4\n");
}

TEST_CASE("given descriptors arrive in order even where their numbers are each other's targets") {
  Pipe a, b;
  // Their own numbers may lie anywhere, also on 3 and 4; what the child writes tells which is which.
  auto child = spawn(
      {"/bin/sh", {"-c", "echo three >&3; echo four >&4"}, std::vector<int>{b.write_end.get(), a.write_end.get()}});
  REQUIRE(child);
  a.write_end.reset();
  b.write_end.reset();
  CHECK(read_all(b.read_end) == "three\n");
  CHECK(read_all(a.read_end) == "four\n");
  end_process(*child, std::chrono::milliseconds(2000));
}

TEST_CASE("a child's environment is PATH and the journal's word alone; its session is its own") {
  ::setenv("POSTERN_TEST_SECRET", "x", 1);
  ::setenv("NOTIFY_SOCKET", "/nowhere", 1);
  ::unsetenv("JOURNAL_STREAM");
  const auto environment = say("tr '\\0' '\\n' < /proc/$$/environ >&3");
  CHECK(environment == "PATH=/usr/sbin:/usr/bin:/sbin:/bin\n");
  ::setenv("JOURNAL_STREAM", "8:1", 1);
  CHECK(say("tr '\\0' '\\n' < /proc/$$/environ >&3").find("JOURNAL_STREAM=8:1\n") != std::string::npos);
  ::unsetenv("JOURNAL_STREAM");
  ::unsetenv("NOTIFY_SOCKET");
  ::unsetenv("POSTERN_TEST_SECRET");
  CHECK(say("[ $(cut -d' ' -f6 /proc/$$/stat) = $$ ] && echo own >&3") == "own\n");
}

TEST_CASE("a child gets no blocked and no ignored signal") {
  sigset_t set, before;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGTERM);
  ::sigprocmask(SIG_BLOCK, &set, &before);
  const auto old = ::signal(SIGPIPE, SIG_IGN);
  const auto status = say("grep -E 'Sig(Blk|Ign)' /proc/$$/status | tr -d '\\t' >&3");
  ::signal(SIGPIPE, old);
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  CHECK(status.find("SigBlk:0000000000000000") != std::string::npos);
  CHECK(status.find("SigIgn:0000000000000000") != std::string::npos);
}

TEST_CASE("a program that cannot be executed is an error, not a child that ends") {
  const auto missing = spawn({"/nonexistent/program", {}, {}});
  REQUIRE(!missing);
  CHECK(missing.error().code == ENOENT);
  const auto not_executable = spawn({"/etc/passwd", {}, {}});
  REQUIRE(!not_executable);
  CHECK(not_executable.error().code == EACCES);
}

TEST_CASE("find_process: the process itself, not another one of its number") {
  auto child = spawn({"/bin/sleep", {"60"}, {}});
  REQUIRE(child);
  CHECK(find_process(child->id));
  ProcessId impostor = child->id;
  ++impostor.start_ticks;
  CHECK(!find_process(impostor));
  CHECK(!find_process({0, 0}));
  CHECK(end_process(*child, std::chrono::milliseconds(2000)) == "signal 15");
  CHECK(!find_process(child->id));
}

TEST_CASE("end_process does not wait for ever for one that ignores SIGTERM") {
  Pipe ready;
  auto child = spawn({"/bin/sh",
                      {"-c", "trap '' TERM; echo up >&3; while :; do /bin/sleep 1; done"},
                      std::vector<int>{ready.write_end.get()}});
  REQUIRE(child);
  char word[3];
  REQUIRE(::read(ready.read_end.get(), word, sizeof word) == 3);
  CHECK(end_process(*child, std::chrono::milliseconds(50)) == "signal 9");
}

TEST_CASE("restart pace: at once, then slower, and forgiven after a good minute") {
  RestartPace pace;
  const Time start{};
  const auto second = std::chrono::seconds(1);
  CHECK(pace.after_crash(start, start + second) == Duration::zero());
  const auto after_second = pace.after_crash(start, start + second);
  const auto after_third = pace.after_crash(start, start + second);
  CHECK(after_second > Duration::zero());
  CHECK(after_third > after_second);
  for (int i = 0; i < 100; ++i) CHECK(pace.after_crash(start, start + second) <= std::chrono::seconds(10));
  CHECK(pace.after_crash(start, start + std::chrono::minutes(2)) == Duration::zero());
}
