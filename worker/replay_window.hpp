// The anti-replay window of RFC 4303 §3.4.3, any size from 32 to 4096, as the ring of words of RFC 6479: advancing
// clears whole words and shifts nothing.
//
// check() may run on any thread at any time; it answers from a snapshot and is only a filter in front of the cipher.
// advance() is the judge: callers hold the SA's lock, after the ICV verified (RFC 4303 §3.4.3: the window MUST NOT move
// before).
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <memory>

namespace postern {

enum class ReplayVerdict : std::uint8_t { fresh, replayed, too_old };

class ReplayWindow {
 public:
  // `size` in packets; 0: no anti-replay, everything is fresh.
  explicit ReplayWindow(std::uint32_t size) : size_(size), word_count_(size == 0 ? 0 : std::bit_ceil(size / 64 + 2)) {
    if (size != 0) words_ = std::make_unique<std::atomic<std::uint64_t>[]>(word_count_);
  }

  // Everything up to `highest` counts as seen: what a window is after its bits were lost.
  void resume(std::uint64_t highest) {
    highest_.store(highest, std::memory_order_relaxed);
    for (std::uint32_t i = 0; i < word_count_; ++i) words_[i].store(~std::uint64_t{0}, std::memory_order_relaxed);
    if (size_ != 0) words_[index(highest)].store(up_to(highest % 64), std::memory_order_relaxed);
  }

  // RFC 4303 appendix A2.2: the whole number whose low half arrived, the one that is neither below the window nor 2^32
  // above its bottom; 0, which no packet carries, when it would be below the first. Needs a window.
  [[nodiscard]] std::uint64_t extend(std::uint32_t low) const {
    const std::uint64_t highest = highest_.load(std::memory_order_relaxed);
    const std::uint64_t bottom = highest + 1 - size_;  // at first below 0, and so is what is not far above it
    const std::uint32_t above = low - static_cast<std::uint32_t>(bottom);
    if (highest < size_ - 1 && above < size_ - 1 - highest) return 0;
    return bottom + above;
  }

  [[nodiscard]] ReplayVerdict check(std::uint64_t sequence) const {
    if (size_ == 0) return ReplayVerdict::fresh;
    // RFC 4303 §2.2: the first packet carries 1, and the number never comes back to 0.
    if (sequence == 0) return ReplayVerdict::too_old;
    const std::uint64_t highest = highest_.load(std::memory_order_relaxed);
    if (sequence > highest) return ReplayVerdict::fresh;
    if (highest - sequence >= size_) return ReplayVerdict::too_old;
    const std::uint64_t bits = words_[index(sequence)].load(std::memory_order_relaxed);
    return bits >> (sequence % 64) & 1U ? ReplayVerdict::replayed : ReplayVerdict::fresh;
  }

  // check(), and marks a fresh number as seen.
  ReplayVerdict advance(std::uint64_t sequence) {
    const ReplayVerdict verdict = check(sequence);
    if (verdict != ReplayVerdict::fresh) return verdict;
    const std::uint64_t highest = highest_.load(std::memory_order_relaxed);
    if (sequence > highest) {
      clear_after(highest / 64, sequence / 64);
      highest_.store(sequence, std::memory_order_relaxed);
    }
    if (size_ != 0) {
      auto& word = words_[index(sequence)];
      word.store(word.load(std::memory_order_relaxed) | std::uint64_t{1} << (sequence % 64), std::memory_order_relaxed);
    }
    return verdict;
  }

  [[nodiscard]] std::uint64_t highest() const { return highest_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint32_t size() const { return size_; }

 private:
  [[nodiscard]] std::size_t index(std::uint64_t sequence) const { return (sequence / 64) & (word_count_ - 1); }
  // Bits 0..bit.
  [[nodiscard]] static std::uint64_t up_to(std::uint64_t bit) { return ~std::uint64_t{0} >> (63 - bit); }

  // A jump past the whole ring clears it once.
  void clear_after(std::uint64_t old_word, std::uint64_t new_word) {
    const std::uint64_t steps = std::min<std::uint64_t>(new_word - old_word, word_count_);
    for (std::uint64_t i = 1; i <= steps; ++i)
      words_[(old_word + i) & (word_count_ - 1)].store(0, std::memory_order_relaxed);
  }

  std::atomic<std::uint64_t> highest_{0};
  std::uint32_t size_;
  std::uint32_t word_count_;
  std::unique_ptr<std::atomic<std::uint64_t>[]> words_;
};

}  // namespace postern
