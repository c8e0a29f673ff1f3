// The guide's words for algorithms, in `show`.
#pragma once

#include <string_view>

#include "crypto/packet_cipher.hpp"
#include "crypto/prf.hpp"

namespace postern::ike {

[[nodiscard]] constexpr std::string_view cipher_name(crypto::Cipher cipher) {
  switch (cipher) {
    case crypto::Cipher::aes_cbc: return "AES-CBC";
    case crypto::Cipher::aes_gcm_16: return "AES-GCM";
    case crypto::Cipher::chacha20_poly1305: return "CHACHA20-POLY1305";
    case crypto::Cipher::none: break;
  }
  return "None";
}
[[nodiscard]] constexpr std::string_view hash_name(crypto::Integrity integrity) {
  switch (integrity) {
    case crypto::Integrity::hmac_sha1_96: return "SHA96";
    case crypto::Integrity::hmac_sha256_128: return "SHA256";
    case crypto::Integrity::hmac_sha384_192: return "SHA384";
    case crypto::Integrity::hmac_sha512_256: return "SHA512";
    case crypto::Integrity::none: break;
  }
  return "None";
}
[[nodiscard]] constexpr std::string_view prf_name(crypto::Prf prf) {
  switch (prf) {
    case crypto::Prf::hmac_sha1: return "SHA1";
    case crypto::Prf::hmac_sha256: return "SHA256";
    case crypto::Prf::hmac_sha384: return "SHA384";
    case crypto::Prf::hmac_sha512: return "SHA512";
  }
  return "None";
}

}  // namespace postern::ike
