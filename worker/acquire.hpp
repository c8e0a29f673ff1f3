// The question for an SA that a held packet raises (worker/sa_channel.hpp: Acquire). Pure, any thread.
#pragma once

#include <cstdint>
#include <optional>

#include "base/bytes.hpp"
#include "worker/sa_channel.hpp"

namespace postern {

// Empty when `ip_packet` does not begin with an IP packet: it will not be sent either.
[[nodiscard]] std::optional<Acquire> describe_acquire(std::uint32_t flow, std::uint32_t vrf, Bytes ip_packet);

}  // namespace postern
