// `show crypto ikev2 diagnose`: the attempts that failed last, each with what the peer offered, what we accept, the
// first difference and what to change. Bounded: a stranger can fill its own rows and no others' for long.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>

#include <nlohmann/json.hpp>

#include "ike/actions.hpp"

namespace postern::ike {

class Diagnosis {
 public:
  using WallTime = std::chrono::system_clock::time_point;
  static constexpr std::size_t max_attempts = 256;
  static constexpr std::size_t max_per_peer = 8;

  // Events without a failure are of no interest here. The same failure of the same peer again only counts.
  void take(const Event& event, WallTime now);

  // Newest first; of one peer, by address or name, or of all.
  [[nodiscard]] nlohmann::json to_json(const std::optional<IpAddress>& peer, const std::string& name = {}) const;

 private:
  struct Attempt {
    WallTime first, last;
    std::uint64_t count = 1;
    Event event;
  };
  std::deque<Attempt> attempts_;  // oldest first
};

}  // namespace postern::ike
