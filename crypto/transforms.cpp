#include "crypto/transforms.hpp"

#include <algorithm>
#include <array>

namespace postern::crypto {
namespace {

struct Row {
  NamedTransform named;
  TransformSizes sizes;  // what this word adds
};

// RFC 3602 (AES-CBC), RFC 4106 (AES-GCM with a 16-byte ICV), RFC 2404 (HMAC-SHA-1-96), RFC 4868 (HMAC-SHA-256-128).
constexpr std::array<Row, 8> rows = {{
    // name              cipher              bits integrity                       key integrity iv icv block
    {{"esp-aes", Cipher::aes_cbc, 128, Integrity::none}, {16, 0, 16, 0, 16}},
    {{"esp-192-aes", Cipher::aes_cbc, 192, Integrity::none}, {24, 0, 16, 0, 16}},
    {{"esp-256-aes", Cipher::aes_cbc, 256, Integrity::none}, {32, 0, 16, 0, 16}},
    {{"esp-gcm", Cipher::aes_gcm_16, 128, Integrity::none}, {20, 0, 8, 16, 4}},
    {{"esp-192-gcm", Cipher::aes_gcm_16, 192, Integrity::none}, {28, 0, 8, 16, 4}},
    {{"esp-256-gcm", Cipher::aes_gcm_16, 256, Integrity::none}, {36, 0, 8, 16, 4}},
    {{"esp-sha-hmac", Cipher::none, 0, Integrity::hmac_sha1_96}, {0, 20, 0, 12, 0}},
    {{"esp-sha256-hmac", Cipher::none, 0, Integrity::hmac_sha256_128}, {0, 32, 0, 16, 0}},
}};

constexpr auto names = [] {
  std::array<NamedTransform, rows.size()> out;
  std::ranges::transform(rows, out.begin(), &Row::named);
  return out;
}();

const Row* cipher_row(const Transform& transform) {
  const auto row = std::ranges::find_if(rows, [&](const Row& r) {
    return r.named.cipher != Cipher::none && r.named.cipher == transform.cipher &&
           r.named.key_bits == transform.key_bits;
  });
  return row == rows.end() ? nullptr : &*row;
}

const Row* integrity_row(Integrity integrity) {
  const auto row = std::ranges::find_if(
      rows, [&](const Row& r) { return r.named.integrity != Integrity::none && r.named.integrity == integrity; });
  return row == rows.end() ? nullptr : &*row;
}

}  // namespace

std::span<const NamedTransform> named_transforms() { return names; }

const NamedTransform* find_transform(std::string_view name) {
  const auto found = std::ranges::find(names, name, &NamedTransform::name);
  return found == names.end() ? nullptr : &*found;
}

Result<TransformSizes> sizes_of(const Transform& transform) {
  if (transform.cipher == Cipher::none) return fail("ESP without a cipher (esp-null) is not offered");
  const Row* const cipher = cipher_row(transform);
  if (cipher == nullptr) return fail("AES keys have 128, 192 or 256 bits, not " + std::to_string(transform.key_bits));
  TransformSizes sizes = cipher->sizes;
  if (transform.cipher == Cipher::aes_gcm_16) {
    if (transform.integrity != Integrity::none)
      return fail("AES-GCM authenticates by itself: no ESP authenticator beside it");
    return sizes;
  }
  const Row* const integrity = integrity_row(transform.integrity);
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
  if (const Row* const cipher = cipher_row(transform)) out = cipher->named.name;
  if (const Row* const integrity = integrity_row(transform.integrity)) {
    if (!out.empty()) out += ' ';
    out += integrity->named.name;
  }
  return out.empty() ? "none" : out;
}

}  // namespace postern::crypto
