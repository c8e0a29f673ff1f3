#include "worker/parse.hpp"

#include <algorithm>
#include <array>

#include "worker/checksum.hpp"

namespace postern {
namespace {

// What parse_ip() asks of a packet's length.
enum class Extent : std::uint8_t { whole, beginning };

std::optional<IpInfo> parse_v4(Bytes packet, Extent extent) {
  if (packet.size() < ipv4_min_header) return std::nullopt;
  const std::byte* const ip = packet.data();
  IpInfo info;
  info.network_bytes = static_cast<std::uint16_t>((u8_at(ip) & 0x0f) * 4);
  info.total_bytes = load_be16(ip + 2);
  if (info.network_bytes < ipv4_min_header || info.total_bytes < info.network_bytes) return std::nullopt;
  if (packet.size() < (extent == Extent::whole ? info.total_bytes : info.network_bytes)) return std::nullopt;
  const std::uint16_t fragment = load_be16(ip + 6);
  info.traffic_class = u8_at(ip + 1);
  info.dont_fragment = (fragment & 0x4000) != 0;
  info.fragment = (fragment & 0x3fff) != 0;
  info.first_fragment = info.fragment && (fragment & 0x1fff) == 0;
  info.fragment_offset = static_cast<std::uint16_t>((fragment & 0x1fff) * 8);
  info.hop_limit = u8_at(ip + 8);
  info.protocol = u8_at(ip + 9);
  return info;
}

// RFC 8200 §4: the walk ends at the first header that is not an extension header, or at a later fragment's data.
bool walk_extension_headers(Bytes packet, IpInfo& info) {
  const auto end = static_cast<std::uint32_t>(std::min<std::size_t>(packet.size(), info.total_bytes));
  std::uint32_t at = ipv6_header;
  for (unsigned count = 0;; ++count) {
    const bool fragment = info.protocol == static_cast<std::uint8_t>(IpProto::fragment);
    if (!fragment && info.protocol != static_cast<std::uint8_t>(IpProto::hop_by_hop) &&
        info.protocol != static_cast<std::uint8_t>(IpProto::routing) &&
        info.protocol != static_cast<std::uint8_t>(IpProto::destination_options))
      break;
    if (count == max_extension_headers || end - at < 8) return false;
    const std::byte* const header = packet.data() + at;
    const std::uint32_t size = fragment ? 8 : 8 + 8 * std::uint32_t{u8_at(header + 1)};
    if (end - at < size) return false;
    info.protocol = u8_at(header);
    at += size;
    if (!fragment) continue;
    const std::uint16_t offset_flags = load_be16(header + 2);
    // RFC 6946: offset 0 without "more" is a whole packet.
    info.fragment = info.fragment || (offset_flags & 0xfff9) != 0;
    info.first_fragment = info.fragment && (offset_flags & 0xfff8) == 0;
    info.fragment_offset = offset_flags & 0xfff8;
    if (info.fragment && !info.first_fragment) break;
  }
  info.network_bytes = static_cast<std::uint16_t>(at);
  return true;
}

std::optional<IpInfo> parse_v6(Bytes packet, Extent extent) {
  if (packet.size() < ipv6_header) return std::nullopt;
  const std::byte* const ip = packet.data();
  IpInfo info;
  info.family = Family::v6;
  info.total_bytes = ipv6_header + load_be16(ip + 4);
  if (extent == Extent::whole && info.total_bytes > packet.size()) return std::nullopt;
  info.traffic_class = static_cast<std::uint8_t>(load_be16(ip) >> 4);
  info.dont_fragment = true;
  info.protocol = u8_at(ip + 6);
  info.hop_limit = u8_at(ip + 7);
  if (!walk_extension_headers(packet, info)) return std::nullopt;
  return info;
}

std::optional<IpInfo> parse(Bytes packet, Extent extent) {
  if (packet.empty()) return std::nullopt;
  switch (u8_at(packet.data()) >> 4) {
    case 4: return parse_v4(packet, extent);
    case 6: return parse_v6(packet, extent);
    default: return std::nullopt;
  }
}

}  // namespace

std::optional<IpInfo> parse_ip(Bytes packet) { return parse(packet, Extent::whole); }
std::optional<IpInfo> parse_ip_beginning(Bytes packet) { return parse(packet, Extent::beginning); }

Drop check_fragment(const IpInfo& info) {
  constexpr std::uint8_t dccp = 33, sctp = 132;
  if (!info.fragment) [[likely]]
    return Drop::none;
  const std::uint32_t least = info.protocol == static_cast<std::uint8_t>(IpProto::tcp) ? tcp_min_header
                              : info.protocol == sctp || info.protocol == dccp         ? 12U
                                                                                       : 8U;
  if (info.first_fragment) return info.upper_bytes() < least ? Drop::fragment_tiny : Drop::none;
  return info.fragment_offset < least ? Drop::fragment_overlap : Drop::none;
}

IpAddress source_of(const std::byte* ip, Family family) {
  if (family == Family::v4) return IpAddress::v4(load_be32(ip + 12));
  std::array<std::uint8_t, 16> bytes;
  std::memcpy(bytes.data(), ip + 8, bytes.size());
  return IpAddress::from_mapped(bytes);
}

IpAddress destination_of(const std::byte* ip, Family family) {
  if (family == Family::v4) return IpAddress::v4(load_be32(ip + 16));
  std::array<std::uint8_t, 16> bytes;
  std::memcpy(bytes.data(), ip + 24, bytes.size());
  return IpAddress::from_mapped(bytes);
}

bool step_ttl(Packet& packet) {
  std::byte* const ip = packet.data();
  const bool v4 = u8_at(ip) >> 4 == 4;
  std::byte* const ttl = ip + (v4 ? 8 : 7);
  if (u8_at(ttl) <= 1) return false;
  const std::uint16_t before = load_raw16(ip + 8);
  *ttl = static_cast<std::byte>(u8_at(ttl) - 1);
  if (v4) adjust_checksum(ip + 10, before, load_raw16(ip + 8));
  return true;
}

}  // namespace postern
