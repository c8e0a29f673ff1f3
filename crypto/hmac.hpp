// HMAC (RFC 2104) from a key that was absorbed beforehand. Room-private: other rooms see packet_cipher.hpp and prf.hpp.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <span>

#include "base/bytes.hpp"
#include "base/secret.hpp"
#include "crypto/packet_cipher.hpp"

namespace postern::crypto {

enum class Hash : std::uint8_t { sha1, sha256, sha384, sha512, md5 };

inline constexpr std::size_t max_digest_bytes = 64;
[[nodiscard]] std::size_t digest_bytes(Hash hash);
// Nothing for Integrity::none and for what is no HMAC.
[[nodiscard]] std::optional<Hash> hash_of(Integrity integrity);

// The hash's chaining value after the block key^ipad, and after key^opad: 4, 5 or 8 words of 32 bits, or 8 of 64, in
// host order; the form that both OpenSSL's contexts and ipsec-mb's jobs take.
struct HmacKey {
  static constexpr std::size_t state_bytes = 64;
  alignas(16) std::array<std::byte, state_bytes> inner{};
  alignas(16) std::array<std::byte, state_bytes> outer{};
};

// Writes into `out`, which lies in locked memory. A key longer than the hash's block is hashed first (RFC 2104 §2).
void expand_hmac(Hash hash, Bytes key, HmacKey& out);

// The untruncated digest of part | part | ..., digest_bytes(hash), into `out`.
void hmac(Hash hash, const HmacKey& key, std::span<const Bytes> parts, std::byte* out);

// An HmacKey of its own in locked memory.
class LockedHmacKey {
 public:
  LockedHmacKey(Hash hash, Bytes key) : memory_(sizeof(HmacKey)) {
    expand_hmac(hash, key, *new (memory_.mutable_bytes().data()) HmacKey);
  }
  [[nodiscard]] const HmacKey& get() const {
    return *std::launder(reinterpret_cast<const HmacKey*>(memory_.bytes().data()));
  }

 private:
  Secret memory_;  // begins at a multiple of 64
};

}  // namespace postern::crypto
