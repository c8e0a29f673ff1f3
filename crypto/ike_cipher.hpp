// What protects an Encrypted payload (RFC 7296 §3.14, RFC 5282 for AEAD), one direction. Over OpenSSL; one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "crypto/packet_cipher.hpp"

namespace postern::crypto {

// SK_e and SK_a lengths and what they add to a message. AES-CBC, AES-CTR (RFC 5930), 3DES and DES with HMAC of
// MD5 and SHA, AES-XCBC or AES-CMAC; AES-GCM-16, AES-CCM and ChaCha20-Poly1305. key_bytes count the salt. Error: a
// combination that IKE does not offer.
[[nodiscard]] Result<TransformSizes> ike_sizes_of(const Transform& transform);

class IkeCipher {
 public:
  // Keys have exactly ike_sizes_of()'s lengths.
  [[nodiscard]] static Result<IkeCipher> create(const Transform& transform, Bytes cipher_key, Bytes integrity_key);
  IkeCipher(IkeCipher&&) noexcept;
  IkeCipher& operator=(IkeCipher&&) noexcept;
  ~IkeCipher();
  [[nodiscard]] const TransformSizes& sizes() const { return sizes_; }

  // `header`: the message from its first byte up to the IV (IKE header, payload headers), its lengths already those of
  // the whole: authenticated, not encrypted. Returns IV | ciphertext | ICV, sealed_bytes(plain.size()) of them.
  [[nodiscard]] Result<std::vector<std::byte>> seal(Bytes header, Bytes plain);
  [[nodiscard]] std::size_t sealed_bytes(std::size_t plain) const;
  // `body` is IV | ciphertext | ICV. Verifies before it decrypts; padding is taken off (RFC 7296 §3.14: any contents).
  [[nodiscard]] Result<std::vector<std::byte>> open(Bytes header, Bytes body) const;

 private:
  struct Implementation;
  IkeCipher(const TransformSizes& sizes, std::unique_ptr<Implementation> implementation);
  TransformSizes sizes_;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace postern::crypto
