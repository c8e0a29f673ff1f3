#define NO_COMPAT_IMB_API_053
#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>

#include <intel-ipsec-mb.h>

#include "tests/bench/esp_reference.hpp"

namespace postern::bench {
namespace {

using crypto::EspJob;

std::uint8_t* octets(std::byte* p) { return reinterpret_cast<std::uint8_t*>(p); }

struct Mac {
  crypto::Integrity integrity;
  IMB_HASH_ALG algorithm;
  hash_one_block_t IMB_MGR::* one_block;
  std::size_t icv_bytes;
};
constexpr std::array<Mac, 4> macs = {
    {{crypto::Integrity::hmac_sha1_96, IMB_AUTH_HMAC_SHA_1, &IMB_MGR::sha1_one_block, 12},
     {crypto::Integrity::hmac_sha256_128, IMB_AUTH_HMAC_SHA_256, &IMB_MGR::sha256_one_block, 16},
     {crypto::Integrity::hmac_sha384_192, IMB_AUTH_HMAC_SHA_384, &IMB_MGR::sha384_one_block, 24},
     {crypto::Integrity::hmac_sha512_256, IMB_AUTH_HMAC_SHA_512, &IMB_MGR::sha512_one_block, 32}}};

struct Bare {
  IMB_MGR* mgr = alloc_mb_mgr(0);
  std::size_t aes_bytes = 0;
  Mac mac = macs[0];
  alignas(64) gcm_key_data gcm{};  // read by aligned loads
  alignas(16) std::array<std::byte, 240> encryption{}, decryption{};
  alignas(16) std::array<std::byte, 64> inner{}, outer{};
  std::array<std::byte, 32> chacha{};
  std::array<std::uint8_t, 12> nonce{};
  std::array<std::array<std::uint8_t, 32>, 256> tags{};

  Bare() {
    if (mgr == nullptr) std::abort();
    init_mb_mgr_auto(mgr, nullptr);
    if (imb_get_errno(mgr) != 0) std::abort();
  }
  Bare(const Bare&) = delete;
  Bare& operator=(const Bare&) = delete;
  ~Bare() { free_mb_mgr(mgr); }

  void hmac_key(Bytes key) {
    for (const auto& [pad, out] : {std::pair{0x36, inner.data()}, std::pair{0x5c, outer.data()}}) {
      std::array<std::byte, 128> block;  // SHA-1 and SHA-256 take the first half
      block.fill(static_cast<std::byte>(pad));
      for (std::size_t i = 0; i < key.size(); ++i) block[i] ^= key[i];
      (mgr->*mac.one_block)(block.data(), out);
    }
  }

  // The packet's shape is as crypto/packet_cipher.hpp draws it: 8 bytes of header, 8 of IV, 16 of ICV.
  void gcm_packets(std::span<EspJob> jobs, aes_gcm_enc_dec_t function) {
    gcm_context_data context;
    for (const EspJob& job : jobs) {
      std::uint8_t* const body = octets(job.esp + 16);
      function(&gcm, &context, body, body, job.size - 32, nonce.data(), octets(job.esp), 8,
               octets(job.esp + job.size - 16), 16);
    }
  }

  void gmac_packets(std::span<EspJob> jobs, aes_gmac_init_t init, aes_gmac_update_t update,
                    aes_gmac_finalize_t finalize) {
    gcm_context_data context;
    for (const EspJob& job : jobs) {
      init(&gcm, &context, nonce.data(), nonce.size());
      update(&gcm, &context, octets(job.esp), job.size - 16);
      finalize(&gcm, &context, octets(job.esp + job.size - 16), 16);
    }
  }

