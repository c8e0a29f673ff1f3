// A peer's CERT, CERTREQ and AUTH payloads, as postern-ike parses and postern-pki judges them. The first byte is the
// authentication method, whose first bit says that the certificates are bundles (RFC 7296 §3.6) that were fetched for
// the peer, the second the type of the identity; then blocks of two bytes of length and their content:
// AUTH, the identity, and certificates. Whoever has no key of our CA is never believed; the channel's frames are read
// too.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "ike/payloads.hpp"
#include "pki/bundle.hpp"
#include "pki/channel.hpp"
#include "pki/store.hpp"
#include "tests/pki/certificates.hpp"

namespace postern::pki {
namespace {

Octets block(ByteReader& in) {
  const std::uint16_t size = in.u16();
  const Bytes out = in.remaining() < size ? in.rest() : in.take(size);
  return {out.begin(), out.end()};
}

// Accepts what it wrote: both directions of the payloads agree.
void parse_as(ike::PayloadType type, const Octets& body) {
  const auto parsed = ike::parse_payload(type, body);
  if (parsed && ike::encode_payload(*parsed) != body && type != ike::PayloadType::auth) std::abort();
}

// What is read of a bundle is read again of what is written of it; and nothing is read beyond what may come.
void parse_bundle(const Octets& body) {
  const auto read = read_bundle(body);
  if (!read) return;
  std::vector<Octets> copies;
  for (const Bytes one : *read) copies.emplace_back(one.begin(), one.end());
  if (copies.empty() || copies.size() > max_certificates) std::abort();
  const Octets written = write_bundle(copies);
  const auto again = read_bundle(written);
  if (!again || again->size() != copies.size() || written.size() > body.size()) std::abort();
  for (std::size_t i = 0; i < copies.size(); ++i)
    if (!std::ranges::equal((*again)[i], copies[i])) std::abort();
}

Store make_store() {
  Store out;
  out.set(
      {make_trustpoint({"CA", {test::root_pem}, {}}, std::nullopt)},
      {{"MAP", {{MapField::alt_subject_name, MapOperator::co, "a"}, {MapField::issuer_name, MapOperator::ne, "b"}}}});
  return out;
}

}  // namespace
}  // namespace postern::pki

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace postern;
  using namespace postern::pki;
  static const Store store = make_store();
  const Bytes all{reinterpret_cast<const std::byte*>(data), size};
  if (const auto frame = decode(all); frame && encode(*frame) != Octets(all.begin(), all.end())) std::abort();
  ByteReader in(all);
  ValidateQuestion question;
  const std::uint8_t first = in.u8();
  const bool bundles = (first & 0x80U) != 0;
  question.method = first & 0x7fU;
  question.identity_type = in.u8();
  question.auth = block(in);
  question.identity = block(in);
  question.message = {std::byte{1}, std::byte{2}};
  question.peer_said_hashes = question.method == 14;
  if (question.peer_said_hashes) question.own_hashes = {1, 2, 3, 4, 5};
  question.rules = {{{"CA"}, SignatureKind::any, true, {}, false}, {{"CA"}, SignatureKind::rsa, false, {"MAP"}, true}};
  while (in.remaining() > 0 && question.certificates.size() < 20) {
    Octets body = block(in);
    parse_as(ike::PayloadType::certificate, body);
    parse_as(ike::PayloadType::certificate_request, body);
    parse_as(ike::PayloadType::auth, body);
    parse_bundle(body);
    question.certificates.push_back({bundles ? bundle_url_encoding : x509_signature_encoding, std::move(body)});
  }
  const Answer answer = store.answer(question, 1780272000 + 86400);
  if (const auto* const validated = std::get_if<Validated>(&answer))
    for (const auto& verdict : validated->verdicts)
      if (!verdict) std::abort();
  return 0;
}
