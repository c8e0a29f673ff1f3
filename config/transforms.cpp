#include "config/transforms.hpp"

#include <algorithm>
#include <array>

namespace postern::config {
namespace {

using crypto::Cipher;
using crypto::Integrity;

enum class Class { cipher, authenticator };

struct Row {
  std::string_view text;   // in the document
  std::string_view shown;  // in `show`
  Class kind;
  Cipher cipher;
  std::uint16_t key_bits;
  Integrity integrity;
  bool weak;
};
// TS-16: no size means 128 bits.
constexpr std::array rows = {
    Row{"esp-aes", "esp-aes", Class::cipher, Cipher::aes_cbc, 128, Integrity::none, false},
    Row{"esp-aes 128", "esp-aes", Class::cipher, Cipher::aes_cbc, 128, Integrity::none, false},
    Row{"esp-aes 192", "esp-192-aes", Class::cipher, Cipher::aes_cbc, 192, Integrity::none, false},
    Row{"esp-aes 256", "esp-256-aes", Class::cipher, Cipher::aes_cbc, 256, Integrity::none, false},
    Row{"esp-192-aes", "esp-192-aes", Class::cipher, Cipher::aes_cbc, 192, Integrity::none, false},
    Row{"esp-256-aes", "esp-256-aes", Class::cipher, Cipher::aes_cbc, 256, Integrity::none, false},
    Row{"esp-gcm", "esp-gcm", Class::cipher, Cipher::aes_gcm_16, 128, Integrity::none, false},
    Row{"esp-gcm 128", "esp-gcm", Class::cipher, Cipher::aes_gcm_16, 128, Integrity::none, false},
    Row{"esp-gcm 192", "esp-gcm 192", Class::cipher, Cipher::aes_gcm_16, 192, Integrity::none, false},
    Row{"esp-gcm 256", "esp-gcm 256", Class::cipher, Cipher::aes_gcm_16, 256, Integrity::none, false},
    Row{"esp-sha-hmac", "esp-sha-hmac", Class::authenticator, Cipher::none, 0, Integrity::hmac_sha1_96, true},
    Row{"esp-sha256-hmac", "esp-sha256-hmac", Class::authenticator, Cipher::none, 0, Integrity::hmac_sha256_128, false},
};

// Names of the guide that this version does not offer, with the reason; matched by their first word.
constexpr std::array<std::pair<std::string_view, std::string_view>, 13> unavailable = {{
    {"esp-seal", "SEAL is a vendor's own cipher that nobody else can speak"},
    {"ah-md5-hmac", "AH is not available in this version"},
    {"ah-sha-hmac", "AH is not available in this version"},
    {"ah-sha256-hmac", "AH is not available in this version"},
    {"ah-sha384-hmac", "AH is not available in this version"},
    {"ah-sha512-hmac", "AH is not available in this version"},
    {"esp-des", "DES is not available in this version"},
    {"esp-3des", "3DES is not available in this version"},
    {"esp-md5-hmac", "HMAC-MD5 is not available in this version"},
    {"esp-null", "ESP without encryption is not available in this version"},
    {"esp-gmac", "GMAC is not available in this version"},
    {"comp-lzs", "compression is not available in this version"},
    {"comp-deflate", "compression is not available in this version"},
}};

constexpr const char* offered =
    "esp-aes, esp-aes 192, esp-aes 256, esp-gcm, esp-gcm 192, esp-gcm 256, esp-sha256-hmac, esp-sha-hmac";

const Row* find_row(const std::string& text, const std::string& path, Report& report) {
  const auto row = std::ranges::find(rows, std::string_view(text), &Row::text);
  if (row != rows.end()) return row;
  const std::string_view first = std::string_view(text).substr(0, text.find(' '));
  const auto known = std::ranges::find(unavailable, first, &std::pair<std::string_view, std::string_view>::first);
  if (known != unavailable.end())
    report.error(path, fmt::format("{}: {}", quoted(path, text), known->second), offered);
  else
    report.error(path, quoted(path, text) + " is not a known transform", offered);
  return nullptr;
}

void check_combination(const ResolvedTransforms& set, const std::string& path, Report& report) {
  const crypto::Transform& t = set.transform;
  const bool aead = t.cipher == Cipher::aes_gcm_16;
  if (aead && t.integrity != Integrity::none)
    report.error(path, "esp-gcm authenticates by itself: an authenticator beside it is an error", "esp-gcm alone");
  if (t.cipher == Cipher::none) report.error(path, "an authenticator without a cipher", "esp-aes and an authenticator");
  // TS-30 allows encryption alone; RFC 4303 §2.8 warns of it, and the data plane does not offer it.
  if (!aead && t.cipher != Cipher::none && t.integrity == Integrity::none)
    report.error(path,
                 "a cipher without an authenticator lets anyone alter packets, and is not available in this version",
                 "esp-sha256-hmac or esp-sha-hmac beside it");
}

}  // namespace

KeySizes key_sizes(const crypto::Transform& transform) {
  KeySizes sizes;
  sizes.cipher = transform.key_bits / 8U;
  if (transform.cipher == Cipher::aes_gcm_16) sizes.cipher += 4;  // RFC 4106 §8.1: the salt
  if (transform.integrity == Integrity::hmac_sha1_96) sizes.integrity = 20;
  if (transform.integrity == Integrity::hmac_sha256_128) sizes.integrity = 32;
  return sizes;
}

ResolvedTransforms resolve_transforms(const std::vector<std::string>& texts, const std::string& path, Report& report) {
  ResolvedTransforms out;
  bool cipher_seen = false, authenticator_seen = false, whole = true;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const std::string here = at("{}/{}", path, i);
    const Row* const row = find_row(texts[i], here, report);
    if (row == nullptr) {
      whole = false;
      continue;
    }
    bool& seen = row->kind == Class::cipher ? cipher_seen : authenticator_seen;
    if (seen)
      report.error(here,
                   row->kind == Class::cipher ? "a second cipher in one set" : "a second authenticator in one set",
                   "one transform of each class");
    seen = true;
    if (row->weak) report.warning(here, fmt::format("{} is weak and deprecated", row->shown), "esp-sha256-hmac");
    out.names.emplace_back(row->shown);
    if (row->kind == Class::authenticator) out.transform.integrity = row->integrity;
    if (row->kind != Class::cipher) continue;
    out.transform.cipher = row->cipher;
    out.transform.key_bits = row->key_bits;
  }
  if (whole) check_combination(out, path, report);
  return out;
}

}  // namespace postern::config