  void ccm_packets(std::span<EspJob> jobs, bool seal) {
    std::size_t done = 0;
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      const EspJob& job = jobs[i];
      IMB_JOB& out = *IMB_GET_NEXT_JOB(mgr);
      out.enc_keys = out.dec_keys = encryption.data();
      out.key_len_in_bytes = aes_bytes;
      out.src = octets(job.esp + 16);
      out.dst = octets(job.esp + 16);
      out.cipher_start_src_offset_in_bytes = out.hash_start_src_offset_in_bytes = 0;
      out.msg_len_to_cipher_in_bytes = out.msg_len_to_hash_in_bytes = job.size - 32;
      out.iv = nonce.data();
      out.iv_len_in_bytes = 11;
      out.u.CCM.aad = job.esp;
      out.u.CCM.aad_len_in_bytes = 8;
      out.auth_tag_output = seal ? octets(job.esp + job.size - 16) : tags[i].data();
      out.auth_tag_output_len_in_bytes = 16;
      out.cipher_mode = IMB_CIPHER_CCM;
      out.hash_alg = IMB_AUTH_AES_CCM;
      out.cipher_direction = seal ? IMB_DIR_ENCRYPT : IMB_DIR_DECRYPT;
      out.chain_order = seal ? IMB_ORDER_HASH_CIPHER : IMB_ORDER_CIPHER_HASH;
      for (IMB_JOB* ready = IMB_SUBMIT_JOB_NOCHECK(mgr); ready != nullptr; ready = IMB_GET_COMPLETED_JOB(mgr)) ++done;
    }
    while (IMB_FLUSH_JOB(mgr) != nullptr) ++done;
    if (done != jobs.size()) std::abort();
  }

  void chacha_packets(std::span<EspJob> jobs, bool seal) {
    for (const EspJob& job : jobs) {
      IMB_JOB& out = *IMB_GET_NEXT_JOB(mgr);
      out.enc_keys = out.dec_keys = chacha.data();
      out.key_len_in_bytes = chacha.size();
      out.src = octets(job.esp + 16);
      out.dst = octets(job.esp + 16);
      out.cipher_start_src_offset_in_bytes = out.hash_start_src_offset_in_bytes = 0;
      out.msg_len_to_cipher_in_bytes = out.msg_len_to_hash_in_bytes = job.size - 32;
      out.iv = nonce.data();
      out.iv_len_in_bytes = nonce.size();
      out.u.CHACHA20_POLY1305.aad = job.esp;
      out.u.CHACHA20_POLY1305.aad_len_in_bytes = 8;
      out.auth_tag_output = seal ? octets(job.esp + job.size - 16) : tags[0].data();
      out.auth_tag_output_len_in_bytes = 16;
      out.cipher_mode = IMB_CIPHER_CHACHA20_POLY1305;
      out.hash_alg = IMB_AUTH_CHACHA20_POLY1305;
      out.cipher_direction = seal ? IMB_DIR_ENCRYPT : IMB_DIR_DECRYPT;
      out.chain_order = seal ? IMB_ORDER_CIPHER_HASH : IMB_ORDER_HASH_CIPHER;
      if (IMB_SUBMIT_JOB_NOCHECK(mgr) != &out) std::abort();
    }
  }

  void fill(IMB_JOB& out, const EspJob& job, std::size_t index, bool seal) {
    out.enc_keys = encryption.data();
    out.dec_keys = decryption.data();
    out.key_len_in_bytes = aes_bytes;
    out.src = octets(job.esp);
    out.dst = octets(job.esp + 24);
    out.cipher_start_src_offset_in_bytes = 24;
    out.msg_len_to_cipher_in_bytes = job.size - 24 - mac.icv_bytes;
    out.hash_start_src_offset_in_bytes = 0;
    out.msg_len_to_hash_in_bytes = job.size - mac.icv_bytes;
    out.iv = octets(job.esp + 8);
    out.iv_len_in_bytes = 16;
    out.auth_tag_output = seal ? octets(job.esp + job.size - mac.icv_bytes) : tags[index].data();
    out.auth_tag_output_len_in_bytes = mac.icv_bytes;
    out.u.HMAC._hashed_auth_key_xor_ipad = octets(inner.data());
    out.u.HMAC._hashed_auth_key_xor_opad = octets(outer.data());
    out.cipher_mode = IMB_CIPHER_CBC;
    out.hash_alg = mac.algorithm;
    out.cipher_direction = seal ? IMB_DIR_ENCRYPT : IMB_DIR_DECRYPT;
    out.chain_order = seal ? IMB_ORDER_CIPHER_HASH : IMB_ORDER_HASH_CIPHER;
  }

