#include "crypto/openssl_engine.hpp"

#include <array>
#include <utility>

#include <openssl/crypto.h>

#include "crypto/openssl_cipher.hpp"
#include "crypto/random.hpp"

namespace postern::crypto {
namespace {

struct Algorithm {
  Cipher cipher;
  std::size_t key_bits;
};
constexpr std::array<Algorithm, 7> algorithms = {{{Cipher::aes_cbc, 128},
                                                  {Cipher::aes_cbc, 192},
                                                  {Cipher::aes_cbc, 256},
                                                  {Cipher::aes_gcm_16, 128},
                                                  {Cipher::aes_gcm_16, 192},
                                                  {Cipher::aes_gcm_16, 256},
                                                  {Cipher::chacha20_poly1305, 256}}};

std::size_t algorithm_of(const EspKey::Expanded& key) {
  const std::size_t size = (key.key_bytes - 16U) / 8;
  if (key.cipher == Cipher::aes_cbc) return size;
  return key.cipher == Cipher::aes_gcm_16 ? 3 + size : 6;
}

using Digest = std::array<std::byte, max_digest_bytes>;

void authenticate(const EspJob& job, Digest& out) {
  const EspKey::Expanded& key = job.key->expanded();
  std::array<std::byte, sequence_high_bytes> high;
  put_sequence_high(job, high.data());
  const std::array<Bytes, 2> covered = {Bytes(job.esp, job.size - key.icv_bytes), high};
  hmac(key.hash, key.hmac, std::span(covered).first(key.extended_sequence ? 2 : 1), out.data());
}

}  // namespace

struct OpenSslEngine::State {
  std::array<OpenSslCipher, algorithms.size()> sealing, opening;
  IvPool ivs;

  bool seal_cbc(const EspJob& job, OpenSslCipher& cipher);
  bool open_cbc(const EspJob& job, OpenSslCipher& cipher);
  bool seal_aead(const EspJob& job, OpenSslCipher& cipher);
  bool open_aead(const EspJob& job, OpenSslCipher& cipher);
};

bool OpenSslEngine::State::seal_cbc(const EspJob& job, OpenSslCipher& cipher) {
  const EspKey::Expanded& key = job.key->expanded();
  const EspLayout layout = layout_of(job);
  if (!ivs.reserve(1)) return false;
  std::memcpy(layout.iv, ivs.take(), IvPool::iv_bytes);
  if (!cipher.start(key.cipher_key.data(), layout.iv)) return false;
  if (!cipher.process(layout.ciphertext, layout.ciphertext, layout.ciphertext_bytes)) return false;
  Digest digest;
  authenticate(job, digest);
  std::memcpy(layout.icv, digest.data(), key.icv_bytes);
  return true;
}

// RFC 4303 §3.4.4.1: the ICV is checked first; what fails is never decrypted.
bool OpenSslEngine::State::open_cbc(const EspJob& job, OpenSslCipher& cipher) {
  const EspKey::Expanded& key = job.key->expanded();
  const EspLayout layout = layout_of(job);
  Digest digest;
  authenticate(job, digest);
  if (!icv_matches(layout.icv, digest.data(), key.icv_bytes)) return false;
  return cipher.start(key.cipher_key.data(), layout.iv) &&
         cipher.process(layout.ciphertext, layout.ciphertext, layout.ciphertext_bytes);
}

bool OpenSslEngine::State::seal_aead(const EspJob& job, OpenSslCipher& cipher) {
  const AeadNonce nonce = start_aead_seal(job);
  const EspKey::Expanded& key = job.key->expanded();
  const EspLayout layout = layout_of(job);
  const AeadAad aad(job);
  return cipher.start(key.cipher_key.data(), nonce.bytes.data()) && cipher.process(nullptr, aad.data(), aad.size()) &&
         cipher.process(layout.ciphertext, layout.ciphertext, layout.ciphertext_bytes) && cipher.finish() &&
         cipher.get_tag(layout.icv, key.icv_bytes);
}

bool OpenSslEngine::State::open_aead(const EspJob& job, OpenSslCipher& cipher) {
  const AeadNonce nonce = start_aead_open(job);
  const EspKey::Expanded& key = job.key->expanded();
  const EspLayout layout = layout_of(job);
  const AeadAad aad(job);
  return cipher.start(key.cipher_key.data(), nonce.bytes.data()) && cipher.process(nullptr, aad.data(), aad.size()) &&
         cipher.process(layout.ciphertext, layout.ciphertext, layout.ciphertext_bytes) &&
         cipher.expect_tag(layout.icv, key.icv_bytes) && cipher.finish();
}

Result<OpenSslEngine> OpenSslEngine::create() {
  auto state = std::make_unique<State>();
  using enum OpenSslCipher::Direction;
  for (std::size_t i = 0; i < algorithms.size(); ++i) {
    POSTERN_TRY(sealing, OpenSslCipher::create(algorithms[i].cipher, algorithms[i].key_bits, encrypt));
    POSTERN_TRY(opening, OpenSslCipher::create(algorithms[i].cipher, algorithms[i].key_bits, decrypt));
    state->sealing[i] = std::move(sealing);
    state->opening[i] = std::move(opening);
  }
  POSTERN_CHECK(state->ivs.reserve(1));  // seeds this thread's generator now
  return OpenSslEngine(std::move(state));
}

OpenSslEngine::OpenSslEngine(std::unique_ptr<State> state) : state_(std::move(state)) {}
OpenSslEngine::OpenSslEngine(OpenSslEngine&&) noexcept = default;
OpenSslEngine& OpenSslEngine::operator=(OpenSslEngine&&) noexcept = default;
OpenSslEngine::~OpenSslEngine() = default;

void OpenSslEngine::seal(std::span<EspJob> jobs) {
  for (EspJob& job : jobs) {
    job.ok = false;
    if (!well_formed(job)) continue;
    const EspKey::Expanded& key = job.key->expanded();
    OpenSslCipher& cipher = state_->sealing[algorithm_of(key)];
    job.ok = key.cipher == Cipher::aes_cbc ? state_->seal_cbc(job, cipher) : state_->seal_aead(job, cipher);
  }
  for (OpenSslCipher& cipher : state_->sealing) cipher.forget();
}

void OpenSslEngine::open(std::span<EspJob> jobs) {
  for (EspJob& job : jobs) {
    job.ok = false;
    if (!well_formed(job)) continue;
    const EspKey::Expanded& key = job.key->expanded();
    OpenSslCipher& cipher = state_->opening[algorithm_of(key)];
    job.ok = key.cipher == Cipher::aes_cbc ? state_->open_cbc(job, cipher) : state_->open_aead(job, cipher);
  }
  for (OpenSslCipher& cipher : state_->opening) cipher.forget();
}

std::string OpenSslEngine::name() const { return std::string("OpenSSL ") + OpenSSL_version(OPENSSL_VERSION_STRING); }

}  // namespace postern::crypto
