#include "crypto/transforms.hpp"

#include <algorithm>
#include <array>

namespace postern::crypto {
namespace {

using Cipher::aes_cbc, Cipher::aes_gcm_16, Cipher::chacha20_poly1305;
using Integrity::hmac_sha1_96, Integrity::hmac_sha256_128, Integrity::hmac_sha384_192, Integrity::hmac_sha512_256;
constexpr Cipher no_cipher = Cipher::none;
constexpr Integrity no_integrity = Integrity::none;

// RFC 3602 (AES-CBC), RFC 4106 (AES-GCM with a 16-byte ICV), RFC 7634 (ChaCha20-Poly1305), RFC 2404 (HMAC-SHA-1-96),
// RFC 4868 (HMAC-SHA-2). Weak as RFC 8221 §6 sees it: HMAC-SHA-1 is on its way out.
//
//  name, alias                              what it is                                     IKE: number, name, word,
//  weak
//    sizes: key, authenticator key, IV, ICV, block
constexpr std::array<NamedTransform, 11> rows = {{
    {"esp-aes", "esp-aes 128", aes_cbc, 128, no_integrity, 12, "AES-CBC", "aes-cbc-128", false, {16, 0, 16, 0, 16}},
    {"esp-192-aes", "esp-aes 192", aes_cbc, 192, no_integrity, 12, "AES-CBC", "aes-cbc-192", false, {24, 0, 16, 0, 16}},
    {"esp-256-aes", "esp-aes 256", aes_cbc, 256, no_integrity, 12, "AES-CBC", "aes-cbc-256", false, {32, 0, 16, 0, 16}},
    {"esp-gcm", "esp-gcm 128", aes_gcm_16, 128, no_integrity, 20, "AES-GCM", "aes-gcm-128", false, {20, 0, 8, 16, 4}},
    {"esp-gcm 192", "", aes_gcm_16, 192, no_integrity, 20, "AES-GCM", "aes-gcm-192", false, {28, 0, 8, 16, 4}},
    {"esp-gcm 256", "", aes_gcm_16, 256, no_integrity, 20, "AES-GCM", "aes-gcm-256", false, {36, 0, 8, 16, 4}},
    {"esp-chacha20-poly1305",
     "",
     chacha20_poly1305,
     256,
     no_integrity,
     28,
     "CHACHA20-POLY1305",
     "chacha20-poly1305",
     false,
     {36, 0, 8, 16, 4}},
    {"esp-sha256-hmac", "", no_cipher, 0, hmac_sha256_128, 12, "SHA256", "sha256", false, {0, 32, 0, 16, 0}},
    {"esp-sha384-hmac", "", no_cipher, 0, hmac_sha384_192, 13, "SHA384", "sha384", false, {0, 48, 0, 24, 0}},
    {"esp-sha512-hmac", "", no_cipher, 0, hmac_sha512_256, 14, "SHA512", "sha512", false, {0, 64, 0, 32, 0}},
    {"esp-sha-hmac", "", no_cipher, 0, hmac_sha1_96, 2, "SHA96", "sha1", true, {0, 20, 0, 12, 0}},
}};

constexpr std::array<NamedPrf, 4> prfs = {{
    {Prf::hmac_sha256, "SHA256", "sha256", 32, false},
    {Prf::hmac_sha384, "SHA384", "sha384", 48, false},
    {Prf::hmac_sha512, "SHA512", "sha512", 64, false},
    {Prf::hmac_sha1, "SHA1", "sha1", 20, true},
}};

// Every group weaker than these (1, 2, 5, 22 to 24) is missing from the table: RFC 8247 §2.4 discourages them.
constexpr std::array<NamedGroup, 7> groups = {{
    {DhGroup::modp2048, "modp2048", 2048, 256, false},
    {DhGroup::modp3072, "modp3072", 3072, 384, false},
    {DhGroup::modp4096, "modp4096", 4096, 512, false},
    {DhGroup::ecp256, "ecp256", 256, 64, false},
    {DhGroup::ecp384, "ecp384", 384, 96, false},
    {DhGroup::ecp521, "ecp521", 521, 132, false},
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
  return find(rows, [&](const NamedTransform& r) { return is_cipher(r) && r.ike_word == word; });
}
const NamedTransform* find_ike_integrity(std::string_view word) {
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
bool has_key_length_attribute(Cipher cipher) { return cipher == aes_cbc || cipher == aes_gcm_16; }

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

Result<TransformSizes> sizes_of(const Transform& transform) {
  if (transform.cipher == Cipher::none) return fail("ESP without a cipher (esp-null) is not offered");
  const NamedTransform* const cipher = find_cipher(transform.cipher, transform.key_bits);
  if (cipher == nullptr)
    return fail(transform.cipher == chacha20_poly1305
                    ? "ChaCha20-Poly1305 keys have 256 bits, not " + std::to_string(transform.key_bits)
                    : "AES keys have 128, 192 or 256 bits, not " + std::to_string(transform.key_bits));
  TransformSizes sizes = cipher->sizes;
  if (is_aead(transform.cipher)) {
    if (transform.integrity != Integrity::none)
      return fail(std::string(cipher->ike_name) + " authenticates by itself: no ESP authenticator beside it");
    return sizes;
  }
  const NamedTransform* const integrity = find_integrity(transform.integrity);
  if (integrity == nullptr) return fail("AES-CBC without an ESP authenticator is not offered");
  sizes.integrity_key_bytes = integrity->sizes.integrity_key_bytes;
  sizes.icv_bytes = integrity->sizes.icv_bytes;
  return sizes;
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
