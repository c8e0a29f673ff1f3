#define NO_COMPAT_IMB_API_053
#include "crypto/ipsec_mb_engine.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <optional>
#include <utility>

#include <intel-ipsec-mb.h>

#include "crypto/random.hpp"

namespace postern::crypto {
namespace {

constexpr std::size_t max_batch = 64;
constexpr std::size_t aead_tag_bytes = 16;
constexpr std::size_t max_tag_bytes = 32;

// An IMB_MGR on locked pages: its out-of-order lanes hold round keys and HMAC states while a batch runs.
class Manager {
 public:
  using Initialise = void (*)(IMB_MGR*);

  [[nodiscard]] static Result<Manager> create(Initialise initialise) {
    POSTERN_TRY(pages, allocate_locked(imb_get_mb_mgr_size()));
    Manager manager(pages);
    manager.mgr_ = imb_set_pointers_mb_mgr(pages.data, 0, 1);
    if (manager.mgr_ == nullptr) return fail("ipsec-mb: no manager");
    initialise(manager.mgr_);
    if (const int error = imb_get_errno(manager.mgr_); error != 0)
      return fail(std::string("ipsec-mb: ") + imb_get_strerror(error));
    if (!manager.has(IMB_FEATURE_AESNI)) return fail("ipsec-mb: the CPU has no AES instructions");
    if (manager.has(IMB_FEATURE_SELF_TEST) && !manager.has(IMB_FEATURE_SELF_TEST_PASS))
      return fail("ipsec-mb: self-test failed");
    return manager;
  }
  Manager(Manager&& other) noexcept
      : pages_(std::exchange(other.pages_, {})), mgr_(std::exchange(other.mgr_, nullptr)) {}
  Manager& operator=(Manager&& other) noexcept {
    std::swap(pages_, other.pages_);
    std::swap(mgr_, other.mgr_);
    return *this;
  }
  ~Manager() { free_locked(pages_); }

  [[nodiscard]] IMB_MGR* get() const { return mgr_; }
  [[nodiscard]] bool has(std::uint64_t features) const { return (mgr_->features & features) == features; }

