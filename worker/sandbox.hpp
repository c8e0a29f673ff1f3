// The worker's cage. What it parses comes from peers; what it may do afterwards is listed in worker/sandbox.cpp.
#pragma once

#include "base/result.hpp"

namespace postern {

// First thing in main, before any thread: no new privileges, no core dumps, no ptrace by others; as root, the
// capability bounding set is emptied and RLIMIT_MEMLOCK lifted; otherwise every capability goes now.
[[nodiscard]] Result<void> open_sandbox();

// Once memory is mapped and every thread has its ring: as root, becomes user "postern" ("nobody" where there is none)
// in all threads, which ends their capabilities; then seccomp for all threads. No thread can be made after it. A system
// call outside the list ends the process, and its name is logged.
[[nodiscard]] Result<void> close_sandbox();

}  // namespace postern
