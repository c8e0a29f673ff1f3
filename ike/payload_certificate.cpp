// Certificate (RFC 7296 §3.6) and Certificate Request (§3.7). What is inside is postern-pki's to read.
#include "ike/payload_codec.hpp"

namespace postern::ike {
namespace {

constexpr std::uint8_t x509_signature = 4;
constexpr std::size_t authority_bytes = 20;  // SHA-1 of a SubjectPublicKeyInfo

}  // namespace

Decoded<CertPayload> decode_certificate(Bytes body) {
  ByteReader in(body);
  CertPayload certificate;
  certificate.encoding = in.u8();
  certificate.data = octets_of(in.rest());
  if (!in.ok()) return refuse(ParseError::truncated);
  if (certificate.data.empty()) return refuse(ParseError::bad_length);
  return certificate;
}

Decoded<CertRequestPayload> decode_certificate_request(Bytes body) {
  ByteReader in(body);
  CertRequestPayload request;
  request.encoding = in.u8();
  request.data = octets_of(in.rest());
  if (!in.ok()) return refuse(ParseError::truncated);
  if (request.encoding == x509_signature && request.data.size() % authority_bytes != 0)
    return refuse(ParseError::bad_length);
  return request;
}

void encode(OctetWriter& out, const CertPayload& certificate) {
  out.u8(certificate.encoding);
  out.bytes(certificate.data);
}

void encode(OctetWriter& out, const CertRequestPayload& request) {
  out.u8(request.encoding);
  out.bytes(request.data);
}

}  // namespace postern::ike
