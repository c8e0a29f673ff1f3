#include "crypto/openssl_engine.hpp"

#include <array>
#include <utility>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include "crypto/random.hpp"

namespace postern::crypto {
namespace {

struct FreeContext {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
struct FreeCipher {
  void operator()(EVP_CIPHER* cipher) const { EVP_CIPHER_free(cipher); }
};

enum Direction : int { decrypt = 0, encrypt = 1 };  // as EVP_CipherInit_ex() counts

unsigned char* octets(std::byte* p) { return reinterpret_cast<unsigned char*>(p); }
const unsigned char* octets(const std::byte* p) { return reinterpret_cast<const unsigned char*>(p); }

constexpr std::array<std::byte, max_aes_key_bytes> zeros{};

// A cipher context of one algorithm and direction that is keyed again and again. It has a key only while a batch runs,
// because OpenSSL keeps the schedule in ordinary heap memory.
class Context {
 public:
  [[nodiscard]] static Result<Context> create(const char* algorithm, Direction direction) {
    const std::unique_ptr<EVP_CIPHER, FreeCipher> cipher(EVP_CIPHER_fetch(nullptr, algorithm, nullptr));
    Context out;
    out.context_.reset(EVP_CIPHER_CTX_new());
    out.direction_ = direction;
    if (!cipher || !out.context_ ||
        EVP_CipherInit_ex2(out.context_.get(), cipher.get(), octets(zeros.data()), octets(zeros.data()), direction,
                           nullptr) != 1)
      return fail(std::string("OpenSSL has no ") + algorithm);
    EVP_CIPHER_CTX_set_padding(out.context_.get(), 0);
    return out;
  }

  // Ready for one packet with this IV or nonce. Neither allocates nor expands a key that is in place.
  [[nodiscard]] bool start(const EspKey::Expanded& key, const unsigned char* iv) {
    const std::byte* const new_key = keyed_ == &key ? nullptr : key.aes_key.data();
    keyed_ = &key;
    return EVP_CipherInit_ex2(context_.get(), nullptr, octets(new_key), iv, direction_, nullptr) == 1;
  }
  [[nodiscard]] bool process(std::byte* out, const std::byte* in, std::size_t size) {
    int written = 0;
    return EVP_CipherUpdate(context_.get(), octets(out), &written, octets(in), static_cast<int>(size)) == 1;
  }
  [[nodiscard]] bool finish() {
    std::array<unsigned char, 16> rest;
    int written = 0;
    return EVP_CipherFinal_ex(context_.get(), rest.data(), &written) == 1;
  }
  [[nodiscard]] bool control(int command, std::byte* tag, std::size_t size) {
    return EVP_CIPHER_CTX_ctrl(context_.get(), command, static_cast<int>(size), tag) == 1;
  }
  void forget() {
    if (std::exchange(keyed_, nullptr) != nullptr)
      EVP_CipherInit_ex2(context_.get(), nullptr, octets(zeros.data()), octets(zeros.data()), direction_, nullptr);
  }

 private:
  std::unique_ptr<EVP_CIPHER_CTX, FreeContext> context_;
  Direction direction_ = encrypt;
  const EspKey::Expanded* keyed_ = nullptr;
};

constexpr std::array algorithms = {"AES-128-CBC", "AES-192-CBC", "AES-256-CBC",
                                   "AES-128-GCM", "AES-192-GCM", "AES-256-GCM"};

std::size_t algorithm_of(const EspKey::Expanded& key) {
  return (key.aes_bytes - 16U) / 8 + (key.cipher == Cipher::aes_gcm_16 ? 3 : 0);
}

}  // namespace

struct OpenSslEngine::State {
  std::array<Context, algorithms.size()> sealing, opening;
  IvPool ivs;

