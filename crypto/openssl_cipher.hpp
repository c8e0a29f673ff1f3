// One of OpenSSL's ciphers in one direction, keyed again and again. Room-private.
#pragma once

#include <array>
#include <cstddef>
#include <memory>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "crypto/packet_cipher.hpp"

using EVP_CIPHER_CTX = struct evp_cipher_ctx_st;

namespace postern::crypto {

// It has a key only between start() and forget(), because OpenSSL keeps the schedule in ordinary heap memory. One
// thread. After create(), nothing here allocates.
class OpenSslCipher {
 public:
  enum class Direction : int { decrypt = 0, encrypt = 1 };  // as EVP_CipherInit_ex() counts

  // `cipher` is one that encrypts, and not AES-CCM (crypto/ccm.hpp); AES-GMAC is AES-GCM. Error: OpenSSL does not have
  // it.
  [[nodiscard]] static Result<OpenSslCipher> create(Cipher cipher, std::size_t key_bits, Direction direction);

  // Ready for one packet with this IV or nonce; AES-CTR takes the first counter block. `key` is the bare key, without
  // salt; at the address of the last one it is the same, and not expanded again.
  [[nodiscard]] bool start(const std::byte* key, const std::byte* iv);
  // `out` null: additional authenticated data.
  [[nodiscard]] bool process(std::byte* out, const std::byte* in, std::size_t size);
  // False when an AEAD's tag does not fit what was processed.
  [[nodiscard]] bool finish();
  [[nodiscard]] bool get_tag(std::byte* tag, std::size_t size);
  [[nodiscard]] bool expect_tag(const std::byte* tag, std::size_t size);
  void forget();

 private:
  [[nodiscard]] bool start_des(const std::byte* key, const std::byte* iv);

  struct Free {
    void operator()(EVP_CIPHER_CTX* context) const;
  };
  std::unique_ptr<EVP_CIPHER_CTX, Free> context_;
  Direction direction_ = Direction::encrypt;
  bool is_des_ = false;
  const std::byte* keyed_ = nullptr;
};

}  // namespace postern::crypto
