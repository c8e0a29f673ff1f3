// Every algorithm on offer, once: names (of IOS and ours), key, IV, ICV and block sizes, IKEv2's numbers, what is weak.
// Configuration, IKE, CLI and worker read this table.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "crypto/dh.hpp"
#include "crypto/packet_cipher.hpp"
#include "crypto/prf.hpp"

namespace postern::crypto {

// A cipher (integrity is none) or an authenticator (cipher is none).
struct NamedTransform {
  std::string_view name;   // a word of a transform set, and what `show` prints: "esp-256-aes", "esp-sha-hmac"
  std::string_view alias;  // another spelling of that word, "esp-aes 256"; empty where there is none
  Cipher cipher = Cipher::none;
  std::uint16_t key_bits = 0;
  Integrity integrity = Integrity::none;
  std::uint16_t ike_id = 0;   // IANA, "Transform Type 1" or "Transform Type 3"
  std::string_view ike_name;  // `show crypto ikev2 sa`: "AES-CBC", "SHA256"
  std::string_view ike_word;  // a word of an IKEv2 proposal: "aes-cbc-256"; empty where IKE itself does not use it
  bool weak = false;
  std::uint16_t strength = 0;  // bits against a key search, 0 for what does not encrypt; authenticators: of the ICV
  TransformSizes sizes;        // what this word adds
};

// Ciphers first, then authenticators.
[[nodiscard]] std::span<const NamedTransform> named_transforms();

// By `name` or `alias`. nullptr when there is no such word.
[[nodiscard]] const NamedTransform* find_transform(std::string_view word);
// The row of a cipher or an authenticator; nullptr for none, and for a key length that the cipher does not have.
[[nodiscard]] const NamedTransform* find_cipher(Cipher cipher, std::uint16_t key_bits);
[[nodiscard]] const NamedTransform* find_integrity(Integrity integrity);
// Words of an IKEv2 proposal.
[[nodiscard]] const NamedTransform* find_ike_cipher(std::string_view word);
[[nodiscard]] const NamedTransform* find_ike_integrity(std::string_view word);

// IKEv2's numbers. `key_bits`: the Key Length attribute. It is required of AES and forbidden for ciphers that have but
// one length: DES, 3DES, NULL, ChaCha20-Poly1305 (RFC 7296 §3.3.5, RFC 7634 §4); nullptr when it is not as it must be.
[[nodiscard]] const NamedTransform* find_cipher_by_ike_id(std::uint16_t id, std::optional<std::uint16_t> key_bits);
[[nodiscard]] const NamedTransform* find_integrity_by_ike_id(std::uint16_t id);
[[nodiscard]] bool has_key_length_attribute(Cipher cipher);
// 0 for none.
[[nodiscard]] std::uint16_t ike_id(Cipher cipher);
[[nodiscard]] std::uint16_t ike_id(Integrity integrity);

[[nodiscard]] bool is_aead(Cipher cipher);
// A second packet with the IV of another, under one key, gives both away: AEADs and AES-CTR. Never with manual keys.
[[nodiscard]] bool iv_must_not_repeat(Cipher cipher);

// The combination that a transform set's words make: at most one cipher and one authenticator, and what sizes_of()
// accepts.
[[nodiscard]] Result<Transform> combine(std::span<const std::string_view> words);

// "esp-256-aes esp-sha-hmac", as `show` prints it; "none" for an empty combination.
[[nodiscard]] std::string text(const Transform& transform);
// As `show crypto ikev2 sa` prints them: "AES-CBC", "SHA256"; "None".
[[nodiscard]] std::string_view ike_name(Cipher cipher);
[[nodiscard]] std::string_view ike_name(Integrity integrity);

struct NamedPrf {
  Prf prf{};
  std::string_view name;  // `show crypto ikev2 sa`: "SHA256"
  std::string_view word;  // of an IKEv2 proposal: "sha256"
  std::size_t bytes = 0;  // output, and preferred key
  bool weak = false;
};
[[nodiscard]] std::span<const NamedPrf> named_prfs();
[[nodiscard]] const NamedPrf* find_prf(std::uint16_t id);
[[nodiscard]] const NamedPrf* find_prf(std::string_view word);
[[nodiscard]] std::string_view ike_name(Prf prf);

struct NamedGroup {
  DhGroup group{};        // its value is the number that IANA and IOS use
  std::string_view name;  // "modp2048", "ecp256"
  std::uint16_t bits = 0;
  std::uint16_t public_bytes = 0;  // of the Key Exchange Data
  bool weak = false;
};
[[nodiscard]] std::span<const NamedGroup> named_groups();
// nullptr for `none` and for a group that is not offered.
[[nodiscard]] const NamedGroup* find_group(std::uint16_t number);
[[nodiscard]] const NamedGroup* find_group(std::string_view name);
// "modp2048"; "none".
[[nodiscard]] std::string_view ike_name(DhGroup group);

}  // namespace postern::crypto
