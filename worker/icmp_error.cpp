#include "worker/icmp_error.hpp"

#include <algorithm>

#include "worker/checksum.hpp"
#include "worker/icmp_quote.hpp"

namespace postern {
namespace {

constexpr std::size_t max_icmpv4_error_bytes = 576;
constexpr std::uint8_t own_ttl = 64;

// Type, code and the second word of the ICMP header.
struct IcmpMessage {
  std::uint8_t type = 0;
  std::uint8_t code = 0;
  std::uint32_t word = 0;
};

constexpr std::uint8_t icmpv6_redirect = 137;

bool is_icmp_error(Bytes packet, const IpInfo& info) {
  const bool v4 = info.family == Family::v4;
  if (info.protocol != static_cast<std::uint8_t>(v4 ? IpProto::icmp : IpProto::icmpv6)) return false;
  if (info.upper_bytes() == 0) return true;  // what it is cannot be seen
  const auto type = std::to_integer<std::uint8_t>(packet[info.network_bytes]);
  return is_icmp_error_type(info.family, type) || (!v4 && type == icmpv6_redirect);
}

bool is_one_host(const IpAddress& address) {
  if (address.is_unspecified() || address.is_multicast()) return false;
  if (address.family() == Family::v6) return true;
  const std::uint32_t host = address.v4_host_order();
  return host >> 24 != 0 && host >> 24 != 127 && host < 0xf0000000U;
}

IpAddress pick_source(Bytes packet, const IpInfo& info, const IpAddress& outer_local) {
  return outer_local.family() == info.family ? outer_local : destination_of(packet.data(), info.family);
}

void write_ipv4(ByteWriter& writer, std::size_t total, const IpAddress& source, const IpAddress& destination) {
  writer.u8(0x45);
  writer.u8(0xc0);  // RFC 1812 §4.3.2.5: internetwork control
  writer.u16(static_cast<std::uint16_t>(total));
  writer.u16(0);
  writer.u16(0);
  writer.u8(own_ttl);
  writer.u8(static_cast<std::uint8_t>(IpProto::icmp));
  writer.u16(0);
  writer.u32(source.v4_host_order());
  writer.u32(destination.v4_host_order());
}

void write_ipv6(ByteWriter& writer, std::size_t total, const IpAddress& source, const IpAddress& destination) {
  writer.u32(0x60000000U);
  writer.u16(static_cast<std::uint16_t>(total - ipv6_header));
  writer.u8(static_cast<std::uint8_t>(IpProto::icmpv6));
  writer.u8(own_ttl);
  writer.bytes(std::as_bytes(std::span(source.mapped())));
  writer.bytes(std::as_bytes(std::span(destination.mapped())));
}

Bytes write_error(Bytes packet, const IpInfo& info, const IcmpMessage& message, const IpAddress& outer_local,
                  IcmpErrorBuffer& out) {
  const bool v4 = info.family == Family::v4;
  const std::size_t ip = v4 ? ipv4_min_header : ipv6_header;
  const std::size_t room = (v4 ? max_icmpv4_error_bytes : max_icmp_error_bytes) - ip - icmp_header;
  const Bytes quote = packet.first(std::min<std::size_t>(info.total_bytes, room));
  const std::size_t total = ip + icmp_header + quote.size();
  const IpAddress source = pick_source(packet, info, outer_local);
  const IpAddress destination = source_of(packet.data(), info.family);

  ByteWriter writer(out);
  if (v4)
    write_ipv4(writer, total, source, destination);
  else
    write_ipv6(writer, total, source, destination);
  writer.u8(message.type);
  writer.u8(message.code);
  writer.u16(0);
  writer.u32(message.word);
  writer.bytes(quote);

  if (v4) set_ipv4_checksum(out.data(), ip);
  const auto upper = static_cast<std::uint32_t>(total - ip);
  const auto protocol = static_cast<std::uint8_t>(IpProto::icmpv6);
  const std::uint64_t pseudo = v4 ? 0 : pseudo_header_sum(out.data(), Family::v6, protocol, upper);
  store_raw16(out.data() + ip + 2, finish(sum_bytes({out.data() + ip, upper}, pseudo)));
  return Bytes(out).first(total);
}

}  // namespace

bool ErrorBudget::take(Time now) {
  const double gained = std::chrono::duration<double>(now - last_).count() * per_second;
  tokens_ = std::min<double>(burst, tokens_ + gained);
  last_ = now;
  if (tokens_ < 1) return false;
  tokens_ -= 1;
  return true;
}

bool may_answer(Bytes packet, const IpInfo& info, bool packet_too_big) {
  if (!info.has_upper_header() || is_icmp_error(packet, info)) return false;
  if (!is_one_host(source_of(packet.data(), info.family))) return false;
  const IpAddress destination = destination_of(packet.data(), info.family);
  if (info.family == Family::v6) return !destination.is_multicast() || packet_too_big;
  return is_one_host(destination);
}

Bytes packet_too_big(Bytes packet, const IpInfo& info, std::uint32_t mtu, const IpAddress& outer_local,
                     IcmpErrorBuffer& out) {
  if (info.family == Family::v4)
    return write_error(packet, info, {3, 4, std::min<std::uint32_t>(mtu, 65535)}, outer_local, out);
  return write_error(packet, info, {2, 0, std::max(mtu, ipv6_min_mtu)}, outer_local, out);
}

Bytes time_exceeded(Bytes packet, const IpInfo& info, const IpAddress& outer_local, IcmpErrorBuffer& out) {
  const std::uint8_t type = info.family == Family::v4 ? 11 : 3;
  return write_error(packet, info, {type, 0, 0}, outer_local, out);
}

}  // namespace postern
