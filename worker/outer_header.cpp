#include "worker/outer_header.hpp"

#include "worker/checksum.hpp"
#include "worker/ecn.hpp"

namespace postern {
namespace {

void template_v4(const SaEnds& ends, std::uint8_t ttl, std::uint8_t protocol, std::byte* out) {
  ByteWriter writer({out, ipv4_min_header});
  writer.u8(0x45);
  writer.zeros(7);  // traffic class, length, identification, fragment: per packet
  writer.u8(ttl);
  writer.u8(protocol);
  writer.zeros(2);
  writer.u32(ends.local.v4_host_order());
  writer.u32(ends.remote.v4_host_order());
}

void template_v6(const SaEnds& ends, std::uint8_t ttl, std::uint8_t protocol, std::byte* out) {
  ByteWriter writer({out, ipv6_header});
  writer.u8(0x60);
  writer.zeros(5);  // traffic class, flow label, payload length
  writer.u8(protocol);
  writer.u8(ttl);
  writer.bytes(std::as_bytes(std::span(ends.local.mapped())));
  writer.bytes(std::as_bytes(std::span(ends.remote.mapped())));
}

}  // namespace

void build_outer_template(const SaParameters& p, const SaEnds& ends, OutboundSa& sa) {
  const auto protocol = static_cast<std::uint8_t>(ends.udp_encapsulation ? IpProto::udp : p.protocol);
  sa.outer = ends.local.family();
  if (sa.outer == Family::v4) {
    template_v4(ends, p.ttl, protocol, sa.header.data());
    sa.header_sum = fold(sum_bytes({sa.header.data(), ipv4_min_header}));
  } else {
    template_v6(ends, p.ttl, protocol, sa.header.data());
  }
  if (ends.udp_encapsulation) {
    std::byte* const udp = sa.header.data() + ip_header(sa.outer);
    store_be16(udp, ends.local_port);
    store_be16(udp + 2, ends.remote_port);
  }
}

std::uint8_t outer_traffic_class(const OutboundSa& sa, std::uint8_t inner) {
  const std::uint8_t dscp = sa.dscp_copy ? inner & 0xfcU : sa.dscp;
  return dscp | ecn_at_ingress(inner, sa.ecn);
}

bool outer_dont_fragment(const OutboundSa& sa, bool inner_dont_fragment) {
  return sa.df == DfPolicy::set || (sa.df == DfPolicy::copy && inner_dont_fragment);
}

void write_outer(const OutboundSa& sa, const OuterFields& fields, std::byte* outer) {
  const std::uint32_t header_bytes = sa.overhead.outer_bytes;
  std::memcpy(outer, sa.header.data(), header_bytes);
  const auto total = static_cast<std::uint16_t>(header_bytes + fields.esp_bytes);
  if (sa.outer == Family::v4) {
    const std::uint16_t flags = fields.dont_fragment ? 0x4000 : 0;
    outer[1] = static_cast<std::byte>(fields.traffic_class);
    store_be16(outer + 2, total);
    store_be16(outer + 4, fields.identification);
    store_be16(outer + 6, flags);
    store_raw16(outer + 10, finish(std::uint64_t{sa.header_sum} + word(fields.traffic_class) + word(total) +
                                   word(fields.identification) + word(flags)));
  } else {
    store_be16(outer, static_cast<std::uint16_t>(0x6000 | fields.traffic_class << 4));
    store_be16(outer + 4, static_cast<std::uint16_t>(total - ipv6_header));
  }
  if (sa.udp_encapsulation) write_udp(sa, fields.esp_bytes, outer + ip_header(sa.outer));
}

void write_udp(const OutboundSa& sa, std::uint32_t esp_bytes, std::byte* udp) {
  std::memcpy(udp, sa.header.data() + ip_header(sa.outer), udp_header);
  store_be16(udp + 4, static_cast<std::uint16_t>(udp_header + esp_bytes));
}

void finish_udp_checksum(const OutboundSa& sa, std::uint32_t esp_bytes, std::byte* outer, std::uint32_t network_bytes) {
  if (!sa.udp_encapsulation || sa.outer == Family::v4) return;
  const std::uint32_t udp_bytes = udp_header + esp_bytes;
  const auto protocol = static_cast<std::uint8_t>(IpProto::udp);
  const std::uint16_t checksum =
      finish(sum_bytes({outer + network_bytes, udp_bytes}, pseudo_header_sum(outer, Family::v6, protocol, udp_bytes)));
  store_raw16(outer + network_bytes + 6, checksum == 0 ? 0xffff : checksum);
}

void write_ethernet(const Adjacency& adjacency, Family outer, Packet& packet) {
  std::byte* const frame = packet.push(ethernet_header);
  std::memcpy(frame, adjacency.destination.data(), adjacency.destination.size());
  std::memcpy(frame + 6, adjacency.source.data(), adjacency.source.size());
  store_be16(frame + 12, static_cast<std::uint16_t>(outer == Family::v4 ? EtherType::ipv4 : EtherType::ipv6));
}

}  // namespace postern
