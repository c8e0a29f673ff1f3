// Children: started with exactly the descriptors they shall have, watched by pidfd, found again after a restart of
// posternd.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <sys/types.h>

#include "base/fd.hpp"
#include "base/result.hpp"

namespace postern::loader {

struct Command {
  std::string program;                 // absolute path
  std::vector<std::string> arguments;  // without the program's name
  std::span<const int> fds;            // become 3, 4, ... of the child; borrowed
};

// A process identified beyond reuse of its number.
struct ProcessId {
  pid_t pid = 0;
  std::uint64_t start_ticks = 0;  // field 22 of /proc/PID/stat
  bool operator==(const ProcessId&) const = default;
};

struct Child {
  ProcessId id;
  Fd pidfd;  // readable when the process has ended
};

// The child has descriptors 0 (/dev/null), 1 and 2 (ours), then `fds`, and no other; an environment of PATH and
// $JOURNAL_STREAM alone; its own session, so that no signal to our group reaches it; no parent-death signal: it
// outlives us. An error when the program cannot be executed: spawn returns after a successful exec.
[[nodiscard]] Result<Child> spawn(const Command& command);

// The process `id`, if it still runs (a child of an earlier posternd).
[[nodiscard]] std::optional<Child> find_process(const ProcessId& id);
[[nodiscard]] Result<ProcessId> process_id(pid_t pid);

// How an ended child ended, for the log: "exit 1", "signal 9", "gone" when it was not our child.
std::string reap(const Child& child);
// SIGTERM, then SIGKILL after `patience`; returns when the process is gone, and how it ended.
std::string end_process(const Child& child, std::chrono::milliseconds patience);

// The directory of our sibling programs: $POSTERN_LIBEXEC, else where our own program lies.
[[nodiscard]] std::string program_directory();

}  // namespace postern::loader
