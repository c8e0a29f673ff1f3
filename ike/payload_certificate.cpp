// Certificate (RFC 7296 §3.6) and Certificate Request (§3.7). What is inside is postern-pki's to read.
#include "ike/payload_codec.hpp"
#include "pki/questions.hpp"

namespace postern::ike {

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
  if (request.encoding == pki::x509_signature_encoding && request.data.size() % pki::authority_bytes != 0)
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
