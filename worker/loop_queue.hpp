// Packets that go through the pipeline once more: what was sealed and is protected again, what was opened and is ESP
// for this node. Bounded FIFO; memory is taken once. Owner: one worker thread.
#pragma once

#include <cstdint>
#include <memory>

#include "worker/packet.hpp"

namespace postern {

struct LoopedPacket {
  Packet packet;
  std::uint32_t vrf = 0;  // inbound: of its outer addresses
};

class LoopQueue {
 public:
  static constexpr std::uint32_t capacity = 2048;  // power of two; more than all batches of a thread hold

  [[nodiscard]] bool empty() const { return first_ == last_; }
  // False when full: the packet stays the caller's.
  [[nodiscard]] bool push(const LoopedPacket& packet) {
    if (last_ - first_ == capacity) return false;
    items_[last_++ % capacity] = packet;
    return true;
  }
  [[nodiscard]] LoopedPacket pop() { return items_[first_++ % capacity]; }

 private:
  std::unique_ptr<LoopedPacket[]> items_ = std::make_unique<LoopedPacket[]>(capacity);
  std::uint32_t first_ = 0, last_ = 0;
};

}  // namespace postern