 private:
  explicit Manager(const LockedPages& pages) : pages_(pages) {}
  LockedPages pages_;
  IMB_MGR* mgr_ = nullptr;
};

void initialise_best(IMB_MGR* mgr) { init_mb_mgr_auto(mgr, nullptr); }

// For key schedules alone, which touch no state of the manager. Laid out for the same CPU as every engine's.
const Result<Manager>& expander() {
  static const Result<Manager> manager = Manager::create(initialise_best);
  return manager;
}

static_assert(sizeof(gcm_key_data) <= sizeof(IpsecMbSchedule));
static_assert(alignof(gcm_key_data) <= alignof(IpsecMbSchedule));
static_assert(2 * IpsecMbSchedule::rounds_bytes <= sizeof(IpsecMbSchedule));

const std::byte* encryption_rounds(const EspKey::Expanded& key) { return key.ipsec_mb.bytes.data(); }
const std::byte* decryption_rounds(const EspKey::Expanded& key) {
  return key.ipsec_mb.bytes.data() + IpsecMbSchedule::rounds_bytes;
}
const gcm_key_data* gcm_key(const EspKey::Expanded& key) {
  return reinterpret_cast<const gcm_key_data*>(key.ipsec_mb.bytes.data());
}

std::uint8_t* octets(std::byte* p) { return reinterpret_cast<std::uint8_t*>(p); }
const std::uint8_t* octets(const std::byte* p) { return reinterpret_cast<const std::uint8_t*>(p); }

// The AES-CBC combinations: jobs of one group go to the library as one burst.
struct CbcGroup {
  IMB_KEY_SIZE_BYTES key_size;
  IMB_HASH_ALG hash;
};
constexpr std::array<IMB_HASH_ALG, 4> hashes = {IMB_AUTH_HMAC_SHA_1, IMB_AUTH_HMAC_SHA_256, IMB_AUTH_HMAC_SHA_384,
                                                IMB_AUTH_HMAC_SHA_512};  // as enum Hash counts
constexpr auto cbc_groups = [] {
  std::array<CbcGroup, 3 * hashes.size()> out{};
  std::size_t i = 0;
  for (const auto size : {IMB_KEY_128_BYTES, IMB_KEY_192_BYTES, IMB_KEY_256_BYTES})
    for (const IMB_HASH_ALG hash : hashes) out[i++] = {size, hash};
  return out;
}();
constexpr std::uint8_t no_group = 0xff;

std::uint8_t group_of(const EspKey::Expanded& key) {
  return static_cast<std::uint8_t>((key.key_bytes - 16U) / 8 * hashes.size() + std::to_underlying(key.hash));
}

enum class Direction { seal, open };

// One packet as the library's job, for the cipher and the hash burst alike. `tag`: where the ICV goes.
void fill(IMB_JOB& out, const EspJob& job, std::byte* tag) {
  const EspKey::Expanded& key = job.key->expanded();
  const EspLayout layout = layout_of(job);
  out.enc_keys = encryption_rounds(key);
  out.dec_keys = decryption_rounds(key);
  out.key_len_in_bytes = key.key_bytes;
  out.src = octets(job.esp);
  out.dst = octets(layout.ciphertext);
  out.cipher_start_src_offset_in_bytes = static_cast<std::uint64_t>(layout.ciphertext - job.esp);
  out.msg_len_to_cipher_in_bytes = layout.ciphertext_bytes;
  out.hash_start_src_offset_in_bytes = 0;
  out.msg_len_to_hash_in_bytes = job.size - key.icv_bytes;  // RFC 4303 §3.3.2.1: SPI through next header
  if (key.extended_sequence) {  // §2.2.1: and the high half, which lies where the ICV will, as long as it is hashed
    put_sequence_high(job, layout.icv);
    out.msg_len_to_hash_in_bytes += sequence_high_bytes;
  }
  out.iv = octets(layout.iv);
  out.iv_len_in_bytes = key.iv_bytes;
  out.auth_tag_output = octets(tag);
  out.auth_tag_output_len_in_bytes = key.icv_bytes;
  out.u.HMAC._hashed_auth_key_xor_ipad = octets(key.hmac.inner.data());
  out.u.HMAC._hashed_auth_key_xor_opad = octets(key.hmac.outer.data());
}

struct GcmFunctions {
  aes_gcm_enc_dec_t encrypt;
  aes_gcm_enc_dec_t decrypt;
};

}  // namespace

struct IpsecMbEngine::State {
  // A lane-parallel kernel of 16 lanes takes nearly as long for one packet as for 16; two-lane SHA-NI does not.
  // Measured on Zen 5 at 64..1440 bytes: SHA-1 pays from 16 packets on, SHA-256 never does, SHA-384 and SHA-512, which
  // SHA-NI does not know, from 3 on, AES-CBC encryption from 10 on.
  static constexpr std::size_t wide_sha1 = 16;
  static constexpr std::size_t wide_sha512 = 3;
  static constexpr std::size_t wide_cbc = 10;

  Manager wide;
  std::optional<Manager> narrow;  // SSE with SHA-NI, where the CPU has it
  std::array<GcmFunctions, 3> gcm;
  IvPool ivs;
  std::array<IMB_JOB, max_batch> burst{};
  std::array<EspJob*, max_batch> members{};
  std::array<std::array<std::byte, max_tag_bytes>, max_batch> tags{};
  std::array<std::array<std::byte, max_tag_bytes>, max_batch> received{};  // ICVs with extended sequence numbers

  void run(std::span<EspJob> jobs, Direction direction) {
    for (; !jobs.empty(); jobs = jobs.subspan(std::min(jobs.size(), max_batch)))
      run_batch(jobs.first(std::min(jobs.size(), max_batch)), direction);
  }

 private:
  void run_batch(std::span<EspJob> jobs, Direction direction);
  void seal_group(const CbcGroup& group, std::size_t count);
  void open_group(const CbcGroup& group, std::size_t count);
  void run_aead(EspJob& job, Direction direction);
  void run_gcm(const EspJob& job, const EspLayout& layout, const AeadNonce& nonce, std::byte* tag, Direction direction);
  [[nodiscard]] bool run_chacha(const EspJob& job, const EspLayout& layout, const AeadNonce& nonce, std::byte* tag,
                                Direction direction);

