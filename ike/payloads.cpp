#include "ike/payloads.hpp"

#include "ike/payload_codec.hpp"

namespace postern::ike {
namespace {

void encode(OctetWriter& out, const RawPayload& raw) { out.bytes(raw.data); }
void encode(OctetWriter& out, const VendorIdPayload& vendor) { out.bytes(vendor.data); }

Parsed<Payload> wrapped(PayloadType type, auto decoded) {
  if (!decoded) return std::unexpected(ParseFailure{decoded.error(), type});
  return Payload{type, std::move(*decoded)};
}

const char* reason(ParseError error) {
  switch (error) {
    case ParseError::truncated: return "cut short";
    case ParseError::bad_length: return "a length does not fit";
    case ParseError::bad_value: return "a field holds what it must not";
    case ParseError::too_many: return "more of them than we take";
    case ParseError::unsupported_critical: return "unknown and critical";
    case ParseError::unsupported_version: return "major version above 2";
    case ParseError::not_protected: return "not protected as it must be";
    case ParseError::not_authentic: return "integrity check failed";
  }
  return "unknown error";
}

}  // namespace

std::string text(const ParseFailure& failure) {
  const std::string where = failure.payload == PayloadType::none ? "message" : text(failure.payload) + " payload";
  return where + ": " + reason(failure.error);
}

Parsed<Payload> parse_payload(PayloadType type, Bytes body) {
  switch (type) {
    case PayloadType::sa: return wrapped(type, decode_sa(body));
    case PayloadType::ke: return wrapped(type, decode_ke(body));
    case PayloadType::id_initiator:
    case PayloadType::id_responder: return wrapped(type, decode_id(body));
    case PayloadType::certificate: return wrapped(type, decode_certificate(body));
    case PayloadType::certificate_request: return wrapped(type, decode_certificate_request(body));
    case PayloadType::auth: return wrapped(type, decode_auth(body));
    case PayloadType::nonce: return wrapped(type, decode_nonce(body));
    case PayloadType::notify: return wrapped(type, decode_notify(body));
    case PayloadType::delete_: return wrapped(type, decode_delete(body));
    case PayloadType::vendor_id: return Payload{type, VendorIdPayload{octets_of(body)}};
    case PayloadType::configuration: return wrapped(type, decode_configuration(body));
    case PayloadType::ts_initiator:
    case PayloadType::ts_responder: return wrapped(type, decode_ts(body));
    default: return Payload{type, RawPayload{octets_of(body)}};
  }
}

Octets encode_payload(const Payload& payload) {
  OctetWriter out;
  std::visit([&](const auto& body) { encode(out, body); }, payload.body);
  return out.take();
}

}  // namespace postern::ike
