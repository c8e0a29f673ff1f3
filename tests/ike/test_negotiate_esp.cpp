#include <algorithm>
#include <string>

#include <doctest/doctest.h>

#include "crypto/transforms.hpp"
#include "ike/keys.hpp"
#include "proposals.hpp"

namespace postern::ike {

using namespace test;

TEST_CASE("negotiate: ESP") {
  struct Row {
    const char* what;
    std::vector<Transform> offered;
    Groups demanded;
    DhGroup ke;
    bool first;
    std::optional<NegotiateError> failure;
    DhGroup group;  // chosen, or wanted
  };
  using enum NegotiateError;
  constexpr auto none = DhGroup::none, g14 = DhGroup::modp2048, g19 = DhGroup::ecp256;
  const Row rows[] = {
      {"in IKE_AUTH", {encr(12, 128), integ(12), esn(0)}, {}, none, true, {}, none},
      {"whatever PFS we demand later", {encr(12, 128), integ(12), esn(0)}, {g14}, none, true, {}, none},
      {"group NONE is no group", {encr(12, 128), integ(12), group(0), esn(0)}, {}, none, true, {}, none},
      {"a group is none of IKE_AUTH's (1.2)",
       {encr(12, 128), integ(12), group(14), esn(0)},
       {},
       none,
       true,
       no_common_proposal,
       none},
      {"no ESN transform", {encr(12, 128), integ(12)}, {}, none, true, no_common_proposal, none},
      {"ESN demanded", {encr(12, 128), integ(12), esn(1)}, {}, none, true, no_common_proposal, none},
      {"ESN or not", {encr(12, 128), integ(12), esn(1), esn(0)}, {}, none, true, {}, none},
      {"no integrity", {encr(12, 128), esn(0)}, {}, none, true, no_common_proposal, none},
      {"a PRF", {encr(12, 128), integ(12), prf(5), esn(0)}, {}, none, true, no_common_proposal, none},
      {"another cipher", {encr(12, 256), integ(12), esn(0)}, {}, none, true, no_common_proposal, none},
      {"no PFS", {encr(12, 128), integ(12), esn(0)}, {}, none, false, {}, none},
      {"no PFS, a KE payload all the same", {encr(12, 128), integ(12), esn(0)}, {}, g14, false, {}, none},
      {"PFS that we do not demand", {encr(12, 128), integ(12), group(14), esn(0)}, {}, g14, false, {}, g14},
      {"with another KE", {encr(12, 128), integ(12), group(14), esn(0)}, {}, g19, false, invalid_ke, g14},
      {"without a KE", {encr(12, 128), integ(12), group(14), esn(0)}, {}, none, false, invalid_ke, g14},
      {"PFS or not, with a KE", {encr(12, 128), integ(12), group(0), group(14), esn(0)}, {}, g14, false, {}, g14},
      {"PFS or not, without", {encr(12, 128), integ(12), group(14), group(0), esn(0)}, {}, none, false, {}, none},
      {"PFS with a group that we do not have",
       {encr(12, 128), integ(12), group(2), esn(0)},
       {},
       DhGroup{2},
       false,
       no_common_proposal,
       none},
      {"PFS demanded", {encr(12, 128), integ(12), group(19), group(14), esn(0)}, {g14}, g14, false, {}, g14},
      {"PFS demanded, KE of another",
       {encr(12, 128), integ(12), group(19), group(14), esn(0)},
       {g14},
       g19,
       false,
       invalid_ke,
       g14},
      {"PFS demanded, not offered", {encr(12, 128), integ(12), esn(0)}, {g14}, none, false, no_common_proposal, none},
      {"PFS demanded, NONE offered",
       {encr(12, 128), integ(12), group(0), esn(0)},
       {g14},
       none,
       false,
       no_common_proposal,
       none},
      {"PFS demanded, another offered",
       {encr(12, 128), integ(12), group(19), esn(0)},
       {g14},
       g19,
       false,
       no_common_proposal,
       none},
  };
  for (const Row& row : rows) {
    CAPTURE(std::string(row.what));
    const auto chosen =
        choose_esp(esp_offer(row.offered), Esps{esp_gcm, esp_cbc}, row.demanded, row.ke, 0x55667788, row.first);
    REQUIRE(failure(chosen) == row.failure);
    CHECK((chosen ? chosen->suite.group : chosen.error().group) == row.group);
    if (!chosen) continue;
    CHECK(chosen->suite.transform == esp_cbc.transform);
    CHECK(!chosen->suite.extended_sequence);
    CHECK(chosen->peer_spi == 0x11223344);
    CHECK(chosen->answer.proposals.at(0).spi == octets("55667788"));
    const auto accepted = accept_esp(chosen->answer, esp_offer(row.offered), row.first);
    REQUIRE(accepted);
    CHECK(accepted->peer_spi == 0x55667788);
    CHECK(accepted->suite == chosen->suite);
  }
  const auto extended =
      choose_esp(esp_offer({encr(20, 256), esn(1)}), Esps{{esp_gcm.transform, true}}, {}, none, 0x55667788, true);
  REQUIRE(extended);
  CHECK(extended->suite.extended_sequence);
}

// IANA's numbers and RFC 7296 §3.3.5's Key Length attribute, written down a second time; and what KEYMAT holds for one
// direction (RFC 4106 §8.1, RFC 4543 §5.4, RFC 4309 §4, RFC 3686 §5.1, RFC 7634 §2: the salt behind the key).
TEST_CASE("negotiate: ESP: every transform of the table, offered and accepted") {
  struct Row {
    crypto::Transform transform;
    std::uint16_t encryption;
    std::optional<std::uint16_t> key_bits;
    std::uint16_t integrity;  // 0: none
    std::size_t cipher_bytes, integrity_bytes;
  };
  constexpr auto none = Integrity::none;
  const Row rows[] = {
      {{Cipher::des_cbc, 64, Integrity::hmac_md5_96}, 2, {}, 1, 8, 16},
      {{Cipher::triple_des_cbc, 192, sha1}, 3, {}, 2, 24, 20},
      {{Cipher::null, 0, Integrity::hmac_sha384_192}, 11, {}, 13, 0, 48},
      {{Cipher::aes_cbc, 192, Integrity::aes_xcbc_96}, 12, 192, 5, 24, 16},
      {{Cipher::aes_ctr, 128, sha256}, 13, 128, 12, 20, 32},
      {{Cipher::aes_ctr, 256, Integrity::aes_cmac_96}, 13, 256, 8, 36, 16},
      {{Cipher::aes_ccm_8, 128, none}, 14, 128, 0, 19, 0},
      {{Cipher::aes_ccm_12, 192, none}, 15, 192, 0, 27, 0},
      {{Cipher::aes_ccm_16, 256, none}, 16, 256, 0, 35, 0},
      {{Cipher::aes_gcm_16, 192, none}, 20, 192, 0, 28, 0},
      {{Cipher::aes_gmac, 128, none}, 21, 128, 0, 20, 0},
      {{Cipher::aes_gmac, 256, none}, 21, 256, 0, 36, 0},
      {{Cipher::chacha20_poly1305, 256, none}, 28, {}, 0, 36, 0},
  };
  for (const Row& row : rows) {
    CAPTURE(crypto::text(row.transform));
    std::vector<Transform> expected = {encr(row.encryption, row.key_bits)};
    if (row.integrity != 0) expected.push_back(integ(row.integrity));
    expected.push_back(esn(0));
    const SaPayload ours = offer_esp(Esps{{row.transform, false}}, 0x11223344, {});
    REQUIRE(ours.proposals.size() == 1);
    CHECK(ours.proposals[0].transforms == expected);
    const auto chosen = choose_esp(ours, Esps{esp_cbc, {row.transform, false}}, {}, DhGroup::none, 0x55667788, true);
    REQUIRE(chosen);
    CHECK(chosen->suite.transform == row.transform);
    CHECK(accept_esp(chosen->answer, ours, true));
    CHECK_FALSE(choose_esp(ours, Esps{esp_cbc}, {}, DhGroup::none, 0x55667788, true));
    // Another key length, one where there is none, none where there is one.
    expected[0].key_bits = row.key_bits ? std::optional<std::uint16_t>() : 128;
    CHECK_FALSE(choose_esp(esp_offer(expected), Esps{{row.transform, false}}, {}, DhGroup::none, 0x55667788, true));

    const auto keys = derive_child_keys(row.transform, Prf::hmac_sha256, Secret::copy_of(octets("0102")), octets("aa"),
                                        octets("bb"), nullptr);
    REQUIRE(keys);
    for (const Secret* const key : {&keys->initiator_cipher, &keys->responder_cipher})
      CHECK(key->size() == row.cipher_bytes);
    for (const Secret* const key : {&keys->initiator_integrity, &keys->responder_integrity})
      CHECK(key->size() == row.integrity_bytes);
  }
}

// RFC 7296 §3.3.2, §3.3.6: who wants extended numbers offers both forms, and the other end chooses one.
TEST_CASE("negotiate: ESN: both forms offered, one chosen by the initiator's order, both or none answered refused") {
  const Esps both{{esp_gcm.transform, true}}, plain{esp_gcm};
  const SaPayload offer = offer_esp(both, 0x11223344, {});
  const auto chosen = [](const SaPayload& from, const Esps& accepted) {
    return choose_esp(from, accepted, {}, DhGroup::none, 0x55667788, true);
  };
  CHECK(chosen(offer, both)->suite.extended_sequence);
  CHECK_FALSE(chosen(offer, plain)->suite.extended_sequence);
  CHECK_FALSE(chosen(offer_esp(plain, 0x11223344, {}), both)->suite.extended_sequence);
  CHECK_FALSE(chosen(esp_offer({encr(20, 256), esn(0), esn(1)}), both)->suite.extended_sequence);
  CHECK_FALSE(chosen(esp_offer({encr(20, 256), esn(1)}), plain).has_value());
  CHECK_FALSE(chosen(esp_offer({encr(20, 256), esn(2)}), both).has_value());

  CHECK(accept_esp(esp_offer({encr(20, 256), esn(1)}), offer, true)->suite.extended_sequence);
  CHECK_FALSE(accept_esp(esp_offer({encr(20, 256), esn(0)}), offer, true)->suite.extended_sequence);
  CHECK_FALSE(accept_esp(esp_offer({encr(20, 256), esn(1), esn(0)}), offer, true).has_value());
  CHECK_FALSE(accept_esp(esp_offer({encr(20, 256)}), offer, true).has_value());
  CHECK_FALSE(accept_esp(esp_offer({encr(20, 256), esn(2)}), offer, true).has_value());
}

TEST_CASE("negotiate: ESP: a peer's SPI, and protocols beside ESP") {
  const auto chosen = [](ProtocolId protocol, const Octets& spi) {
    return choose_esp(offer({encr(20, 256), esn(0)}, protocol, spi), Esps{esp_gcm}, {}, DhGroup::none, 0x55667788, true)
        .has_value();
  };
  CHECK(chosen(ProtocolId::esp, octets("00000100")));
  CHECK(!chosen(ProtocolId::esp, octets("000000ff")));  // reserved (RFC 4303 2.1)
  CHECK(!chosen(ProtocolId::esp, octets("00000000")));
  CHECK(!chosen(ProtocolId::ah, octets("00000100")));
  CHECK(!chosen(ProtocolId{9}, octets("00000100")));
}

TEST_CASE("negotiate: an answer is a choice from our offer (RFC 7296 2.7, 3.3.6)") {
  const SaPayload ours = offer_ike(Ikes{modern, classic}, {});
  struct Row {
    const char* what;
    std::uint8_t number;
    std::vector<Transform> transforms;
    bool good;
  };
  const Row rows[] = {
      {"the second", 2, {encr(12, 128), integ(12), prf(5), group(14)}, true},
      {"in another order", 2, {group(14), encr(12, 128), prf(5), integ(12)}, true},
      {"the first", 1, {encr(28, {}), prf(6), group(31)}, true},
      {"transforms of the second under the first's number", 1, {encr(12, 128), integ(12), prf(5), group(14)}, false},
      {"a number that was not", 3, {encr(12, 128), integ(12), prf(5), group(14)}, false},
      {"number 0", 0, {encr(12, 128), integ(12), prf(5), group(14)}, false},
      {"two of a type", 1, {encr(28, {}), encr(20, 256), prf(6), group(31)}, false},
      {"the same twice", 2, {encr(12, 128), encr(12, 128), integ(12), prf(5), group(14)}, false},
      {"a type is missing", 2, {encr(12, 128), integ(12), group(14)}, false},
      {"integrity is missing", 2, {encr(12, 128), prf(5), group(14)}, false},
      {"the group is missing", 2, {encr(12, 128), integ(12), prf(5)}, false},
      {"integrity beside an AEAD", 1, {encr(28, {}), integ(12), prf(6), group(31)}, false},
      {"a type that was not offered", 2, {encr(12, 128), integ(12), prf(5), group(14), esn(0)}, false},
      {"another key length", 2, {encr(12, 256), integ(12), prf(5), group(14)}, false},
      {"no key length", 2, {encr(12, {}), integ(12), prf(5), group(14)}, false},
      {"an unknown attribute", 2, {{TransformType::encryption, 12, 128, true}, integ(12), prf(5), group(14)}, false},
      {"nothing", 2, {}, false},
  };
  for (const Row& row : rows) {
    CAPTURE(std::string(row.what));
    SaPayload answer = offer(row.transforms);
    answer.proposals[0].number = row.number;
    const auto accepted = accept_ike(answer, ours);
    REQUIRE(accepted.has_value() == row.good);
    if (!row.good) CHECK(accepted.error().error == NegotiateError::not_offered);
  }
  CHECK(!accept_ike({}, ours));
  CHECK(!accept_ike(ours, ours));  // two proposals
  SaPayload esp = offer({encr(12, 128), integ(12), prf(5), group(14)}, ProtocolId::esp);
  esp.proposals[0].number = 2;
  CHECK(!accept_ike(esp, ours));

  const SaPayload child = offer_esp(Esps{esp_gcm}, 0x1000, {}),
                  pfs = offer_esp(Esps{esp_gcm}, 0x1000, Groups{DhGroup::ecp256});
  CHECK(accept_esp(esp_offer({encr(20, 256), esn(0)}), child, true));
  CHECK(!accept_esp(offer({encr(20, 256), esn(0)}, ProtocolId::esp, octets("00000001")), child, true));
  CHECK(!accept_esp(esp_offer({encr(20, 256)}), child, true));
  CHECK(!accept_esp(esp_offer({encr(20, 256), esn(1)}), child, true));
  CHECK(accept_esp(esp_offer({encr(20, 256), group(19), esn(0)}), pfs, false)->suite.group == DhGroup::ecp256);
  CHECK(!accept_esp(esp_offer({encr(20, 256), group(19), esn(0)}), pfs, true));
  CHECK(!accept_esp(esp_offer({encr(20, 256), esn(0)}), pfs, false));
  CHECK(!accept_esp(esp_offer({encr(20, 256), group(14), esn(0)}), pfs, false));
}

}  // namespace postern::ike
