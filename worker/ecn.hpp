// RFC 6040: what the two ECN bits become at either end of the tunnel. Tables as the RFC prints them.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "worker/sa_state.hpp"

namespace postern {

// §4.1. Normal mode copies the inner field. A peer set to ignore the outer mark would lose a congestion signal, so
// `discard` is compatibility mode: the outer packet is Not-ECT and routers drop instead of marking.
[[nodiscard]] constexpr std::uint8_t ecn_at_ingress(std::uint8_t inner, EcnPolicy policy) {
  return policy == EcnPolicy::propagate ? inner & 3U : 0U;
}

// §4.2, figure 4: row inner, column outer (Not-ECT 0, ECT(1) 1, ECT(0) 2, CE 3). Empty: the packet MUST be dropped.
[[nodiscard]] constexpr std::optional<std::uint8_t> ecn_at_egress(std::uint8_t inner, std::uint8_t outer,
                                                                  EcnPolicy policy) {
  constexpr std::uint8_t drop = 0xff;
  constexpr std::array<std::array<std::uint8_t, 4>, 4> figure_4 = {{
      //  Not-ECT ECT(1) ECT(0) CE
      {{0, 0, 0, drop}},  // Not-ECT
      {{1, 1, 1, 3}},     // ECT(1)
      {{2, 1, 2, 3}},     // ECT(0)
      {{3, 3, 3, 3}},     // CE
  }};
  if (policy == EcnPolicy::discard) return inner & 3U;
  const std::uint8_t out = figure_4[inner & 3U][outer & 3U];
  if (out == drop) return std::nullopt;
  return out;
}

}  // namespace postern
