#include "crypto/ipsec_mb_engine.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <optional>
#include <utility>

#include "crypto/ccm.hpp"
#include "crypto/ipsec_mb_jobs.hpp"
#include "crypto/openssl_engine.hpp"
#include "crypto/random.hpp"

namespace postern::crypto {
namespace {

constexpr std::size_t max_batch = 64;
constexpr std::size_t max_tag_bytes = 32;

const gcm_key_data* gcm_key(const EspKey::Expanded& key) {
  return reinterpret_cast<const gcm_key_data*>(key.ipsec_mb.cipher.data());
}

// These the library does at once, packet by packet.
bool is_single(Cipher cipher) {
  return cipher == Cipher::aes_gcm_16 || cipher == Cipher::aes_gmac || cipher == Cipher::chacha20_poly1305;
}

// The library has AES-CCM with 128 and 256 bits alone.
bool is_for_openssl(const EspKey::Expanded& key) { return is_ccm(key.cipher) && key.key_bytes == 24; }

enum class Direction { seal, open };

struct GcmFunctions {
  aes_gcm_enc_dec_t encrypt;
  aes_gcm_enc_dec_t decrypt;
  aes_gmac_init_t start_mac;
  aes_gmac_update_t update_mac;
  aes_gmac_finalize_t finish_mac;
};

}  // namespace

struct IpsecMbEngine::State {
  // A lane-parallel kernel of 16 lanes takes nearly as long for one packet as for 16; two-lane SHA-NI does not.
  // Measured on Zen 5 at 64..1440 bytes: SHA-1 pays from 16 packets on, SHA-256 never does, SHA-384 and SHA-512, which
  // SHA-NI does not know, from 3 on, AES-CBC encryption from 10 on.
  static constexpr std::size_t wide_sha1 = 16;
  static constexpr std::size_t wide_sha512 = 3;
  static constexpr std::size_t wide_cbc = 10;

  IpsecMbManager wide;
  std::optional<IpsecMbManager> narrow;  // SSE with SHA-NI, where the CPU has it
  std::array<GcmFunctions, 3> gcm;
  OpenSslEngine openssl;  // for what the library lacks
  IvPool ivs;
  std::array<IMB_JOB, max_batch> burst{};
  std::array<EspJob*, max_batch> members{};
  std::array<Nonce, max_batch> nonces;
  std::array<std::optional<AeadAad>, max_batch> aads{};
  std::array<std::array<std::byte, max_tag_bytes>, max_batch> tags{};
  std::array<std::array<std::byte, max_tag_bytes>, max_batch> received{};  // ICVs with extended sequence numbers

  template <class Job>
  void in_batches(std::span<Job> jobs, auto run) {
    for (; !jobs.empty(); jobs = jobs.subspan(std::min(jobs.size(), max_batch)))
      run(jobs.first(std::min(jobs.size(), max_batch)));
  }
  void run_batch(std::span<EspJob> jobs, Direction direction);
  void run_macs(std::span<MacJob> jobs);

 private:
  void run_group(std::size_t group, std::size_t count, Direction direction);
  void forget_salts(std::size_t count);
  void seal_group(const CipherKind& cipher, const MacKind& mac, std::size_t count);
  void open_group(const CipherKind& cipher, const MacKind& mac, std::size_t count);
  void run_ccm(std::size_t count, Direction direction);
  void run_single(EspJob& job, Direction direction);
  void run_gcm(const EspJob& job, const EspLayout& layout, const Nonce& nonce, std::byte* tag, Direction direction);
  void run_gmac(const EspJob& job, const EspLayout& layout, const Nonce& nonce, std::byte* tag);
  [[nodiscard]] bool run_chacha(const EspJob& job, const EspLayout& layout, const Nonce& nonce, std::byte* tag,
                                Direction direction);

