// HMAC (RFC 2104) from a key that was absorbed beforehand. Room-private: other rooms see packet_cipher.hpp.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/bytes.hpp"
#include "crypto/packet_cipher.hpp"

namespace postern::crypto {

// The hash's chaining value after the block key^ipad, and after key^opad. As 32-bit words in host order: the form that
// both OpenSSL's contexts and ipsec-mb's jobs take.
struct HmacKey {
  alignas(16) std::array<std::uint32_t, 8> inner{};
  alignas(16) std::array<std::uint32_t, 8> outer{};
};

inline constexpr std::size_t max_digest_bytes = 32;
inline constexpr std::size_t hmac_block_bytes = 64;  // of SHA-1 and of SHA-256

// Writes into `out`, which lies in locked memory. A key longer than hmac_block_bytes is an error (no ESP transform has
// one).
[[nodiscard]] Result<void> expand_hmac(Integrity integrity, Bytes key, HmacKey& out);

// The untruncated digest, 20 or 32 bytes, into `out`.
void hmac(Integrity integrity, const HmacKey& key, Bytes data, std::array<std::byte, max_digest_bytes>& out);

}  // namespace postern::crypto
