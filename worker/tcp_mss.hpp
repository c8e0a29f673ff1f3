// The MSS clamp: a TCP SYN that passes the tunnel announces no more than fits it, so that neither end learns the path's
// MTU by loss. Pure functions, any thread.
#pragma once

#include <cstdint>

#include "base/bytes.hpp"
#include "worker/parse.hpp"

namespace postern {

// The largest segment of an inner packet of `mtu` bytes: without IP and TCP options (RFC 6691 §2).
[[nodiscard]] constexpr std::uint16_t mss_of(Family family, std::uint32_t mtu) {
  const std::uint32_t headers = (family == Family::v4 ? ipv4_min_header : ipv6_header) + tcp_min_header;
  return static_cast<std::uint16_t>(mtu > headers ? mtu - headers : 1);
}

// A TCP packet whose SYN flag is set.
[[nodiscard]] inline bool is_syn(Bytes packet, const IpInfo& info) {
  constexpr std::uint32_t flags_at = 13;
  constexpr std::byte syn{0x02};
  return info.protocol == static_cast<std::uint8_t>(IpProto::tcp) && info.has_upper_header() &&
         packet.size() >= info.network_bytes + tcp_min_header &&
         (packet[info.network_bytes + flags_at] & syn) != std::byte{};
}

// Lowers the maximum segment size option (RFC 9293 §3.7.1) of a SYN to `most`, the checksum with it (RFC 1624). Leaves
// alone what announces no more, or nothing: RFC 9293 §3.7.1 then assumes what fits every path. `packet` is what `info`
// was parsed from.
void clamp_mss(MutableBytes packet, const IpInfo& info, std::uint16_t most);

}  // namespace postern
