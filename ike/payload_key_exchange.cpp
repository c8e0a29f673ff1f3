// Key Exchange (RFC 7296 §3.4) and Nonce (§3.9).
#include "ike/payload_codec.hpp"

namespace postern::ike {

Decoded<KePayload> decode_ke(Bytes body) {
  ByteReader in(body);
  KePayload ke;
  ke.group = crypto::DhGroup{in.u16()};
  in.skip(2);
  ke.data = octets_of(in.rest());
  if (!in.ok()) return refuse(ParseError::truncated);
  if (ke.data.empty()) return refuse(ParseError::bad_length);
  return ke;
}

void encode(OctetWriter& out, const KePayload& ke) {
  out.u16(static_cast<std::uint16_t>(ke.group));
  out.zeros(2);
  out.bytes(ke.data);
}

Decoded<NoncePayload> decode_nonce(Bytes body) {
  if (body.size() < 16 || body.size() > 256) return refuse(ParseError::bad_length);
  return NoncePayload{octets_of(body)};
}

void encode(OctetWriter& out, const NoncePayload& nonce) { out.bytes(nonce.data); }

}  // namespace postern::ike
