// IKEv2 pseudo-random functions (RFC 7296 §2.13) over OpenSSL. Values; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/secret.hpp"

namespace postern::crypto {

// IANA, "Transform Type 2 - Pseudorandom Function Transform IDs".
// RFC 4434 (AES-XCBC) and RFC 4615 (AES-CMAC) take keys of any length as the others do.
enum class Prf : std::uint16_t {
  hmac_md5 = 1,
  hmac_sha1 = 2,
  aes_xcbc = 4,
  hmac_sha256 = 5,
  hmac_sha384 = 6,
  hmac_sha512 = 7,
  aes_cmac = 8,
};

// RFC 7296 §2.14: the two whose SKEYSEED takes but the first 64 bits of each nonce.
[[nodiscard]] constexpr bool takes_short_nonces(Prf prf) { return prf == Prf::aes_xcbc || prf == Prf::aes_cmac; }

// Output and preferred key length in bytes (16, 20, 32, 48, 64).
[[nodiscard]] std::size_t prf_bytes(Prf prf);

// prf(key, part | part | ...). A key of any length, the empty one too.
[[nodiscard]] Result<Secret> prf(Prf prf, Bytes key, std::initializer_list<Bytes> parts);

// RFC 7296 §2.13: prf+(key, seed), `bytes` of it. Error: more than 255 blocks.
[[nodiscard]] Result<Secret> prf_plus(Prf prf, Bytes key, std::initializer_list<Bytes> seed, std::size_t bytes);

}  // namespace postern::crypto
