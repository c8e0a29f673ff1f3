#include <algorithm>
#include <string>

#include <doctest/doctest.h>

#include "ike/message.hpp"
#include "proposals.hpp"
#include "strongswan.hpp"

namespace postern::ike {

using namespace test;

TEST_CASE("negotiate: an offer of ours on the wire (RFC 7296 3.3, RFC 5282 8)") {
  const SaPayload one = offer_ike(Ikes{classic}, {});
  CHECK(one.proposals == offer({encr(12, 128), integ(12), prf(5), group(14)}).proposals);

  const IkeProposal mixed{
      "mixed", {chacha, aes256, gcm128, aes128}, {sha256, sha1}, {Prf::hmac_sha256}, {DhGroup::ecp256}};
  const SaPayload two = offer_ike(Ikes{mixed, classic}, octets("1122334455667788"));
  REQUIRE(two.proposals.size() == 3);
  // ChaCha20-Poly1305 has no Key Length attribute (RFC 7634 4); AEADs have no integrity beside them.
  CHECK(two.proposals[0] ==
        Proposal{1, ProtocolId::ike, octets("1122334455667788"), {encr(28, {}), encr(20, 128), prf(5), group(19)}});
  CHECK(two.proposals[1].transforms ==
        std::vector{encr(12, 256), encr(12, 128), integ(12), integ(2), prf(5), group(19)});
  CHECK(two.proposals[1].number == 2);
  CHECK(two.proposals[2].number == 3);
  CHECK(offer_ike(Ikes{{"no integrity", {aes128}, {}, {Prf::hmac_sha256}, {DhGroup::ecp256}}}, {}).proposals.empty());

  const SaPayload esp = offer_esp(Esps{esp_cbc, {esp_gcm.transform, true}}, 0x11223344, Groups{DhGroup::ecp256});
  REQUIRE(esp.proposals.size() == 2);
  CHECK(esp.proposals[0] == Proposal{1, ProtocolId::esp, esp_spi, {encr(12, 128), integ(12), group(19), esn(0)}});
  CHECK(esp.proposals[1] == Proposal{2, ProtocolId::esp, esp_spi, {encr(20, 256), group(19), esn(1), esn(0)}});
  CHECK(offer_esp(Esps{esp_gcm}, 0x11223344, {}).proposals[0].transforms == std::vector{encr(20, 256), esn(0)});
}

TEST_CASE("negotiate: which IKE proposals agree") {
  struct Row {
    const char* what;
    std::vector<Transform> offered;
    std::optional<NegotiateError> failure;
  };
  using enum NegotiateError;
  const Row rows[] = {
      {"the same", {encr(12, 128), integ(12), prf(5), group(14)}, {}},
      {"in another order", {group(14), prf(5), integ(12), encr(12, 128)}, {}},
      {"among others", {encr(3, {}), encr(12, 128), integ(1), integ(12), prf(1), prf(5), group(2), group(14)}, {}},
      {"another key length", {encr(12, 256), integ(12), prf(5), group(14)}, no_common_proposal},
      {"no key length (RFC 7296 3.3.5)", {encr(12, {}), integ(12), prf(5), group(14)}, no_common_proposal},
      {"no encryption", {integ(12), prf(5), group(14)}, no_common_proposal},
      {"no integrity", {encr(12, 128), prf(5), group(14)}, no_common_proposal},
      {"integrity NONE", {encr(12, 128), integ(0), prf(5), group(14)}, no_common_proposal},
      {"another integrity", {encr(12, 128), integ(2), prf(5), group(14)}, no_common_proposal},
      {"NULL, which encrypts nothing", {encr(11, {}), integ(12), prf(5), group(14)}, no_common_proposal},
      {"another PRF", {encr(12, 128), integ(12), prf(2), group(14)}, no_common_proposal},
      {"no PRF", {encr(12, 128), integ(12), group(14)}, no_common_proposal},
      {"another group", {encr(12, 128), integ(12), prf(5), group(15)}, no_common_proposal},
      {"no group", {encr(12, 128), integ(12), prf(5)}, no_common_proposal},
      {"group NONE", {encr(12, 128), integ(12), prf(5), group(0)}, no_common_proposal},
      {"group NONE beside one of ours", {encr(12, 128), integ(12), prf(5), group(0), group(14)}, {}},
      {"ESN, which is not IKE's", {encr(12, 128), integ(12), prf(5), group(14), esn(0)}, no_common_proposal},
      {"a transform type that we do not know (3.3.6)",
       {encr(12, 128), integ(12), prf(5), group(14), wire(TransformType{6}, 35)},
       no_common_proposal},
      {"a key length where none belongs",
       {encr(12, 128), {TransformType::integrity, 12, 128, false}, prf(5), group(14)},
       no_common_proposal},
      {"an attribute that we do not know (3.3.6)",
       {{TransformType::encryption, 12, 128, true}, integ(12), prf(5), group(14)},
       no_common_proposal},
      {"but the same without it is there",
       {{TransformType::encryption, 12, 128, true}, encr(12, 128), integ(12), prf(5), group(14)},
       {}},
      {"an AEAD that we do not take", {encr(20, 128), prf(5), group(14)}, no_common_proposal},
  };
  for (const Row& row : rows) {
    CAPTURE(std::string(row.what));
    const auto chosen = choose_ike(offer(row.offered), Ikes{classic}, DhGroup::modp2048, {});
    REQUIRE(failure(chosen) == row.failure);
    if (!chosen) continue;
    CHECK(chosen->suite == IkeSuite{{Cipher::aes_cbc, 128, sha256}, Prf::hmac_sha256, DhGroup::modp2048});
    CHECK(chosen->answer.proposals == offer({encr(12, 128), integ(12), prf(5), group(14)}).proposals);
    CHECK(accept_ike(chosen->answer, offer(row.offered)).has_value());
  }
}

TEST_CASE("negotiate: AEADs stand without integrity, or with NONE (RFC 5282 8)") {
  struct Row {
    std::vector<Transform> offered, answer;
  };
  const Row rows[] = {
      {{encr(20, 256), prf(6), group(20)}, {encr(20, 256), prf(6), group(20)}},
      {{encr(20, 256), integ(0), prf(6), group(20)}, {encr(20, 256), integ(0), prf(6), group(20)}},
      {{encr(20, 256), integ(12), prf(6), group(20)}, {}},
      {{encr(28, {}), prf(6), group(20)}, {encr(28, {}), prf(6), group(20)}},
      {{encr(28, 256), prf(6), group(20)}, {}},
      {{encr(20, 128), prf(6), group(20)}, {}},
  };
  for (const Row& row : rows) {
    const auto chosen = choose_ike(offer(row.offered), Ikes{classic, modern}, DhGroup::ecp384, {});
    REQUIRE(chosen.has_value() == !row.answer.empty());
    if (!chosen) continue;
    CHECK(chosen->answer.proposals[0].transforms == row.answer);
    CHECK(chosen->suite.cipher.integrity == Integrity::none);
    CHECK(chosen->suite.cipher.key_bits == 256);
  }
}

TEST_CASE("negotiate: the initiator's order decides") {
  const IkeProposal ours{"reversed",
                         {aes192, aes128},
                         {sha256, sha1},
                         {Prf::hmac_sha256, Prf::hmac_sha1},
                         {DhGroup::modp4096, DhGroup::modp2048}};
  const SaPayload theirs =
      offer({encr(12, 128), encr(12, 192), integ(2), integ(12), prf(2), prf(5), group(14), group(16)});
  const auto chosen = choose_ike(theirs, Ikes{ours}, DhGroup::modp2048, {});
  REQUIRE(chosen);
  CHECK(chosen->suite == IkeSuite{{Cipher::aes_cbc, 128, sha1}, Prf::hmac_sha1, DhGroup::modp2048});

  // Of proposals too, and the number goes back.
  SaPayload several = offer_ike(Ikes{modern, classic}, {});
  const auto second = choose_ike(several, Ikes{classic}, DhGroup::modp2048, {});
  REQUIRE(second);
  CHECK(second->answer.proposals.at(0).number == 2);
  const auto first = choose_ike(several, Ikes{classic, modern}, DhGroup::ecp384, {});
  REQUIRE(first);
  CHECK(first->answer.proposals.at(0).number == 1);
  CHECK(first->suite.cipher.cipher == Cipher::aes_gcm_16);
}

TEST_CASE("negotiate: the group of the KE payload (RFC 7296 1.2, 2.7)") {
  const IkeProposal ours{
      "groups", {aes128}, {sha256}, {Prf::hmac_sha256}, {DhGroup::ecp256, DhGroup::modp2048, DhGroup::modp3072}};
  const SaPayload theirs = offer({encr(12, 128), integ(12), prf(5), group(2), group(15), group(14)});
  struct Row {
    DhGroup ke;
    DhGroup chosen;
    std::optional<NegotiateError> failure;
  };
  const Row rows[] = {
      {DhGroup::modp2048, DhGroup::modp2048, {}},  // it is there already
      {DhGroup::modp3072, DhGroup::modp3072, {}},
      {DhGroup::ecp256, DhGroup::modp3072, NegotiateError::invalid_ke},  // we take it, but it is not in the offer
      {DhGroup{2}, DhGroup::modp3072, NegotiateError::invalid_ke},
      {DhGroup{999}, DhGroup::modp3072, NegotiateError::invalid_ke},
  };
  for (const Row& row : rows) {
    const auto chosen = choose_ike(theirs, Ikes{ours}, row.ke, {});
    REQUIRE(failure(chosen) == row.failure);
    CHECK((chosen ? chosen->suite.group : chosen.error().group) == row.chosen);
  }
}

TEST_CASE("negotiate: SPIs of a rekeyed IKE SA") {
  const Octets theirs = octets("0102030405060708"), ours = octets("1112131415161718");
  const SaPayload rekey = offer_ike(Ikes{classic}, theirs), fresh = offer_ike(Ikes{classic}, {});
  const auto chosen = choose_ike(rekey, Ikes{classic}, DhGroup::modp2048, ours);
  REQUIRE(chosen);
  CHECK(chosen->peer_spi == theirs);
  CHECK(chosen->answer.proposals[0].spi == ours);
  CHECK(accept_ike(chosen->answer, rekey)->peer_spi == ours);
  CHECK(!choose_ike(rekey, Ikes{classic}, DhGroup::modp2048, {}));
  CHECK(!choose_ike(fresh, Ikes{classic}, DhGroup::modp2048, ours));
  CHECK(!accept_ike(chosen->answer, fresh));
}

TEST_CASE("negotiate: strongSwan's offer and answer") {
  struct Row {
    const strongswan::Run& run;
    IkeProposal ours;
  };
  const Row rows[] = {
      {strongswan::cbc(), classic},
      {strongswan::gcm(), {"ours", {gcm256}, {}, {Prf::hmac_sha384}, {DhGroup::ecp384}}},
  };
  for (const Row& row : rows) {
    CAPTURE(row.run.name);
    const auto request = parse_message(octets(row.run.messages[strongswan::init_request]));
    const auto response = parse_message(octets(row.run.messages[strongswan::init_response]));
    REQUIRE(request);
    REQUIRE(response);
    const auto& theirs = *request->find<SaPayload>(PayloadType::sa);
    const auto& answer = *response->find<SaPayload>(PayloadType::sa);
    const auto chosen = choose_ike(theirs, Ikes{row.ours}, row.run.suite.group, {});
    REQUIRE(chosen);
    CHECK(chosen->suite == row.run.suite);
    CHECK(accept_ike(answer, offer_ike(Ikes{row.ours}, {}))->suite == row.run.suite);
    CHECK(encode_payload({PayloadType::sa, chosen->answer}).size() == encode_payload({PayloadType::sa, answer}).size());
    CHECK(!choose_ike(theirs, Ikes{{"other", {aes192}, {sha256}, {Prf::hmac_sha256}, {row.run.suite.group}}},
                      row.run.suite.group, {}));
  }
}

TEST_CASE("negotiate: why nothing fits") {
  struct Row {
    const char* what;  // nullptr: something fits
    std::vector<Transform> offered;
    const char *theirs, *ours;
  };
  const Row rows[] = {
      {nullptr, {encr(12, 128), integ(12), prf(5), group(14)}, "", ""},
      {"encryption", {encr(12, 256), encr(3, {}), integ(12), prf(5), group(14)}, "AES-CBC-256, 3DES", "AES-CBC-128"},
      {"integrity",
       {encr(12, 128), integ(1), integ(2), prf(5), group(14)},
       "HMAC-MD5-96, HMAC-SHA1-96",
       "HMAC-SHA256-128"},
      {"integrity", {encr(12, 128), prf(5), group(14)}, "none", "HMAC-SHA256-128"},
      {"PRF", {encr(12, 128), integ(12), prf(2), group(14)}, "PRF-HMAC-SHA1", "PRF-HMAC-SHA256"},
      {"DH group", {encr(12, 128), integ(12), prf(5), group(2), group(5)}, "group 2, group 5", "group 14"},
      {"transform type",
       {encr(12, 128), integ(12), prf(5), group(14), wire(TransformType{6}, 35)},
       "transform type 35",
       "none"},
      // The pair that comes closest is told: group alone differs from `modern`.
      {"DH group", {encr(20, 256), prf(6), group(14)}, "group 14", "group 20, group 31"},
  };
  for (const Row& row : rows) {
    const auto difference = explain_ike(offer(row.offered), Ikes{modern, classic});
    REQUIRE(difference.has_value() == (row.what != nullptr));
    if (!difference) continue;
    CHECK(difference->what == row.what);
    CHECK(difference->offered == row.theirs);
    CHECK(difference->accepted == row.ours);
  }
  const auto esn_difference = explain_esp(esp_offer({encr(20, 256), esn(1)}), Esps{esp_gcm}, {});
  REQUIRE(esn_difference);
  CHECK(esn_difference->what == "ESN");
  CHECK(esn_difference->offered == "ESN");
  CHECK(esn_difference->accepted == "no ESN");
  CHECK(!explain_esp(esp_offer({encr(20, 256), esn(0)}), Esps{esp_gcm}, {}));
  CHECK(!explain_esp(esp_offer({encr(20, 256), group(14), esn(0)}), Esps{esp_gcm}, {}));
  CHECK(explain_esp(esp_offer({encr(20, 256), esn(0)}), Esps{esp_gcm}, Groups{DhGroup::ecp256})->what == "DH group");
  CHECK(explain_esp(offer({encr(20, 256), esn(0)}, ProtocolId::ah, esp_spi), Esps{esp_gcm}, {})->offered == "AH");
  CHECK(!explain_ike({}, Ikes{classic}));

  CHECK(text(offer_ike(Ikes{classic, modern}, {})) ==
        std::vector<std::string>{"AES-CBC-128 / HMAC-SHA256-128 / PRF-HMAC-SHA256 / group 14",
                                 "AES-GCM-256, CHACHA20-POLY1305 / PRF-HMAC-SHA384 / group 20, group 31"});
  CHECK(text(offer({encr(99, 64), wire(TransformType::prf, 77)})) == std::vector<std::string>{"ENCR 99-64 / PRF 77"});
  CHECK(text(offer_esp(Esps{esp_cbc}, 0x1000, {})) ==
        std::vector<std::string>{"AES-CBC-128 / HMAC-SHA256-128 / no ESN"});
  CHECK(ike::text(DhGroup::ecp256) == "group 19");
  CHECK(ike::text(DhGroup::none) == "none");
  CHECK(ike::text(Prf::hmac_sha512) == "PRF-HMAC-SHA512");
}

}  // namespace postern::ike