  [[nodiscard]] bool encrypt(const CbcGroup& group, std::size_t count);
  [[nodiscard]] bool decrypt(const CbcGroup& group, std::size_t count);
  [[nodiscard]] bool authenticate(const CbcGroup& group, std::size_t count);
};

void IpsecMbEngine::State::run_batch(std::span<EspJob> jobs, Direction direction) {
  std::array<std::uint8_t, max_batch> groups;
  unsigned present = 0;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    EspJob& job = jobs[i];
    groups[i] = no_group;
    job.ok = false;
    if (!well_formed(job)) continue;
    const EspKey::Expanded& key = job.key->expanded();
    if (key.cipher != Cipher::aes_cbc) {
      run_aead(job, direction);
      continue;
    }
    groups[i] = group_of(key);
    present |= 1U << groups[i];
  }
  for (; present != 0; present &= present - 1) {
    const auto group = static_cast<std::uint8_t>(std::countr_zero(present));
    std::size_t count = 0;
    for (std::size_t i = 0; i < jobs.size(); ++i)
      if (groups[i] == group) members[count++] = &jobs[i];
    direction == Direction::seal ? seal_group(cbc_groups[group], count) : open_group(cbc_groups[group], count);
  }
}

void IpsecMbEngine::State::seal_group(const CbcGroup& group, std::size_t count) {
  if (!ivs.reserve(count)) return;
  for (std::size_t i = 0; i < count; ++i) {
    const EspLayout layout = layout_of(*members[i]);
    std::memcpy(layout.iv, ivs.take(), IvPool::iv_bytes);
    fill(burst[i], *members[i], members[i]->key->expanded().extended_sequence ? tags[i].data() : layout.icv);
  }
  if (!encrypt(group, count) || !authenticate(group, count)) return;
  for (std::size_t i = 0; i < count; ++i) {
    const EspKey::Expanded& key = members[i]->key->expanded();
    if (key.extended_sequence) std::memcpy(layout_of(*members[i]).icv, tags[i].data(), key.icv_bytes);
    members[i]->ok = true;
  }
}

// RFC 4303 §3.4.4.1: the ICV is checked first; what fails is never decrypted.
void IpsecMbEngine::State::open_group(const CbcGroup& group, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    const EspKey::Expanded& key = members[i]->key->expanded();
    if (key.extended_sequence) std::memcpy(received[i].data(), layout_of(*members[i]).icv, key.icv_bytes);
    fill(burst[i], *members[i], tags[i].data());
  }
  if (!authenticate(group, count)) return;
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
  if (authentic == 0 || !decrypt(group, authentic)) return;
  for (std::size_t i = 0; i < authentic; ++i) members[i]->ok = true;
}

bool IpsecMbEngine::State::encrypt(const CbcGroup& group, std::size_t count) {
  IMB_MGR* const mgr = narrow && count < wide_cbc ? narrow->get() : wide.get();
  const auto n = static_cast<std::uint32_t>(count);
  return IMB_SUBMIT_CIPHER_BURST_NOCHECK(mgr, burst.data(), n, IMB_CIPHER_CBC, IMB_DIR_ENCRYPT, group.key_size) == n;
}

// One packet's blocks are independent here: the widest kernel is right for any number of packets.
bool IpsecMbEngine::State::decrypt(const CbcGroup& group, std::size_t count) {
  const auto n = static_cast<std::uint32_t>(count);
  return IMB_SUBMIT_CIPHER_BURST_NOCHECK(wide.get(), burst.data(), n, IMB_CIPHER_CBC, IMB_DIR_DECRYPT,
                                         group.key_size) == n;
}

bool IpsecMbEngine::State::authenticate(const CbcGroup& group, std::size_t count) {
  const bool pays = group.hash == IMB_AUTH_HMAC_SHA_1 ? count >= wide_sha1
                                                      : group.hash != IMB_AUTH_HMAC_SHA_256 && count >= wide_sha512;
  IMB_MGR* const mgr = narrow && !pays ? narrow->get() : wide.get();
  const auto n = static_cast<std::uint32_t>(count);
  return IMB_SUBMIT_HASH_BURST_NOCHECK(mgr, burst.data(), n, group.hash) == n;
}

void IpsecMbEngine::State::run_aead(EspJob& job, Direction direction) {
  const AeadNonce nonce = direction == Direction::seal ? start_aead_seal(job) : start_aead_open(job);
  const EspLayout layout = layout_of(job);
  std::array<std::byte, aead_tag_bytes> received;
  std::byte* const tag = direction == Direction::seal ? layout.icv : received.data();
  if (job.key->expanded().cipher == Cipher::aes_gcm_16)
    run_gcm(job, layout, nonce, tag, direction);
  else if (!run_chacha(job, layout, nonce, tag, direction))
    return;
  job.ok = direction == Direction::seal || icv_matches(layout.icv, tag, aead_tag_bytes);
}

