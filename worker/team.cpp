#include "worker/team.hpp"

namespace postern {
namespace {

constexpr std::uint32_t offers_per_helper = 2;  // one under work, one to go on with

CipherBatch* take_from(BatchRow& row) {
  if (row.offers.load(std::memory_order_relaxed) == 0) return nullptr;
  const std::uint32_t oldest = row.oldest.load(std::memory_order_relaxed);
  for (std::uint32_t i = 0; i < batches_in_queue; ++i) {
    CipherBatch& batch = row.batches[(oldest + i) % batches_in_queue];
    BatchState expected = BatchState::offered;
    if (batch.state.load(std::memory_order_relaxed) != expected) continue;
    // Acquire: what the owner wrote before it offered.
    if (!batch.state.compare_exchange_strong(expected, BatchState::taken, std::memory_order_acquire)) continue;
    row.offers.fetch_sub(1, std::memory_order_relaxed);
    return &batch;
  }
  return nullptr;
}

}  // namespace

Team::Team(std::uint32_t threads) {
  for (std::uint32_t i = 0; i < threads; ++i) {
    members_.push_back(std::make_unique<Member>());
    for (const bool sealing : {false, true})
      for (CipherBatch& batch : row(i, sealing).batches) {
        batch.sealing = sealing;
        batch.owner = i;
      }
  }
}

bool Team::offer(std::uint32_t self, BatchRow& row, CipherBatch& batch) {
  std::uint32_t helpers = 0;
  Member* sleeper = nullptr;
  for (std::uint32_t i = 0; i < members_.size(); ++i) {
    if (i == self) continue;
    const State state = members_[i]->state.load(std::memory_order_relaxed);
    if (state == State::free) ++helpers;
    if (state == State::asleep) sleeper = members_[i].get();
  }
  const bool enough = row.offers.load(std::memory_order_relaxed) < helpers * offers_per_helper;
  if (!enough && sleeper == nullptr) return false;
  row.offers.fetch_add(1, std::memory_order_relaxed);
  // Sequentially consistent with about_to_sleep(): it sees the offer, or we see that it sleeps.
  batch.state.store(BatchState::offered, std::memory_order_seq_cst);
  if (enough) return true;
  State asleep = State::asleep;
  if (sleeper->state.compare_exchange_strong(asleep, State::free, std::memory_order_seq_cst)) sleeper->bell->ring();
  return true;
}

bool Team::take_back(BatchRow& row, CipherBatch& batch) {
  BatchState expected = BatchState::offered;
  if (!batch.state.compare_exchange_strong(expected, BatchState::owned, std::memory_order_acquire)) return false;
  row.offers.fetch_sub(1, std::memory_order_relaxed);
  return true;
}

CipherBatch* Team::take(std::uint32_t self) {
  for (std::uint32_t i = 1; i < members_.size(); ++i)
    for (BatchRow& row : members_[(self + i) % members_.size()]->rows)
      if (CipherBatch* const batch = take_from(row)) return batch;
  return nullptr;
}

void Team::finish(CipherBatch& batch) {
  Member& owner = *members_[batch.owner];
  // Sequentially consistent with about_to_sleep() of the owner. The batch is not ours any more behind it.
  batch.state.store(BatchState::done, std::memory_order_seq_cst);
  if (owner.waits.load(std::memory_order_seq_cst) && owner.waits.exchange(false)) owner.bell->ring();
}

bool Team::about_to_sleep(std::uint32_t self, const CipherBatch* waits) {
  Member& member = *members_[self];
  member.waits.store(waits != nullptr, std::memory_order_seq_cst);
  member.state.store(State::asleep, std::memory_order_seq_cst);
  const bool back = waits != nullptr && waits->state.load(std::memory_order_seq_cst) == BatchState::done;
  if (!back && !anything_offered(self)) return true;
  member.waits.store(false, std::memory_order_relaxed);
  member.state.store(State::free, std::memory_order_relaxed);
  return false;
}

bool Team::anything_offered(std::uint32_t self) const {
  for (std::uint32_t i = 0; i < members_.size(); ++i) {
    if (i == self) continue;
    for (const BatchRow& row : members_[i]->rows) {
      if (row.offers.load(std::memory_order_seq_cst) == 0) continue;
      for (const CipherBatch& batch : row.batches)
        if (batch.state.load(std::memory_order_seq_cst) == BatchState::offered) return true;
    }
  }
  return false;
}

}  // namespace postern