  bool seal_cbc(const EspJob& job, Context& context);
  bool open_cbc(const EspJob& job, Context& context);
  bool seal_gcm(const EspJob& job, Context& context);
  bool open_gcm(const EspJob& job, Context& context);
};

bool OpenSslEngine::State::seal_cbc(const EspJob& job, Context& context) {
  const EspKey::Expanded& key = job.key->expanded();
  const EspLayout layout = layout_of(job);
  if (!ivs.reserve(1)) return false;
  std::memcpy(layout.iv, ivs.take(), IvPool::iv_bytes);
  if (!context.start(key, octets(layout.iv))) return false;
  if (!context.process(layout.ciphertext, layout.ciphertext, layout.ciphertext_bytes)) return false;
  std::array<std::byte, max_digest_bytes> digest;
  hmac(key.integrity, key.hmac, {job.esp, job.size - key.icv_bytes}, digest);
  std::memcpy(layout.icv, digest.data(), key.icv_bytes);
  return true;
}

// RFC 4303 §3.4.4.1: the ICV is checked first; what fails is never decrypted.
bool OpenSslEngine::State::open_cbc(const EspJob& job, Context& context) {
  const EspKey::Expanded& key = job.key->expanded();
  const EspLayout layout = layout_of(job);
  std::array<std::byte, max_digest_bytes> digest;
  hmac(key.integrity, key.hmac, {job.esp, job.size - key.icv_bytes}, digest);
  if (!icv_matches(layout.icv, digest.data(), key.icv_bytes)) return false;
  return context.start(key, octets(layout.iv)) &&
         context.process(layout.ciphertext, layout.ciphertext, layout.ciphertext_bytes);
}

bool OpenSslEngine::State::seal_gcm(const EspJob& job, Context& context) {
  const GcmNonce nonce = start_gcm_seal(job);
  const EspKey::Expanded& key = job.key->expanded();
  const EspLayout layout = layout_of(job);
  return context.start(key, nonce.data()) && context.process(nullptr, job.esp, esp_header_bytes) &&
         context.process(layout.ciphertext, layout.ciphertext, layout.ciphertext_bytes) && context.finish() &&
         context.control(EVP_CTRL_AEAD_GET_TAG, layout.icv, key.icv_bytes);
}

bool OpenSslEngine::State::open_gcm(const EspJob& job, Context& context) {
  const GcmNonce nonce = start_gcm_open(job);
  const EspKey::Expanded& key = job.key->expanded();
  const EspLayout layout = layout_of(job);
  return context.start(key, nonce.data()) && context.process(nullptr, job.esp, esp_header_bytes) &&
         context.process(layout.ciphertext, layout.ciphertext, layout.ciphertext_bytes) &&
         context.control(EVP_CTRL_AEAD_SET_TAG, layout.icv, key.icv_bytes) && context.finish();
}

Result<OpenSslEngine> OpenSslEngine::create() {
  auto state = std::make_unique<State>();
  for (std::size_t i = 0; i < algorithms.size(); ++i) {
    POSTERN_TRY(sealing, Context::create(algorithms[i], encrypt));
    POSTERN_TRY(opening, Context::create(algorithms[i], decrypt));
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
    Context& context = state_->sealing[algorithm_of(key)];
    job.ok = key.cipher == Cipher::aes_gcm_16 ? state_->seal_gcm(job, context) : state_->seal_cbc(job, context);
  }
  for (Context& context : state_->sealing) context.forget();
}

void OpenSslEngine::open(std::span<EspJob> jobs) {
  for (EspJob& job : jobs) {
    job.ok = false;
    if (!well_formed(job)) continue;
    const EspKey::Expanded& key = job.key->expanded();
    Context& context = state_->opening[algorithm_of(key)];
    job.ok = key.cipher == Cipher::aes_gcm_16 ? state_->open_gcm(job, context) : state_->open_cbc(job, context);
  }
  for (Context& context : state_->opening) context.forget();
}

std::string OpenSslEngine::name() const { return std::string("OpenSSL ") + OpenSSL_version(OPENSSL_VERSION_STRING); }

}  // namespace postern::crypto
