// Packets that wait for an SA or for their next hop: a bounded FIFO that keeps the order within each flow. Of inbound
// ones, which have no flow yet, the SPI takes its place.
// Owner: one worker thread. Memory is taken once.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "base/clock.hpp"
#include "maps/drops.hpp"
#include "worker/packet.hpp"

namespace postern {

struct HeldPacket {
  Packet packet;
  Time deadline;
  Drop reason = Drop::no_adjacency;  // what is counted when it waited in vain
  std::uint32_t fvrf = 0;            // inbound
};

class HoldQueue {
 public:
  explicit HoldQueue(std::uint32_t capacity) : capacity_(capacity), items_(std::make_unique<HeldPacket[]>(capacity)) {}

  [[nodiscard]] bool empty() const { return count_ == 0; }
  [[nodiscard]] std::uint32_t size() const { return count_; }
  // True: packets of this flow (or of one that shares its bucket) wait, so a new one must queue behind them.
  [[nodiscard]] bool waits(std::uint32_t flow) const { return count_ != 0 && flows_[bucket(flow)] != 0; }

  // False when full: the packet stays the caller's.
  [[nodiscard]] bool push(const HeldPacket& held) {
    if (count_ == capacity_) return false;
    items_[count_++] = held;
    ++flows_[bucket(held.packet.flow)];
    return true;
  }

  // In order: `send(packet)` returns true when it took the packet, `expire(held)` takes one whose time is over. Once
  // one of a flow stays, those behind it are not tried, so none overtakes. Neither may push.
  template <class Send, class Expire>
  void sweep(Time now, Send send, Expire expire) {
    std::array<bool, buckets> stuck{};
    std::uint32_t kept = 0;
    for (std::uint32_t i = 0; i < count_; ++i) {
      HeldPacket& held = items_[i];
      const std::size_t at = bucket(held.packet.flow);
      const bool sent = !stuck[at] && send(held);
      if (!sent && now < held.deadline) {
        stuck[at] = true;
        if (kept != i) items_[kept] = held;
        ++kept;
        continue;
      }
      --flows_[at];
      if (!sent) expire(held);
    }
    count_ = kept;
  }

 private:
  static constexpr std::size_t buckets = 256;
  [[nodiscard]] static std::size_t bucket(std::uint32_t flow) { return flow % buckets; }

  std::uint32_t capacity_;
  std::uint32_t count_ = 0;
  std::unique_ptr<HeldPacket[]> items_;
  std::array<std::uint32_t, buckets> flows_{};
};

}  // namespace postern