  void job_loop(std::span<EspJob> jobs, bool seal) {
    std::size_t done = 0;
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      fill(*IMB_GET_NEXT_JOB(mgr), jobs[i], i, seal);
      for (IMB_JOB* job = IMB_SUBMIT_JOB_NOCHECK(mgr); job != nullptr; job = IMB_GET_COMPLETED_JOB(mgr)) ++done;
    }
    while (IMB_FLUSH_JOB(mgr) != nullptr) ++done;
    if (done != jobs.size()) std::abort();
  }
};

}  // namespace

Reference ipsec_mb_reference(const crypto::Transform& transform, Bytes cipher_key, Bytes integrity_key) {
  const auto bare = std::make_shared<Bare>();
  IMB_MGR* const mgr = bare->mgr;
  const bool is_128 = transform.key_bits == 128;
  bare->aes_bytes = transform.key_bits / 8U;
  const std::size_t length = (bare->aes_bytes - 16) / 8;
  const bool is_gmac = transform.cipher == crypto::Cipher::aes_gmac;
  if (is_gmac || transform.cipher == crypto::Cipher::aes_gcm_16) {
    const std::array<aes_gcm_pre_t, 3> expand = {mgr->gcm128_pre, mgr->gcm192_pre, mgr->gcm256_pre};
    expand[length](cipher_key.data(), &bare->gcm);
  }
  if (transform.cipher == crypto::Cipher::aes_gcm_16) {
    const auto encrypt = std::array{mgr->gcm128_enc, mgr->gcm192_enc, mgr->gcm256_enc}[length];
    const auto decrypt = std::array{mgr->gcm128_dec, mgr->gcm192_dec, mgr->gcm256_dec}[length];
    return {"bare ipsec-mb GCM call", [bare, encrypt](std::span<EspJob> jobs) { bare->gcm_packets(jobs, encrypt); },
            [bare, decrypt](std::span<EspJob> jobs) { bare->gcm_packets(jobs, decrypt); }};
  }
  if (is_gmac) {
    const auto init = std::array{mgr->gmac128_init, mgr->gmac192_init, mgr->gmac256_init}[length];
    const auto update = std::array{mgr->gmac128_update, mgr->gmac192_update, mgr->gmac256_update}[length];
    const auto finalize = std::array{mgr->gmac128_finalize, mgr->gmac192_finalize, mgr->gmac256_finalize}[length];
    const auto run = [=](std::span<EspJob> jobs) { bare->gmac_packets(jobs, init, update, finalize); };
    return {"bare ipsec-mb GMAC calls", run, run};
  }
  if (transform.cipher == crypto::Cipher::chacha20_poly1305) {
    std::ranges::copy(cipher_key.first(bare->chacha.size()), bare->chacha.begin());
    return {"bare ipsec-mb job loop", [bare](std::span<EspJob> jobs) { bare->chacha_packets(jobs, true); },
            [bare](std::span<EspJob> jobs) { bare->chacha_packets(jobs, false); }};
  }
  (is_128 ? mgr->keyexp_128 : mgr->keyexp_256)(cipher_key.data(), bare->encryption.data(), bare->decryption.data());
  if (transform.cipher == crypto::Cipher::aes_ccm_16)
    return {"bare ipsec-mb job loop", [bare](std::span<EspJob> jobs) { bare->ccm_packets(jobs, true); },
            [bare](std::span<EspJob> jobs) { bare->ccm_packets(jobs, false); }};
  bare->mac = *std::ranges::find(macs, transform.integrity, &Mac::integrity);
  bare->hmac_key(integrity_key);
  return {"bare ipsec-mb job loop", [bare](std::span<EspJob> jobs) { bare->job_loop(jobs, true); },
          [bare](std::span<EspJob> jobs) { bare->job_loop(jobs, false); }};
}

}  // namespace postern::bench
