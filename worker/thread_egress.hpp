// Where packets leave a worker thread: AF_XDP and AF_PACKET towards the cipher side, TUN, steer TAP and inside AF_XDP
// towards the plain side, raw sockets for ICMP errors. Owner: that thread; not thread-safe.
//
// Nothing here makes a system call by itself: writes and kicks are prepared on the ring and leave with its next turn.
// The two exceptions keep latency and memory bounded: 64 packets on a TX ring are kicked at once, and so is everything
// prepared when no write slot is free.
#pragma once

#include <optional>
#include <span>

#include <netinet/in.h>

#include "worker/coalesce.hpp"
#include "worker/icmp_error.hpp"
#include "worker/pipeline.hpp"
#include "worker/thread_context.hpp"
#include "worker/tun_queue.hpp"

namespace postern {

class ThreadEgress final : public Egress {
 public:
  explicit ThreadEgress(ThreadContext& context) : context_(context) {}

  void transmit(std::span<WirePacket> packets) override;
  void deliver(std::span<Delivery> packets) override;
  void icmp_error(Bytes ip_packet, std::uint32_t vrf) override;
  void unresolved(const AdjacencyKey& key, bool forward) override { context_.ask(key, forward); }
  void acquire(std::uint32_t flow, Bytes ip_packet) override;
  void peer_moved(SaSlot& slot, const SaPeer& peer) override;
  [[nodiscard]] bool expiry(SaSlot& slot, SaExpiryKind kind) override {
    return context_.outbox.put(SaNews{&slot, slot.reuse.load(std::memory_order_relaxed), kind});
  }

  // Completions of what was begun here.
  void written(const Completion& done);
  void sent(const Completion& done);
  void kicked(const Completion& failed);

  // Prepares a kick for every socket that has packets for the kernel; true: one of them must be tried again soon.
  bool kick_pending();
  // No frame is in a write or send of its own.
  [[nodiscard]] bool idle() const { return writes_.available() == write_slots && sends_under_way_ == 0; }
  // Packets on TX rings that the kernel has not taken are lost with their socket.
  void abandon(Device& device);

 private:
  static constexpr std::uint32_t write_slots = 256;
  static constexpr std::uint32_t icmp_slots = 32;
  static constexpr std::uint32_t icmp_mark = 0x80000000;  // in Token.detail of Event::sent; else a frame number

  struct IcmpSend {
    msghdr message;
    iovec part;
    sockaddr_storage destination;
    IcmpErrorBuffer bytes;
  };
  // The answer of the adjacency table for one destination, until the table changes.
  struct ForwardCache {
    AdjacencyKey key;
    std::uint64_t epoch = 0;
    std::optional<Adjacency> adjacency;
  };

  using PacketRefs = std::span<Packet* const>;
  void send_xsk(Device& out, PacketRefs packets);
  std::size_t put_packets(Device& out, PacketRefs packets);
  void put_packet(Device& out, Packet& packet);
  void send_packet_socket(Device& out, PacketRefs packets);
  void kick_now(Device& device);
  void drop_packets(PacketRefs packets, Drop reason, Device* refused_by);

  [[nodiscard]] std::span<Delivery> forward(std::span<Delivery> deliveries);
  [[nodiscard]] Device* forward_device(Delivery& delivery);
  [[nodiscard]] const std::optional<Adjacency>& forward_adjacency(const AdjacencyKey& key);
  void write_run(std::span<Delivery> run);
  [[nodiscard]] std::optional<std::uint32_t> write_slot();

  ThreadContext& context_;
  SlotPool<TunWrite, write_slots> writes_;
  SlotPool<IcmpSend, icmp_slots> icmp_;
  CoalescedBatch coalesced_;
  ForwardCache forward_cache_;
  Completions early_;
  std::uint32_t sends_under_way_ = 0;  // on AF_PACKET sockets, from frames
};

}  // namespace postern