  [[nodiscard]] const std::byte* iv_of(const EspJob& job, std::size_t index) const;
  [[nodiscard]] bool encrypt(const CipherKind& cipher, std::size_t count);
  [[nodiscard]] bool decrypt(const CipherKind& cipher, std::size_t count);
  [[nodiscard]] bool authenticate(const MacKind& mac, std::size_t count);
  [[nodiscard]] bool one_by_one(std::size_t count, IMB_CIPHER_MODE cipher, IMB_HASH_ALG mac, Direction direction);
};

void IpsecMbEngine::State::run_batch(std::span<EspJob> jobs, Direction direction) {
  std::array<std::uint8_t, max_batch> groups;
  std::uint64_t present = 0;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    EspJob& job = jobs[i];
    groups[i] = no_group;
    job.ok = false;
    if (!well_formed(job)) continue;
    const EspKey::Expanded& key = job.key->expanded();
    if (is_single(key.cipher)) {
      run_single(job, direction);
      continue;
    }
    if (is_for_openssl(key)) {
      direction == Direction::seal ? openssl.seal({&job, 1}) : openssl.open({&job, 1});
      continue;
    }
    groups[i] = group_of(key);
    present |= std::uint64_t{1} << groups[i];
  }
  for (; present != 0; present &= present - 1) {
    const auto group = static_cast<std::uint8_t>(std::countr_zero(present));
    std::size_t count = 0;
    for (std::size_t i = 0; i < jobs.size(); ++i)
      if (groups[i] == group) members[count++] = &jobs[i];
    run_group(group, count, direction);
  }
}

void IpsecMbEngine::State::run_group(std::size_t group, std::size_t count, Direction direction) {
  if (group == ccm_group) return run_ccm(count, direction);
  const CipherKind& cipher = ciphers[group / macs.size()];
  const MacKind& mac = macs[group % macs.size()];
  direction == Direction::seal ? seal_group(cipher, mac, count) : open_group(cipher, mac, count);
  if (cipher.mode == IMB_CIPHER_CNTR) forget_salts(count);
}

void IpsecMbEngine::State::forget_salts(std::size_t count) {
  wipe(std::as_writable_bytes(std::span(nonces).first(count)));
}

// Of AES-CTR: its first counter block.
const std::byte* IpsecMbEngine::State::iv_of(const EspJob& job, std::size_t index) const {
  return job.key->expanded().cipher == Cipher::aes_ctr ? nonces[index].bytes.data() : layout_of(job).iv;
}

void IpsecMbEngine::State::seal_group(const CipherKind& cipher, const MacKind& mac, std::size_t count) {
  if (!ivs.reserve(count)) return;
  for (std::size_t i = 0; i < count; ++i) {
    const EspJob& job = *members[i];
    const EspKey::Expanded& key = job.key->expanded();
    if (key.cipher == Cipher::aes_ctr)
      nonces[i] = start_seal(job);
    else if (key.cipher != Cipher::null)
      std::memcpy(layout_of(job).iv, ivs.take(), key.iv_bytes);
    fill(burst[i], job, iv_of(job, i), key.extended_sequence ? tags[i].data() : layout_of(job).icv);
  }
  if (!encrypt(cipher, count) || !authenticate(mac, count)) return;
  for (std::size_t i = 0; i < count; ++i) {
    const EspKey::Expanded& key = members[i]->key->expanded();
    if (key.extended_sequence) std::memcpy(layout_of(*members[i]).icv, tags[i].data(), key.icv_bytes);
    members[i]->ok = true;
  }
}

// RFC 4303 §3.4.4.1: the ICV is checked first; what fails is never decrypted.
void IpsecMbEngine::State::open_group(const CipherKind& cipher, const MacKind& mac, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    const EspJob& job = *members[i];
    const EspKey::Expanded& key = job.key->expanded();
    if (key.extended_sequence) std::memcpy(received[i].data(), layout_of(job).icv, key.icv_bytes);
    if (key.cipher == Cipher::aes_ctr) nonces[i] = start_open(job);
    fill(burst[i], job, iv_of(job, i), tags[i].data());
  }
  if (!authenticate(mac, count)) return;
  std::size_t authentic = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const EspKey::Expanded& key = members[i]->key->expanded();
    const std::byte* const icv = key.extended_sequence ? received[i].data() : layout_of(*members[i]).icv;
    if (!icv_matches(icv, tags[i].data(), key.icv_bytes)) continue;
    if (authentic != i) {
      burst[authentic] = burst[i];
      members[authentic] = members[i];
    }
    ++authentic;
  }
  if (authentic == 0 || !decrypt(cipher, authentic)) return;
  for (std::size_t i = 0; i < authentic; ++i) members[i]->ok = true;
}

