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
inline constexpr std::size_t sequence_high_bytes = 4;
inline constexpr std::size_t max_esp_bytes = 65535;  // ipsec-mb's lanes count in 16 bits
inline constexpr std::size_t aead_salt_bytes = 4;
inline constexpr std::size_t max_cipher_key_bytes = 32;  // without the salt

// ipsec-mb's schedules in its own layout; crypto/ipsec_mb_engine.cpp alone knows it. AES-CBC: the encryption rounds,
// then the decryption rounds; AES-GCM: struct gcm_key_data; ChaCha20-Poly1305 has none.
struct IpsecMbSchedule {
  static constexpr std::size_t rounds_bytes = 256;
  alignas(64) std::array<std::byte, 1024> bytes{};
};

struct alignas(64) EspKey::Expanded {
  // Zero in memory that was wiped, by the destructor or by a fork: such a key is refused.
  enum class State : std::uint32_t { wiped = 0, ready = 0x6b657973 };
  State state = State::wiped;
  Cipher cipher = Cipher::none;
  Hash hash = Hash::sha256;  // of an AES-CBC key
  std::uint16_t key_bytes = 0;
  std::uint16_t iv_bytes = 0;
  std::uint16_t icv_bytes = 0;
  std::uint16_t block_bytes = 0;
  bool extended_sequence = false;
  std::array<std::byte, aead_salt_bytes> salt{};
  std::array<std::byte, max_cipher_key_bytes> cipher_key{};  // OpenSSL expands AES's for each batch
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
  return ((job.size - key.overhead()) & (key.block_bytes - 1U)) == 0;  // 4 or 16
}

// RFC 4106 §4, RFC 7634 §2: salt | IV. Stored as the library loads it, 8 bytes and then 4: other halves would stall on
// store forwarding.
struct AeadNonce {
  alignas(16) std::array<std::byte, 16> bytes;  // 12 count

  AeadNonce(const EspKey::Expanded& key, std::uint64_t iv_as_stored) {
    std::uint32_t salt;
    std::memcpy(&salt, key.salt.data(), sizeof salt);
    const std::uint64_t first = salt | iv_as_stored << 32;
    const auto last = static_cast<std::uint32_t>(iv_as_stored >> 32);
    std::memcpy(bytes.data(), &first, sizeof first);
    std::memcpy(bytes.data() + sizeof first, &last, sizeof last);
  }
  [[nodiscard]] const unsigned char* data() const { return reinterpret_cast<const unsigned char*>(bytes.data()); }
};

// RFC 4303 §2.2.1: the half of an extended sequence number that is not in the packet, as the ICV covers it.
inline void put_sequence_high(const EspJob& job, std::byte* out) {
  const auto high = __builtin_bswap32(static_cast<std::uint32_t>(job.sequence >> 32));
  std::memcpy(out, &high, sizeof high);
}

// RFC 4106 §5, RFC 7634 §2.1: SPI and sequence number, of 4 bytes or, extended, of 8.
class AeadAad {
 public:
  explicit AeadAad(const EspJob& job) : data_(job.esp), size_(esp_header_bytes) {
    if (!job.key->expanded().extended_sequence) return;
    std::memcpy(extended_.data(), job.esp, 4);
    put_sequence_high(job, extended_.data() + 4);
    std::memcpy(extended_.data() + 8, job.esp + 4, 4);
    data_ = extended_.data();
    size_ = extended_.size();
  }
  AeadAad(const AeadAad&) = delete;
  AeadAad& operator=(const AeadAad&) = delete;
  [[nodiscard]] const std::byte* data() const { return data_; }
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  const std::byte* data_;
  std::size_t size_;
  std::array<std::byte, esp_header_bytes + sequence_high_bytes> extended_;
};

// RFC 4106 §3.1, RFC 7634 §2: the IV is the sequence number, so it cannot come twice under one key.
[[nodiscard]] inline AeadNonce start_aead_seal(const EspJob& job) {
  const std::uint64_t iv = __builtin_bswap64(job.sequence);
  std::memcpy(job.esp + esp_header_bytes, &iv, sizeof iv);
  return {job.key->expanded(), iv};
}

[[nodiscard]] inline AeadNonce start_aead_open(const EspJob& job) {
  std::uint64_t iv;
  std::memcpy(&iv, job.esp + esp_header_bytes, sizeof iv);
  return {job.key->expanded(), iv};
}

// Constant time: every byte is looked at. `bytes` is 12, 16, 24 or 32.
[[nodiscard]] inline bool icv_matches(const std::byte* a, const std::byte* b, std::size_t bytes) {
  const auto difference_at = [&](std::size_t offset) {
    std::uint64_t x, y;
    std::memcpy(&x, a + offset, sizeof x);
    std::memcpy(&y, b + offset, sizeof y);
    return x ^ y;
  };
  std::uint64_t difference = difference_at(bytes - 8);  // overlaps the word before it when there are 12
  for (std::size_t offset = 0; offset + 8 <= bytes; offset += 8) difference |= difference_at(offset);
  return difference == 0;
}

}  // namespace postern::crypto
