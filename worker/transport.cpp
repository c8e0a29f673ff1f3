#include "worker/transport.hpp"

#include "worker/checksum.hpp"

namespace postern {
namespace {

constexpr std::uint8_t hop_by_hop = static_cast<std::uint8_t>(IpProto::hop_by_hop);
constexpr std::uint8_t routing = static_cast<std::uint8_t>(IpProto::routing);
constexpr std::uint8_t fragment = static_cast<std::uint8_t>(IpProto::fragment);
constexpr std::uint8_t destination_options = static_cast<std::uint8_t>(IpProto::destination_options);
constexpr std::uint16_t v4_protocol_at = 9, v6_next_header_at = 6;

bool is_extension(std::uint8_t header) {
  return header == hop_by_hop || header == routing || header == fragment || header == destination_options;
}

std::uint16_t extension_bytes(const std::byte* header, std::uint8_t type) {
  return static_cast<std::uint16_t>(type == fragment ? 8 : 8 + 8 * u8_at(header + 1));
}

// RFC 791 §3.1: the pointer of a source route that is used up lies behind its end.
bool has_source_route(const std::byte* ip, std::uint32_t header_bytes) {
  for (std::uint32_t at = ipv4_min_header; at < header_bytes;) {
    const std::uint8_t type = u8_at(ip + at);
    if (type == end_of_options) return false;
    if (type == no_operation) {
      ++at;
      continue;
    }
    if (header_bytes - at < 2) return true;
    const std::uint8_t size = u8_at(ip + at + 1);
    if (size < 2 || size > header_bytes - at) return true;
    if ((type == loose_route || type == strict_route) && (size < 3 || u8_at(ip + at + 2) <= size)) return true;
    at += size;
  }
  return false;
}

// Destination options in front of a routing header are for each hop that it names (RFC 8200 §4.1).
std::optional<HeaderEnd> place_in_v6(const std::byte* ip, std::uint32_t network_bytes) {
  HeaderEnd end{ipv6_header, v6_next_header_at, u8_at(ip + v6_next_header_at)};
  HeaderEnd at = end;
  while (at.bytes < network_bytes) {
    const std::uint8_t type = at.next_header;
    const std::byte* const header = ip + at.bytes;
    if (type == fragment || (type == routing && u8_at(header + 3) != 0)) return std::nullopt;
    const std::uint16_t begin = at.bytes;
    at = {static_cast<std::uint16_t>(begin + extension_bytes(header, type)), begin, u8_at(header)};
    if (type != destination_options) end = at;
  }
  return end;
}

}  // namespace

std::optional<HeaderEnd> place_to_protect(Bytes packet, const IpInfo& info) {
  const std::byte* const ip = packet.data();
  if (info.fragment) return std::nullopt;
  if (info.family == Family::v6) return place_in_v6(ip, info.network_bytes);
  if (has_source_route(ip, info.network_bytes)) return std::nullopt;
  return HeaderEnd{info.network_bytes, v4_protocol_at, info.protocol};
}

HeaderEnd end_of_headers(const std::byte* ip, Family family, std::uint32_t network_bytes) {
  if (family == Family::v4)
    return {static_cast<std::uint16_t>(network_bytes), v4_protocol_at, u8_at(ip + v4_protocol_at)};
  HeaderEnd end{ipv6_header, v6_next_header_at, u8_at(ip + v6_next_header_at)};
  while (end.bytes < network_bytes && is_extension(end.next_header)) {
    const std::uint16_t begin = end.bytes;
    end = {static_cast<std::uint16_t>(begin + extension_bytes(ip + begin, end.next_header)), begin, u8_at(ip + begin)};
  }
  return end;
}

void rewrite_headers(std::byte* ip, Family family, const HeaderEnd& end, std::uint8_t protocol,
                     std::uint32_t total_bytes) {
  ip[end.next_header_at] = static_cast<std::byte>(protocol);
  if (family == Family::v4) {
    store_be16(ip + 2, static_cast<std::uint16_t>(total_bytes));
    set_ipv4_checksum(ip, end.bytes);
  } else {
    store_be16(ip + 4, static_cast<std::uint16_t>(total_bytes - ipv6_header));
  }
}

void renew_upper_checksum(MutableBytes packet, const IpInfo& info) {
  const bool udp = info.protocol == static_cast<std::uint8_t>(IpProto::udp);
  if (info.fragment || (!udp && info.protocol != static_cast<std::uint8_t>(IpProto::tcp))) return;
  const std::uint32_t upper = info.upper_bytes();
  if (upper < (udp ? udp_header : tcp_min_header)) return;
  std::byte* const transport = packet.data() + info.network_bytes;
  std::byte* const field = transport + (udp ? 6 : 16);
  if (udp && info.family == Family::v4 && load_raw16(field) == 0) return;
  store_raw16(field, 0);
  const std::uint16_t sum =
      finish(sum_bytes({transport, upper}, pseudo_header_sum(packet.data(), info.family, info.protocol, upper)));
  store_raw16(field, sum == 0 && udp ? 0xffff : sum);
}

}  // namespace postern