void IpsecMbEngine::State::run_gcm(const EspJob& job, const EspLayout& layout, const AeadNonce& nonce, std::byte* tag,
                                   Direction direction) {
  const EspKey::Expanded& key = job.key->expanded();
  const GcmFunctions& functions = gcm[(key.key_bytes - 16U) / 8];
  const AeadAad aad(job);
  gcm_context_data context;
  (direction == Direction::seal ? functions.encrypt : functions.decrypt)(
      gcm_key(key), &context, octets(layout.ciphertext), octets(layout.ciphertext), layout.ciphertext_bytes,
      nonce.data(), octets(aad.data()), aad.size(), octets(tag), aead_tag_bytes);
}

// The library does such a job at once, whatever else it has: it is the one that comes back.
bool IpsecMbEngine::State::run_chacha(const EspJob& job, const EspLayout& layout, const AeadNonce& nonce,
                                      std::byte* tag, Direction direction) {
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
  out.auth_tag_output_len_in_bytes = aead_tag_bytes;
  const IMB_JOB* const done = IMB_SUBMIT_JOB_NOCHECK(wide.get());
  return done == &out && done->status == IMB_STATUS_COMPLETED;
}

Result<IpsecMbEngine> IpsecMbEngine::create() {
  POSTERN_TRY(wide, Manager::create(initialise_best));
  std::optional<Manager> narrow;
  if (wide.has(IMB_FEATURE_SHANI)) {
    POSTERN_TRY(manager, Manager::create(init_mb_mgr_sse));
    narrow = std::move(manager);
  }
  const IMB_MGR* const mgr = wide.get();
  const std::array<GcmFunctions, 3> gcm = {
      {{mgr->gcm128_enc, mgr->gcm128_dec}, {mgr->gcm192_enc, mgr->gcm192_dec}, {mgr->gcm256_enc, mgr->gcm256_dec}}};
  std::unique_ptr<State> state(new State{.wide = std::move(wide), .narrow = std::move(narrow), .gcm = gcm, .ivs = {}});
  POSTERN_CHECK(state->ivs.reserve(max_batch));  // seeds this thread's generator now
  return IpsecMbEngine(std::move(state));
}

IpsecMbEngine::IpsecMbEngine(std::unique_ptr<State> state) : state_(std::move(state)) {}
IpsecMbEngine::IpsecMbEngine(IpsecMbEngine&&) noexcept = default;
IpsecMbEngine& IpsecMbEngine::operator=(IpsecMbEngine&&) noexcept = default;
IpsecMbEngine::~IpsecMbEngine() = default;

void IpsecMbEngine::seal(std::span<EspJob> jobs) { state_->run(jobs, Direction::seal); }
void IpsecMbEngine::open(std::span<EspJob> jobs) { state_->run(jobs, Direction::open); }

std::string IpsecMbEngine::name() const {
  const Manager& wide = state_->wide;
  std::string out = std::string("ipsec-mb ") + imb_get_version_str() + " (";
  out += wide.has(IMB_CPUFLAGS_AVX512) ? "AVX512"
         : wide.has(IMB_CPUFLAGS_AVX2) ? "AVX2"
         : wide.has(IMB_CPUFLAGS_AVX)  ? "AVX"
                                       : "SSE";
  if (wide.has(IMB_FEATURE_VAES)) out += ", VAES";
  if (state_->narrow) out += ", SHA-NI";
  return out + ")";
}

void expand_for_ipsec_mb(Cipher cipher, Bytes key, IpsecMbSchedule& out) {
  if (!expander() || cipher == Cipher::chacha20_poly1305) return;
  IMB_MGR* const mgr = expander()->get();
  const std::size_t size = (key.size() - 16) / 8;
  if (cipher == Cipher::aes_gcm_16) {
    const std::array<aes_gcm_pre_t, 3> expand = {mgr->gcm128_pre, mgr->gcm192_pre, mgr->gcm256_pre};
    expand[size](key.data(), reinterpret_cast<gcm_key_data*>(out.bytes.data()));
  } else {
    const std::array<keyexp_t, 3> expand = {mgr->keyexp_128, mgr->keyexp_192, mgr->keyexp_256};
    expand[size](key.data(), out.bytes.data(), out.bytes.data() + IpsecMbSchedule::rounds_bytes);
  }
}

}  // namespace postern::crypto
