// plaintext_mtu() for every transform on offer, against a count by hand: the largest packet that fits.
#include <doctest/doctest.h>

#include "crypto/transforms.hpp"
#include "loader/plan.hpp"

namespace postern::loader {
namespace {

using crypto::Cipher;
using crypto::Integrity;

struct Row {
  Cipher cipher;
  Integrity integrity;
  std::uint32_t iv, block, icv;  // RFC 3602, 4106, 7634; RFC 2404, 4868
};
constexpr Row rows[] = {
    {Cipher::aes_cbc, Integrity::hmac_sha1_96, 16, 16, 12},
    {Cipher::aes_cbc, Integrity::hmac_sha256_128, 16, 16, 16},
    {Cipher::aes_cbc, Integrity::hmac_sha384_192, 16, 16, 24},
    {Cipher::aes_cbc, Integrity::hmac_sha512_256, 16, 16, 32},
    {Cipher::aes_gcm_16, Integrity::none, 8, 4, 16},
    {Cipher::chacha20_poly1305, Integrity::none, 8, 4, 16},
};

std::uint32_t sealed_bytes(const Row& row, std::uint32_t outer, std::uint32_t inner) {
  std::uint32_t body = inner + 2;  // pad length, next header
  while (body % row.block != 0) ++body;
  return outer + 8 + row.iv + body + row.icv;
}

TEST_CASE("plaintext MTU: the largest packet that fits, and one byte more does not") {
  for (const Row& row : rows) {
    for (const crypto::NamedTransform& named : crypto::named_transforms()) {
      if (named.cipher != row.cipher) continue;
      const crypto::Transform transform{row.cipher, named.key_bits, row.integrity};
      CAPTURE(crypto::text(transform));
      for (const Family family : {Family::v4, Family::v6})
        for (const bool udp : {false, true})
          for (std::uint32_t path = 1280; path <= 1500; ++path) {
            CAPTURE(path);
            const std::uint32_t outer = (family == Family::v4 ? 20U : 40U) + (udp ? 8U : 0U);
            const auto mtu = plaintext_mtu(transform, family, udp, path);
            REQUIRE(mtu);
            REQUIRE(sealed_bytes(row, outer, *mtu) <= path);
            REQUIRE(sealed_bytes(row, outer, *mtu + 1) > path);
          }
    }
  }
}

TEST_CASE("plaintext MTU: no room for one block, and a combination that is not offered") {
  CHECK_FALSE(plaintext_mtu({Cipher::aes_cbc, 256, Integrity::hmac_sha512_256}, Family::v6, true, 60));
  CHECK_FALSE(plaintext_mtu({Cipher::chacha20_poly1305, 128, Integrity::none}, Family::v4, false, 1500));
}

}  // namespace
}  // namespace postern::loader
