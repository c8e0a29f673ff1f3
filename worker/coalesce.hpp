// Receive coalescing: consecutive segments of a TCP connection (or equal datagrams of a UDP flow) become one
// super-packet with a virtio-net header, as a TUN or TAP queue takes it. The inverse of worker/segment.hpp:
// coalesce(segment(x)) == x. Owner: one worker thread. No allocation.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include <sys/uio.h>

#include "worker/packet.hpp"
#include "worker/pipeline.hpp"

namespace postern {

// One write to the queue: `offload`, then (TAP only) the caller's Ethernet header, then the parts in order. For a TAP
// the caller adds 14 to header_bytes and csum_start where they are not zero.
struct CoalescedPacket {
  VnetHeader offload;
  std::span<const iovec> parts;  // the IP packet: the first begins at its IP header, the others are payload
  std::uint32_t bytes = 0;       // of the IP packet
  std::uint32_t packets = 0;     // how many it was made of
  Family family = Family::v4;
};

// Scratch and result of one call; reused. Its parts point into the frames of the Deliveries that were passed in.
struct CoalescedBatch {
  std::size_t count = 0;     // entries of `packet` that are valid
  std::uint32_t merged = 0;  // packets that vanished by merging: ThreadCounters.merged grows by it
  std::array<CoalescedPacket, packet_batch> packet;

  [[nodiscard]] std::span<const CoalescedPacket> packets() const { return {packet.data(), count}; }

  std::array<iovec, packet_batch> iovecs;  // behind `parts`
};

struct CoalesceOptions {
  bool tcp = true;
  bool udp = false;  // UDP_L4 (USO): only for queues that took TUN_F_USO4 | TUN_F_USO6 (kernel 6.2)
};

// `deliveries`: at most packet_batch packets for one target, in order, each a whole inner packet as the pipeline
// delivers it. The frames stay the caller's and must live until the parts were written; headers of merged packets are
// changed in place. Order within a flow is kept; packets that cannot be merged pass alone with an empty offload header.
// A segment is merged only when its checksum verified, because the result is marked NEEDS_CSUM and nobody looks again.
void coalesce(std::span<Delivery> deliveries, const CoalesceOptions& options, CoalescedBatch& out);

}  // namespace postern