bool IpsecMbEngine::State::encrypt(const CipherKind& cipher, std::size_t count) {
  if (cipher.mode == IMB_CIPHER_NULL) return true;
  if (!cipher.burst) return one_by_one(count, cipher.mode, IMB_AUTH_NULL, Direction::seal);
  const bool pays = cipher.mode != IMB_CIPHER_CBC || count >= wide_cbc;
  IMB_MGR* const mgr = narrow && !pays ? narrow->get() : wide.get();
  const auto n = static_cast<std::uint32_t>(count);
  return IMB_SUBMIT_CIPHER_BURST_NOCHECK(mgr, burst.data(), n, cipher.mode, IMB_DIR_ENCRYPT, cipher.key_size) == n;
}

// One packet's blocks are independent here: the widest kernel is right for any number of packets.
bool IpsecMbEngine::State::decrypt(const CipherKind& cipher, std::size_t count) {
  if (cipher.mode == IMB_CIPHER_NULL) return true;
  if (!cipher.burst) return one_by_one(count, cipher.mode, IMB_AUTH_NULL, Direction::open);
  const auto n = static_cast<std::uint32_t>(count);
  return IMB_SUBMIT_CIPHER_BURST_NOCHECK(wide.get(), burst.data(), n, cipher.mode, IMB_DIR_DECRYPT, cipher.key_size) ==
         n;
}

bool IpsecMbEngine::State::authenticate(const MacKind& mac, std::size_t count) {
  if (!mac.burst) return one_by_one(count, IMB_CIPHER_NULL, mac.algorithm, Direction::seal);
  const bool pays = mac.algorithm == IMB_AUTH_HMAC_SHA_1
                        ? count >= wide_sha1
                        : mac.algorithm != IMB_AUTH_HMAC_SHA_256 && count >= wide_sha512;
  IMB_MGR* const mgr = narrow && !pays ? narrow->get() : wide.get();
  const auto n = static_cast<std::uint32_t>(count);
  return IMB_SUBMIT_HASH_BURST_NOCHECK(mgr, burst.data(), n, mac.algorithm) == n;
}

// The first `count` jobs of `burst`, for their cipher or their authenticator or, AES-CCM, both.
bool IpsecMbEngine::State::one_by_one(std::size_t count, IMB_CIPHER_MODE cipher, IMB_HASH_ALG mac,
                                      Direction direction) {
  IMB_MGR* const mgr = wide.get();
  const bool seals = direction == Direction::seal;
  std::size_t completed = 0;
  const auto count_in = [&](const IMB_JOB* done) { completed += done->status == IMB_STATUS_COMPLETED ? 1 : 0; };
  for (std::size_t i = 0; i < count; ++i) {
    IMB_JOB& job = *IMB_GET_NEXT_JOB(mgr);
    job = burst[i];
    job.cipher_mode = cipher;
    job.hash_alg = mac;
    job.cipher_direction = seals ? IMB_DIR_ENCRYPT : IMB_DIR_DECRYPT;
    // AES-CCM authenticates clear text.
    job.chain_order = seals == (cipher == IMB_CIPHER_CCM) ? IMB_ORDER_HASH_CIPHER : IMB_ORDER_CIPHER_HASH;
    for (IMB_JOB* done = IMB_SUBMIT_JOB_NOCHECK(mgr); done != nullptr; done = IMB_GET_COMPLETED_JOB(mgr))
      count_in(done);
  }
  while (IMB_JOB* const done = IMB_FLUSH_JOB(mgr)) count_in(done);
  return completed == count;
}

void IpsecMbEngine::State::run_ccm(std::size_t count, Direction direction) {
  const bool seals = direction == Direction::seal;
  for (std::size_t i = 0; i < count; ++i) {
    const EspJob& job = *members[i];
    const EspKey::Expanded& key = job.key->expanded();
    const EspLayout layout = layout_of(job);
    nonces[i] = seals ? start_seal(job) : start_open(job);
    aads[i].emplace(job);
    IMB_JOB& out = burst[i];
    fill_keys(out, key);
    out.src = out.dst = octets(layout.ciphertext);
    out.cipher_start_src_offset_in_bytes = out.hash_start_src_offset_in_bytes = 0;
    out.msg_len_to_cipher_in_bytes = out.msg_len_to_hash_in_bytes = layout.ciphertext_bytes;
    out.iv = nonces[i].data();
    out.iv_len_in_bytes = std::uint64_t{key.salt_bytes} + key.iv_bytes;
    out.u.CCM.aad = aads[i]->data();
    out.u.CCM.aad_len_in_bytes = aads[i]->size();
    out.auth_tag_output = octets(seals ? layout.icv : tags[i].data());
    out.auth_tag_output_len_in_bytes = key.icv_bytes;
  }
  const bool done = one_by_one(count, IMB_CIPHER_CCM, IMB_AUTH_AES_CCM, direction);
  forget_salts(count);
  if (!done) return;
  for (std::size_t i = 0; i < count; ++i)
    members[i]->ok =
        seals || icv_matches(layout_of(*members[i]).icv, tags[i].data(), members[i]->key->expanded().icv_bytes);
}

