// What postern-pki answers, with certificates that python3-cryptography made: signatures of every kind verify and what
// was changed does not; each check that a peer can fail, fails by its own name.
#include <doctest/doctest.h>

#include "certificates.hpp"
#include "crypto/certificate_path.hpp"
#include "pki/store.hpp"

namespace postern::pki {
namespace {

using namespace test;

constexpr std::int64_t day = 86400, start = 1780272000;  // 2026-06-01T00:00:00Z
constexpr std::int64_t during = start + 10 * day;

Octets octets(std::string_view text) {
  const Bytes bytes = as_bytes(text);
  return {bytes.begin(), bytes.end()};
}

Octets der_of(const char* pem) { return crypto::Certificate::from_pem(as_bytes(pem))->front().der(); }

Trustpoint trustpoint(const char* name, std::vector<std::string> own, const char* key,
                      std::vector<std::string> authorities = {root_pem}) {
  return make_trustpoint({name, std::move(authorities), std::move(own)},
                         key == nullptr ? std::nullopt : std::optional(crypto::PrivateKey::from_pem(as_bytes(key))));
}

Store store() {
  Store out;
  out.set(
      {trustpoint("RSA", {rsa_pem}, rsa_key), trustpoint("EC256", {ecdsa256_pem}, ecdsa256_key),
       trustpoint("EC384", {ecdsa384_pem}, ecdsa384_key), trustpoint("EC521", {ecdsa521_pem}, ecdsa521_key),
       trustpoint("ED", {ed25519_pem}, ed25519_key),
       trustpoint("BELOW", {below_between_pem, between_pem}, below_between_key),
       trustpoint("CODE", {code_signing_pem}, code_signing_key), trustpoint("VERIFY", {}, nullptr),
       trustpoint("OTHER", {}, nullptr, {other_root_pem})},
      {{"GATEWAYS",
        {{MapField::subject_name, MapOperator::co, "CN = Gateway"}, {MapField::issuer_name, MapOperator::nc, "other"}}},
       {"NOBODY", {{MapField::subject_name, MapOperator::eq, "cn=nobody"}}},
       {"NOBODY",
        {{MapField::alt_subject_name, MapOperator::eq, "admin@example.org"},
         {MapField::subject_name, MapOperator::ne, "cn=x"}}}});
  return out;
}

const std::vector<std::uint16_t> sha2 = {2, 3, 4, 5};

Signed signed_by(const Store& of, SignQuestion question) {
  question.message = octets("what both ends said");
  const Answer answer = of.answer(question, during);
  if (const auto* const refusal = std::get_if<Refusal>(&answer)) FAIL(refusal->summary);
  return std::get<Signed>(answer);
}

// Of a peer that speaks RFC 7427 where it signed so, and else does not.
ValidateQuestion claim_of(const Signed& made, TrustRule rule = {{"VERIFY"}, SignatureKind::any, true, {}, false}) {
  const bool both_said = made.method == 14;
  return {2,         octets("gw.example.org"),      made.certificates, made.method,
          made.data, octets("what both ends said"), {std::move(rule)}, both_said ? sha2 : std::vector<std::uint16_t>(),
          both_said};
}

// The one verdict's refusal, or that of the whole; nothing: believed.
std::optional<Refusal> refusal_of(const Store& of, const ValidateQuestion& question, std::int64_t now = during) {
  const Answer answer = of.answer(question, now);
  if (const auto* const refusal = std::get_if<Refusal>(&answer)) return *refusal;
  return std::get<Validated>(answer).verdicts.at(0);
}

}  // namespace

TEST_CASE("every kind of signature verifies, and not over another message") {
  const Store all = store();
  struct Row {
    SignQuestion question;
    std::uint8_t method;
    const char* algorithm;
  };
  const Row rows[] = {
      {{"RSA", SignatureKind::rsa, {}, sha2, false, false}, 14, "RSA-PSS with SHA-256"},
      {{"RSA", SignatureKind::any, {}, {4}, false, false}, 14, "RSA-PSS with SHA-512"},
      {{"RSA", SignatureKind::rsa, {}, sha2, false, true}, 14, "RSA with SHA-256"},
      {{"EC256", SignatureKind::ecdsa, {}, sha2, false, false}, 14, "ECDSA with SHA-256"},
      {{"EC384", SignatureKind::ecdsa, {}, sha2, false, false}, 14, "ECDSA with SHA-384"},
      {{"EC384", SignatureKind::ecdsa, {}, {2}, false, false}, 14, "ECDSA with SHA-256"},
      {{"EC521", SignatureKind::any, {}, sha2, false, false}, 14, "ECDSA with SHA-512"},
      {{"ED", SignatureKind::any, {}, sha2, false, false}, 14, "Ed25519"},
      {{"RSA", SignatureKind::rsa, {}, {}, false, false}, 1, "RSA with SHA-256"},
      {{"RSA", SignatureKind::rsa, {}, {}, true, false}, 1, "RSA with SHA-1"},
      {{"EC256", SignatureKind::ecdsa, {}, {}, false, false}, 9, "ECDSA with SHA-256"},
      {{"EC384", SignatureKind::ecdsa, {}, {}, false, false}, 10, "ECDSA with SHA-384"},
      {{"EC521", SignatureKind::ecdsa, {}, {}, false, false}, 11, "ECDSA with SHA-512"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.algorithm);
    CAPTURE(row.method);
    const Signed made = signed_by(all, row.question);
    CHECK(made.method == row.method);
    CHECK(made.algorithm == row.algorithm);
    CHECK(made.valid_s == 80 * day);
    ValidateQuestion claim = claim_of(made);
    claim.rules[0].allow_sha1 = true;
    CHECK_FALSE(refusal_of(all, claim));
    const Answer answer = all.answer(claim, during);
    CHECK(std::get<Validated>(answer).algorithm == row.algorithm);
    claim.message.back() ^= std::byte{1};
    CHECK(refusal_of(all, claim)->kind == RefusalKind::bad_signature);
    claim.message.back() ^= std::byte{1};
    claim.auth.back() ^= std::byte{1};
    CHECK(refusal_of(all, claim)->kind == RefusalKind::bad_signature);
  }
}

TEST_CASE(
    "RFC 7427 §3: two that both said SIGNATURE_HASH_ALGORITHMS use its method and no other, any others an old one") {
  const Store all = store();
  for (const char* const key : {"RSA", "EC256", "EC384", "EC521"}) {
    CAPTURE(key);
    for (const bool by_new : {true, false}) {
      CAPTURE(by_new);
      const Signed made =
          signed_by(all, {key, SignatureKind::any, {}, by_new ? sha2 : std::vector<std::uint16_t>(), false, false});
      REQUIRE((made.method == 14) == by_new);
      for (const bool we_said : {true, false})
        for (const bool peer_said : {true, false}) {
          CAPTURE(we_said);
          CAPTURE(peer_said);
          ValidateQuestion claim = claim_of(made);
          claim.own_hashes = we_said ? sha2 : std::vector<std::uint16_t>();
          claim.peer_said_hashes = peer_said;
          const auto refusal = refusal_of(all, claim);
          if (by_new == (we_said && peer_said)) {
            CHECK_FALSE(refusal);
          } else {
            REQUIRE(refusal);
            CHECK(refusal->kind == RefusalKind::algorithm);
            CHECK(refusal->detail.find(we_said ? "sent by us" : "not sent by us") != std::string::npos);
          }
        }
    }
  }
}

TEST_CASE("RFC 7427 §4: a hash that we did not say is refused, whatever else is allowed") {
  const Store all = store();
  for (const std::uint16_t hash : std::initializer_list<std::uint16_t>{2, 3, 4}) {
    ValidateQuestion claim = claim_of(signed_by(all, {"RSA", SignatureKind::any, {}, {hash}, false, false}));
    claim.rules[0].allow_sha1 = true;
    CHECK_FALSE(refusal_of(all, claim));
    std::erase(claim.own_hashes, hash);
    const auto refusal = refusal_of(all, claim);
    REQUIRE(refusal);
    CHECK(refusal->kind == RefusalKind::algorithm);
    CHECK(refusal->summary.find("did not say") != std::string::npos);
  }
  ValidateQuestion ed25519 = claim_of(signed_by(all, {"ED", SignatureKind::any, {}, sha2, false, false}));
  CHECK_FALSE(refusal_of(all, ed25519));
  ed25519.own_hashes = {2, 3, 4};
  CHECK(refusal_of(all, ed25519)->kind == RefusalKind::algorithm);
}

TEST_CASE("we do not sign with what we have not, or what the peer cannot check") {
  const Store all = store();
  const auto refusal = [&](SignQuestion question, std::int64_t now = during) {
    const Answer answer = all.answer(question, now);
    const auto* const found = std::get_if<Refusal>(&answer);
    return found == nullptr ? std::nullopt : std::optional(found->kind);
  };
  CHECK(refusal({"NONE", SignatureKind::any, {}, sha2, false, false}) == RefusalKind::no_credential);
  CHECK(refusal({"VERIFY", SignatureKind::any, {}, sha2, false, false}) == RefusalKind::no_credential);
  CHECK(refusal({"RSA", SignatureKind::ecdsa, {}, sha2, false, false}) == RefusalKind::no_credential);
  CHECK(refusal({"EC256", SignatureKind::rsa, {}, sha2, false, false}) == RefusalKind::no_credential);
  CHECK(refusal({"RSA", SignatureKind::any, {}, {1}, false, false}) == RefusalKind::algorithm);
  CHECK(refusal({"ED", SignatureKind::any, {}, {2, 3, 4}, false, false}) == RefusalKind::algorithm);
  CHECK(refusal({"ED", SignatureKind::any, {}, {}, false, false}) == RefusalKind::algorithm);
  CHECK(refusal({"RSA", SignatureKind::any, {}, sha2, false, false}, start + 91 * day) == RefusalKind::no_credential);
  CHECK_FALSE(refusal({"RSA", SignatureKind::any, {}, sha2, false, false}));
}

TEST_CASE("each check that a peer can fail") {
  const Store all = store();
  const Signed good = signed_by(all, {"EC256", SignatureKind::any, {}, sha2, false, false});
  REQUIRE_FALSE(refusal_of(all, claim_of(good)));
  const auto kind = [&](const ValidateQuestion& claim, std::int64_t now = during) {
    const auto refusal = refusal_of(all, claim, now);
    REQUIRE(refusal);
    return refusal->kind;
  };

  SUBCASE("another CA") {
    const auto refusal = refusal_of(all, claim_of(good, {{"OTHER"}, SignatureKind::any, true, {}, false}));
    REQUIRE(refusal);
    CHECK(refusal->kind == RefusalKind::bad_chain);
    CHECK(refusal->certificate == "CN=gateway,O=Postern Test");
    CHECK(refusal->detail.find("CN=Root") != std::string::npos);
  }
  SUBCASE("dates, with the clock in words") {
    const auto late = refusal_of(all, claim_of(good), start + 93 * day);
    REQUIRE(late);
    CHECK(late->kind == RefusalKind::bad_chain);
    CHECK(late->summary == "has expired");
    CHECK(late->detail.find("2026-09-02T00:00:00Z") != std::string::npos);
    CHECK(late->detail.find("3 days later") != std::string::npos);
    const auto early = refusal_of(all, claim_of(good), start - 3600);
    REQUIRE(early);
    CHECK(early->summary == "is not valid yet");
    CHECK(early->detail.find("3600 seconds earlier") != std::string::npos);
    CHECK(early->remedy.find("clock") != std::string::npos);
  }
  SUBCASE("an intermediate CA is needed, in any order, and may be missing") {
    const Signed below = signed_by(all, {"BELOW", SignatureKind::any, {}, sha2, false, false});
    REQUIRE(below.certificates.size() == 2);
    ValidateQuestion claim = claim_of(below);
    CHECK_FALSE(refusal_of(all, claim));
    claim.certificates.insert(claim.certificates.begin() + 1, {4, der_of(other_root_pem)});
    CHECK_FALSE(refusal_of(all, claim));
    claim.certificates.resize(1);
    CHECK(kind(claim) == RefusalKind::bad_chain);
    CHECK(refusal_of(all, claim)->detail.find("CN=Between") != std::string::npos);
  }
  SUBCASE("purposes") {
    const Signed code = signed_by(all, {"CODE", SignatureKind::any, {}, sha2, false, false});
    CHECK(kind(claim_of(code)) == RefusalKind::bad_usage);
  }
  SUBCASE("identities") {
    struct Row {
      std::uint8_t type;
      Octets identity;
      bool named;
    };
    const Octets v4 = {std::byte{192}, std::byte{0}, std::byte{2}, std::byte{7}};
    const auto subject = crypto::Certificate::from_pem(as_bytes(ecdsa256_pem))->front().subject_der();
    const auto other = crypto::Certificate::from_pem(as_bytes(rsa_pem))->front().subject_der();
    const Row rows[] = {{2, octets("GW.example.ORG"), true},
                        {2, octets("gw2.example.org"), false},
                        {2, octets(".example.org"), false},
                        {2, octets("admin@example.org"), false},
                        {3, octets("admin@example.org"), true},
                        {3, octets("root@example.org"), false},
                        {1, v4, true},
                        {1, Octets(4, std::byte{1}), false},
                        {5, v4, true},
                        {9, subject, true},
                        {9, other, false},
                        {9, octets("no DER"), false},
                        {11, octets("gw.example.org"), false}};
    for (const Row& row : rows) {
      CAPTURE(row.type);
      ValidateQuestion claim = claim_of(good);
      claim.identity_type = row.type;
      claim.identity = row.identity;
      if (row.named)
        CHECK_FALSE(refusal_of(all, claim));
      else
        CHECK(kind(claim) == RefusalKind::identity);
    }
  }
  SUBCASE("certificate maps") {
    CHECK_FALSE(refusal_of(all, claim_of(good, {{"VERIFY"}, SignatureKind::any, false, {"GATEWAYS"}, false})));
    CHECK_FALSE(refusal_of(
        all, claim_of(good, {{"VERIFY"}, SignatureKind::any, false, {"NOBODY"}, false})));  // its second entry
    CHECK(kind(claim_of(good, {{"VERIFY"}, SignatureKind::any, false, {"UNKNOWN"}, false})) == RefusalKind::no_map);
    CHECK(kind(claim_of(good, {{"VERIFY"}, SignatureKind::any, false, {}, false})) == RefusalKind::no_map);
  }
  SUBCASE("a key id is in no certificate: a map that matches says whose it is (RFC 7296 §4)") {
    struct Row {
      bool identity_matches;
      std::vector<std::string> maps;
      std::optional<RefusalKind> refused;
    };
    const Row rows[] = {{false, {"GATEWAYS"}, {}},
                        {true, {"GATEWAYS"}, {}},
                        {true, {"UNKNOWN", "NOBODY"}, {}},
                        {true, {}, RefusalKind::identity},
                        {true, {"UNKNOWN"}, RefusalKind::identity},
                        {false, {}, RefusalKind::identity}};
    for (const Row& row : rows) {
      CAPTURE(row.identity_matches);
      CAPTURE(row.maps.size());
      ValidateQuestion claim = claim_of(good, {{"VERIFY"}, SignatureKind::any, row.identity_matches, row.maps, false});
      claim.identity_type = 11;
      claim.identity = {std::byte{0}, std::byte{0xff}, std::byte{7}};
      const auto refusal = refusal_of(all, claim);
      CHECK((refusal ? std::optional(refusal->kind) : std::nullopt) == row.refused);
      if (refusal) CHECK(refusal->remedy.find("certificate map") != std::string::npos);
    }
    // Of other identities a map takes nothing away: they are in the certificate or refused.
    ValidateQuestion other = claim_of(good, {{"VERIFY"}, SignatureKind::any, true, {"GATEWAYS"}, false});
    other.identity = octets("somebody.example.org");
    CHECK(kind(other) == RefusalKind::identity);
    other.identity_type = 3;
    CHECK(kind(other) == RefusalKind::identity);
  }
  SUBCASE("a key of another kind, a forbidden hash, unknown algorithms and methods") {
    CHECK(kind(claim_of(good, {{"VERIFY"}, SignatureKind::rsa, true, {}, false})) == RefusalKind::algorithm);
    const Signed sha1 = signed_by(all, {"RSA", SignatureKind::any, {}, {}, true, false});
    CHECK(kind(claim_of(sha1)) == RefusalKind::algorithm);
    ValidateQuestion claim = claim_of(good);
    claim.auth[3] = std::byte{0x55};
    CHECK(kind(claim) == RefusalKind::algorithm);
    for (const std::uint8_t method : std::initializer_list<std::uint8_t>{2, 3, 13, 200}) {
      claim.method = method;
      CHECK(kind(claim) == RefusalKind::algorithm);
    }
    claim = claim_of(signed_by(all, {"EC256", SignatureKind::any, {}, {}, false, false}));
    CHECK_FALSE(refusal_of(all, claim));
    claim.method = 10;  // of P-384
    CHECK(kind(claim) == RefusalKind::algorithm);
  }
  SUBCASE("what cannot be read, and too much of it") {
    ValidateQuestion claim = claim_of(good);
    claim.certificates.clear();
    CHECK(kind(claim) == RefusalKind::no_certificate);
    claim.certificates = {{12, Octets(20)}};
    CHECK(kind(claim) == RefusalKind::no_certificate);
    claim.certificates = {{4, Octets(20)}};
    CHECK(kind(claim) == RefusalKind::malformed);
    claim = claim_of(good);
    claim.certificates[0].data.push_back(std::byte{0});
    CHECK(kind(claim) == RefusalKind::malformed);
    claim = claim_of(good);
    claim.certificates.insert(claim.certificates.end(), max_certificates, claim.certificates[0]);
    CHECK(kind(claim) == RefusalKind::malformed);
    claim = claim_of(good);
    claim.certificates.push_back({4, Octets(max_certificate_bytes + 1)});
    CHECK(kind(claim) == RefusalKind::malformed);
    claim = claim_of(good);
    claim.auth.resize(5);
    CHECK(kind(claim) == RefusalKind::malformed);
  }
}

TEST_CASE("a trustpoint whose files do not fit says so") {
  CHECK(trustpoint("T", {rsa_pem}, ecdsa256_key).problem == "the key does not belong to the certificate");
  CHECK(trustpoint("T", {}, ecdsa256_key).problem == "the key does not belong to the certificate");
  CHECK(trustpoint("T", {rsa_pem}, "no key").problem.starts_with("key: "));
  CHECK(trustpoint("T", {rsa_pem}, rsa_key, {"no certificate"}).problem.starts_with("ca_certificates: "));
  CHECK(trustpoint("T", {rsa_pem}, rsa_key).problem.empty());
}

TEST_CASE("facts: hashes of the CAs' keys, and the subject of what signs") {
  const auto facts = store().facts();
  REQUIRE(facts.size() == 9);
  CHECK(facts[0].authorities.size() == 20);
  CHECK_FALSE(facts[0].subject.empty());
  CHECK(facts[7].subject.empty());
  CHECK(facts[8].authorities != facts[7].authorities);
}

}  // namespace postern::pki
