// Notify (RFC 7296 §3.10) and Delete (§3.11).
#include <algorithm>

#include "ike/payload_codec.hpp"

namespace postern::ike {
namespace {

// What a notify says about an SA, and in how many bytes: 4 of a child's SPI, none of an IKE SA's, which the header has.
bool spi_fits_notify(ProtocolId protocol, std::size_t spi_bytes) {
  switch (protocol) {
    case ProtocolId::ike: return spi_bytes == 0;
    case ProtocolId::ah:
    case ProtocolId::esp: return spi_bytes == 4;
    case ProtocolId::none: break;
  }
  return true;
}

// §3.10.1 and the clauses that it names: notifies whose data has a fixed form.
struct DataRule {
  NotifyType type;
  std::size_t min, max;
};
constexpr DataRule data_rules[] = {
    {NotifyType::unsupported_critical_payload, 1, 1},    // §2.5
    {NotifyType::invalid_ke_payload, 2, 2},              // §1.2: the group
    {NotifyType::set_window_size, 4, 4},                 // §2.3
    {NotifyType::nat_detection_source_ip, 20, 20},       // §2.23: SHA-1
    {NotifyType::nat_detection_destination_ip, 20, 20},  //
    {NotifyType::cookie, 1, 64},                         // §2.6
    {NotifyType::ipcomp_supported, 3, 255},              // §3.10.1: CPI, transform, its attributes
    {NotifyType::quick_crash_detection, 16, 128},        // RFC 6290 §4.1
    {NotifyType::additional_ip4_address, 4, 4},          // RFC 4555 §4.2.2
    {NotifyType::additional_ip6_address, 16, 16},        //
    {NotifyType::cookie2, 8, 64},                        // RFC 4555 §4.2.5
};

bool fits_type(const NotifyPayload& notify) {
  if (notify.type == NotifyType::rekey_sa && notify.spi.empty()) return false;  // §1.3.3
  const auto rule = std::ranges::find(data_rules, notify.type, &DataRule::type);
  return rule == std::end(data_rules) || (notify.data.size() >= rule->min && notify.data.size() <= rule->max);
}

}  // namespace

Decoded<NotifyPayload> decode_notify(Bytes body) {
  ByteReader in(body);
  NotifyPayload notify;
  const ProtocolId protocol{in.u8()};
  const std::uint8_t spi_bytes = in.u8();
  notify.type = NotifyType{in.u16()};
  notify.spi = octets_of(in.take(spi_bytes));
  notify.data = octets_of(in.rest());
  if (!in.ok()) return refuse(ParseError::truncated);
  // §3.10: without an SPI the protocol is ignored.
  if (spi_bytes != 0) notify.protocol = protocol;
  if (!spi_fits_notify(notify.protocol, spi_bytes) || !fits_type(notify)) return refuse(ParseError::bad_value);
  return notify;
}

void encode(OctetWriter& out, const NotifyPayload& notify) {
  out.u8(static_cast<std::uint8_t>(notify.spi.empty() ? ProtocolId::none : notify.protocol));
  out.u8(static_cast<std::uint8_t>(notify.spi.size()));
  out.u16(static_cast<std::uint16_t>(notify.type));
  out.bytes(notify.spi);
  out.bytes(notify.data);
}

Decoded<DeletePayload> decode_delete(Bytes body) {
  ByteReader in(body);
  DeletePayload del;
  del.protocol = ProtocolId{in.u8()};
  const std::uint8_t spi_bytes = in.u8();
  const std::uint16_t count = in.u16();
  if (!in.ok()) return refuse(ParseError::truncated);
  const bool child = del.protocol == ProtocolId::ah || del.protocol == ProtocolId::esp;
  if (!child && del.protocol != ProtocolId::ike) return refuse(ParseError::bad_value);
  if (spi_bytes != (child ? 4 : 0)) return refuse(ParseError::bad_value);
  if (count > max_deleted_spis) return refuse(ParseError::too_many);
  for (std::size_t i = 0; child && i < count; ++i) del.spis.push_back(in.u32());
  if (!in.ok()) return refuse(ParseError::truncated);
  if (in.remaining() != 0) return refuse(ParseError::bad_length);
  return del;
}

void encode(OctetWriter& out, const DeletePayload& del) {
  out.u8(static_cast<std::uint8_t>(del.protocol));
  out.u8(del.protocol == ProtocolId::ike ? 0 : 4);
  out.u16(static_cast<std::uint16_t>(del.spis.size()));
  for (const std::uint32_t spi : del.spis) out.u32(spi);
}

}  // namespace postern::ike
