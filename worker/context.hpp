// What both directions of one thread's pipeline share. Owner: one worker thread.
#pragma once

#include <cstdint>
#include <memory>

#include "crypto/packet_cipher.hpp"
#include "maps/adjacency.hpp"
#include "maps/counters.hpp"
#include "worker/compression.hpp"
#include "worker/loop_policy.hpp"
#include "worker/packet.hpp"
#include "worker/pipeline.hpp"
#include "worker/sad.hpp"

namespace postern {

inline constexpr std::uint32_t frame_headroom = 128;  // of packets that the pipeline copies into frames
inline constexpr std::uint32_t frame_tailroom = 64;

[[nodiscard]] constexpr std::uint8_t told_bit(SaExpiryKind kind) {
  return static_cast<std::uint8_t>(1U << static_cast<std::uint32_t>(kind));
}
// A hard lifetime was reached; smaller packets, which would still fit, do not slip through.
[[nodiscard]] inline bool is_expired(const SaSlot& slot) {
  return (slot.told.load(std::memory_order_relaxed) & told_bit(SaExpiryKind::hard)) != 0;
}

struct PipelineContext {
  crypto::EspEngine engine;
  Sad& sad;
  const AdjacencyTable& adjacencies;
  FramePool& frames;
  ThreadCounters& counters;
  Egress& egress;
  std::unique_ptr<Compression> compression = std::make_unique<Compression>();
  bool crowded = false;                        // more waits than is taken
  std::shared_ptr<const LoopPolicy> policy{};  // null: nothing that this node makes is protected again
  std::uint32_t held_outbound = 0, held_inbound = 0;

  void count_drop(Drop reason, std::uint64_t packets = 1) {
    count(counters.drops[static_cast<std::size_t>(reason)], packets);
  }
  void drop(const Packet& packet, Drop reason) {
    count_drop(reason);
    frames.give(packet.frame);
  }
  // A drop that an SA is to blame for; its own counters are for `show crypto ipsec sa`.
  void drop(const Packet& packet, Drop reason, SaSlot& slot) {
    slot.errors.fetch_add(1, std::memory_order_relaxed);
    drop(packet, reason);
  }

  // Tells the installer of an SA once about each kind.
  void tell(SaSlot& slot, SaExpiryKind kind) {
    const std::uint8_t bit = told_bit(kind);
    if ((slot.told.load(std::memory_order_relaxed) & bit) != 0) return;
    if ((slot.told.fetch_or(bit, std::memory_order_relaxed) & bit) != 0) return;
    if (!egress.expiry(slot, kind)) slot.told.fetch_and(static_cast<std::uint8_t>(~bit), std::memory_order_relaxed);
  }

  void publish_held() { counters.held.store(held_outbound + held_inbound, std::memory_order_relaxed); }

  [[nodiscard]] std::uint32_t largest_copy() const { return frames.frame_bytes() - frame_headroom - frame_tailroom; }
  // An empty packet of `size` bytes on a fresh frame; frame == no_frame when there is none. size <= largest_copy().
  [[nodiscard]] Packet allocate(std::uint32_t size) {
    Packet packet;
    packet.frame = frames.take();
    if (packet.frame == no_frame) return packet;
    packet.buffer = frames.at(packet.frame);
    packet.capacity = frames.frame_bytes();
    packet.offset = frame_headroom;
    packet.size = size;
    return packet;
  }
};

}  // namespace postern
