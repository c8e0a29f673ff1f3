// The bare cipher calls that `bench esp` compares the engine with: no dispatch, no IV drawn, no ICV compared.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "crypto/packet_cipher.hpp"

namespace postern::bench {

struct Reference {
  std::string what;
  std::function<void(std::span<crypto::EspJob>)> seal, open;
};

// One cipher key (AES, ChaCha20; of AES-CCM 128 or 256 bits), with an HMAC key for CBC, used for every packet. The
// process ends when the library refuses.
[[nodiscard]] Reference ipsec_mb_reference(const crypto::Transform& transform, Bytes cipher_key, Bytes integrity_key);
[[nodiscard]] Reference openssl_reference(const crypto::Transform& transform, Bytes cipher_key, Bytes integrity_key);

}  // namespace postern::bench
