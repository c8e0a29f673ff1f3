#include "config/transforms.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "crypto/ah_transforms.hpp"
#include "crypto/transforms.hpp"

namespace postern::config {
namespace {

// Names of the guide that this version does not offer, with the reason; matched by their first word.
constexpr std::array<std::pair<std::string_view, std::string_view>, 3> unavailable = {{
    {"esp-seal", "SEAL is a vendor's own cipher that nobody else can speak"},
    {"esp-rfc1829", "RFC 1829 encrypts without an authenticator, which lets anyone alter packets"},
    {"comp-lzs", "LZS is not offered: Linux peers do not speak it; comp-deflate compresses instead"},
}};

constexpr std::string_view compression_word = "comp-deflate";

std::string offered() {
  std::string out;
  for (const crypto::NamedTransform& row : crypto::named_transforms())
    out += fmt::format("{}{}", out.empty() ? "" : ", ", row.alias.empty() ? row.name : row.alias);
  for (const crypto::NamedTransform& row : crypto::named_transforms())
    if (row.cipher == crypto::Cipher::none && crypto::ah_sizes_of(row.integrity))
      out += ", " + crypto::ah_text(row.integrity);
  return fmt::format("{}, {}", out, compression_word);
}

const crypto::NamedTransform* find_row(const std::string& text, const std::string& path, Report& report) {
  if (const crypto::NamedTransform* const row = crypto::find_transform(text)) return row;
  const std::string_view first = std::string_view(text).substr(0, text.find(' '));
  const auto known = std::ranges::find(unavailable, first, &std::pair<std::string_view, std::string_view>::first);
  if (known != unavailable.end())
    report.error(path, fmt::format("{}: {}", quoted(path, text), known->second), offered());
  else
    report.error(path, quoted(path, text) + " is not a known transform", offered());
  return nullptr;
}

void check_combination(const ResolvedTransforms& set, const std::string& path, Report& report) {
  const crypto::Transform& t = set.transform;
  if (t == crypto::Transform{} && set.ah != crypto::Integrity::none) return;  // AH alone
  if (t == crypto::Transform{} && set.compression)
    return report.error(path, fmt::format("{} alone protects nothing", compression_word), "ESP or AH beside it");
  const bool aead = crypto::is_aead(t.cipher);
  if (aead && t.integrity != crypto::Integrity::none) {
    const std::string_view cipher = crypto::find_cipher(t.cipher, t.key_bits)->name;
    report.error(path, fmt::format("{} authenticates by itself: an authenticator beside it is an error", cipher),
                 fmt::format("{} alone", cipher));
  }
  if (t.cipher == crypto::Cipher::none)
    report.error(path, "an authenticator without a cipher", "esp-aes beside it, or esp-null, which does not encrypt");
  if (t.cipher == crypto::Cipher::null && t.integrity == crypto::Integrity::none)
    report.error(path, "esp-null without an authenticator protects nothing", "esp-sha256-hmac beside it");
  // TS-30 allows encryption alone; RFC 4303 §2.8 warns of it, and the data plane does not offer it.
  else if (!aead && t.cipher != crypto::Cipher::none && t.integrity == crypto::Integrity::none)
    report.error(path, "a cipher without an authenticator lets anyone alter packets, and is not offered",
                 "esp-sha256-hmac beside it");
}

void warn_of_weak(const crypto::NamedTransform& row, const std::string& path, Report& report) {
  if (!row.weak) return;
  if (row.cipher == crypto::Cipher::none)
    report.warning(path, fmt::format("{} is weak and deprecated", row.name), "esp-sha256-hmac");
  else if (row.strength == 0)
    report.warning(path, fmt::format("{} does not encrypt: anyone on the way can read the packets", row.name),
                   "esp-gcm");
  else
    report.warning(path, fmt::format("{} is weak and deprecated: {} bits of strength", row.name, row.strength),
                   "esp-aes, esp-gcm");
}

void take_ah(crypto::Integrity ah, const std::string& path, ResolvedTransforms& out, Report& report) {
  if (out.ah != crypto::Integrity::none)
    report.error(path, "a second AH transform in one set", "one transform of each class");
  const std::string name = crypto::ah_text(ah);
  if (crypto::find_integrity(ah)->weak)
    report.warning(path, fmt::format("{} is weak and deprecated", name), "ah-sha256-hmac");
  out.names.push_back(name);
  out.ah = ah;
}

void take_compression(const std::string& path, ResolvedTransforms& out, Report& report) {
  if (std::exchange(out.compression, true))
    report.error(path, "a second compression in one set", "one transform of each class");
  report.warning(
      path,
      fmt::format("{}: the length of a packet then tells about its content, to whoever can put text of his own "
                  "beside a secret",
                  compression_word),
      "a set without it, unless the way is narrow and the traffic compresses");
  out.names.emplace_back(compression_word);
}

}  // namespace

ResolvedTransforms resolve_transforms(const std::vector<std::string>& texts, const std::string& path, Report& report) {
  ResolvedTransforms out;
  bool cipher_seen = false, authenticator_seen = false, whole = true;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const std::string here = at("{}/{}", path, i);
    if (const crypto::Integrity ah = crypto::find_ah_transform(texts[i]); ah != crypto::Integrity::none) {
      take_ah(ah, here, out, report);
      continue;
    }
    if (texts[i] == compression_word) {
      take_compression(here, out, report);
      continue;
    }
    const crypto::NamedTransform* const row = find_row(texts[i], here, report);
    if (row == nullptr) {
      whole = false;
      continue;
    }
    const bool is_cipher = row->cipher != crypto::Cipher::none;
    if (std::exchange(is_cipher ? cipher_seen : authenticator_seen, true))
      report.error(here, is_cipher ? "a second cipher in one set" : "a second authenticator in one set",
                   "one transform of each class");
    warn_of_weak(*row, here, report);
    out.names.emplace_back(row->name);
    if (is_cipher) {
      out.transform.cipher = row->cipher;
      out.transform.key_bits = row->key_bits;
    } else {
      out.transform.integrity = row->integrity;
    }
  }
  if (whole) check_combination(out, path, report);
  return out;
}

}  // namespace postern::config
