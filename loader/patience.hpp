// The kernel lets go of a device or queue a moment after its last owner exited: ask again for a while.
#pragma once

#include <cerrno>
#include <chrono>
#include <thread>

#include "base/clock.hpp"
#include "base/result.hpp"

namespace postern::loader {

inline constexpr std::chrono::seconds busy_patience{2};

// Calls `attempt` until it does not fail with EBUSY, at most for `patience`. Blocks the thread: start-up and repair
// only.
template <class Attempt>
[[nodiscard]] auto with_patience(Attempt attempt, Duration patience = busy_patience) {
  const Time deadline = Clock::now() + patience;
  while (true) {
    auto result = attempt();
    if (result || result.error().code != EBUSY || Clock::now() >= deadline) return result;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

}  // namespace postern::loader
