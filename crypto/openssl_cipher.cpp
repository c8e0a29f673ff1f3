#include "crypto/openssl_cipher.hpp"

#include <string>
#include <utility>

#include <openssl/evp.h>

#include "base/secret.hpp"

namespace postern::crypto {
namespace {

struct FreeCipher {
  void operator()(EVP_CIPHER* cipher) const { EVP_CIPHER_free(cipher); }
};

unsigned char* evp_octets(std::byte* p) { return reinterpret_cast<unsigned char*>(p); }
const unsigned char* evp_octets(const std::byte* p) { return reinterpret_cast<const unsigned char*>(p); }

constexpr std::array<std::byte, 32> zero_key{};  // no cipher has a longer key or IV

// DES is 3DES with three equal keys (start() sees to it): the legacy provider, which alone has DES-CBC, is a file that
// a sandboxed process cannot load.
std::string name_of(Cipher cipher, std::size_t key_bits) {
  const std::string aes = "AES-" + std::to_string(key_bits);
  switch (cipher) {
    case Cipher::none:
    case Cipher::null:
    case Cipher::aes_ccm_8:
    case Cipher::aes_ccm_12:
    case Cipher::aes_ccm_16: break;
    case Cipher::aes_cbc: return aes + "-CBC";
    case Cipher::aes_ctr: return aes + "-CTR";
    case Cipher::aes_gcm_16:
    case Cipher::aes_gmac: return aes + "-GCM";
    case Cipher::chacha20_poly1305: return "ChaCha20-Poly1305";
    case Cipher::triple_des_cbc:
    case Cipher::des_cbc: return "DES-EDE3-CBC";
  }
  return "cipher of this kind";
}

}  // namespace

void OpenSslCipher::Free::operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }

Result<OpenSslCipher> OpenSslCipher::create(Cipher cipher, std::size_t key_bits, Direction direction) {
  const std::string name = name_of(cipher, key_bits);
  const std::unique_ptr<EVP_CIPHER, FreeCipher> algorithm(EVP_CIPHER_fetch(nullptr, name.c_str(), nullptr));
  OpenSslCipher out;
  out.context_.reset(EVP_CIPHER_CTX_new());
  out.direction_ = direction;
  out.is_des_ = cipher == Cipher::des_cbc;
  if (!algorithm || !out.context_ ||
      EVP_CipherInit_ex2(out.context_.get(), algorithm.get(), evp_octets(zero_key.data()), evp_octets(zero_key.data()),
                         std::to_underlying(direction), nullptr) != 1)
    return fail("OpenSSL has no " + name);
  EVP_CIPHER_CTX_set_padding(out.context_.get(), 0);
  return out;
}

bool OpenSslCipher::start(const std::byte* key, const std::byte* iv) {
  const std::byte* const new_key = keyed_ == key ? nullptr : key;
  keyed_ = key;
  if (is_des_ && new_key != nullptr) return start_des(new_key, iv);
  return EVP_CipherInit_ex2(context_.get(), nullptr, evp_octets(new_key), evp_octets(iv),
                            std::to_underlying(direction_), nullptr) == 1;
}

bool OpenSslCipher::start_des(const std::byte* key, const std::byte* iv) {
  std::array<std::byte, 24> thrice;
  for (std::size_t i = 0; i < thrice.size(); ++i) thrice[i] = key[i % 8];
  const bool started = EVP_CipherInit_ex2(context_.get(), nullptr, evp_octets(thrice.data()), evp_octets(iv),
                                          std::to_underlying(direction_), nullptr) == 1;
  wipe(thrice);
  return started;
}

bool OpenSslCipher::process(std::byte* out, const std::byte* in, std::size_t size) {
  int written = 0;
  return EVP_CipherUpdate(context_.get(), evp_octets(out), &written, evp_octets(in), static_cast<int>(size)) == 1;
}

bool OpenSslCipher::finish() {
  std::array<unsigned char, 16> rest;
  int written = 0;
  return EVP_CipherFinal_ex(context_.get(), rest.data(), &written) == 1;
}

bool OpenSslCipher::get_tag(std::byte* tag, std::size_t size) {
  return EVP_CIPHER_CTX_ctrl(context_.get(), EVP_CTRL_AEAD_GET_TAG, static_cast<int>(size), tag) == 1;
}

bool OpenSslCipher::expect_tag(const std::byte* tag, std::size_t size) {
  // The library takes a plain void pointer and copies from it.
  return EVP_CIPHER_CTX_ctrl(context_.get(), EVP_CTRL_AEAD_SET_TAG, static_cast<int>(size),
                             const_cast<std::byte*>(tag)) == 1;
}

void OpenSslCipher::forget() {
  if (std::exchange(keyed_, nullptr) != nullptr)
    EVP_CipherInit_ex2(context_.get(), nullptr, evp_octets(zero_key.data()), evp_octets(zero_key.data()),
                       std::to_underlying(direction_), nullptr);
}

}  // namespace postern::crypto
