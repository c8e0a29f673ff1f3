// Monotonic time for timers and rates; the wall clock only for what a person reads.
#pragma once

#include <chrono>
#include <cstdint>

#include <time.h>

namespace postern {

using Clock = std::chrono::steady_clock;
using Time = Clock::time_point;
using Duration = Clock::duration;

// CLOCK_MONOTONIC nanoseconds: the same clock as bpf_ktime_get_ns() and as time stamps in shared memory.
[[nodiscard]] inline std::uint64_t monotonic_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace postern
