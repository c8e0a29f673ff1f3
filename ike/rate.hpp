// A token bucket over an injected clock.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/clock.hpp"

namespace postern::ike {

class RateLimit {
 public:
  // `burst` at once, then one every `interval`.
  RateLimit(std::int64_t burst, Duration interval) : burst_(burst), interval_(interval), tokens_(burst) {}
  [[nodiscard]] bool take(Time now) {
    if (!begun_) last_ = now;
    begun_ = true;
    const std::int64_t earned = (now - last_) / interval_;
    if (earned > 0) {
      tokens_ = std::min(burst_, tokens_ + earned);
      last_ += interval_ * earned;
    }
    if (tokens_ == 0) return false;
    --tokens_;
    return true;
  }

 private:
  std::int64_t burst_;
  Duration interval_;
  std::int64_t tokens_;
  Time last_{};
  bool begun_ = false;
};

}  // namespace postern::ike
