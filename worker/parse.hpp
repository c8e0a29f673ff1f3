// IPv4 and IPv6 headers as the data plane reads them: bounds checked once, then plain loads. Pure functions, any
// thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/bytes.hpp"
#include "base/net_types.hpp"
#include "maps/drops.hpp"
#include "worker/packet.hpp"

namespace postern {

inline constexpr std::uint32_t ipv4_min_header = 20;
inline constexpr std::uint32_t ipv6_header = 40;
inline constexpr std::uint32_t udp_header = 8;
[[nodiscard]] constexpr std::uint32_t ip_header(Family family) {
  return family == Family::v4 ? ipv4_min_header : ipv6_header;
}
inline constexpr std::uint32_t ipv6_min_mtu = 1280;  // RFC 8200 §5
inline constexpr std::uint32_t tcp_min_header = 20;
inline constexpr std::uint8_t tcp_fin = 0x01, tcp_psh = 0x08, tcp_ack = 0x10, tcp_ece = 0x40, tcp_cwr = 0x80;
// Of IPv4 (RFC 791 §3.1) and TCP (RFC 9293 §3.1) alike.
inline constexpr std::uint8_t end_of_options = 0, no_operation = 1;
inline constexpr std::uint8_t loose_route = 131, strict_route = 137;
inline constexpr std::uint32_t ethernet_header = 14;
inline constexpr unsigned max_extension_headers = 8;

[[nodiscard]] inline std::uint8_t u8_at(const std::byte* p) { return std::to_integer<std::uint8_t>(*p); }

// What parse_ip() proved about a packet. All sizes in bytes, host order.
struct IpInfo {
  Family family = Family::v4;
  std::uint8_t protocol = 0;       // of the upper layer; behind IPv6 extension headers
  std::uint8_t traffic_class = 0;  // DSCP and ECN
  std::uint8_t hop_limit = 0;
  bool dont_fragment = false;         // IPv4 DF; IPv6: always
  bool fragment = false;              // any piece of a fragmented packet
  bool first_fragment = false;        // of a fragment: carries the upper layer's header
  std::uint16_t fragment_offset = 0;  // bytes
  std::uint16_t network_bytes = 0;    // IPv4 header with options; IPv6 header with extension headers
  std::uint32_t total_bytes = 0;      // of the packet as its header says; never more than was given
  [[nodiscard]] bool has_upper_header() const { return !fragment || first_fragment; }
  [[nodiscard]] std::uint32_t upper_bytes() const { return total_bytes - network_bytes; }
};

// Empty when `packet` does not begin with a whole IP packet: bad version, header or total length, an extension header
// that runs out of the packet or comes after more than max_extension_headers others. Bytes after the packet are
// allowed. ESP and AH end the walk: they are the upper layer here.
[[nodiscard]] std::optional<IpInfo> parse_ip(Bytes packet);

// The same of a packet of which perhaps only the beginning is there: all its IP headers, and info.network_bytes is
// inside `packet`; total_bytes may be more than was given.
[[nodiscard]] std::optional<IpInfo> parse_ip_beginning(Bytes packet);

// A fragment that reassembly could be deceived with: a first one without its whole transport header
// (Drop::fragment_tiny; RFC 1858 §3, RFC 3128), or a later one that would overwrite it (Drop::fragment_overlap; RFC
// 1858 §4, the minimum offset of RFC 4301 §7.2). Drop::none for everything else.
[[nodiscard]] Drop check_fragment(const IpInfo& info);

// Of a packet that parse_ip() accepted, or that holds at least its fixed header.
[[nodiscard]] IpAddress source_of(const std::byte* ip, Family family);
[[nodiscard]] IpAddress destination_of(const std::byte* ip, Family family);
// Multicast, or the limited broadcast of IPv4.
[[nodiscard]] inline bool is_group_destination(const std::byte* ip, Family family) {
  if (family == Family::v6) return ip[24] == std::byte{0xff};
  return (ip[16] & std::byte{0xf0}) == std::byte{0xe0} || load_be32(ip + 16) == 0xffffffffU;
}

// The forwarding hop of a packet that does not pass the kernel (RFC 1812 §5.3.1, RFC 8200 §3): TTL or hop limit minus
// one and the IPv4 header checksum with it (RFC 1624). False, and the packet untouched, when it is 0 or 1 already: the
// caller drops it (Drop::hop_limit) and answers with time_exceeded() of worker/icmp_error.hpp. The packet begins at a
// parsed IP header.
[[nodiscard]] bool step_ttl(Packet& packet);

}  // namespace postern
