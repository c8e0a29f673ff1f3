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
      {{Cipher::aes_gcm_16, 128, Integrity::none}, {20, 0, 8, 16, 4}},
      {{Cipher::aes_gcm_16, 192, Integrity::none}, {28, 0, 8, 16, 4}},
      {{Cipher::aes_gcm_16, 256, Integrity::none}, {36, 0, 8, 16, 4}},
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
  }
}

TEST_CASE("transforms: what is not offered says why") {
  struct Row {
    Transform transform;
    std::string_view says;
  };
  const Row rows[] = {
      {{Cipher::none, 0, Integrity::none}, "without a cipher"},
      {{Cipher::none, 0, Integrity::hmac_sha256_128}, "without a cipher"},
      {{Cipher::aes_cbc, 128, Integrity::none}, "without an ESP authenticator"},
      {{Cipher::aes_cbc, 0, Integrity::hmac_sha1_96}, "128, 192 or 256"},
      {{Cipher::aes_cbc, 160, Integrity::hmac_sha1_96}, "128, 192 or 256"},
      {{Cipher::aes_gcm_16, 512, Integrity::none}, "128, 192 or 256"},
      {{Cipher::aes_gcm_16, 128, Integrity::hmac_sha1_96}, "no ESP authenticator beside it"},
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
  }
  for (const std::string_view bad :
       {"", "esp", "esp-aes ", "ESP-AES", "esp-des", "esp-seal", "esp-null", "esp-aes-256"})
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
      {{"esp-192-gcm"}, {Cipher::aes_gcm_16, 192, Integrity::none}, "esp-192-gcm"},
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
                                                       {"esp-aes", "esp-md5-hmac"}})
    CHECK_FALSE(combine(bad));
}

}  // namespace
}  // namespace postern::crypto
