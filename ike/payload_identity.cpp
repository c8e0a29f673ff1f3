// Identification (RFC 7296 §3.5) and Authentication (§3.8).
#include <algorithm>

#include "ike/payload_codec.hpp"

namespace postern::ike {
namespace {

// §3.5: no terminators in names; no other control character is in one either, and names come into logs.
bool is_name(Bytes data) {
  return std::ranges::none_of(data, [](std::byte b) { return b < std::byte{0x20} || b == std::byte{0x7f}; });
}

bool fits_type(const IdPayload& id) {
  switch (id.type) {
    case IdType::ipv4: return id.data.size() == 4;
    case IdType::ipv6: return id.data.size() == 16;
    case IdType::fqdn:
    case IdType::email: return !id.data.empty() && is_name(id.data);
    default: return true;
  }
}

}  // namespace

Decoded<IdPayload> decode_id(Bytes body) {
  ByteReader in(body);
  IdPayload id;
  id.type = IdType{in.u8()};
  in.skip(3);
  id.data = octets_of(in.rest());
  if (!in.ok()) return refuse(ParseError::truncated);
  if (!fits_type(id)) return refuse(ParseError::bad_value);
  return id;
}

void encode(OctetWriter& out, const IdPayload& id) {
  out.u8(static_cast<std::uint8_t>(id.type));
  out.zeros(3);
  out.bytes(id.data);
}

Octets id_octets(const IdPayload& id) {
  OctetWriter out;
  encode(out, id);
  return out.take();
}

Decoded<AuthPayload> decode_auth(Bytes body) {
  ByteReader in(body);
  AuthPayload auth;
  auth.method = AuthMethod{in.u8()};
  in.skip(3);
  auth.data = octets_of(in.rest());
  if (!in.ok()) return refuse(ParseError::truncated);
  if (auth.data.empty()) return refuse(ParseError::bad_length);
  return auth;
}

void encode(OctetWriter& out, const AuthPayload& auth) {
  out.u8(static_cast<std::uint8_t>(auth.method));
  out.zeros(3);
  out.bytes(auth.data);
}

}  // namespace postern::ike
