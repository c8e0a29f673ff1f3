#include <set>

#include "crypto/transforms.hpp"
#include "tests/crypto/support.hpp"

namespace postern::crypto {
namespace {

using Words = std::vector<std::string_view>;

TEST_CASE("transforms: sizes of every combination on offer") {
  struct Row {
    Transform transform;
    TransformSizes sizes;
  };
  const Row rows[] = {
      {{Cipher::aes_cbc, 128, Integrity::hmac_sha1_96}, {16, 20, 16, 12, 16}},
      {{Cipher::aes_cbc, 192, Integrity::hmac_sha1_96}, {24, 20, 16, 12, 16}},
      {{Cipher::aes_cbc, 256, Integrity::hmac_sha1_96}, {32, 20, 16, 12, 16}},
      {{Cipher::aes_cbc, 128, Integrity::hmac_sha256_128}, {16, 32, 16, 16, 16}},
      {{Cipher::aes_cbc, 192, Integrity::hmac_sha256_128}, {24, 32, 16, 16, 16}},
      {{Cipher::aes_cbc, 256, Integrity::hmac_sha256_128}, {32, 32, 16, 16, 16}},
      {{Cipher::aes_cbc, 128, Integrity::hmac_sha384_192}, {16, 48, 16, 24, 16}},
      {{Cipher::aes_cbc, 256, Integrity::hmac_sha384_192}, {32, 48, 16, 24, 16}},
      {{Cipher::aes_cbc, 128, Integrity::hmac_sha512_256}, {16, 64, 16, 32, 16}},
      {{Cipher::aes_cbc, 256, Integrity::hmac_sha512_256}, {32, 64, 16, 32, 16}},
      {{Cipher::aes_gcm_16, 128, Integrity::none}, {20, 0, 8, 16, 4, 4}},
      {{Cipher::aes_gcm_16, 192, Integrity::none}, {28, 0, 8, 16, 4, 4}},
      {{Cipher::aes_gcm_16, 256, Integrity::none}, {36, 0, 8, 16, 4, 4}},
      {{Cipher::chacha20_poly1305, 256, Integrity::none}, {36, 0, 8, 16, 4, 4}},
      {{Cipher::aes_gmac, 128, Integrity::none}, {20, 0, 8, 16, 4, 4}},
      {{Cipher::aes_gmac, 256, Integrity::none}, {36, 0, 8, 16, 4, 4}},
      {{Cipher::aes_ccm_8, 128, Integrity::none}, {19, 0, 8, 8, 4, 3}},
      {{Cipher::aes_ccm_12, 192, Integrity::none}, {27, 0, 8, 12, 4, 3}},
      {{Cipher::aes_ccm_16, 256, Integrity::none}, {35, 0, 8, 16, 4, 3}},
      {{Cipher::aes_ctr, 128, Integrity::hmac_sha256_128}, {20, 32, 8, 16, 4, 4}},
      {{Cipher::aes_ctr, 256, Integrity::aes_xcbc_96}, {36, 16, 8, 12, 4, 4}},
      {{Cipher::triple_des_cbc, 192, Integrity::hmac_md5_96}, {24, 16, 8, 12, 8}},
      {{Cipher::des_cbc, 64, Integrity::hmac_md5_96}, {8, 16, 8, 12, 8}},
      {{Cipher::null, 0, Integrity::aes_cmac_96}, {0, 16, 0, 12, 4}},
  };
  for (const Row& row : rows) {
    CAPTURE(text(row.transform));
    const auto sizes = sizes_of(row.transform);
    REQUIRE(sizes);
    CHECK(sizes->key_bytes == row.sizes.key_bytes);
    CHECK(sizes->integrity_key_bytes == row.sizes.integrity_key_bytes);
    CHECK(sizes->iv_bytes == row.sizes.iv_bytes);
    CHECK(sizes->icv_bytes == row.sizes.icv_bytes);
    CHECK(sizes->block_bytes == row.sizes.block_bytes);
    CHECK(sizes->salt_bytes == row.sizes.salt_bytes);
  }
}

TEST_CASE("transforms: what is not offered says why") {
  struct Row {
    Transform transform;
    std::string_view says;
  };
  const Row rows[] = {
      {{Cipher::none, 0, Integrity::none}, "without a cipher"},
      {{Cipher::null, 0, Integrity::none}, "NULL without an ESP authenticator"},
      {{Cipher::aes_ctr, 128, Integrity::none}, "AES-CTR without an ESP authenticator"},
      {{Cipher::des_cbc, 64, Integrity::none}, "DES without an ESP authenticator"},
      {{Cipher::des_cbc, 56, Integrity::hmac_sha1_96}, "64 bits, not 56"},
      {{Cipher::triple_des_cbc, 128, Integrity::hmac_sha1_96}, "192 bits"},
      {{Cipher::null, 128, Integrity::hmac_sha1_96}, "NULL keys have 0 bits"},
      {{Cipher::aes_gmac, 128, Integrity::hmac_sha1_96}, "AES-GMAC authenticates by itself"},
      {{Cipher::aes_ccm_16, 128, Integrity::hmac_sha1_96}, "AES-CCM authenticates by itself"},
      {{Cipher{200}, 128, Integrity::hmac_sha1_96}, "no such cipher"},
      {{Cipher::aes_cbc, 128, Integrity{200}}, "without an ESP authenticator"},
      {{Cipher::none, 0, Integrity::hmac_sha256_128}, "without a cipher"},
      {{Cipher::aes_cbc, 128, Integrity::none}, "without an ESP authenticator"},
      {{Cipher::aes_cbc, 0, Integrity::hmac_sha1_96}, "128, 192 or 256"},
      {{Cipher::aes_cbc, 160, Integrity::hmac_sha1_96}, "128, 192 or 256"},
      {{Cipher::aes_gcm_16, 512, Integrity::none}, "128, 192 or 256"},
      {{Cipher::aes_gcm_16, 128, Integrity::hmac_sha1_96}, "no ESP authenticator beside it"},
      {{Cipher::chacha20_poly1305, 128, Integrity::none}, "256 bits"},
      {{Cipher::chacha20_poly1305, 256, Integrity::hmac_sha256_128}, "no ESP authenticator beside it"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.says);
    const auto sizes = sizes_of(row.transform);
    REQUIRE_FALSE(sizes);
    CHECK(sizes.error().what.find(row.says) != std::string::npos);
    CHECK_FALSE(EspKey::create(row.transform, test::Buffer(16), test::Buffer(20)));
  }
}

TEST_CASE("transforms: names are found exactly, and are unique") {
  std::set<std::string_view> seen;
  for (const NamedTransform& named : named_transforms()) {
    CHECK(seen.insert(named.name).second);
    CHECK(find_transform(named.name) == &named);
    if (named.alias.empty()) continue;
    CHECK(seen.insert(named.alias).second);
    CHECK(find_transform(named.alias) == &named);
  }
  for (const std::string_view bad : {"", "esp", "esp-aes ", "ESP-AES", "esp-seal", "esp-des 56", "esp-aes-256",
                                     "esp-null 128", "esp-192-gcm", "esp-chacha20", "esp-aes  256"})
    CHECK(find_transform(bad) == nullptr);
}

TEST_CASE("transforms: words combine to what they print as") {
  struct Row {
    Words words;
    Transform transform;
    std::string_view prints;
  };
  const Row rows[] = {
      {{"esp-aes", "esp-sha-hmac"}, {Cipher::aes_cbc, 128, Integrity::hmac_sha1_96}, "esp-aes esp-sha-hmac"},
      {{"esp-sha256-hmac", "esp-256-aes"},
       {Cipher::aes_cbc, 256, Integrity::hmac_sha256_128},
       "esp-256-aes esp-sha256-hmac"},
      {{"esp-gcm"}, {Cipher::aes_gcm_16, 128, Integrity::none}, "esp-gcm"},
      {{"esp-gcm 192"}, {Cipher::aes_gcm_16, 192, Integrity::none}, "esp-gcm 192"},
      {{"esp-aes 256", "esp-sha512-hmac"},
       {Cipher::aes_cbc, 256, Integrity::hmac_sha512_256},
       "esp-256-aes esp-sha512-hmac"},
      {{"esp-sha384-hmac", "esp-aes 192"},
       {Cipher::aes_cbc, 192, Integrity::hmac_sha384_192},
       "esp-192-aes esp-sha384-hmac"},
      {{"esp-chacha20-poly1305"}, {Cipher::chacha20_poly1305, 256, Integrity::none}, "esp-chacha20-poly1305"},
      {{"esp-gmac 128"}, {Cipher::aes_gmac, 128, Integrity::none}, "esp-gmac"},
      {{"esp-aes-ccm-8 256"}, {Cipher::aes_ccm_8, 256, Integrity::none}, "esp-aes-ccm-8 256"},
      {{"esp-md5-hmac", "esp-3des"}, {Cipher::triple_des_cbc, 192, Integrity::hmac_md5_96}, "esp-3des esp-md5-hmac"},
      {{"esp-null", "esp-aes-xcbc-mac"}, {Cipher::null, 0, Integrity::aes_xcbc_96}, "esp-null esp-aes-xcbc-mac"},
      {{"esp-aes-ctr 256", "esp-aes-cmac"},
       {Cipher::aes_ctr, 256, Integrity::aes_cmac_96},
       "esp-aes-ctr 256 esp-aes-cmac"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.prints);
    const auto combined = combine(row.words);
    REQUIRE(combined);
    CHECK(*combined == row.transform);
    CHECK(text(*combined) == row.prints);
  }
  CHECK(text({}) == "none");

  for (const Words& bad : std::initializer_list<Words>{{},
                                                       {"esp-aes"},
                                                       {"esp-sha-hmac"},
                                                       {"esp-aes", "esp-256-aes", "esp-sha-hmac"},
                                                       {"esp-aes", "esp-sha-hmac", "esp-sha256-hmac"},
                                                       {"esp-gcm", "esp-sha-hmac"},
                                                       {"esp-gcm", "esp-aes"},
                                                       {"esp-chacha20-poly1305", "esp-sha256-hmac"},
                                                       {"esp-chacha20-poly1305", "esp-gcm"},
                                                       {"esp-null"},
                                                       {"esp-aes-ctr"},
                                                       {"esp-3des"},
                                                       {"esp-gmac", "esp-md5-hmac"},
                                                       {"esp-aes-ccm-8", "esp-aes-cmac"},
                                                       {"esp-des", "esp-3des", "esp-md5-hmac"},
                                                       {"esp-null", "esp-gcm"},
                                                       {"esp-aes", "esp-blake2-hmac"}})
    CHECK_FALSE(combine(bad));
}

// IANA's registry, "Internet Key Exchange Version 2 (IKEv2) Parameters", written down here a second time.
TEST_CASE("transforms: IKEv2's numbers, both ways") {
  struct Row {
    std::uint16_t id;
    std::optional<std::uint16_t> key_bits;
    Cipher cipher;
    std::uint16_t bits;
    std::string_view shows, word;
  };
  const Row rows[] = {{12, 128, Cipher::aes_cbc, 128, "AES-CBC", "aes-cbc-128"},
                      {12, 192, Cipher::aes_cbc, 192, "AES-CBC", "aes-cbc-192"},
                      {12, 256, Cipher::aes_cbc, 256, "AES-CBC", "aes-cbc-256"},
                      {20, 128, Cipher::aes_gcm_16, 128, "AES-GCM", "aes-gcm-128"},
                      {20, 192, Cipher::aes_gcm_16, 192, "AES-GCM", "aes-gcm-192"},
                      {20, 256, Cipher::aes_gcm_16, 256, "AES-GCM", "aes-gcm-256"},
                      {28, {}, Cipher::chacha20_poly1305, 256, "CHACHA20-POLY1305", "chacha20-poly1305"},
                      {2, {}, Cipher::des_cbc, 64, "DES", "des"},
                      {3, {}, Cipher::triple_des_cbc, 192, "3DES", "3des"},
                      {13, 128, Cipher::aes_ctr, 128, "AES-CTR", "aes-ctr-128"},
                      {13, 256, Cipher::aes_ctr, 256, "AES-CTR", "aes-ctr-256"},
                      {14, 128, Cipher::aes_ccm_8, 128, "AES-CCM-8", "aes-ccm-8-128"},
                      {15, 192, Cipher::aes_ccm_12, 192, "AES-CCM-12", "aes-ccm-12-192"},
                      {16, 256, Cipher::aes_ccm_16, 256, "AES-CCM", "aes-ccm-256"},
                      // Of ESP alone, because they do not encrypt: no word of an IKEv2 proposal.
                      {11, {}, Cipher::null, 0, "NULL", ""},
                      {21, 128, Cipher::aes_gmac, 128, "AES-GMAC", ""},
                      {21, 256, Cipher::aes_gmac, 256, "AES-GMAC", ""}};
  for (const Row& row : rows) {
    CAPTURE(row.word);
    const NamedTransform* const found = find_cipher_by_ike_id(row.id, row.key_bits);
    REQUIRE(found != nullptr);
    CHECK(found->cipher == row.cipher);
    CHECK(found->key_bits == row.bits);
    CHECK(found == find_cipher(row.cipher, row.bits));
    CHECK(found->ike_word == row.word);
    if (!row.word.empty()) CHECK(found == find_ike_cipher(row.word));
    CHECK(ike_id(row.cipher) == row.id);
    CHECK(ike_name(row.cipher) == row.shows);
    CHECK(has_key_length_attribute(row.cipher) == row.key_bits.has_value());
  }
  // A Key Length attribute that is missing, forbidden or of no such length; ciphers that are not offered.
  CHECK(find_cipher_by_ike_id(12, {}) == nullptr);
  CHECK(find_cipher_by_ike_id(20, {}) == nullptr);
  CHECK(find_cipher_by_ike_id(12, 160) == nullptr);
  CHECK(find_cipher_by_ike_id(28, 256) == nullptr);
  CHECK(find_cipher_by_ike_id(2, 64) == nullptr);
  CHECK(find_cipher_by_ike_id(3, 192) == nullptr);
  CHECK(find_cipher_by_ike_id(11, 0) == nullptr);
  CHECK(find_cipher_by_ike_id(21, {}) == nullptr);
  CHECK(find_cipher_by_ike_id(13, {}) == nullptr);
  for (const std::uint16_t id : std::initializer_list<std::uint16_t>{0, 1, 4, 7, 17, 18, 19, 22, 23, 30})
    for (const std::optional<std::uint16_t> bits : {std::optional<std::uint16_t>(), std::optional<std::uint16_t>(128)})
      CHECK(find_cipher_by_ike_id(id, bits) == nullptr);
  CHECK(find_ike_cipher("aes-cbc-196") == nullptr);
  CHECK(find_ike_cipher("") == nullptr);
  CHECK(find_ike_cipher("sha256") == nullptr);
  CHECK(ike_id(Cipher::none) == 0);
  CHECK(ike_name(Cipher::none) == "None");
}

TEST_CASE("transforms: IKEv2's authenticators and PRFs, both ways") {
  struct Row {
    std::uint16_t integrity_id, prf_id;
    Integrity integrity;
    Prf prf;
    std::string_view integrity_shows, prf_shows, word;
    bool weak;
  };
  const Row rows[] = {{2, 2, Integrity::hmac_sha1_96, Prf::hmac_sha1, "SHA96", "SHA1", "sha1", true},
                      {12, 5, Integrity::hmac_sha256_128, Prf::hmac_sha256, "SHA256", "SHA256", "sha256", false},
                      {13, 6, Integrity::hmac_sha384_192, Prf::hmac_sha384, "SHA384", "SHA384", "sha384", false},
                      {14, 7, Integrity::hmac_sha512_256, Prf::hmac_sha512, "SHA512", "SHA512", "sha512", false},
                      {1, 1, Integrity::hmac_md5_96, Prf::hmac_md5, "MD596", "MD5", "md5", true},
                      {5, 4, Integrity::aes_xcbc_96, Prf::aes_xcbc, "AES-XCBC", "AES-XCBC", "aes-xcbc", false},
                      {8, 8, Integrity::aes_cmac_96, Prf::aes_cmac, "AES-CMAC", "AES-CMAC", "aes-cmac", false}};
  for (const Row& row : rows) {
    CAPTURE(row.word);
    const NamedTransform* const found = find_integrity_by_ike_id(row.integrity_id);
    REQUIRE(found != nullptr);
    CHECK(found->integrity == row.integrity);
    CHECK(found->weak == row.weak);
    CHECK(found == find_integrity(row.integrity));
    CHECK(found == find_ike_integrity(row.word));
    CHECK(ike_id(row.integrity) == row.integrity_id);
    CHECK(ike_name(row.integrity) == row.integrity_shows);
    const NamedPrf* const prf = find_prf(row.prf_id);
    REQUIRE(prf != nullptr);
    CHECK(prf->prf == row.prf);
    CHECK(prf->weak == row.weak);
    CHECK(prf == find_prf(row.word));
    CHECK(prf->bytes == prf_bytes(row.prf));
    CHECK(ike_name(row.prf) == row.prf_shows);
  }
  CHECK(find_ike_integrity("") == nullptr);
  for (const std::uint16_t id : std::initializer_list<std::uint16_t>{0, 3, 4, 6, 7, 9, 15})
    CHECK(find_integrity_by_ike_id(id) == nullptr);
  for (const std::uint16_t id : std::initializer_list<std::uint16_t>{0, 3, 9}) CHECK(find_prf(id) == nullptr);
  CHECK(find_prf("none") == nullptr);
  CHECK(find_integrity(Integrity::none) == nullptr);
  CHECK(ike_id(Integrity::none) == 0);
  CHECK(ike_name(Integrity::none) == "None");
}

TEST_CASE("transforms: groups by number and by name") {
  struct Row {
    std::uint16_t number;
    std::string_view name;
    std::uint16_t bits;
    std::size_t public_bytes;
    bool weak = false;
  };
  const Row rows[] = {{14, "modp2048", 2048, 256},
                      {15, "modp3072", 3072, 384},
                      {16, "modp4096", 4096, 512},
                      {19, "ecp256", 256, 64},
                      {20, "ecp384", 384, 96},
                      {21, "ecp521", 521, 132},
                      {31, "curve25519", 255, 32},
                      {17, "modp6144", 6144, 768},
                      {18, "modp8192", 8192, 1024},
                      {26, "ecp224", 224, 56},
                      {27, "brainpool224", 224, 56},
                      {28, "brainpool256", 256, 64},
                      {29, "brainpool384", 384, 96},
                      {30, "brainpool512", 512, 128},
                      {1, "modp768", 768, 96, true},
                      {2, "modp1024", 1024, 128, true},
                      {5, "modp1536", 1536, 192, true},
                      {22, "modp1024s160", 1024, 128, true},
                      {23, "modp2048s224", 2048, 256, true},
                      {24, "modp2048s256", 2048, 256, true},
                      {25, "ecp192", 192, 48, true}};
  CHECK(named_groups().size() == std::size(rows));
  for (const Row& row : rows) {
    CAPTURE(row.name);
    const NamedGroup* const found = find_group(row.number);
    REQUIRE(found != nullptr);
    CHECK(static_cast<std::uint16_t>(found->group) == row.number);
    CHECK(found == find_group(row.name));
    CHECK(found->bits == row.bits);
    CHECK(public_value_bytes(found->group) == row.public_bytes);
    CHECK(ike_name(found->group) == row.name);
    CHECK(found->weak == row.weak);
  }
  for (const std::uint16_t number : std::initializer_list<std::uint16_t>{0, 3, 4, 13, 32})
    CHECK(find_group(number) == nullptr);
  CHECK(find_group("modp512") == nullptr);
  CHECK(ike_name(DhGroup::none) == "none");
}

TEST_CASE("transforms: AEADs, and whose IV must not come twice") {
  for (const Cipher cipher : {Cipher::aes_gcm_16, Cipher::chacha20_poly1305, Cipher::aes_gmac, Cipher::aes_ccm_8,
                              Cipher::aes_ccm_12, Cipher::aes_ccm_16}) {
    CHECK(is_aead(cipher));
    CHECK(iv_must_not_repeat(cipher));
  }
  for (const Cipher cipher :
       {Cipher::none, Cipher::null, Cipher::aes_cbc, Cipher::aes_ctr, Cipher::triple_des_cbc, Cipher::des_cbc}) {
    CHECK_FALSE(is_aead(cipher));
    CHECK(iv_must_not_repeat(cipher) == (cipher == Cipher::aes_ctr));
  }
}

// RFC 8221 §5, §6 and the guide's table of weak algorithms, written down a second time.
TEST_CASE("transforms: what is weak") {
  const std::set<std::string_view> weak = {"esp-3des",     "esp-des",      "esp-null",     "esp-gmac",
                                           "esp-gmac 192", "esp-gmac 256", "esp-sha-hmac", "esp-md5-hmac"};
  for (const NamedTransform& row : named_transforms()) {
    CAPTURE(row.name);
    CHECK(row.weak == weak.contains(row.name));
    CHECK((row.strength == 0) == (row.cipher == Cipher::null || row.cipher == Cipher::aes_gmac));
  }
}

}  // namespace
}  // namespace postern::crypto
