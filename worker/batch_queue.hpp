// One direction of one thread: the batch that is being filled, and behind it those whose cipher work is under way or
// that wait their turn. First in, first out: what leaves does so in the order in which it was closed, whoever ciphered
// it. Owner: one worker thread. Without a team there is one batch, ciphered where it is closed.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "worker/team.hpp"

namespace postern {

struct TeamMember {
  Team* team = nullptr;  // null: the only thread
  std::uint32_t self = 0;
};

class BatchQueue {
 public:
  BatchQueue(crypto::EspEngine& engine, ThreadCounters& counters, const TeamMember& member, bool sealing);

  // The batch to put jobs into; its index names what the caller keeps beside it, below slots().
  [[nodiscard]] CipherBatch& filling() { return batches_[filling_]; }
  [[nodiscard]] std::uint32_t filling_slot() const { return filling_; }
  [[nodiscard]] std::uint32_t slots() const { return slots_; }

  // Jobs from now on look up their SAs after `epoch`.
  void begin_round(std::uint64_t epoch) { epoch_ = epoch; }
  // The batch's cipher work begins: by another thread when `lend` and one is free, else here. Call finished() until it
  // is null before filling() is used again.
  void close(bool lend);

  // The slot of the oldest closed batch when its results are in: use it, then release() it. Without results nothing,
  // unless `wait`, or no other batch could be filled: then it is waited for.
  [[nodiscard]] std::optional<std::uint32_t> finished(bool wait);
  [[nodiscard]] CipherBatch& at(std::uint32_t slot) { return batches_[slot]; }
  void release();

  // Closed batches that are not released: they hold frames and SAs.
  [[nodiscard]] bool away() const { return closed_ != 0; }
  [[nodiscard]] const CipherBatch* oldest() const { return away() ? &batches_[oldest_] : nullptr; }
  // Ciphers here what nobody began.
  void take_back();

 private:
  void cipher_here(CipherBatch& batch);

  crypto::EspEngine& engine_;
  ThreadCounters& counters_;
  TeamMember member_;
  BatchRow* row_ = nullptr;              // the team's; else
  std::unique_ptr<CipherBatch> single_;  // our own
  CipherBatch* batches_ = nullptr;
  std::uint32_t slots_ = 1;
  std::uint32_t oldest_ = 0, filling_ = 0, closed_ = 0;
  std::uint64_t epoch_ = 0;
};

}  // namespace postern
