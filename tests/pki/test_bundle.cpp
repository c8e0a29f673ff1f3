// RFC 7296 §3.6: bundles of certificates, and CERT payloads that say where a certificate or a bundle is.
#include <doctest/doctest.h>

#include "certificates.hpp"
#include "crypto/digest.hpp"
#include "pki/bundle.hpp"
#include "pki/certificate_payloads.hpp"
#include "pki/store.hpp"

namespace postern::pki {
namespace {

using namespace test;

constexpr std::int64_t during = 1780272000 + 10 * 86400;

Octets of(std::initializer_list<int> bytes) {
  Octets out;
  for (const int one : bytes) out.push_back(static_cast<std::byte>(one));
  return out;
}
Octets der_of(const char* pem) { return crypto::Certificate::from_pem(as_bytes(pem))->front().der(); }

std::vector<Octets> read(const Octets& der) {
  const auto out = read_bundle(der);
  REQUIRE(out);
  std::vector<Octets> copies;
  for (const Bytes one : *out) copies.emplace_back(one.begin(), one.end());
  return copies;
}

Trustpoint own(std::string certificate_url, std::string bundle_url) {
  return make_trustpoint(
      {"OWN", {root_pem}, {below_between_pem, between_pem}, std::move(certificate_url), std::move(bundle_url)},
      crypto::PrivateKey::from_pem(as_bytes(below_between_key)));
}
Signed signed_by(const Trustpoint& trustpoint, bool peer_fetches) {
  Store store;
  store.set({trustpoint}, {});
  SignQuestion question{"OWN", SignatureKind::any, of({1, 2, 3}), {2, 3, 4, 5}, false, false, peer_fetches};
  const Answer answer = store.answer(question, during);
  REQUIRE(std::holds_alternative<Signed>(answer));
  return std::get<Signed>(answer);
}
Octets at_url(const Octets& what, std::string_view url) {
  const auto hash = crypto::sha1({what});
  REQUIRE(hash);
  Octets out(hash->begin(), hash->end());
  for (const char c : url) out.push_back(static_cast<std::byte>(c));
  return out;
}
Answer judged(std::vector<CertificatePayload> certificates) {
  const Signed made = signed_by(own("", ""), false);
  Store store;
  store.set({make_trustpoint({"VERIFY", {root_pem}, {}}, std::nullopt)}, {});
  ValidateQuestion question;
  question.identity_type = 9;
  question.identity = crypto::Certificate::from_pem(as_bytes(below_between_pem))->front().subject_der();
  question.certificates = std::move(certificates);
  question.method = made.method;
  question.auth = made.data;
  question.message = of({1, 2, 3});
  question.rules = {{{"VERIFY"}, SignatureKind::any, true, {}, false}};
  question.own_hashes = {2, 3, 4, 5};
  question.peer_said_hashes = true;
  return store.answer(question, during);
}

}  // namespace

TEST_CASE("a bundle by hand: SEQUENCE, [0] EXPLICIT for certificates, [1] for CRLs, which are passed over") {
  CHECK(read(of({0x30, 0x0c, 0xa0, 0x02, 0x30, 0x00, 0xa1, 0x02, 0x30, 0x00, 0xa0, 0x02, 0x30, 0x00})) ==
        std::vector<Octets>{of({0x30, 0x00}), of({0x30, 0x00})});
  CHECK(write_bundle({of({0x30, 0x00}), of({0x30, 0x01, 0x05})}) ==
        of({0x30, 0x09, 0xa0, 0x02, 0x30, 0x00, 0xa0, 0x03, 0x30, 0x01, 0x05}));
}

TEST_CASE("what is written is read, through every form of length") {
  for (const std::size_t size : {0, 1, 127, 128, 255, 256, 4000, 65535, 65536}) {
    CAPTURE(size);
    const std::vector<Octets> two = {Octets(size, std::byte{7}), of({1})};
    CHECK(read(write_bundle(two)) == two);
  }
}

TEST_CASE("what is no bundle: cut anywhere, indefinite or longer lengths than need be, other tags, too many, none") {
  const Octets whole = write_bundle({der_of(root_pem), der_of(between_pem)});
  for (std::size_t size = 0; size < whole.size(); ++size) CHECK_FALSE(read_bundle(Bytes(whole).first(size)));
  Octets longer = whole;
  longer.push_back(std::byte{0});
  CHECK_FALSE(read_bundle(longer));
  for (const Octets& bad :
       {of({}), of({0x30, 0x00}), of({0x30, 0x02, 0xa1, 0x00}), of({0x30, 0x80, 0xa0, 0x02, 0x30, 0x00, 0x00, 0x00}),
        of({0x30, 0x06, 0xa0, 0x80, 0x30, 0x00, 0x00, 0x00}), of({0x30, 0x81, 0x04, 0xa0, 0x02, 0x30, 0x00}),
        of({0x30, 0x82, 0x00, 0x04, 0xa0, 0x02, 0x30, 0x00}),
        of({0x30, 0x84, 0x00, 0x00, 0x00, 0x04, 0xa0, 0x02, 0x30, 0x00}),
        of({0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0xa0, 0x02, 0x30, 0x00}), of({0x31, 0x04, 0xa0, 0x02, 0x30, 0x00}),
        of({0x30, 0x04, 0x80, 0x02, 0x30, 0x00}), of({0x30, 0x04, 0xa2, 0x02, 0x30, 0x00}),
        of({0x30, 0x04, 0x30, 0x02, 0x30, 0x00}), of({0x30, 0x04, 0xa0, 0x03, 0x30, 0x00})})
    CHECK_FALSE(read_bundle(bad));
  CHECK(read_bundle(write_bundle(std::vector(max_certificates, of({0x30, 0x00})))));
  CHECK_FALSE(read_bundle(write_bundle(std::vector(max_certificates + 1, of({0x30, 0x00})))));
}

TEST_CASE("where the own certificates are is said to peers that fetch, and to no others") {
  const Octets leaf = der_of(below_between_pem), between = der_of(between_pem);
  const std::vector<CertificatePayload> whole = {{4, leaf}, {4, between}};
  CHECK(signed_by(own("", ""), true).certificates == whole);
  CHECK(signed_by(own("http://h/c", ""), false).certificates == whole);
  CHECK(signed_by(own("", "http://h/b"), false).certificates == whole);
  CHECK(signed_by(own("http://h/c", ""), true).certificates ==
        std::vector<CertificatePayload>{{12, at_url(leaf, "http://h/c")}, {4, between}});
  CHECK(signed_by(own("", "http://h/b"), true).certificates ==
        std::vector<CertificatePayload>{{13, at_url(write_bundle({leaf, between}), "http://h/b")}});
  CHECK(bundle_of(own("", "http://h/b")) == write_bundle({leaf, between}));
}

TEST_CASE("a peer's bundle counts as the certificates in it, by their order and their number") {
  const Octets leaf = der_of(below_between_pem), between = der_of(between_pem);
  const auto good = [](const Answer& answer) {
    const auto* const validated = std::get_if<Validated>(&answer);
    return validated != nullptr && !validated->verdicts.at(0);
  };
  CHECK(good(judged({{13, write_bundle({leaf, between})}})));
  CHECK(good(judged({{4, leaf}, {13, write_bundle({between})}})));
  CHECK(good(judged({{13, write_bundle({leaf})}, {4, between}})));
  CHECK_FALSE(good(judged({{13, write_bundle({between, leaf})}})));  // the first one's key signed
  CHECK_FALSE(good(judged({{13, write_bundle({leaf})}})));
  CHECK_FALSE(good(judged({{12, at_url(leaf, "http://h/c")}})));  // postern-ike fetches, nobody here does
  const auto refused = [](const Answer& answer) {
    const auto* const refusal = std::get_if<Refusal>(&answer);
    return refusal == nullptr ? std::string() : refusal->summary;
  };
  CHECK(refused(judged({{13, of({0x30, 0x00})}})).find("bundle") != std::string::npos);
  CHECK(refused(judged({{4, leaf}, {13, write_bundle(std::vector(max_certificates, between))}})).find("too many") !=
        std::string::npos);
  CHECK_FALSE(refused(judged({{13, write_bundle({leaf, of({0x30, 0x00})})}})).empty());
}

}  // namespace postern::pki
