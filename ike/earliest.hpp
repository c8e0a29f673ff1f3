// The next of several timers. Pure.
#pragma once

#include <initializer_list>
#include <optional>

#include "base/clock.hpp"

namespace postern::ike {

// Nothing: none of them runs.
[[nodiscard]] inline std::optional<Time> earliest(std::initializer_list<std::optional<Time>> timers) {
  std::optional<Time> out;
  for (const std::optional<Time>& one : timers)
    if (one && (!out || *one < *out)) out = one;
  return out;
}

}  // namespace postern::ike
