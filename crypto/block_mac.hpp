// MACs made of AES-128 in CBC mode: AES-XCBC-MAC (RFC 3566) and AES-CMAC (RFC 4493). They differ in their keys alone.
// Room-private: other rooms see packet_cipher.hpp.
#pragma once

#include <array>
#include <cstddef>
#include <new>
#include <span>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/secret.hpp"
#include "crypto/openssl_cipher.hpp"
#include "crypto/packet_cipher.hpp"

namespace postern::crypto {

inline constexpr std::size_t block_mac_bytes = 16;

// RFC 3566 §4: K1, K2, K3. RFC 4493 §2.3: K, K1, K2.
struct BlockMacKey {
  alignas(16) std::array<std::byte, block_mac_bytes> cipher{};
  alignas(16) std::array<std::byte, block_mac_bytes> whole{};  // for a last block of 16 bytes
  alignas(16) std::array<std::byte, block_mac_bytes> part{};   // for a last block that was padded
};

[[nodiscard]] constexpr bool is_block_mac(Integrity integrity) {
  return integrity == Integrity::aes_xcbc_96 || integrity == Integrity::aes_cmac_96;
}

// Writes into `out`, which lies in locked memory. `key` has 16 bytes. Error: OpenSSL has no AES.
[[nodiscard]] Result<void> expand_block_mac(Integrity integrity, Bytes key, BlockMacKey& out);

// The untruncated MAC of part | part | ..., block_mac_bytes, into `out`. `aes_cbc` is AES-128-CBC that encrypts.
// Allocates nothing.
[[nodiscard]] bool block_mac(OpenSslCipher& aes_cbc, const BlockMacKey& key, std::span<const Bytes> parts,
                             std::byte* out);

// A BlockMacKey of its own in locked memory, with the cipher that uses it. One thread.
class LockedBlockMac {
 public:
  [[nodiscard]] static Result<LockedBlockMac> create(Integrity integrity, Bytes key);
  // As block_mac(). OpenSSL's key schedule is gone when it returns.
  [[nodiscard]] bool mac(std::span<const Bytes> parts, std::byte* out);

 private:
  LockedBlockMac(Secret memory, OpenSslCipher aes_cbc) : memory_(std::move(memory)), aes_cbc_(std::move(aes_cbc)) {}
  Secret memory_;  // begins at a multiple of 64
  OpenSslCipher aes_cbc_;
};

}  // namespace postern::crypto
