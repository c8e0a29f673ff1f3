#include "worker/batch_queue.hpp"

#include <thread>

namespace postern {

BatchQueue::BatchQueue(crypto::EspEngine& engine, ThreadCounters& counters, const TeamMember& member, bool sealing)
    : engine_(engine), counters_(counters), member_(member) {
  if (member.team == nullptr) {
    single_ = std::make_unique<CipherBatch>();
    single_->sealing = sealing;
    batches_ = single_.get();
    return;
  }
  row_ = &member.team->row(member.self, sealing);
  batches_ = row_->batches.data();
  slots_ = batches_in_queue;
}

void BatchQueue::close(bool lend) {
  CipherBatch& batch = filling();
  batch.since = epoch_;
  batch.ciphered = false;
  ++closed_;
  filling_ = filling_ + 1 == slots_ ? 0 : filling_ + 1;
  if (!lend || row_ == nullptr || closed_ == slots_ || !member_.team->offer(member_.self, *row_, batch))
    cipher_here(batch);
}

void BatchQueue::cipher_here(CipherBatch& batch) {
  batch.cipher(engine_);
  batch.ciphered = true;
}

std::optional<std::uint32_t> BatchQueue::finished(bool wait) {
  if (closed_ == 0) return std::nullopt;
  CipherBatch& batch = batches_[oldest_];
  if (batch.ciphered) return oldest_;
  for (;;) {
    if (batch.state.load(std::memory_order_acquire) == BatchState::done) {
      batch.state.store(BatchState::owned, std::memory_order_relaxed);
      count(counters_.handed, batch.count);
      batch.ciphered = true;
      return oldest_;
    }
    if (!wait && closed_ != slots_) return std::nullopt;
    if (Team::take_back(*row_, batch)) {
      cipher_here(batch);
      return oldest_;
    }
    std::this_thread::yield();  // a helper is at it: microseconds, unless it lost its CPU
  }
}

// With nothing on the way the same memory is used again, which is in the cache.
void BatchQueue::release() {
  batches_[oldest_].count = 0;
  if (--closed_ == 0 && filling().count == 0) {
    oldest_ = filling_ = 0;
  } else {
    oldest_ = oldest_ + 1 == slots_ ? 0 : oldest_ + 1;
  }
  if (row_ != nullptr) row_->oldest.store(oldest_, std::memory_order_relaxed);
}

void BatchQueue::take_back() {
  if (row_ == nullptr) return;
  for (std::uint32_t i = 0; i < closed_; ++i) {
    CipherBatch& batch = batches_[(oldest_ + i) % slots_];
    if (!batch.ciphered && Team::take_back(*row_, batch)) cipher_here(batch);
  }
}

}  // namespace postern
