// Cipher work between the threads of a worker: a thread whose receive queue is busy lends whole batches to threads that
// have nothing to do. Only sealing or opening goes abroad; sequence numbers are given before, replay and selector
// checks come after, by the owner, which takes batches back in the order in which it closed them.
//
// Nothing here allocates, locks or waits after construction. A batch never leaves its place in its owner's queue: a
// helper finds it there, and whoever moves its state from `offered` ciphers it. So the owner can always take back what
// nobody began. A system call is made for a batch only when its helper, or its owner, sleeps.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "crypto/packet_cipher.hpp"
#include "maps/counters.hpp"
#include "worker/packet.hpp"
#include "worker/thread_mailbox.hpp"

namespace postern {

inline constexpr std::uint32_t batches_in_queue =
    16;  // of one thread and direction: filling, away or waiting their turn

enum class BatchState : std::uint32_t {
  owned,    // the owner's to fill and to cipher
  offered,  // anybody's
  taken,    // a helper's
  done,     // the owner's again, ciphered by a helper
};

struct alignas(64) CipherBatch {
  std::atomic<BatchState> state{BatchState::owned};
  bool sealing = true;
  bool ciphered = false;    // the owner's note: results are in
  std::uint32_t owner = 0;  // thread
  std::uint32_t count = 0;  // of jobs
  std::uint64_t since = 0;  // the owner looked up its SAs after this epoch of the SAD
  std::array<crypto::EspJob, packet_batch> jobs;

  void cipher(crypto::EspEngine& engine) {
    const std::span all = std::span(jobs).first(count);
    sealing ? engine.seal(all) : engine.open(all);
  }
};

// The batches of one direction of one thread.
struct BatchRow {
  std::array<CipherBatch, batches_in_queue> batches;
  std::atomic<std::uint32_t> offers{0};  // batches in state `offered`, about: tells helpers where to look
  std::atomic<std::uint32_t> oldest{0};  // index to look at first
};

class Team {
 public:
  explicit Team(std::uint32_t threads);
  [[nodiscard]] std::uint32_t size() const { return static_cast<std::uint32_t>(members_.size()); }

  // Before thread `self` starts. The bell wakes it; it outlives the thread.
  void join(std::uint32_t self, std::shared_ptr<const Bell> bell) { members_[self]->bell = std::move(bell); }
  [[nodiscard]] BatchRow& row(std::uint32_t self, bool sealing) { return members_[self]->rows[sealing ? 1 : 0]; }

  // Owner. True: a thread that is free will see the batch, and it is offered; else it is still `owned`.
  [[nodiscard]] bool offer(std::uint32_t self, BatchRow& row, CipherBatch& batch);
  // Owner. True: nobody began it, and it is `owned` again.
  [[nodiscard]] static bool take_back(BatchRow& row, CipherBatch& batch);

  // Helper: somebody's oldest offered batch, now `taken`; null when there is none. finish() when it is ciphered.
  [[nodiscard]] CipherBatch* take(std::uint32_t self);
  void finish(CipherBatch& batch);

  // What thread `self` does now. Only one that said free() or about_to_sleep() is offered batches.
  void busy(std::uint32_t self) { set(self, State::busy); }
  void free(std::uint32_t self) { set(self, State::free); }
  // False: there is something to take, or one of its own batches that was away is done: no sleep then. `waits`: batches
  // of its own are away, and their helper has to wake it.
  [[nodiscard]] bool about_to_sleep(std::uint32_t self, const CipherBatch* waits);

 private:
  enum class State : std::uint32_t { busy, free, asleep };
  struct alignas(64) Member {
    std::atomic<State> state{State::busy};
    std::atomic<bool> waits{false};
    std::shared_ptr<const Bell> bell;
    std::array<BatchRow, 2> rows;
  };
  void set(std::uint32_t self, State state) { members_[self]->state.store(state, std::memory_order_relaxed); }
  [[nodiscard]] bool anything_offered(std::uint32_t self) const;

  std::vector<std::unique_ptr<Member>> members_;
};

}  // namespace postern
