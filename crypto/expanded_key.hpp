// What an EspKey expands to: both engines' schedules side by side in one slot of the key pool. Room-private.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "crypto/hmac.hpp"
#include "crypto/packet_cipher.hpp"

namespace postern::crypto {

inline constexpr std::size_t esp_header_bytes = 8;
inline constexpr std::size_t max_esp_bytes = 65535;  // ipsec-mb's lanes count in 16 bits
inline constexpr std::size_t gcm_salt_bytes = 4;
inline constexpr std::size_t max_aes_key_bytes = 32;

// ipsec-mb's schedules in its own layout; crypto/ipsec_mb_engine.cpp alone knows it. AES-CBC: the encryption rounds,
// then the decryption rounds; AES-GCM: struct gcm_key_data.
struct IpsecMbSchedule {
  static constexpr std::size_t rounds_bytes = 256;
  alignas(64) std::array<std::byte, 1024> bytes{};
};

struct alignas(64) EspKey::Expanded {
  // Zero in memory that was wiped, by the destructor or by a fork: such a key is refused.
  enum class State : std::uint32_t { wiped = 0, ready = 0x6b657973 };
  State state = State::wiped;
  Cipher cipher = Cipher::none;
  Integrity integrity = Integrity::none;
  std::uint16_t aes_bytes = 0;
  std::uint16_t iv_bytes = 0;
  std::uint16_t icv_bytes = 0;
  std::uint16_t block_bytes = 0;
  std::array<std::byte, gcm_salt_bytes> salt{};
  std::array<std::byte, max_aes_key_bytes> aes_key{};  // OpenSSL expands it for each batch
  HmacKey hmac;
  IpsecMbSchedule ipsec_mb;

  [[nodiscard]] std::size_t overhead() const { return esp_header_bytes + iv_bytes + icv_bytes; }
};
static_assert(sizeof(EspKey::Expanded) <= 2048);

// Where the parts of a job's packet lie.
struct EspLayout {
  std::byte* iv;
  std::byte* ciphertext;
  std::size_t ciphertext_bytes;
  std::byte* icv;
};

[[nodiscard]] inline EspLayout layout_of(const EspJob& job) {
  const EspKey::Expanded& key = job.key->expanded();
  std::byte* const iv = job.esp + esp_header_bytes;
  return {iv, iv + key.iv_bytes, job.size - key.overhead(), job.esp + job.size - key.icv_bytes};
}

// A live key, at least one block, a whole number of blocks.
[[nodiscard]] inline bool well_formed(const EspJob& job) {
  const EspKey::Expanded& key = job.key->expanded();
  if (key.state != EspKey::Expanded::State::ready) return false;
  if (job.size > max_esp_bytes || job.size < key.overhead() + key.block_bytes) return false;
  return (job.size - key.overhead()) % key.block_bytes == 0;
}

using GcmNonce = std::array<std::byte, 12>;

// RFC 4106 §4: salt | IV.
[[nodiscard]] inline GcmNonce gcm_nonce(const EspKey::Expanded& key, const std::byte* iv) {
  GcmNonce nonce;
  std::memcpy(nonce.data(), key.salt.data(), gcm_salt_bytes);
  std::memcpy(nonce.data() + gcm_salt_bytes, iv, nonce.size() - gcm_salt_bytes);
  return nonce;
}

// RFC 4106 §3.1: the IV is the sequence number, so it cannot come twice under one key.
inline void write_gcm_iv(const EspJob& job) {
  store_be32(job.esp + esp_header_bytes, static_cast<std::uint32_t>(job.sequence >> 32));
  store_be32(job.esp + esp_header_bytes + 4, static_cast<std::uint32_t>(job.sequence));
}

}  // namespace postern::crypto
