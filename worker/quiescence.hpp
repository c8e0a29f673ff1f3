// Quiescent-state-based reclamation: the writer waits until every reader has said "I hold nothing" since an epoch.
// One writer (control thread); `threads` readers, each with its own index. Readers pay one load and one store a round.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

#include "base/clock.hpp"

namespace postern {

class Quiescence {
 public:
  explicit Quiescence(std::uint32_t threads) : threads_(threads), readers_(std::make_unique<Reader[]>(threads)) {}

  // Readers.
  void quiescent(std::uint32_t thread) {
    std::atomic<std::uint64_t>& seen = readers_[thread].seen;
    if (seen.load(std::memory_order_relaxed) == asleep) return online(thread);
    // Release: what was read before happens before the writer frees it. Acquire: later look-ups see what was
    // unpublished.
    seen.store(epoch_.load(std::memory_order_acquire), std::memory_order_release);
  }
  // What this thread looked up since it read epoch() as `since` is still in use; all before is not.
  void holding(std::uint32_t thread, std::uint64_t since) {
    readers_[thread].seen.store(since, std::memory_order_release);
  }
  [[nodiscard]] std::uint64_t epoch() const { return epoch_.load(std::memory_order_acquire); }
  void offline(std::uint32_t thread) { readers_[thread].seen.store(asleep, std::memory_order_release); }
  void online(std::uint32_t thread) {
    readers_[thread].seen.store(epoch_.load(std::memory_order_acquire), std::memory_order_relaxed);
    // Pairs with advance(): either the writer sees this thread awake, or this thread sees what the writer unpublished.
    std::atomic_thread_fence(std::memory_order_seq_cst);
  }

  // Writer: after unpublishing. What was unpublished may be freed when passed(result).
  [[nodiscard]] std::uint64_t advance() {
    const std::uint64_t epoch = epoch_.fetch_add(1, std::memory_order_acq_rel) + 1;
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return epoch;
  }
  [[nodiscard]] bool passed(std::uint64_t epoch) const {
    for (std::uint32_t i = 0; i < threads_; ++i) {
      const std::uint64_t seen = readers_[i].seen.load(std::memory_order_acquire);
      if (seen != asleep && seen < epoch) return false;
    }
    return true;
  }
  // Yields until passed(epoch); false after `patience`. Readers round every few microseconds or are offline.
  [[nodiscard]] bool wait(std::uint64_t epoch, Duration patience) const {
    for (const Time deadline = Clock::now() + patience; !passed(epoch);) {
      if (Clock::now() >= deadline) return false;
      std::this_thread::yield();
    }
    return true;
  }

 private:
  static constexpr std::uint64_t asleep = 0;
  struct alignas(64) Reader {
    std::atomic<std::uint64_t> seen{asleep};
  };
  std::uint32_t threads_;
  std::unique_ptr<Reader[]> readers_;
  alignas(64) std::atomic<std::uint64_t> epoch_{1};
};

}  // namespace postern
