// Traffic selectors on the wire (RFC 7296 §3.13).
#include <array>
#include <cstring>

#include "ike/payload_codec.hpp"

namespace postern::ike {
namespace {

IpAddress read_v4(ByteReader& in) { return IpAddress::v4(in.u32()); }
IpAddress read_v6(ByteReader& in) {
  const auto raw = in.array<16>();
  std::array<std::uint8_t, 16> bytes{};
  std::memcpy(bytes.data(), raw.data(), bytes.size());
  return IpAddress::from_mapped(bytes);
}

// What one selector of the payload said: nothing, when its type is unknown or no packet can have its addresses.
using Read = Decoded<std::optional<Selector>>;

Read decode_selector(ByteReader& payload) {
  const TsType type{payload.u8()};
  Selector selector;
  selector.protocol = payload.u8();
  const std::uint16_t length = payload.u16();
  if (!payload.ok()) return refuse(ParseError::truncated);
  if (length < 4) return refuse(ParseError::bad_length);
  ByteReader in(payload.take(length - 4U));
  if (!payload.ok()) return refuse(ParseError::truncated);
  if (type != TsType::ipv4_range && type != TsType::ipv6_range) return std::nullopt;

  const bool v4 = type == TsType::ipv4_range;
  if (length != (v4 ? 16 : 40)) return refuse(ParseError::bad_length);
  selector.first_port = in.u16();
  selector.last_port = in.u16();
  selector.first = v4 ? read_v4(in) : read_v6(in);
  selector.last = v4 ? read_v4(in) : read_v6(in);
  const bool opaque = selector.first_port == 65535 && selector.last_port == 0;
  if (!opaque && selector.first_port > selector.last_port) return refuse(ParseError::bad_value);
  if (selector.first > selector.last) return refuse(ParseError::bad_value);
  // A v4-mapped IPv6 address is on no wire (RFC 4291 §2.5.5.2), and our IpAddress would take it for IPv4.
  if (!v4 && (selector.first.family() == Family::v4 || selector.last.family() == Family::v4)) return std::nullopt;
  return selector;
}

}  // namespace

Decoded<TsPayload> decode_ts(Bytes body) {
  ByteReader in(body);
  const std::uint8_t count = in.u8();
  in.skip(3);
  if (!in.ok()) return refuse(ParseError::truncated);
  if (count == 0) return refuse(ParseError::bad_value);
  if (count > max_wire_selectors) return refuse(ParseError::too_many);
  TsPayload ts;
  for (std::size_t i = 0; i < count; ++i) {
    POSTERN_TRY(selector, decode_selector(in));
    if (selector) ts.selectors.push_back(*selector);
  }
  if (in.remaining() != 0) return refuse(ParseError::bad_length);
  return ts;
}

void encode(OctetWriter& out, const TsPayload& ts) {
  out.u8(static_cast<std::uint8_t>(ts.selectors.size()));
  out.zeros(3);
  for (const Selector& selector : ts.selectors) {
    const bool v4 = selector.family() == Family::v4;
    out.u8(static_cast<std::uint8_t>(v4 ? TsType::ipv4_range : TsType::ipv6_range));
    out.u8(selector.protocol);
    out.u16(v4 ? 16 : 40);
    out.u16(selector.first_port);
    out.u16(selector.last_port);
    out.address(selector.first);
    out.address(selector.last);
  }
}

}  // namespace postern::ike
