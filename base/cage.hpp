// What every unprivileged child does last before it serves: another user, no capability, no core file, no tracing, and
// no system call that it does not name.
#pragma once

#include <span>

#include "base/result.hpp"

namespace postern {

struct CageUser {
  const char* name;
  const char* otherwise = nullptr;  // where there is no such user; nullptr: none
  int number = 65534;               // where there is neither: user and group
};

// Loads what else the filter allows, with conditions on arguments; `filter` is a scmp_filter_ctx.
using MoreCalls = Result<void> (*)(void* filter);

// Memory may be mapped and protected, but never so that it can be executed: `calls` need not name it. Everything that
// is neither in `calls` nor allowed by `more` kills the process.
[[nodiscard]] Result<void> enter_cage(const CageUser& user, std::span<const int> calls, MoreCalls more = nullptr);

}  // namespace postern