void IpsecMbEngine::State::run_macs(std::span<MacJob> jobs) {
  std::array<MacJob*, max_batch> chosen;
  for (std::size_t algorithm = 0; algorithm < macs.size(); ++algorithm) {
    std::size_t count = 0;
    for (MacJob& job : jobs) {
      if (algorithm == 0) job.ok = false;
      if (!well_formed(job) || mac_index(job.key->expanded()) != algorithm) continue;
      fill(burst[count], job);
      chosen[count++] = &job;
    }
    if (count == 0 || !authenticate(macs[algorithm], count)) continue;
    for (std::size_t i = 0; i < count; ++i) chosen[i]->ok = true;
  }
}

void IpsecMbEngine::State::run_single(EspJob& job, Direction direction) {
  const Nonce nonce = direction == Direction::seal ? start_seal(job) : start_open(job);
  const EspLayout layout = layout_of(job);
  const EspKey::Expanded& key = job.key->expanded();
  std::array<std::byte, max_tag_bytes> computed;
  std::byte* const tag = direction == Direction::seal ? layout.icv : computed.data();
  if (key.cipher == Cipher::aes_gcm_16)
    run_gcm(job, layout, nonce, tag, direction);
  else if (key.cipher == Cipher::aes_gmac)
    run_gmac(job, layout, nonce, tag);
  else if (!run_chacha(job, layout, nonce, tag, direction))
    return;
  job.ok = direction == Direction::seal || icv_matches(layout.icv, tag, key.icv_bytes);
}

void IpsecMbEngine::State::run_gcm(const EspJob& job, const EspLayout& layout, const Nonce& nonce, std::byte* tag,
                                   Direction direction) {
  const EspKey::Expanded& key = job.key->expanded();
  const GcmFunctions& functions = gcm[(key.key_bytes - 16U) / 8];
  const AeadAad aad(job);
  gcm_context_data context;
  (direction == Direction::seal ? functions.encrypt : functions.decrypt)(
      gcm_key(key), &context, octets(layout.ciphertext), octets(layout.ciphertext), layout.ciphertext_bytes,
      nonce.data(), octets(aad.data()), aad.size(), octets(tag), key.icv_bytes);
}

// RFC 4543 §3: SPI and sequence number, IV, payload; all of it in clear.
void IpsecMbEngine::State::run_gmac(const EspJob& job, const EspLayout& layout, const Nonce& nonce, std::byte* tag) {
  const EspKey::Expanded& key = job.key->expanded();
  const GcmFunctions& functions = gcm[(key.key_bytes - 16U) / 8];
  gcm_context_data context;
  functions.start_mac(gcm_key(key), &context, nonce.data(), std::uint64_t{key.salt_bytes} + key.iv_bytes);
  if (key.extended_sequence) {
    const AeadAad aad(job);
    functions.update_mac(gcm_key(key), &context, octets(aad.data()), aad.size());
    functions.update_mac(gcm_key(key), &context, octets(layout.iv), key.iv_bytes + layout.ciphertext_bytes);
  } else {
    functions.update_mac(gcm_key(key), &context, octets(job.esp), job.size - key.icv_bytes);
  }
  functions.finish_mac(gcm_key(key), &context, octets(tag), key.icv_bytes);
}

