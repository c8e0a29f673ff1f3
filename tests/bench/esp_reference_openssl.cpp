#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <string>

#include <openssl/core_names.h>
#include <openssl/evp.h>

#include "tests/bench/esp_reference.hpp"

namespace postern::bench {
namespace {

using crypto::EspJob;

const unsigned char* octets(const std::byte* p) { return reinterpret_cast<const unsigned char*>(p); }
unsigned char* octets(std::byte* p) { return reinterpret_cast<unsigned char*>(p); }

void must(int result) {
  if (result != 1) std::abort();
}

struct Mac {
  crypto::Integrity integrity;
  const char* digest;
  std::size_t icv_bytes;
};
constexpr std::array<Mac, 4> macs = {{{crypto::Integrity::hmac_sha1_96, "SHA1", 12},
                                      {crypto::Integrity::hmac_sha256_128, "SHA256", 16},
                                      {crypto::Integrity::hmac_sha384_192, "SHA384", 24},
                                      {crypto::Integrity::hmac_sha512_256, "SHA512", 32}}};

// Contexts that keep their key: one EVP_CipherInit_ex() a packet sets the IV and nothing else.
struct Bare {
  EVP_CIPHER_CTX* sealing = EVP_CIPHER_CTX_new();
  EVP_CIPHER_CTX* opening = EVP_CIPHER_CTX_new();
  EVP_MAC* algorithm = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
  EVP_MAC_CTX* mac = EVP_MAC_CTX_new(algorithm);
  std::size_t icv_bytes = 16;
  bool is_ccm = false, is_gmac = false;
  std::array<unsigned char, 16> nonce{};

  explicit Bare(const EVP_CIPHER* cipher, Bytes key, crypto::Cipher kind)
      : is_ccm(kind == crypto::Cipher::aes_ccm_16), is_gmac(kind == crypto::Cipher::aes_gmac) {
    for (EVP_CIPHER_CTX* const context : {sealing, opening}) {
      must(EVP_CipherInit_ex(context, cipher, nullptr, nullptr, nullptr, context == sealing ? 1 : 0));
      if (!is_ccm) continue;
      must(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_IVLEN, 11, nullptr));
      must(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, 16, nullptr));
    }
    must(EVP_CipherInit_ex(sealing, nullptr, nullptr, octets(key.data()), nonce.data(), 1));
    must(EVP_CipherInit_ex(opening, nullptr, nullptr, octets(key.data()), nonce.data(), 0));
    must(EVP_CIPHER_CTX_set_padding(sealing, 0));
    must(EVP_CIPHER_CTX_set_padding(opening, 0));
  }
  Bare(const Bare&) = delete;
  Bare& operator=(const Bare&) = delete;
  ~Bare() {
    EVP_CIPHER_CTX_free(sealing);
    EVP_CIPHER_CTX_free(opening);
    EVP_MAC_CTX_free(mac);
    EVP_MAC_free(algorithm);
  }

  void hmac_key(crypto::Integrity integrity, Bytes key) {
    const Mac& chosen = *std::ranges::find(macs, integrity, &Mac::integrity);
    icv_bytes = chosen.icv_bytes;
    std::string name = chosen.digest;
    const std::array parameters = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name.data(), 0),
                                   OSSL_PARAM_construct_end()};
    must(EVP_MAC_init(mac, octets(key.data()), key.size(), parameters.data()));
  }

  void aead_packet(const EspJob& job, EVP_CIPHER_CTX* context, bool seal) {
    int written = 0;
    std::byte* const body = job.esp + 16;
    std::byte* const icv = job.esp + job.size - 16;
    must(EVP_CipherInit_ex(context, nullptr, nullptr, nullptr, nonce.data(), seal ? 1 : 0));
    if (!seal) must(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, 16, icv));
    if (is_ccm) must(EVP_CipherUpdate(context, nullptr, &written, nullptr, static_cast<int>(job.size - 32)));
    must(EVP_CipherUpdate(context, nullptr, &written, octets(job.esp), 8));
    const int result_of_text = EVP_CipherUpdate(context, is_gmac ? nullptr : octets(body), &written, octets(body),
                                                static_cast<int>(job.size - 32));
    if (is_ccm && !seal) return;  // the verdict is given already
    must(result_of_text);
    // The packet was sealed under another nonce: the verdict is not the reference's business, the work is.
    const int result = EVP_CipherFinal_ex(context, octets(icv), &written);
    if (!seal) return;
    must(result);
    must(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, 16, icv));
  }

  void digest(const EspJob& job, unsigned char* out) {
    std::size_t written = 0;
    must(EVP_MAC_init(mac, nullptr, 0, nullptr));
    must(EVP_MAC_update(mac, octets(job.esp), job.size - icv_bytes));
    must(EVP_MAC_final(mac, out, &written, EVP_MAX_MD_SIZE));
  }

  void cbc_packet(const EspJob& job, EVP_CIPHER_CTX* context, bool seal) {
    int written = 0;
    std::array<unsigned char, EVP_MAX_MD_SIZE> tag;
    std::byte* const body = job.esp + 24;
    if (!seal) digest(job, tag.data());
    must(EVP_CipherInit_ex(context, nullptr, nullptr, nullptr, octets(job.esp + 8), seal ? 1 : 0));
    must(EVP_CipherUpdate(context, octets(body), &written, octets(body), static_cast<int>(job.size - 24 - icv_bytes)));
    if (!seal) return;
    digest(job, tag.data());
    std::memcpy(job.esp + job.size - icv_bytes, tag.data(), icv_bytes);
  }
};

}  // namespace

Reference openssl_reference(const crypto::Transform& transform, Bytes cipher_key, Bytes integrity_key) {
  const std::string aes = "AES-" + std::to_string(transform.key_bits) + "-";
  const auto cipher = [](const std::string& name) {
    const EVP_CIPHER* const found = EVP_get_cipherbyname(name.c_str());
    if (found == nullptr) std::abort();
    return found;
  };
  if (transform.cipher != crypto::Cipher::aes_cbc) {
    const bool is_chacha = transform.cipher == crypto::Cipher::chacha20_poly1305;
    const char* const mode = transform.cipher == crypto::Cipher::aes_ccm_16 ? "CCM" : "GCM";
    const auto bare =
        std::make_shared<Bare>(is_chacha ? EVP_chacha20_poly1305() : cipher(aes + mode), cipher_key, transform.cipher);
    const auto run = [bare](bool seal) {
      return [bare, seal](std::span<EspJob> jobs) {
        for (const EspJob& job : jobs) bare->aead_packet(job, seal ? bare->sealing : bare->opening, seal);
      };
    };
    return {std::string("bare EVP ") + (is_chacha ? "ChaCha20-Poly1305" : mode) + " calls", run(true), run(false)};
  }
  const auto bare = std::make_shared<Bare>(cipher(aes + "CBC"), cipher_key, transform.cipher);
  bare->hmac_key(transform.integrity, integrity_key);
  const auto run = [bare](bool seal) {
    return [bare, seal](std::span<EspJob> jobs) {
      for (const EspJob& job : jobs) bare->cbc_packet(job, seal ? bare->sealing : bare->opening, seal);
    };
  };
  return {"bare EVP cipher and MAC calls", run(true), run(false)};
}

}  // namespace postern::bench
