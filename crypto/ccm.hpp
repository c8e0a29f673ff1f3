// AES-CCM (RFC 3610, NIST SP 800-38C) as RFC 4309 uses it, out of OpenSSL's AES-CBC and AES-CTR: its own CCM allocates
// an error for every packet that is forged, and gives no clear text to compare. Room-private.
#pragma once

#include <cstddef>

#include "base/bytes.hpp"
#include "crypto/openssl_cipher.hpp"

namespace postern::crypto {

inline constexpr std::size_t ccm_nonce_bytes = 11;
inline constexpr std::size_t ccm_tag_bytes = 16;  // of which an ICV takes 8, 12 or all

[[nodiscard]] constexpr bool is_ccm(Cipher cipher) {
  return cipher == Cipher::aes_ccm_8 || cipher == Cipher::aes_ccm_12 || cipher == Cipher::aes_ccm_16;
}

// One packet. `cbc` and `ctr` encrypt with the key at `key`; `nonce` has 11 bytes, `aad` 1 to 65279 (RFC 3610 §2.2),
// `icv_bytes` says which of the three it is. `text` in place; the untruncated tag goes to `tag`. Allocates nothing.
struct CcmPacket {
  const std::byte* key;
  const std::byte* nonce;
  Bytes aad;
  MutableBytes text;
  std::size_t icv_bytes;
};
[[nodiscard]] bool ccm_seal(OpenSslCipher& cbc, OpenSslCipher& ctr, const CcmPacket& packet, std::byte* tag);
// The caller compares `tag`; `text` is decrypted whatever it is.
[[nodiscard]] bool ccm_open(OpenSslCipher& cbc, OpenSslCipher& ctr, const CcmPacket& packet, std::byte* tag);

}  // namespace postern::crypto
