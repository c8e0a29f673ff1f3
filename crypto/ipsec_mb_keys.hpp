// Key schedules as ipsec-mb wants them, and where they lie in an IpsecMbSchedule. Room-private.
#pragma once

#include <cstddef>

#include "crypto/expanded_key.hpp"

namespace postern::crypto {

// AES-CBC, AES-CTR, AES-CCM: the encryption rounds, then the decryption rounds. AES-GCM, AES-GMAC: struct gcm_key_data.
// DES, 3DES: a schedule for each 8 bytes of key, and pointers to them. NULL and ChaCha20-Poly1305 have none.
inline constexpr std::size_t aes_rounds_bytes = 256;
inline constexpr std::size_t des_schedule_bytes = 128;
inline constexpr std::size_t des_pointers_offset = 3 * des_schedule_bytes;

// Writes the schedules of `key`, whose cipher_key, hmac and block_mac are there already; leaves them zero where
// ipsec-mb does not run. Any thread.
void expand_for_ipsec_mb(EspKey::Expanded& key);

[[nodiscard]] inline const std::byte* encryption_rounds(const EspKey::Expanded& key) {
  return key.ipsec_mb.cipher.data();
}
[[nodiscard]] inline const std::byte* decryption_rounds(const EspKey::Expanded& key) {
  return key.ipsec_mb.cipher.data() + aes_rounds_bytes;
}
// Of DES one schedule, of 3DES an array of three pointers to one.
[[nodiscard]] inline const std::byte* des_schedule(const EspKey::Expanded& key) { return key.ipsec_mb.cipher.data(); }
[[nodiscard]] inline const std::byte* des_pointers(const EspKey::Expanded& key) {
  return key.ipsec_mb.cipher.data() + des_pointers_offset;
}

}  // namespace postern::crypto