// The library does such a job at once, whatever else it has: it is the one that comes back.
bool IpsecMbEngine::State::run_chacha(const EspJob& job, const EspLayout& layout, const Nonce& nonce, std::byte* tag,
                                      Direction direction) {
  const AeadAad aad(job);
  IMB_JOB& out = *IMB_GET_NEXT_JOB(wide.get());
  const bool seals = direction == Direction::seal;
  out.cipher_mode = IMB_CIPHER_CHACHA20_POLY1305;
  out.hash_alg = IMB_AUTH_CHACHA20_POLY1305;
  out.cipher_direction = seals ? IMB_DIR_ENCRYPT : IMB_DIR_DECRYPT;
  out.chain_order = seals ? IMB_ORDER_CIPHER_HASH : IMB_ORDER_HASH_CIPHER;
  out.enc_keys = out.dec_keys = job.key->expanded().cipher_key.data();
  out.key_len_in_bytes = IMB_KEY_256_BYTES;
  out.src = octets(layout.ciphertext);
  out.dst = octets(layout.ciphertext);
  out.cipher_start_src_offset_in_bytes = out.hash_start_src_offset_in_bytes = 0;
  out.msg_len_to_cipher_in_bytes = out.msg_len_to_hash_in_bytes = layout.ciphertext_bytes;
  out.iv = nonce.data();
  out.iv_len_in_bytes = 12;
  out.u.CHACHA20_POLY1305.aad = aad.data();
  out.u.CHACHA20_POLY1305.aad_len_in_bytes = aad.size();
  out.auth_tag_output = octets(tag);
  out.auth_tag_output_len_in_bytes = job.key->expanded().icv_bytes;
  const IMB_JOB* const done = IMB_SUBMIT_JOB_NOCHECK(wide.get());
  return done == &out && done->status == IMB_STATUS_COMPLETED;
}

Result<IpsecMbEngine> IpsecMbEngine::create() {
  POSTERN_TRY(wide, IpsecMbManager::create_best());
  POSTERN_TRY(openssl, OpenSslEngine::create());
  std::optional<IpsecMbManager> narrow;
  if (wide.has(IMB_FEATURE_SHANI)) {
    POSTERN_TRY(manager, IpsecMbManager::create(init_mb_mgr_sse));
    narrow = std::move(manager);
  }
  const IMB_MGR* const mgr = wide.get();
  const std::array<GcmFunctions, 3> gcm = {
      {{mgr->gcm128_enc, mgr->gcm128_dec, mgr->gmac128_init, mgr->gmac128_update, mgr->gmac128_finalize},
       {mgr->gcm192_enc, mgr->gcm192_dec, mgr->gmac192_init, mgr->gmac192_update, mgr->gmac192_finalize},
       {mgr->gcm256_enc, mgr->gcm256_dec, mgr->gmac256_init, mgr->gmac256_update, mgr->gmac256_finalize}}};
  std::unique_ptr<State> state(new State{.wide = std::move(wide),
                                         .narrow = std::move(narrow),
                                         .gcm = gcm,
                                         .openssl = std::move(openssl),
                                         .ivs = {},
                                         .nonces = {}});
  POSTERN_CHECK(state->ivs.reserve(max_batch));  // seeds this thread's generator now
  return IpsecMbEngine(std::move(state));
}

IpsecMbEngine::IpsecMbEngine(std::unique_ptr<State> state) : state_(std::move(state)) {}
IpsecMbEngine::IpsecMbEngine(IpsecMbEngine&&) noexcept = default;
IpsecMbEngine& IpsecMbEngine::operator=(IpsecMbEngine&&) noexcept = default;
IpsecMbEngine::~IpsecMbEngine() = default;

void IpsecMbEngine::seal(std::span<EspJob> jobs) {
  state_->in_batches(jobs, [&](std::span<EspJob> batch) { state_->run_batch(batch, Direction::seal); });
}
void IpsecMbEngine::open(std::span<EspJob> jobs) {
  state_->in_batches(jobs, [&](std::span<EspJob> batch) { state_->run_batch(batch, Direction::open); });
}
void IpsecMbEngine::authenticate(std::span<MacJob> jobs) {
  state_->in_batches(jobs, [&](std::span<MacJob> batch) { state_->run_macs(batch); });
}

std::string IpsecMbEngine::name() const {
  const IpsecMbManager& wide = state_->wide;
  std::string out = std::string("ipsec-mb ") + imb_get_version_str() + " (";
  out += wide.has(IMB_CPUFLAGS_AVX512) ? "AVX512"
         : wide.has(IMB_CPUFLAGS_AVX2) ? "AVX2"
         : wide.has(IMB_CPUFLAGS_AVX)  ? "AVX"
                                       : "SSE";
  if (wide.has(IMB_FEATURE_VAES)) out += ", VAES";
  if (state_->narrow) out += ", SHA-NI";
  return out + ")";
}

}  // namespace postern::crypto
