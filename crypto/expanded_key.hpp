// What an EspKey expands to: both engines' schedules side by side in one slot of the key pool. Room-private.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "crypto/block_mac.hpp"
#include "crypto/hmac.hpp"
#include "crypto/packet_cipher.hpp"

namespace postern::crypto {

inline constexpr std::size_t esp_header_bytes = 8;
inline constexpr std::size_t sequence_high_bytes = 4;
inline constexpr std::size_t max_esp_bytes = 65535;  // ipsec-mb's lanes count in 16 bits
inline constexpr std::size_t max_salt_bytes = 4;
inline constexpr std::size_t max_cipher_key_bytes = 32;  // without the salt

// ipsec-mb's schedules in its own layout; crypto/ipsec_mb_keys.hpp alone knows it. Ciphers that have none leave it
// zero.
struct IpsecMbSchedule {
  alignas(64) std::array<std::byte, 1024> cipher{};
  static constexpr std::size_t mac_bytes = 176;
  alignas(16) std::array<std::byte, mac_bytes> mac{};  // the rounds of BlockMacKey::cipher
};

struct alignas(64) EspKey::Expanded {
  // Zero in memory that was wiped, by the destructor or by a fork: such a key is refused.
  enum class State : std::uint32_t { wiped = 0, ready = 0x6b657973 };
  State state = State::wiped;
  Cipher cipher = Cipher::none;
  Integrity integrity = Integrity::none;
  std::uint16_t key_bytes = 0;  // without the salt
  std::uint16_t iv_bytes = 0;
  std::uint16_t icv_bytes = 0;
  std::uint16_t block_bytes = 0;
  std::uint16_t salt_bytes = 0;
  bool extended_sequence = false;
  std::array<std::byte, max_salt_bytes> salt{};
  std::array<std::byte, max_cipher_key_bytes> cipher_key{};  // OpenSSL expands it for each batch
  HmacKey hmac;                                              // of HMACs
  BlockMacKey block_mac;                                     // of AES-XCBC and AES-CMAC
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

// A live key that is not an authenticator's, at least one block, a whole number of blocks.
[[nodiscard]] inline bool well_formed(const EspJob& job) {
  const EspKey::Expanded& key = job.key->expanded();
  if (key.state != EspKey::Expanded::State::ready || key.cipher == Cipher::none) return false;
  if (job.size > max_esp_bytes || job.size < key.overhead() + key.block_bytes) return false;
  return ((job.size - key.overhead()) & (key.block_bytes - 1U)) == 0;  // 4, 8 or 16
}

[[nodiscard]] inline bool well_formed(const MacJob& job) {
  const EspKey::Expanded& key = job.key->expanded();
  return key.state == EspKey::Expanded::State::ready && key.integrity != Integrity::none && job.size != 0 &&
         job.size <= max_esp_bytes;
}

// RFC 4106 §4, RFC 7634 §2, RFC 4309 §4: salt | IV. RFC 3686 §4: the same and a block counter that begins at one.
// Stored as the library loads it, 8 bytes and then 4: other halves would stall on store forwarding.
struct Nonce {
  alignas(16) std::array<std::byte, 16> bytes;  // the first 11 or 12 count, of a counter block all

  Nonce() = default;
  Nonce(const EspKey::Expanded& key, std::uint64_t iv_as_stored) {
    std::uint32_t salt;
    std::memcpy(&salt, key.salt.data(), sizeof salt);
    const unsigned salt_bits = key.salt_bytes * 8U;
    const std::uint64_t first = salt | iv_as_stored << salt_bits;
    const std::uint64_t last = iv_as_stored >> (64 - salt_bits) | std::uint64_t{1} << 56;
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

// RFC 4106 §5, RFC 4309 §5, RFC 7634 §2.1: SPI and sequence number, of 4 bytes or, extended, of 8.
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

// RFC 4106 §3.1, RFC 3686 §3.1, RFC 4309 §3.1, RFC 7634 §2: the IV is the sequence number, so it cannot come twice
// under one key.
[[nodiscard]] inline Nonce start_seal(const EspJob& job) {
  const std::uint64_t iv = __builtin_bswap64(job.sequence);
  std::memcpy(job.esp + esp_header_bytes, &iv, sizeof iv);
  return {job.key->expanded(), iv};
}

[[nodiscard]] inline Nonce start_open(const EspJob& job) {
  std::uint64_t iv;
  std::memcpy(&iv, job.esp + esp_header_bytes, sizeof iv);
  return {job.key->expanded(), iv};
}

// Constant time: every byte is looked at. `bytes` is 8, 12, 16, 24 or 32.
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
