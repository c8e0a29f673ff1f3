#include "crypto/openssl_engine.hpp"

#include <array>
#include <utility>

#include <openssl/crypto.h>

#include "crypto/block_mac.hpp"
#include "crypto/ccm.hpp"
#include "crypto/openssl_cipher.hpp"
#include "crypto/random.hpp"

namespace postern::crypto {
namespace {

// A cipher with its key lengths stands at `first`, and the longer keys behind it. AES-GMAC is AES-GCM over nothing,
// AES-CCM is both AES-CBC and AES-CTR.
struct Algorithm {
  Cipher cipher;
  std::size_t first, key_lengths;
};
constexpr std::size_t cbc = 0, gcm = 3, ctr = 6, chacha = 9, triple_des = 10, des = 11, context_count = 12;
constexpr std::array<Algorithm, 6> algorithms = {{{Cipher::aes_cbc, cbc, 3},
                                                  {Cipher::aes_gcm_16, gcm, 3},
                                                  {Cipher::aes_ctr, ctr, 3},
                                                  {Cipher::chacha20_poly1305, chacha, 1},
                                                  {Cipher::triple_des_cbc, triple_des, 1},
                                                  {Cipher::des_cbc, des, 1}}};

std::size_t length_index(const EspKey::Expanded& key) { return (key.key_bytes - 16U) / 8; }

// Of AES-CCM and NULL, which have none of their own, any.
std::size_t context_of(const EspKey::Expanded& key) {
  switch (key.cipher) {
    case Cipher::aes_cbc: return cbc + length_index(key);
    case Cipher::aes_gcm_16:
    case Cipher::aes_gmac: return gcm + length_index(key);
    case Cipher::aes_ctr: return ctr + length_index(key);
    case Cipher::chacha20_poly1305: return chacha;
    case Cipher::triple_des_cbc: return triple_des;
    case Cipher::des_cbc: return des;
    case Cipher::none:
    case Cipher::null:
    case Cipher::aes_ccm_8:
    case Cipher::aes_ccm_12:
    case Cipher::aes_ccm_16: break;
  }
  return 0;
}

using Digest = std::array<std::byte, max_digest_bytes>;

// Views of what its arguments hold.
CcmPacket ccm_packet(const EspKey::Expanded& key, const Nonce& nonce, const AeadAad& aad, const EspLayout& layout) {
  return {key.cipher_key.data(),
          nonce.bytes.data(),
          {aad.data(), aad.size()},
          {layout.ciphertext, layout.ciphertext_bytes},
          key.icv_bytes};
}

}  // namespace

struct OpenSslEngine::State {
  std::array<OpenSslCipher, context_count> sealing, opening;
  OpenSslCipher block_cipher;  // of AES-XCBC and AES-CMAC
  IvPool ivs;

  bool seal(const EspJob& job);
  bool open(const EspJob& job);
  bool authenticate(const MacJob& job);
  void forget();

