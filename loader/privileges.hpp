// posternd keeps what it needs and no more.
#pragma once

#include "base/result.hpp"

namespace postern::loader {

// First thing in main: umask 077, no core file, not dumpable.
void protect_process();

// When the node is up: capabilities that it still needs (network administration, BPF, raw sockets, starting and ending
// its children), no new privileges by exec beyond them, and a seccomp list of calls that it never makes again.
[[nodiscard]] Result<void> drop_privileges();

}  // namespace postern::loader
