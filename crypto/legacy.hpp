// Algorithms that MS-CHAPv2 (RFC 2759) is made of and that nothing else shall use: MD4, of our own, and single DES.
// OpenSSL 3 has both in its legacy provider alone, which is a file that a sandboxed process cannot load.
#pragma once

#include <array>
#include <cstddef>

#include "base/bytes.hpp"
#include "base/result.hpp"

namespace postern::crypto {

inline constexpr std::size_t md4_bytes = 16, des_block_bytes = 8, des_key_bytes = 7;

// RFC 1320. Whoever hashes a secret wipes the result.
[[nodiscard]] std::array<std::byte, md4_bytes> md4(Bytes message);

// RFC 2759 §8.6: one block by a key of 56 bits, to which parity bits are added.
[[nodiscard]] Result<std::array<std::byte, des_block_bytes>> des_encrypt(
    std::span<const std::byte, des_key_bytes> key, std::span<const std::byte, des_block_bytes> clear);

}  // namespace postern::crypto
