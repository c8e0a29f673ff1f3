// Segmentation offload in software: what a NIC does with a TSO or USO super-packet, and the checksum of a packet that
// came unfinished. Works from borrowed bytes into the caller's buffers. Pure functions, any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/bytes.hpp"
#include "worker/packet.hpp"
#include "worker/parse.hpp"

namespace postern {

inline constexpr std::uint8_t vnet_needs_csum = 1;
inline constexpr std::uint8_t vnet_gso_none = 0, vnet_gso_tcpv4 = 1, vnet_gso_udp = 3, vnet_gso_tcpv6 = 4,
                              vnet_gso_udp_l4 = 5;
inline constexpr std::uint8_t vnet_gso_ecn = 0x80;
// A kernel never makes more of one super-packet (64 KB at the smallest MSS of 48 is 1365).
inline constexpr std::uint32_t max_segments = 1400;

// How a super-packet will be cut; made by plan_segments(), valid as long as the packet's bytes.
struct SegmentPlan {
  Bytes packet;  // exactly the IP packet
  Family family = Family::v4;
  bool tcp = false;
  std::uint16_t network_bytes = 0;  // IP header with options or extension headers
  std::uint16_t header_bytes = 0;   // network and transport headers, repeated in each segment
  std::uint32_t payload_bytes = 0;  // in all
  std::uint32_t segment_bytes = 0;  // payload of each segment but the last
  std::uint32_t count = 0;          // segments; at least 1
};

// Empty when header and packet contradict each other (Drop::bad_offload): nothing of the header is believed unchecked.
[[nodiscard]] std::optional<SegmentPlan> plan_segments(const VnetHeader& offload, Bytes packet, const IpInfo& info);

// Smaller TCP segments, so that each fits into `mtu` bytes. UDP datagrams keep their boundaries. False: headers alone
// do not fit.
[[nodiscard]] bool clamp_to_mtu(SegmentPlan& plan, std::uint32_t mtu);

[[nodiscard]] std::uint32_t segment_size(const SegmentPlan& plan, std::uint32_t index);

// Writes segment `index` (segment_size() bytes) to `out`: lengths, IPv4 identification, TCP sequence number, flags and
// all checksums its own. FIN and PSH stay with the last segment, CWR with the first (RFC 3168 §6.1.2).
void write_segment(const SegmentPlan& plan, std::uint32_t index, std::byte* out);

// VIRTIO_NET_HDR_F_NEEDS_CSUM of a packet that is not segmented: the field holds the pseudo header's sum, the rest is
// added. `packet` is exactly the IP packet. False: the offsets do not fit (Drop::bad_offload).
[[nodiscard]] bool complete_checksum(const VnetHeader& offload, MutableBytes packet, const IpInfo& info);

// A CHECKSUM_PARTIAL packet that reached AF_XDP without its offload header: recognised by a TCP or UDP checksum that
// equals the pseudo header's sum, and finished. A packet whose true checksum has that value comes out unchanged.
void complete_if_partial(MutableBytes packet, const IpInfo& info);

}  // namespace postern
