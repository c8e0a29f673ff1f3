// Packets as jobs of the ipsec-mb library. Room-private, for the files that use that library.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "crypto/ipsec_mb_keys.hpp"
#include "crypto/ipsec_mb_manager.hpp"

namespace postern::crypto {

[[nodiscard]] inline std::uint8_t* octets(std::byte* p) { return reinterpret_cast<std::uint8_t*>(p); }
[[nodiscard]] inline const std::uint8_t* octets(const std::byte* p) { return reinterpret_cast<const std::uint8_t*>(p); }

// A cipher beside an authenticator: jobs of one combination go to the library together. What it has no burst for, it
// takes one by one and gives back in any order.
struct CipherKind {
  IMB_CIPHER_MODE mode;
  IMB_KEY_SIZE_BYTES key_size;  // for bursts
  bool burst;
};
inline constexpr std::array<CipherKind, 9> ciphers = {{{IMB_CIPHER_NULL, IMB_KEY_128_BYTES, false},
                                                       {IMB_CIPHER_CBC, IMB_KEY_128_BYTES, true},
                                                       {IMB_CIPHER_CBC, IMB_KEY_192_BYTES, true},
                                                       {IMB_CIPHER_CBC, IMB_KEY_256_BYTES, true},
                                                       {IMB_CIPHER_CNTR, IMB_KEY_128_BYTES, true},
                                                       {IMB_CIPHER_CNTR, IMB_KEY_192_BYTES, true},
                                                       {IMB_CIPHER_CNTR, IMB_KEY_256_BYTES, true},
                                                       {IMB_CIPHER_DES3, IMB_KEY_192_BYTES, false},
                                                       {IMB_CIPHER_DES, IMB_KEY_128_BYTES, false}}};
struct MacKind {
  IMB_HASH_ALG algorithm;
  bool burst;
};
inline constexpr std::array<MacKind, 7> macs = {
    {{IMB_AUTH_HMAC_SHA_1, true},
     {IMB_AUTH_HMAC_SHA_256, true},
     {IMB_AUTH_HMAC_SHA_384, true},
     {IMB_AUTH_HMAC_SHA_512, true},
     {IMB_AUTH_MD5, false},
     {IMB_AUTH_AES_XCBC, false},
     {IMB_AUTH_AES_CMAC, false}}};  // as enum Integrity counts, behind `none`
inline constexpr std::size_t ccm_group = ciphers.size() * macs.size();
inline constexpr std::uint8_t no_group = 0xff;
static_assert(ccm_group < 64);  // a bit each

[[nodiscard]] inline std::size_t mac_index(const EspKey::Expanded& key) {
  return std::to_underlying(key.integrity) - 1U;
}

[[nodiscard]] inline std::size_t cipher_index(const EspKey::Expanded& key) {
  const std::size_t length = (key.key_bytes - 16U) / 8;
  switch (key.cipher) {
    case Cipher::aes_cbc: return 1 + length;
    case Cipher::aes_ctr: return 4 + length;
    case Cipher::triple_des_cbc: return 7;
    case Cipher::des_cbc: return 8;
    default: return 0;
  }
}

[[nodiscard]] inline std::uint8_t group_of(const EspKey::Expanded& key) {
  if (key.integrity == Integrity::none) return ccm_group;
  return static_cast<std::uint8_t>(cipher_index(key) * macs.size() + mac_index(key));
}

inline void fill_keys(IMB_JOB& out, const EspKey::Expanded& key) {
  out.key_len_in_bytes = key.key_bytes;
  out.enc_keys = encryption_rounds(key);
  out.dec_keys = decryption_rounds(key);
  if (key.cipher == Cipher::des_cbc) out.dec_keys = out.enc_keys = des_schedule(key);
  if (key.cipher == Cipher::triple_des_cbc) out.dec_keys = out.enc_keys = des_pointers(key);
}

inline void fill_mac(IMB_JOB& out, const EspKey::Expanded& key, std::byte* tag) {
  out.auth_tag_output = octets(tag);
  out.auth_tag_output_len_in_bytes = key.icv_bytes;
  if (key.integrity == Integrity::aes_xcbc_96) {
    out.u.XCBC._k1_expanded = reinterpret_cast<const std::uint32_t*>(key.ipsec_mb.mac.data());
    out.u.XCBC._k2 = octets(key.block_mac.whole.data());
    out.u.XCBC._k3 = octets(key.block_mac.part.data());
  } else if (key.integrity == Integrity::aes_cmac_96) {
    out.u.CMAC._key_expanded = key.ipsec_mb.mac.data();
    out.u.CMAC._skey1 = key.block_mac.whole.data();
    out.u.CMAC._skey2 = key.block_mac.part.data();
  } else {
    out.u.HMAC._hashed_auth_key_xor_ipad = octets(key.hmac.inner.data());
    out.u.HMAC._hashed_auth_key_xor_opad = octets(key.hmac.outer.data());
  }
}

// One packet as the library's job, for the cipher's and the authenticator's turn alike. `tag`: where the ICV goes.
inline void fill(IMB_JOB& out, const EspJob& job, const std::byte* iv, std::byte* tag) {
  const EspKey::Expanded& key = job.key->expanded();
  const EspLayout layout = layout_of(job);
  fill_keys(out, key);
  fill_mac(out, key, tag);
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
  out.iv = octets(iv);
  out.iv_len_in_bytes = key.cipher == Cipher::aes_ctr ? 16 : key.iv_bytes;
}

inline void fill(IMB_JOB& out, const MacJob& job) {
  fill_mac(out, job.key->expanded(), job.icv);
  out.src = octets(job.data);
  out.hash_start_src_offset_in_bytes = 0;
  out.msg_len_to_hash_in_bytes = job.size;
}

}  // namespace postern::crypto
