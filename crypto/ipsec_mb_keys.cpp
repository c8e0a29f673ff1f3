#include "crypto/ipsec_mb_keys.hpp"

#include <array>
#include <cstdint>
#include <cstring>

#include "crypto/ipsec_mb_manager.hpp"

namespace postern::crypto {
namespace {

static_assert(sizeof(gcm_key_data) <= sizeof(IpsecMbSchedule::cipher));
static_assert(alignof(gcm_key_data) <= alignof(IpsecMbSchedule));
static_assert(2 * aes_rounds_bytes <= sizeof(IpsecMbSchedule::cipher));
static_assert(des_schedule_bytes == IMB_DES_KEY_SCHED_SIZE);

// For key schedules alone, which touch no state of the manager. Laid out for the same CPU as every engine's.
const Result<IpsecMbManager>& expander() {
  static const Result<IpsecMbManager> manager = IpsecMbManager::create_best();
  return manager;
}

std::size_t aes_length_index(const EspKey::Expanded& key) { return (key.key_bytes - 16U) / 8; }

void expand_aes(IMB_MGR* mgr, EspKey::Expanded& key) {
  const std::array<keyexp_t, 3> expand = {mgr->keyexp_128, mgr->keyexp_192, mgr->keyexp_256};
  std::byte* const out = key.ipsec_mb.cipher.data();
  expand[aes_length_index(key)](key.cipher_key.data(), out, out + aes_rounds_bytes);
}

void expand_gcm(IMB_MGR* mgr, EspKey::Expanded& key) {
  const std::array<aes_gcm_pre_t, 3> expand = {mgr->gcm128_pre, mgr->gcm192_pre, mgr->gcm256_pre};
  expand[aes_length_index(key)](key.cipher_key.data(), reinterpret_cast<gcm_key_data*>(key.ipsec_mb.cipher.data()));
}

void expand_des(IMB_MGR* mgr, EspKey::Expanded& key) {
  std::byte* const out = key.ipsec_mb.cipher.data();
  for (std::size_t i = 0; i < key.key_bytes / 8U; ++i) {
    std::byte* const schedule = out + i * des_schedule_bytes;
    mgr->des_key_sched(reinterpret_cast<std::uint64_t*>(schedule), key.cipher_key.data() + 8 * i);
    std::memcpy(out + des_pointers_offset + i * sizeof schedule, &schedule, sizeof schedule);
  }
}

}  // namespace

void expand_for_ipsec_mb(EspKey::Expanded& key) {
  if (!expander()) return;
  IMB_MGR* const mgr = expander()->get();
  if (is_block_mac(key.integrity)) {
    std::array<std::byte, IpsecMbSchedule::mac_bytes> decryption;  // not needed
    mgr->keyexp_128(key.block_mac.cipher.data(), key.ipsec_mb.mac.data(), decryption.data());
    wipe(decryption);
  }
  switch (key.cipher) {
    case Cipher::none:
    case Cipher::null:
    case Cipher::chacha20_poly1305: return;
    case Cipher::aes_cbc:
    case Cipher::aes_ctr:
    case Cipher::aes_ccm_8:
    case Cipher::aes_ccm_12:
    case Cipher::aes_ccm_16: return expand_aes(mgr, key);
    case Cipher::aes_gcm_16:
    case Cipher::aes_gmac: return expand_gcm(mgr, key);
    case Cipher::triple_des_cbc:
    case Cipher::des_cbc: return expand_des(mgr, key);
  }
}

}  // namespace postern::crypto
