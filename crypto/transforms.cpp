#include "crypto/transforms.hpp"

#include <algorithm>
#include <array>

namespace postern::crypto {
namespace {

using enum Cipher;
using Auth = Integrity;

// RFC 3602 (AES-CBC), 4106 (AES-GCM with a 16-byte ICV), 4543 (AES-GMAC), 4309 (AES-CCM), 3686 (AES-CTR), 7634
// (ChaCha20-Poly1305), 2451 (3DES), 2405 (DES), 2410 (NULL); RFC 4868 (HMAC-SHA-2), 2404 (HMAC-SHA-1-96), 2403
// (HMAC-MD5-96), 3566 (AES-XCBC-MAC-96), 4494 (AES-CMAC-96). Weak as the guide and RFC 8221 §5 and §6 see it.
//
//  name, alias, what it is;  IKE: number, name, word;  weak, strength
//    sizes: key, authenticator key, IV, ICV, block, salt
// clang-format off
constexpr std::array<NamedTransform, 32> rows = {{
    {"esp-aes", "esp-aes 128", aes_cbc, 128, {}, 12, "AES-CBC", "aes-cbc-128", false, 128, {16, 0, 16, 0, 16, 0}},
    {"esp-192-aes", "esp-aes 192", aes_cbc, 192, {}, 12, "AES-CBC", "aes-cbc-192", false, 192, {24, 0, 16, 0, 16, 0}},
    {"esp-256-aes", "esp-aes 256", aes_cbc, 256, {}, 12, "AES-CBC", "aes-cbc-256", false, 256, {32, 0, 16, 0, 16, 0}},
    {"esp-gcm", "esp-gcm 128", aes_gcm_16, 128, {}, 20, "AES-GCM", "aes-gcm-128", false, 128, {20, 0, 8, 16, 4, 4}},
    {"esp-gcm 192", "", aes_gcm_16, 192, {}, 20, "AES-GCM", "aes-gcm-192", false, 192, {28, 0, 8, 16, 4, 4}},
    {"esp-gcm 256", "", aes_gcm_16, 256, {}, 20, "AES-GCM", "aes-gcm-256", false, 256, {36, 0, 8, 16, 4, 4}},
    {"esp-chacha20-poly1305", "", chacha20_poly1305, 256, {}, 28, "CHACHA20-POLY1305", "chacha20-poly1305", false, 256, {36, 0, 8, 16, 4, 4}},
    {"esp-aes-ccm", "esp-aes-ccm 128", aes_ccm_16, 128, {}, 16, "AES-CCM", "aes-ccm-128", false, 128, {19, 0, 8, 16, 4, 3}},
    {"esp-aes-ccm 192", "", aes_ccm_16, 192, {}, 16, "AES-CCM", "aes-ccm-192", false, 192, {27, 0, 8, 16, 4, 3}},
    {"esp-aes-ccm 256", "", aes_ccm_16, 256, {}, 16, "AES-CCM", "aes-ccm-256", false, 256, {35, 0, 8, 16, 4, 3}},
    {"esp-aes-ccm-12", "esp-aes-ccm-12 128", aes_ccm_12, 128, {}, 15, "AES-CCM-12", "aes-ccm-12-128", false, 128, {19, 0, 8, 12, 4, 3}},
    {"esp-aes-ccm-12 192", "", aes_ccm_12, 192, {}, 15, "AES-CCM-12", "aes-ccm-12-192", false, 192, {27, 0, 8, 12, 4, 3}},
    {"esp-aes-ccm-12 256", "", aes_ccm_12, 256, {}, 15, "AES-CCM-12", "aes-ccm-12-256", false, 256, {35, 0, 8, 12, 4, 3}},
    {"esp-aes-ccm-8", "esp-aes-ccm-8 128", aes_ccm_8, 128, {}, 14, "AES-CCM-8", "aes-ccm-8-128", false, 128, {19, 0, 8, 8, 4, 3}},
    {"esp-aes-ccm-8 192", "", aes_ccm_8, 192, {}, 14, "AES-CCM-8", "aes-ccm-8-192", false, 192, {27, 0, 8, 8, 4, 3}},
    {"esp-aes-ccm-8 256", "", aes_ccm_8, 256, {}, 14, "AES-CCM-8", "aes-ccm-8-256", false, 256, {35, 0, 8, 8, 4, 3}},
    {"esp-aes-ctr", "esp-aes-ctr 128", aes_ctr, 128, {}, 13, "AES-CTR", "aes-ctr-128", false, 128, {20, 0, 8, 0, 4, 4}},
    {"esp-aes-ctr 192", "", aes_ctr, 192, {}, 13, "AES-CTR", "aes-ctr-192", false, 192, {28, 0, 8, 0, 4, 4}},
    {"esp-aes-ctr 256", "", aes_ctr, 256, {}, 13, "AES-CTR", "aes-ctr-256", false, 256, {36, 0, 8, 0, 4, 4}},
    {"esp-3des", "", triple_des_cbc, 192, {}, 3, "3DES", "3des", true, 112, {24, 0, 8, 0, 8, 0}},
    {"esp-des", "", des_cbc, 64, {}, 2, "DES", "des", true, 56, {8, 0, 8, 0, 8, 0}},
    {"esp-gmac", "esp-gmac 128", aes_gmac, 128, {}, 21, "AES-GMAC", "", true, 0, {20, 0, 8, 16, 4, 4}},
    {"esp-gmac 192", "", aes_gmac, 192, {}, 21, "AES-GMAC", "", true, 0, {28, 0, 8, 16, 4, 4}},
    {"esp-gmac 256", "", aes_gmac, 256, {}, 21, "AES-GMAC", "", true, 0, {36, 0, 8, 16, 4, 4}},
    {"esp-null", "", null, 0, {}, 11, "NULL", "", true, 0, {0, 0, 0, 0, 4, 0}},
    {"esp-sha256-hmac", "", none, 0, Auth::hmac_sha256_128, 12, "SHA256", "sha256", false, 128, {0, 32, 0, 16, 0}},
    {"esp-sha384-hmac", "", none, 0, Auth::hmac_sha384_192, 13, "SHA384", "sha384", false, 192, {0, 48, 0, 24, 0}},
    {"esp-sha512-hmac", "", none, 0, Auth::hmac_sha512_256, 14, "SHA512", "sha512", false, 256, {0, 64, 0, 32, 0}},
    {"esp-aes-cmac", "", none, 0, Auth::aes_cmac_96, 8, "AES-CMAC", "aes-cmac", false, 96, {0, 16, 0, 12, 0}},
    {"esp-aes-xcbc-mac", "", none, 0, Auth::aes_xcbc_96, 5, "AES-XCBC", "aes-xcbc", false, 96, {0, 16, 0, 12, 0}},
    {"esp-sha-hmac", "", none, 0, Auth::hmac_sha1_96, 2, "SHA96", "sha1", true, 96, {0, 20, 0, 12, 0}},
    {"esp-md5-hmac", "", none, 0, Auth::hmac_md5_96, 1, "MD596", "md5", true, 96, {0, 16, 0, 12, 0}},
}};
// clang-format on

constexpr std::array<NamedPrf, 7> prfs = {{
    {Prf::hmac_sha256, "SHA256", "sha256", 32, false},
    {Prf::hmac_sha384, "SHA384", "sha384", 48, false},
    {Prf::hmac_sha512, "SHA512", "sha512", 64, false},
    {Prf::aes_xcbc, "AES-XCBC", "aes-xcbc", 16, false},
    {Prf::aes_cmac, "AES-CMAC", "aes-cmac", 16, false},
    {Prf::hmac_sha1, "SHA1", "sha1", 20, true},
    {Prf::hmac_md5, "MD5", "md5", 16, true},
}};

// Weak as the guide sees it (1, 2, 5) and RFC 8247 §2.4 (22 to 24, whose subgroups are small); group 25 has 96 bits of
// strength.
constexpr std::array<NamedGroup, 21> groups = {{
    {DhGroup::modp768, "modp768", 768, 96, true},
    {DhGroup::modp1024, "modp1024", 1024, 128, true},
    {DhGroup::modp1536, "modp1536", 1536, 192, true},
    {DhGroup::modp2048, "modp2048", 2048, 256, false},
    {DhGroup::modp3072, "modp3072", 3072, 384, false},
    {DhGroup::modp4096, "modp4096", 4096, 512, false},
    {DhGroup::modp6144, "modp6144", 6144, 768, false},
    {DhGroup::modp8192, "modp8192", 8192, 1024, false},
    {DhGroup::ecp256, "ecp256", 256, 64, false},
    {DhGroup::ecp384, "ecp384", 384, 96, false},
    {DhGroup::ecp521, "ecp521", 521, 132, false},
    {DhGroup::modp1024s160, "modp1024s160", 1024, 128, true},
    {DhGroup::modp2048s224, "modp2048s224", 2048, 256, true},
    {DhGroup::modp2048s256, "modp2048s256", 2048, 256, true},
    {DhGroup::ecp192, "ecp192", 192, 48, true},
    {DhGroup::ecp224, "ecp224", 224, 56, false},
    {DhGroup::brainpool224, "brainpool224", 224, 56, false},
    {DhGroup::brainpool256, "brainpool256", 256, 64, false},
    {DhGroup::brainpool384, "brainpool384", 384, 96, false},
    {DhGroup::brainpool512, "brainpool512", 512, 128, false},
    {DhGroup::curve25519, "curve25519", 255, 32, false},
}};

template <class Rows, class Fits>
constexpr auto find(const Rows& in, Fits fits) -> const typename Rows::value_type* {
  const auto row = std::ranges::find_if(in, fits);
  return row == in.end() ? nullptr : &*row;
}

bool is_cipher(const NamedTransform& row) { return row.cipher != Cipher::none; }

const NamedTransform* first_of(Cipher cipher) {
  return find(rows, [&](const NamedTransform& r) { return is_cipher(r) && r.cipher == cipher; });
}

}  // namespace

std::span<const NamedTransform> named_transforms() { return rows; }
std::span<const NamedPrf> named_prfs() { return prfs; }
std::span<const NamedGroup> named_groups() { return groups; }

const NamedTransform* find_transform(std::string_view word) {
  if (word.empty()) return nullptr;
  return find(rows, [&](const NamedTransform& r) { return r.name == word || r.alias == word; });
}
const NamedTransform* find_cipher(Cipher cipher, std::uint16_t key_bits) {
  return find(rows,
              [&](const NamedTransform& r) { return is_cipher(r) && r.cipher == cipher && r.key_bits == key_bits; });
}
const NamedTransform* find_integrity(Integrity integrity) {
  return find(rows, [&](const NamedTransform& r) { return !is_cipher(r) && r.integrity == integrity; });
}
const NamedTransform* find_ike_cipher(std::string_view word) {
  if (word.empty()) return nullptr;
  return find(rows, [&](const NamedTransform& r) { return is_cipher(r) && r.ike_word == word; });
}
const NamedTransform* find_ike_integrity(std::string_view word) {
  if (word.empty()) return nullptr;
  return find(rows, [&](const NamedTransform& r) { return !is_cipher(r) && r.ike_word == word; });
}

const NamedTransform* find_cipher_by_ike_id(std::uint16_t id, std::optional<std::uint16_t> key_bits) {
  return find(rows, [&](const NamedTransform& r) {
    return is_cipher(r) && r.ike_id == id &&
           (has_key_length_attribute(r.cipher) ? key_bits == r.key_bits : !key_bits.has_value());
  });
}
const NamedTransform* find_integrity_by_ike_id(std::uint16_t id) {
  return find(rows, [&](const NamedTransform& r) { return !is_cipher(r) && r.ike_id == id; });
}
bool has_key_length_attribute(Cipher cipher) {
  return std::ranges::count_if(rows, [&](const NamedTransform& r) { return is_cipher(r) && r.cipher == cipher; }) > 1;
}

std::uint16_t ike_id(Cipher cipher) {
  const NamedTransform* const row = first_of(cipher);
  return row == nullptr ? std::uint16_t{0} : row->ike_id;
}
std::uint16_t ike_id(Integrity integrity) {
  const NamedTransform* const row = find_integrity(integrity);
  return row == nullptr ? std::uint16_t{0} : row->ike_id;
}

bool is_aead(Cipher cipher) {
  const NamedTransform* const row = first_of(cipher);
  return row != nullptr && row->sizes.icv_bytes != 0;
}

bool iv_must_not_repeat(Cipher cipher) {
  const NamedTransform* const row = first_of(cipher);
  return row != nullptr && row->sizes.salt_bytes != 0;
}

namespace {

Error no_such_key_length(const Transform& transform) {
  const NamedTransform* const row = first_of(transform.cipher);
  if (row == nullptr) return {"no such cipher", 0};
  const std::string lengths =
      has_key_length_attribute(transform.cipher) ? "128, 192 or 256" : std::to_string(row->key_bits);
  return {std::string(row->ike_name) + " keys have " + lengths + " bits, not " + std::to_string(transform.key_bits), 0};
}

}  // namespace

Result<TransformSizes> sizes_of(const Transform& transform) {
  if (transform.cipher == Cipher::none) return fail("an authenticator without a cipher: ESP has esp-null for that");
  const NamedTransform* const cipher = find_cipher(transform.cipher, transform.key_bits);
  if (cipher == nullptr) return std::unexpected(no_such_key_length(transform));
  TransformSizes sizes = cipher->sizes;
  if (is_aead(transform.cipher)) {
    if (transform.integrity != Integrity::none)
      return fail(std::string(cipher->ike_name) + " authenticates by itself: no ESP authenticator beside it");
    return sizes;
  }
  const NamedTransform* const integrity = find_integrity(transform.integrity);
  if (integrity == nullptr) return fail(std::string(cipher->ike_name) + " without an ESP authenticator is not offered");
  sizes.integrity_key_bytes = integrity->sizes.integrity_key_bytes;
  sizes.icv_bytes = integrity->sizes.icv_bytes;
  return sizes;
}

Result<TransformSizes> integrity_sizes_of(Integrity integrity) {
  const NamedTransform* const row = find_integrity(integrity);
  if (row == nullptr) return fail("no such authenticator");
  return row->sizes;
}

Result<Transform> combine(std::span<const std::string_view> words) {
  Transform out;
  for (const std::string_view word : words) {
    const NamedTransform* const named = find_transform(word);
    if (named == nullptr) return fail("\"" + std::string(word) + "\" is not a transform on offer");
    if (named->cipher != Cipher::none) {
      if (out.cipher != Cipher::none) return fail("a second ESP cipher, \"" + std::string(word) + "\"");
      out.cipher = named->cipher;
      out.key_bits = named->key_bits;
    } else {
      if (out.integrity != Integrity::none) return fail("a second ESP authenticator, \"" + std::string(word) + "\"");
      out.integrity = named->integrity;
    }
  }
  POSTERN_CHECK(sizes_of(out));
  return out;
}

std::string text(const Transform& transform) {
  std::string out;
  if (const NamedTransform* const cipher = find_cipher(transform.cipher, transform.key_bits)) out = cipher->name;
  if (const NamedTransform* const integrity = find_integrity(transform.integrity)) {
    if (!out.empty()) out += ' ';
    out += integrity->name;
  }
  return out.empty() ? "none" : out;
}

std::string_view ike_name(Cipher cipher) {
  const NamedTransform* const row = first_of(cipher);
  return row == nullptr ? "None" : row->ike_name;
}
std::string_view ike_name(Integrity integrity) {
  const NamedTransform* const row = find_integrity(integrity);
  return row == nullptr ? "None" : row->ike_name;
}

const NamedPrf* find_prf(std::uint16_t id) {
  return find(prfs, [&](const NamedPrf& r) { return static_cast<std::uint16_t>(r.prf) == id; });
}
const NamedPrf* find_prf(std::string_view word) {
  return find(prfs, [&](const NamedPrf& r) { return r.word == word; });
}
std::string_view ike_name(Prf prf) {
  const NamedPrf* const row = find_prf(static_cast<std::uint16_t>(prf));
  return row == nullptr ? "None" : row->name;
}

const NamedGroup* find_group(std::uint16_t number) {
  return find(groups, [&](const NamedGroup& r) { return static_cast<std::uint16_t>(r.group) == number; });
}
const NamedGroup* find_group(std::string_view name) {
  return find(groups, [&](const NamedGroup& r) { return r.name == name; });
}
std::string_view ike_name(DhGroup group) {
  const NamedGroup* const row = find_group(static_cast<std::uint16_t>(group));
  return row == nullptr ? "none" : row->name;
}

}  // namespace postern::crypto
