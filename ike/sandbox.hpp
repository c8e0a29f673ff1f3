// The cage of postern-ike: it talks over descriptors it was given and can open none by itself.
#pragma once

#include "base/result.hpp"

namespace postern::ike {

// For good: user `postern` (else nobody), no groups, no capability in any set, no_new_privs, no core file, and a
// seccomp allow-list whose breach kills the process. Call once everything is set up, before the first byte is read.
[[nodiscard]] Result<void> enter_sandbox();

}  // namespace postern::ike
