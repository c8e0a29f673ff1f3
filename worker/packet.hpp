// A packet on its way through the worker: a window into a buffer with room on both sides. Owner: one worker thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/bytes.hpp"
#include "maps/drops.hpp"

namespace postern {

inline constexpr std::size_t packet_batch = 64;

// Where the buffer came from, so that it can go back: a UMEM frame of this thread.
using FrameAddress = std::uint64_t;
inline constexpr FrameAddress no_frame = ~FrameAddress{0};

// ESP in ESP in ESP: deeper is Drop::nested_too_deep.
inline constexpr std::uint8_t max_packet_loops = 4;

struct Packet {
  std::byte* buffer = nullptr;  // start of the frame
  std::uint32_t capacity = 0;   // of the frame
  std::uint32_t offset = 0;     // first byte of the packet in the frame
  std::uint32_t size = 0;       // bytes of the packet
  std::uint32_t interface = 0;  // inbound: by which it came (AddDevice.arrives_at); 0: nobody knows
  FrameAddress frame = no_frame;
  std::uint32_t device = 0;      // index of the device it came from
  std::uint32_t flow = 0;        // outbound: the stamp's flow
  std::uint32_t generation = 0;  // outbound: the stamp's policy generation; 0 from a tunnel device
  std::uint32_t bundle = 0;      // inbound: flow of the AH SA that it came out of (SaParameters.bundle); 0: none
  std::uint8_t loops = 0;        // how often it went through the pipeline already
  bool bypassed_kernel = false;  // came by AF_XDP on the plain side: the forwarding hop's TTL step is ours

  [[nodiscard]] std::byte* data() const { return buffer + offset; }
  [[nodiscard]] MutableBytes bytes() const { return {data(), size}; }
  [[nodiscard]] std::uint32_t headroom() const { return offset; }
  [[nodiscard]] std::uint32_t tailroom() const { return capacity - offset - size; }

  // Grow or shrink at the front; the caller checked headroom() and size.
  std::byte* push(std::uint32_t count) {
    offset -= count;
    size += count;
    return data();
  }
  std::byte* pull(std::uint32_t count) {
    offset += count;
    size -= count;
    return data();
  }
};

// virtio_net_hdr without num_buffers (IFF_VNET_HDR, 10 bytes, little-endian host order).
struct VnetHeader {
  std::uint8_t flags = 0;     // 1: NEEDS_CSUM
  std::uint8_t gso_type = 0;  // 0 none, 1 TCPv4, 3 UDP (UFO), 4 TCPv6, 5 UDP_L4; 0x80: ECN
  std::uint16_t header_bytes = 0;
  std::uint16_t gso_size = 0;  // payload bytes a segment
  std::uint16_t csum_start = 0;
  std::uint16_t csum_offset = 0;
};
static_assert(sizeof(VnetHeader) == 10);

}  // namespace postern
