// IP fragmentation: of the inner packet before encapsulation when IPv4 lets us (RFC 791 §3.2), and of the outer packet
// when the inner one must not be touched but the outer may. Works from borrowed bytes into the caller's buffers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/bytes.hpp"
#include "worker/parse.hpp"

namespace postern {

struct FragmentPlan {
  Bytes packet;  // exactly the IP packet
  Family family = Family::v4;
  std::uint16_t first_header_bytes = 0;  // of the first fragment; IPv6: with the fragment header
  std::uint16_t later_header_bytes = 0;  // IPv4: only the options that are copied
  std::uint32_t first_payload = 0;       // multiple of 8
  std::uint32_t later_payload = 0;       // of each other fragment but the last; multiple of 8
  std::uint32_t payload_bytes = 0;
  std::uint32_t count = 0;
  std::uint32_t identification = 0;  // IPv6
  std::uint8_t next_header = 0;      // IPv6
};

// Pieces of at most `mtu` bytes. Empty when not even 8 bytes of payload fit. IPv4 may be a fragment itself; empty when
// it ends behind the longest packet. IPv6: a packet of our own with the plain 40-byte header (RFC 8200 §4.5).
[[nodiscard]] std::optional<FragmentPlan> plan_ipv4_fragments(Bytes packet, const IpInfo& info, std::uint32_t mtu);
[[nodiscard]] std::optional<FragmentPlan> plan_ipv6_fragments(Bytes packet, std::uint32_t mtu,
                                                              std::uint32_t identification);

[[nodiscard]] std::uint32_t fragment_size(const FragmentPlan& plan, std::uint32_t index);
// Writes fragment `index`, fragment_size() bytes.
void write_fragment(const FragmentPlan& plan, std::uint32_t index, std::byte* out);

}  // namespace postern
