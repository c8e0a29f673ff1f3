#include <algorithm>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "base/log.hpp"
#include "base/registers.hpp"
#include "crypto/ah.hpp"
#include "crypto/expanded_key.hpp"
#include "crypto/ipsec_mb_keys.hpp"
#include "crypto/transforms.hpp"

namespace postern::crypto {
namespace {

// Slots for expanded keys on locked pages that are kept for good; a slot is wiped before it comes back here. Any
// thread.
class KeyPool {
 public:
  static KeyPool& instance() {
    static KeyPool* const pool = new KeyPool;  // never destroyed: keys of static lifetime may outlive it
    return *pool;
  }

  Result<EspKey::Expanded*> take() {
    const std::scoped_lock lock(mutex_);
    if (free_.empty()) POSTERN_CHECK(grow());
    EspKey::Expanded* const slot = free_.back();
    free_.pop_back();
    return slot;
  }

  void give_back(EspKey::Expanded* slot) {
    const std::scoped_lock lock(mutex_);
    free_.push_back(slot);
  }

 private:
  static constexpr std::size_t arena_bytes = 64 * 1024;

  Result<void> grow() {
    POSTERN_TRY(pages, allocate_locked(arena_bytes));
    if (!pages.locked && !std::exchange(warned_, true))
      spdlog::warn("expanded keys lie in memory that may be swapped out: RLIMIT_MEMLOCK is too small");
    const std::size_t count = pages.size / sizeof(EspKey::Expanded);
    free_.reserve(free_.size() + count);
    for (std::size_t i = count; i-- > 0;)
      free_.push_back(new (pages.data + i * sizeof(EspKey::Expanded)) EspKey::Expanded);
    return {};
  }

  std::mutex mutex_;
  std::vector<EspKey::Expanded*> free_;
  bool warned_ = false;
};

void release(EspKey::Expanded* slot) {
  if (slot == nullptr) return;
  wipe(std::as_writable_bytes(std::span(slot, 1)));
  KeyPool::instance().give_back(slot);
}

Result<void> expand_integrity(Integrity integrity, Bytes key, EspKey::Expanded& out) {
  out.integrity = integrity;
  if (is_block_mac(integrity)) return expand_block_mac(integrity, key, out.block_mac);
  if (const auto hash = hash_of(integrity)) expand_hmac(*hash, key, out.hmac);
  return {};
}

Result<void> expand(const TransformSizes& sizes, const Transform& transform, Bytes cipher_key, Bytes integrity_key,
                    EspKey::Expanded& out) {
  const Bytes bare_key = cipher_key.first(cipher_key.size() - sizes.salt_bytes);
  out.cipher = transform.cipher;
  out.key_bytes = static_cast<std::uint16_t>(bare_key.size());
  out.iv_bytes = sizes.iv_bytes;
  out.icv_bytes = sizes.icv_bytes;
  out.block_bytes = sizes.block_bytes;
  out.salt_bytes = sizes.salt_bytes;
  std::ranges::copy(bare_key, out.cipher_key.begin());
  std::ranges::copy(cipher_key.last(sizes.salt_bytes), out.salt.begin());
  POSTERN_CHECK(expand_integrity(transform.integrity, integrity_key, out));
  expand_for_ipsec_mb(out);
  clear_vector_registers();  // round keys
  out.state = EspKey::Expanded::State::ready;
  return {};
}

}  // namespace

Result<EspKey> EspKey::create(const Transform& transform, Bytes cipher_key, Bytes integrity_key,
                              bool extended_sequence) {
  POSTERN_TRY(sizes, sizes_of(transform));
  if (cipher_key.size() != sizes.key_bytes)
    return fail("the ESP cipher key has " + std::to_string(cipher_key.size()) + " bytes; the transform takes " +
                std::to_string(sizes.key_bytes));
  if (integrity_key.size() != sizes.integrity_key_bytes)
    return fail("the ESP authenticator key has " + std::to_string(integrity_key.size()) +
                " bytes; the transform takes " + std::to_string(sizes.integrity_key_bytes));
  POSTERN_TRY(slot, KeyPool::instance().take());
  EspKey key(transform, sizes, slot);
  POSTERN_CHECK(expand(sizes, transform, cipher_key, integrity_key, *slot));
  slot->extended_sequence = extended_sequence;
  return key;
}

Result<EspKey> EspKey::create_authenticator(Integrity integrity, Bytes key, bool extended_sequence) {
  POSTERN_TRY(sizes, integrity_sizes_of(integrity));
  if (key.size() != sizes.integrity_key_bytes)
    return fail("the authenticator key has " + std::to_string(key.size()) + " bytes; the transform takes " +
                std::to_string(sizes.integrity_key_bytes));
  const Transform transform{Cipher::none, 0, integrity};
  POSTERN_TRY(slot, KeyPool::instance().take());
  EspKey out(transform, sizes, slot);
  POSTERN_CHECK(expand(sizes, transform, {}, key, *slot));
  slot->extended_sequence = extended_sequence;
  return out;
}

EspKey::EspKey(const Transform& transform, const TransformSizes& sizes, Expanded* expanded)
    : transform_(transform), sizes_(sizes), expanded_(expanded) {}

EspKey::EspKey(EspKey&& other) noexcept
    : transform_(other.transform_), sizes_(other.sizes_), expanded_(std::exchange(other.expanded_, nullptr)) {}

EspKey& EspKey::operator=(EspKey&& other) noexcept {
  if (this == &other) return *this;
  release(
      std::exchange(expanded_, std::exchange(other.expanded_, nullptr)));  // the old key is gone now, not with `other`
  transform_ = other.transform_;
  sizes_ = other.sizes_;
  return *this;
}

EspKey::~EspKey() { release(expanded_); }

}  // namespace postern::crypto
