#include "worker/segment.hpp"

#include <algorithm>

#include "worker/checksum.hpp"

namespace postern {
namespace {

constexpr std::uint32_t tcp_checksum_offset = 16;
constexpr std::uint32_t udp_checksum_offset = 6;

constexpr auto tcp_number = static_cast<std::uint8_t>(IpProto::tcp);
constexpr auto udp_number = static_cast<std::uint8_t>(IpProto::udp);

// The transport header's size; 0 when it does not fit.
std::uint32_t transport_bytes(Bytes packet, const IpInfo& info) {
  if (info.protocol == udp_number) return info.upper_bytes() < udp_header ? 0 : udp_header;
  if (info.upper_bytes() < tcp_min_header) return 0;
  const std::uint32_t bytes = (u8_at(packet.data() + info.network_bytes + 12) >> 4) * 4U;
  return bytes < tcp_min_header || bytes > info.upper_bytes() ? 0 : bytes;
}

bool type_fits(std::uint8_t gso_type, const IpInfo& info) {
  switch (gso_type & ~vnet_gso_ecn) {
    case vnet_gso_tcpv4: return info.family == Family::v4 && info.protocol == tcp_number;
    case vnet_gso_tcpv6: return info.family == Family::v6 && info.protocol == tcp_number;
    case vnet_gso_udp_l4: return info.protocol == udp_number;
    default: return false;  // UFO was never offered
  }
}

bool checksum_request_fits(const VnetHeader& offload, const IpInfo& info) {
  if ((offload.flags & vnet_needs_csum) == 0) return true;
  const std::uint32_t field = info.protocol == tcp_number ? tcp_checksum_offset : udp_checksum_offset;
  return offload.csum_start == info.network_bytes && offload.csum_offset == field;
}

void write_tcp_fields(const SegmentPlan& plan, std::uint32_t index, std::byte* tcp) {
  store_be32(tcp + 4, load_be32(tcp + 4) + index * plan.segment_bytes);
  std::uint8_t flags = u8_at(tcp + 13);
  if (index + 1 != plan.count) flags &= static_cast<std::uint8_t>(~(tcp_fin | tcp_psh));
  if (index != 0) flags &= static_cast<std::uint8_t>(~tcp_cwr);
  tcp[13] = static_cast<std::byte>(flags);
}

}  // namespace

std::optional<SegmentPlan> plan_segments(const VnetHeader& offload, Bytes packet, const IpInfo& info) {
  if (info.fragment || offload.gso_size == 0 || !type_fits(offload.gso_type, info) ||
      !checksum_request_fits(offload, info))
    return std::nullopt;
  const std::uint32_t transport = transport_bytes(packet, info);
  if (transport == 0) return std::nullopt;
  SegmentPlan plan;
  plan.packet = packet.first(info.total_bytes);
  plan.family = info.family;
  plan.tcp = info.protocol == tcp_number;
  plan.network_bytes = info.network_bytes;
  plan.header_bytes = static_cast<std::uint16_t>(info.network_bytes + transport);
  plan.payload_bytes = info.total_bytes - plan.header_bytes;
  plan.segment_bytes = offload.gso_size;
  plan.count = std::max<std::uint32_t>(1, (plan.payload_bytes + plan.segment_bytes - 1) / plan.segment_bytes);
  if (plan.count > max_segments) return std::nullopt;
  return plan;
}

bool clamp_to_mtu(SegmentPlan& plan, std::uint32_t mtu) {
  if (!plan.tcp || plan.header_bytes + std::min(plan.segment_bytes, plan.payload_bytes) <= mtu) return true;
  if (mtu <= plan.header_bytes) return false;
  plan.segment_bytes = mtu - plan.header_bytes;
  plan.count = (plan.payload_bytes + plan.segment_bytes - 1) / plan.segment_bytes;
  return plan.count <= max_segments;
}

std::uint32_t segment_size(const SegmentPlan& plan, std::uint32_t index) {
  const std::uint32_t before = index * plan.segment_bytes;
  return plan.header_bytes + std::min(plan.segment_bytes, plan.payload_bytes - before);
}

void write_segment(const SegmentPlan& plan, std::uint32_t index, std::byte* out) {
  const std::uint32_t size = segment_size(plan, index);
  const std::uint32_t payload = size - plan.header_bytes;
  std::memcpy(out, plan.packet.data(), plan.header_bytes);
  const std::byte* const from = plan.packet.data() + plan.header_bytes + std::size_t{index} * plan.segment_bytes;
  std::memcpy(out + plan.header_bytes, from, payload);

  if (plan.family == Family::v4) {
    store_be16(out + 2, static_cast<std::uint16_t>(size));
    store_be16(out + 4, static_cast<std::uint16_t>(load_be16(out + 4) + index));
    set_ipv4_checksum(out, plan.network_bytes);
  } else {
    store_be16(out + 4, static_cast<std::uint16_t>(size - ipv6_header));
  }
  std::byte* const transport = out + plan.network_bytes;
  const std::uint32_t upper = size - plan.network_bytes;
  if (plan.tcp) {
    write_tcp_fields(plan, index, transport);
  } else {
    store_be16(transport + 4, static_cast<std::uint16_t>(upper));
  }
  std::byte* const field = transport + (plan.tcp ? tcp_checksum_offset : udp_checksum_offset);
  store_raw16(field, 0);
  const std::uint8_t protocol = plan.tcp ? tcp_number : udp_number;
  const std::uint16_t sum = finish(sum_bytes({transport, upper}, pseudo_header_sum(out, plan.family, protocol, upper)));
  store_raw16(field, sum == 0 && !plan.tcp ? 0xffff : sum);  // RFC 768: zero means no checksum
}

bool complete_checksum(const VnetHeader& offload, MutableBytes packet, const IpInfo& info) {
  if ((offload.flags & vnet_needs_csum) == 0) return true;
  const std::uint32_t start = offload.csum_start;
  const std::uint32_t least = info.family == Family::v4 ? ipv4_min_header : ipv6_header;
  if (start < least || start + offload.csum_offset + 2U > packet.size()) return false;
  const std::uint16_t sum = finish(sum_bytes(packet.subspan(start)));
  const bool udp = info.protocol == udp_number && start == info.network_bytes;
  store_raw16(packet.data() + start + offload.csum_offset, sum == 0 && udp ? 0xffff : sum);
  return true;
}

void complete_if_partial(MutableBytes packet, const IpInfo& info) {
  if (info.fragment || (info.protocol != tcp_number && info.protocol != udp_number)) return;
  const bool udp = info.protocol == udp_number;
  const std::uint32_t upper = info.upper_bytes();
  if (upper < (udp ? udp_header : tcp_min_header)) return;
  std::byte* const transport = packet.data() + info.network_bytes;
  std::byte* const field = transport + (udp ? udp_checksum_offset : tcp_checksum_offset);
  const std::uint64_t pseudo = pseudo_header_sum(packet.data(), info.family, info.protocol, upper);
  if (load_raw16(field) != fold(pseudo)) return;
  const std::uint16_t sum = finish(sum_bytes({transport, upper}));
  store_raw16(field, sum == 0 && udp ? 0xffff : sum);
}

}  // namespace postern
