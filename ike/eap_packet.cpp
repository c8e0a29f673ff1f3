#include "ike/eap_packet.hpp"

#include <algorithm>
#include <array>
#include <string>

namespace postern::ike {
namespace {

constexpr std::array<EapMethodRow, 3> methods = {{
    {EapType::mschapv2, "EAP-MSCHAPv2", true, true},
    {EapType::tls, "EAP-TLS", true, true},
    {EapType::md5, "EAP-MD5", false, false},
}};

}  // namespace

Result<EapPacket, EapParseError> parse_eap(Bytes bytes) {
  if (bytes.size() > max_eap_bytes) return std::unexpected(EapParseError::too_long);
  ByteReader in(bytes);
  EapPacket out;
  const std::uint8_t code = in.u8();
  out.identifier = in.u8();
  const std::uint16_t length = in.u16();
  if (!in.ok()) return std::unexpected(EapParseError::truncated);
  if (length != bytes.size()) return std::unexpected(EapParseError::bad_length);
  if (code < 1 || code > 4) return std::unexpected(EapParseError::bad_code);
  out.code = EapCode{code};
  if (out.code == EapCode::success || out.code == EapCode::failure) {
    if (in.remaining() != 0) return std::unexpected(EapParseError::bad_length);
    return out;
  }
  out.type = EapType{in.u8()};
  out.data = octets_of(in.rest());
  if (!in.ok()) return std::unexpected(EapParseError::truncated);
  if (out.type == EapType::none) return std::unexpected(EapParseError::bad_type);  // 0 is no type (RFC 3748 §5)
  return out;
}

Octets encode_eap(const EapPacket& packet) {
  OctetWriter out;
  out.u8(static_cast<std::uint8_t>(packet.code));
  out.u8(packet.identifier);
  out.u16(0);
  if (packet.type != EapType::none) {
    out.u8(static_cast<std::uint8_t>(packet.type));
    out.bytes(packet.data);
  }
  out.put_u16(2, out.size());
  return out.take();
}

const EapMethodRow* find_eap_method(EapType type) {
  const auto found = std::ranges::find(methods, type, &EapMethodRow::type);
  return found == methods.end() ? nullptr : &*found;
}

std::string eap_name(EapType type) {
  if (const EapMethodRow* const row = find_eap_method(type)) return std::string(row->name);
  return "EAP type " + std::to_string(static_cast<unsigned>(type));
}

}  // namespace postern::ike