 private:
  bool crypt(OpenSslCipher& cipher, const EspJob& job, const std::byte* iv, const EspLayout& layout);
  bool crypt_aead(OpenSslCipher& cipher, const EspJob& job, const Nonce& nonce, const EspLayout& layout, bool opens);
  bool seal_ccm(const EspJob& job, const Nonce& nonce, const EspLayout& layout);
  bool open_ccm(const EspJob& job, const Nonce& nonce, const EspLayout& layout);
  bool mac(const EspKey::Expanded& key, std::span<const Bytes> parts, Digest& out);
  bool mac_of(const EspJob& job, Digest& out);
};

bool OpenSslEngine::State::mac(const EspKey::Expanded& key, std::span<const Bytes> parts, Digest& out) {
  if (is_block_mac(key.integrity)) return block_mac(block_cipher, key.block_mac, parts, out.data());
  const auto hash = hash_of(key.integrity);
  if (!hash) return false;
  hmac(*hash, key.hmac, parts, out.data());
  return true;
}

bool OpenSslEngine::State::mac_of(const EspJob& job, Digest& out) {
  const EspKey::Expanded& key = job.key->expanded();
  std::array<std::byte, sequence_high_bytes> high;
  put_sequence_high(job, high.data());
  const std::array<Bytes, 2> covered = {Bytes(job.esp, job.size - key.icv_bytes), high};
  return mac(key, std::span(covered).first(key.extended_sequence ? 2 : 1), out);
}

bool OpenSslEngine::State::crypt(OpenSslCipher& cipher, const EspJob& job, const std::byte* iv,
                                 const EspLayout& layout) {
  return cipher.start(job.key->expanded().cipher_key.data(), iv) &&
         cipher.process(layout.ciphertext, layout.ciphertext, layout.ciphertext_bytes);
}

// RFC 4543 §3: AES-GMAC covers the IV and the payload as additional data, behind SPI and sequence number.
bool OpenSslEngine::State::crypt_aead(OpenSslCipher& cipher, const EspJob& job, const Nonce& nonce,
                                      const EspLayout& layout, bool opens) {
  const EspKey::Expanded& key = job.key->expanded();
  const AeadAad aad(job);
  if (!cipher.start(key.cipher_key.data(), nonce.bytes.data())) return false;
  if (opens && !cipher.expect_tag(layout.icv, key.icv_bytes)) return false;
  if (!cipher.process(nullptr, aad.data(), aad.size())) return false;
  const bool done = key.cipher == Cipher::aes_gmac
                        ? cipher.process(nullptr, layout.iv, key.iv_bytes + layout.ciphertext_bytes)
                        : cipher.process(layout.ciphertext, layout.ciphertext, layout.ciphertext_bytes);
  return done && cipher.finish() && (opens || cipher.get_tag(layout.icv, key.icv_bytes));
}

bool OpenSslEngine::State::seal_ccm(const EspJob& job, const Nonce& nonce, const EspLayout& layout) {
  const EspKey::Expanded& key = job.key->expanded();
  const AeadAad aad(job);
  std::array<std::byte, ccm_tag_bytes> tag;
  const CcmPacket packet = ccm_packet(key, nonce, aad, layout);
  if (!ccm_seal(sealing[cbc + length_index(key)], sealing[ctr + length_index(key)], packet, tag.data())) return false;
  std::memcpy(layout.icv, tag.data(), key.icv_bytes);
  return true;
}

bool OpenSslEngine::State::open_ccm(const EspJob& job, const Nonce& nonce, const EspLayout& layout) {
  const EspKey::Expanded& key = job.key->expanded();
  const AeadAad aad(job);
  std::array<std::byte, ccm_tag_bytes> tag;
  const CcmPacket packet = ccm_packet(key, nonce, aad, layout);
  return ccm_open(sealing[cbc + length_index(key)], sealing[ctr + length_index(key)], packet, tag.data()) &&
         icv_matches(layout.icv, tag.data(), key.icv_bytes);
}

bool OpenSslEngine::State::seal(const EspJob& job) {
  const EspKey::Expanded& key = job.key->expanded();
  const EspLayout layout = layout_of(job);
  if (is_ccm(key.cipher)) return seal_ccm(job, start_seal(job), layout);
  const std::size_t context = context_of(key);
  if (key.integrity == Integrity::none) return crypt_aead(sealing[context], job, start_seal(job), layout, false);
  if (key.cipher == Cipher::aes_ctr) {
    if (!crypt(sealing[context], job, start_seal(job).bytes.data(), layout)) return false;
  } else if (key.cipher != Cipher::null) {
    if (!ivs.reserve(1)) return false;
    std::memcpy(layout.iv, ivs.take(), key.iv_bytes);
    if (!crypt(sealing[context], job, layout.iv, layout)) return false;
  }
  Digest digest;
  if (!mac_of(job, digest)) return false;
  std::memcpy(layout.icv, digest.data(), key.icv_bytes);
  return true;
}

// RFC 4303 §3.4.4.1: the ICV is checked first; what fails is never decrypted.
bool OpenSslEngine::State::open(const EspJob& job) {
  const EspKey::Expanded& key = job.key->expanded();
  const EspLayout layout = layout_of(job);
  if (is_ccm(key.cipher)) return open_ccm(job, start_open(job), layout);
  const std::size_t context = context_of(key);
  if (key.integrity == Integrity::none) return crypt_aead(opening[context], job, start_open(job), layout, true);
  Digest digest;
  if (!mac_of(job, digest) || !icv_matches(layout.icv, digest.data(), key.icv_bytes)) return false;
  if (key.cipher == Cipher::null) return true;
  if (key.cipher == Cipher::aes_ctr) return crypt(opening[context], job, start_open(job).bytes.data(), layout);
  return crypt(opening[context], job, layout.iv, layout);
}

bool OpenSslEngine::State::authenticate(const MacJob& job) {
  const Bytes covered(job.data, job.size);
  Digest digest;
  if (!mac(job.key->expanded(), {&covered, 1}, digest)) return false;
  std::memcpy(job.icv, digest.data(), job.key->expanded().icv_bytes);
  return true;
}

void OpenSslEngine::State::forget() {
  for (OpenSslCipher& cipher : sealing) cipher.forget();
  for (OpenSslCipher& cipher : opening) cipher.forget();
  block_cipher.forget();
}

Result<OpenSslEngine> OpenSslEngine::create() {
  auto state = std::make_unique<State>();
  using enum OpenSslCipher::Direction;
  for (const Algorithm& algorithm : algorithms)
    for (std::size_t i = 0; i < algorithm.key_lengths; ++i) {
      POSTERN_TRY(sealing, OpenSslCipher::create(algorithm.cipher, 128 + 64 * i, encrypt));
      POSTERN_TRY(opening, OpenSslCipher::create(algorithm.cipher, 128 + 64 * i, decrypt));
      state->sealing[algorithm.first + i] = std::move(sealing);
      state->opening[algorithm.first + i] = std::move(opening);
    }
  POSTERN_TRY(block_cipher, OpenSslCipher::create(Cipher::aes_cbc, 128, encrypt));
  state->block_cipher = std::move(block_cipher);
  POSTERN_CHECK(state->ivs.reserve(1));  // seeds this thread's generator now
  return OpenSslEngine(std::move(state));
}

OpenSslEngine::OpenSslEngine(std::unique_ptr<State> state) : state_(std::move(state)) {}
OpenSslEngine::OpenSslEngine(OpenSslEngine&&) noexcept = default;
OpenSslEngine& OpenSslEngine::operator=(OpenSslEngine&&) noexcept = default;
OpenSslEngine::~OpenSslEngine() = default;

void OpenSslEngine::seal(std::span<EspJob> jobs) {
  for (EspJob& job : jobs) job.ok = well_formed(job) && state_->seal(job);
  state_->forget();
}

void OpenSslEngine::open(std::span<EspJob> jobs) {
  for (EspJob& job : jobs) job.ok = well_formed(job) && state_->open(job);
  state_->forget();
}

void OpenSslEngine::authenticate(std::span<MacJob> jobs) {
  for (MacJob& job : jobs) job.ok = well_formed(job) && state_->authenticate(job);
  state_->forget();
}

std::string OpenSslEngine::name() const { return std::string("OpenSSL ") + OpenSSL_version(OPENSSL_VERSION_STRING); }

}  // namespace postern::crypto
