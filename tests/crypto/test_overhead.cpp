// The largest packet that fits, for every transform on offer, against a count by hand. What the data plane really makes
// is compared with the same function in tests/worker/test_outer.cpp.
#include <algorithm>

#include <doctest/doctest.h>

#include "crypto/ah_transforms.hpp"
#include "crypto/overhead.hpp"
#include "crypto/transforms.hpp"

namespace postern::crypto {
namespace {

// RFC 3602, 4106, 4543, 4309, 3686, 7634, 2451, 2405, 2410.
struct CipherRow {
  Cipher cipher;
  std::uint32_t iv, block, icv;
};
constexpr CipherRow ciphers[] = {
    {Cipher::aes_cbc, 16, 16, 0},      {Cipher::aes_gcm_16, 8, 4, 16}, {Cipher::chacha20_poly1305, 8, 4, 16},
    {Cipher::null, 0, 4, 0},           {Cipher::aes_gmac, 8, 4, 16},   {Cipher::aes_ccm_8, 8, 4, 8},
    {Cipher::aes_ccm_12, 8, 4, 12},    {Cipher::aes_ccm_16, 8, 4, 16}, {Cipher::aes_ctr, 8, 4, 0},
    {Cipher::triple_des_cbc, 8, 8, 0}, {Cipher::des_cbc, 8, 8, 0}};
// RFC 2403, 2404, 4868, 3566, 4494.
struct IntegrityRow {
  Integrity integrity;
  std::uint32_t icv;
};
constexpr IntegrityRow authenticators[] = {{Integrity::hmac_md5_96, 12},     {Integrity::hmac_sha1_96, 12},
                                           {Integrity::hmac_sha256_128, 16}, {Integrity::hmac_sha384_192, 24},
                                           {Integrity::hmac_sha512_256, 32}, {Integrity::aes_xcbc_96, 12},
                                           {Integrity::aes_cmac_96, 12}};

struct Sealed {
  std::uint32_t outer, iv, block, icv;
};

std::uint32_t sealed_bytes(const Sealed& by, std::uint32_t inner) {
  std::uint32_t body = inner + 2;  // pad length, next header
  while (body % by.block != 0) ++body;
  return by.outer + 8 + by.iv + body + by.icv;
}

// All that one transform can be around.
void check_esp(const Transform& transform, Sealed by) {
  CAPTURE(text(transform));
  for (const Family family : {Family::v4, Family::v6})
    for (const bool udp : {false, true})
      for (const bool transport : {false, true})
        for (std::uint32_t path = 1280; path <= 1500; ++path) {
          CAPTURE(path);
          const std::uint32_t ip = family == Family::v4 ? 20 : 40, own = transport ? ip : 0;
          by.outer = ip + (udp ? 8U : 0U);
          const auto mtu = largest_inside({transform, Integrity::none, transport}, family, udp, path);
          REQUIRE(mtu);
          REQUIRE(sealed_bytes(by, *mtu - own) <= path);
          REQUIRE(sealed_bytes(by, *mtu - own + 1) > path);
        }
}

TEST_CASE("largest packet of ESP: it fits, and one byte more does not") {
  for (const NamedTransform& named : named_transforms()) {
    if (named.cipher == Cipher::none) continue;
    const CipherRow* const row = std::ranges::find(ciphers, named.cipher, &CipherRow::cipher);
    REQUIRE(row != std::end(ciphers));
    if (is_aead(named.cipher)) {
      check_esp({named.cipher, named.key_bits, Integrity::none}, {0, row->iv, row->block, row->icv});
      continue;
    }
    for (const IntegrityRow& by : authenticators)
      check_esp({named.cipher, named.key_bits, by.integrity}, {0, row->iv, row->block, by.icv});
  }
}

TEST_CASE("largest packet of AH: header and ICV in whole words over IPv4, double words over IPv6") {
  for (const IntegrityRow& by : authenticators)
    for (const Family family : {Family::v4, Family::v6}) {
      CAPTURE(ah_text(by.integrity));
      const std::uint32_t unit = family == Family::v4 ? 4 : 8, ip = family == Family::v4 ? 20 : 40;
      std::uint32_t header = 12 + by.icv;
      while (header % unit != 0) ++header;
      CHECK(largest_inside({{}, by.integrity, false}, family, false, 1500) == 1500 - ip - header);
      CHECK(largest_inside({{}, by.integrity, true}, family, false, 1500) == 1500 - header);
    }
}

TEST_CASE("largest packet: the guide's values, and AH around ESP") {
  const Transform cbc_sha1{Cipher::aes_cbc, 128, Integrity::hmac_sha1_96};
  const Transform triple_des_md5{Cipher::triple_des_cbc, 192, Integrity::hmac_md5_96};
  const Transform cbc_sha256{Cipher::aes_cbc, 256, Integrity::hmac_sha256_128};
  CHECK(largest_inside({cbc_sha1}, Family::v4, false, 1500) == 1438U);
  CHECK(largest_inside({triple_des_md5}, Family::v6, false, 1500) == 1430U);
  CHECK(largest_inside({cbc_sha1}, Family::v6, false, 1500) == 1422U);
  CHECK(largest_inside({cbc_sha1}, Family::v4, true, 1500) == 1422U);  // 8 more bytes cost a whole block
  CHECK(largest_inside({cbc_sha256, Integrity::none, true}, Family::v6, true, 1500) == 40 + 1406U);
  CHECK(largest_inside({cbc_sha256, Integrity::hmac_sha256_128, false}, Family::v4, false, 1500) == 1406U);
}

TEST_CASE("largest packet: no room, and what is not offered") {
  CHECK_FALSE(largest_inside({{Cipher::aes_cbc, 256, Integrity::hmac_sha512_256}}, Family::v6, true, 60));
  CHECK_FALSE(largest_inside({{Cipher::aes_cbc, 128, Integrity::hmac_sha1_96}}, Family::v4, false, 68));
  CHECK_FALSE(largest_inside({{Cipher::chacha20_poly1305, 128, Integrity::none}}, Family::v4, false, 1500));
  CHECK_FALSE(largest_inside({{}, Integrity::hmac_sha512_256, false}, Family::v6, false, 80));
}

}  // namespace
}  // namespace postern::crypto
