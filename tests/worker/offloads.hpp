// Super-packets as a TUN queue gives them, and what our segmentation makes of them.
#pragma once

#include "harness.hpp"
#include "worker/segment.hpp"

namespace postern::test {

// As a TUN queue gives a CHECKSUM_PARTIAL packet: the field holds the pseudo header's sum.
inline void make_partial(Octets& p) {
  const auto s = reference::shape(p);
  reference::put16(p, reference::checksum_at(s), reference::pseudo(p, s, p.size() - s.network) & 0xffff);
}

inline VnetHeader offload_of(const Octets& p, std::uint16_t gso_size) {
  const auto s = reference::shape(p);
  VnetHeader h;
  h.flags = vnet_needs_csum;
  h.gso_type = s.protocol == 17 ? vnet_gso_udp_l4 : s.v4 ? vnet_gso_tcpv4 : vnet_gso_tcpv6;
  h.gso_size = gso_size;
  h.header_bytes = static_cast<std::uint16_t>(s.network + (s.protocol == 17 ? 8 : (p[s.network + 12] >> 4) * 4));
  h.csum_start = static_cast<std::uint16_t>(s.network);
  h.csum_offset = s.protocol == 17 ? 6 : 16;
  return h;
}

inline InnerSpec tcp_spec(bool v4, std::size_t payload) {
  InnerSpec spec{.protocol = 6, .payload = payload, .identification = 65530, .sequence = 0xfffff000};
  spec.tcp_flags = 0x18;
  spec.tcp_options = {1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8};
  if (!v4) spec.source = "2001:db8:1::2", spec.destination = "2001:db8:2::2";
  return spec;
}

inline std::vector<Octets> segment(const VnetHeader& offload, const Octets& super, std::uint32_t mtu = 65535) {
  const Bytes bytes = reference::view(super);
  const auto info = parse_ip(bytes);
  REQUIRE(info);
  auto plan = plan_segments(offload, bytes, *info);
  REQUIRE(plan);
  REQUIRE(clamp_to_mtu(*plan, mtu));
  std::vector<Octets> out;
  for (std::uint32_t i = 0; i < plan->count; ++i) {
    out.emplace_back(segment_size(*plan, i));
    write_segment(*plan, i, reinterpret_cast<std::byte*>(out.back().data()));
  }
  return out;
}

}  // namespace postern::test
