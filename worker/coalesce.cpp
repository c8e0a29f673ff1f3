#include "worker/coalesce.hpp"

#include <algorithm>

#include "worker/checksum.hpp"
#include "worker/parse.hpp"
#include "worker/segment.hpp"

namespace postern {
namespace {

constexpr std::uint32_t max_ip_packet = 65535;
constexpr std::uint16_t none = 0xffff;

// A packet that may take part in merging, seen once.
struct Candidate {
  std::byte* ip = nullptr;
  IpInfo info;
  bool tcp = false;
  std::uint16_t header_bytes = 0;
  std::uint32_t payload_bytes = 0;
  std::uint32_t sequence = 0;
  std::uint8_t flags = 0;
  std::uint32_t flow_hash = 0;
};

// One packet of the result while it grows: a chain of deliveries.
struct Group {
  Candidate first;
  std::uint32_t payload_bytes = 0;  // in all
  std::uint32_t segment_bytes = 0;  // of the first
  std::uint16_t last = 0;           // delivery index
  std::uint16_t packets = 1;
  bool open = false;  // may still grow
};

struct Work {
  std::array<Group, packet_batch> groups;
  std::array<std::uint16_t, packet_batch> next;        // delivery -> next delivery of its group
  std::array<std::uint16_t, packet_batch> head;        // group -> first delivery
  std::array<std::uint16_t, packet_batch> payload_at;  // delivery -> bytes of header
  std::array<std::uint16_t, 64> open_of_hash;          // flow -> its newest group
  std::size_t count = 0;
};

bool plain_network_header(const Candidate& c) {
  if (c.info.family == Family::v6) return c.info.network_bytes == ipv6_header;
  return c.info.network_bytes == ipv4_min_header && ipv4_checksum_ok(c.ip, ipv4_min_header);
}

std::uint32_t hash_flow(const Candidate& c) {
  const bool v4 = c.info.family == Family::v4;
  const std::byte* const addresses = c.ip + (v4 ? 12 : 8);
  std::uint32_t h = load_be32(c.ip + c.info.network_bytes) ^ c.info.protocol;
  for (std::size_t i = 0; i < (v4 ? 8U : 32U); i += 4) h = (h ^ load_be32(addresses + i)) * 0x9e3779b1U;
  return h >> 16;
}

// Fills in `c` for TCP and UDP that is whole and not fragmented; false: the packet passes alone, and its flow is not
// known.
bool look(Delivery& delivery, const CoalesceOptions& options, Candidate& c) {
  const auto info = parse_ip(delivery.packet.bytes());
  if (!info || info->total_bytes != delivery.packet.size || info->fragment) return false;
  c.ip = delivery.packet.data();
  c.info = *info;
  c.tcp = info->protocol == static_cast<std::uint8_t>(IpProto::tcp);
  const bool udp = info->protocol == static_cast<std::uint8_t>(IpProto::udp);
  if (!(c.tcp && options.tcp) && !(udp && options.udp)) return false;
  const std::byte* const transport = c.ip + info->network_bytes;
  if (info->upper_bytes() < (c.tcp ? tcp_min_header : udp_header)) return false;
  const std::uint32_t header = c.tcp ? (u8_at(transport + 12) >> 4) * 4U : udp_header;
  if (header < (c.tcp ? tcp_min_header : udp_header) || header > info->upper_bytes()) return false;
  if (!c.tcp && load_be16(transport + 4) != info->upper_bytes()) return false;
  c.header_bytes = static_cast<std::uint16_t>(info->network_bytes + header);
  c.payload_bytes = info->total_bytes - c.header_bytes;
  if (c.tcp) {
    c.sequence = load_be32(transport + 4);
    c.flags = u8_at(transport + 13);
  }
  c.flow_hash = hash_flow(c);
  return true;
}

// May begin or join a super-packet: data, ordinary flags, and a checksum that is right.
bool mergeable(Candidate& c) {
  if (c.payload_bytes == 0 || !plain_network_header(c)) return false;
  if (c.tcp && (c.flags & ~(tcp_fin | tcp_psh | tcp_ece | tcp_cwr)) != tcp_ack) return false;
  const std::byte* const transport = c.ip + c.info.network_bytes;
  const std::uint32_t upper = c.info.upper_bytes();
  if (!c.tcp && load_raw16(transport + 6) == 0) return false;  // RFC 768: sent without a checksum
  return fold(sum_bytes({transport, upper}, pseudo_header_sum(c.ip, c.info.family, c.info.protocol, upper))) == 0xffff;
}

bool same_flow(const Candidate& a, const Candidate& b) {
  if (a.flow_hash != b.flow_hash || a.info.family != b.info.family || a.info.protocol != b.info.protocol) return false;
  const bool v4 = a.info.family == Family::v4;
  const bool addresses = std::memcmp(a.ip + (v4 ? 12 : 8), b.ip + (v4 ? 12 : 8), v4 ? 8 : 32) == 0;
  return addresses && std::memcmp(a.ip + a.info.network_bytes, b.ip + b.info.network_bytes, 4) == 0;
}

// Everything in the network header that a segment shares with the super-packet it was cut from.
bool same_network_header(const Candidate& a, const Candidate& b, std::uint32_t index) {
  if (a.info.traffic_class != b.info.traffic_class || a.info.hop_limit != b.info.hop_limit) return false;
  if (a.info.network_bytes != b.info.network_bytes) return false;
  if (a.info.family == Family::v6) return std::memcmp(a.ip, b.ip, 4) == 0;  // with the flow label
  if (load_be16(a.ip + 6) != load_be16(b.ip + 6)) return false;
  // RFC 6864: with DF the number says nothing; without it the kernel will count up again when it cuts.
  return a.info.dont_fragment || static_cast<std::uint16_t>(load_be16(a.ip + 4) + index) == load_be16(b.ip + 4);
}

bool same_tcp_header(const Candidate& a, const Candidate& b) {
  const std::byte* const x = a.ip + a.info.network_bytes;
  const std::byte* const y = b.ip + b.info.network_bytes;
  const std::uint32_t options = a.header_bytes - a.info.network_bytes - tcp_min_header;
  return std::memcmp(x + 8, y + 8, 5) == 0 &&            // acknowledgement, header length
         std::memcmp(x + 14, y + 14, 2) == 0 &&          // window
         std::memcmp(x + 18, y + 18, 2 + options) == 0;  // urgent pointer, options
}

// RFC 9293 and RFC 3168: what the cut of one super-packet would have put into its next segment.
bool continues(const Group& group, const Candidate& c) {
  if (!group.open || c.payload_bytes > group.segment_bytes || c.header_bytes != group.first.header_bytes) return false;
  if (group.first.header_bytes + group.payload_bytes + c.payload_bytes > max_ip_packet) return false;
  if (!same_network_header(group.first, c, group.packets)) return false;
  if (!c.tcp) return true;
  if (c.sequence != group.first.sequence + group.payload_bytes || (c.flags & tcp_cwr) != 0) return false;
  return (c.flags & tcp_ece) == (group.first.flags & tcp_ece) && same_tcp_header(group.first, c);
}

void start(Work& work, std::uint16_t index, const Candidate* c, bool may_grow) {
  Group& group = work.groups[work.count];
  group = {};
  group.last = index;
  if (c != nullptr) {
    group.first = *c;
    group.payload_bytes = group.segment_bytes = c->payload_bytes;
    group.open = may_grow && (c->flags & (tcp_fin | tcp_psh)) == 0;
    work.open_of_hash[c->flow_hash % work.open_of_hash.size()] = static_cast<std::uint16_t>(work.count);
  }
  work.head[work.count] = index;
  work.next[index] = none;
  ++work.count;
}

void append(Work& work, Group& group, std::uint16_t index, const Candidate& c) {
  work.next[group.last] = index;
  work.next[index] = none;
  work.payload_at[index] = c.header_bytes;
  group.last = index;
  ++group.packets;
  group.payload_bytes += c.payload_bytes;
  // A short segment, FIN or PSH is the last of its super-packet.
  group.open = c.payload_bytes == group.segment_bytes && (c.flags & (tcp_fin | tcp_psh)) == 0;
  group.first.flags |= c.flags & (tcp_fin | tcp_psh);
}

// The header of the first packet becomes the super-packet's; its checksum field holds the pseudo header's sum.
VnetHeader finish_headers(const Group& group) {
  const Candidate& c = group.first;
  const std::uint32_t total = c.header_bytes + group.payload_bytes;
  const std::uint32_t upper = total - c.info.network_bytes;
  const bool v4 = c.info.family == Family::v4;
  std::byte* const transport = c.ip + c.info.network_bytes;
  if (v4) {
    store_be16(c.ip + 2, static_cast<std::uint16_t>(total));
    set_ipv4_checksum(c.ip, ipv4_min_header);
  } else {
    store_be16(c.ip + 4, static_cast<std::uint16_t>(upper));
  }
  if (c.tcp)
    transport[13] = static_cast<std::byte>(c.flags);
  else
    store_be16(transport + 4, static_cast<std::uint16_t>(upper));

  VnetHeader offload;
  offload.flags = vnet_needs_csum;
  offload.gso_type = !c.tcp ? vnet_gso_udp_l4 : v4 ? vnet_gso_tcpv4 : vnet_gso_tcpv6;
  if (c.tcp && (c.flags & tcp_cwr) != 0) offload.gso_type |= vnet_gso_ecn;
  offload.header_bytes = c.header_bytes;
  offload.gso_size = static_cast<std::uint16_t>(group.segment_bytes);
  offload.csum_start = c.info.network_bytes;
  offload.csum_offset = c.tcp ? 16 : 6;
  store_raw16(transport + offload.csum_offset, fold(pseudo_header_sum(c.ip, c.info.family, c.info.protocol, upper)));
  return offload;
}

void emit(const Work& work, std::span<Delivery> deliveries, CoalescedBatch& out) {
  std::size_t used = 0;
  for (std::size_t g = 0; g < work.count; ++g) {
    const Group& group = work.groups[g];
    CoalescedPacket& packet = out.packet[out.count++];
    const std::size_t begin = used;
    packet.offload = group.packets > 1 ? finish_headers(group) : VnetHeader{};
    packet.packets = group.packets;
    packet.bytes = 0;
    packet.family = deliveries[work.head[g]].family;
    for (std::uint16_t i = work.head[g]; i != none; i = work.next[i]) {
      const Packet& piece = deliveries[i].packet;
      const std::uint32_t skip = i == work.head[g] ? 0 : work.payload_at[i];
      out.iovecs[used++] = {piece.data() + skip, piece.size - skip};
      packet.bytes += piece.size - skip;
    }
    packet.parts = std::span(out.iovecs).subspan(begin, used - begin);
    out.merged += group.packets - 1U;
  }
}

}  // namespace

void coalesce(std::span<Delivery> deliveries, const CoalesceOptions& options, CoalescedBatch& out) {
  Work work;
  work.open_of_hash.fill(none);
  out.count = 0;
  out.merged = 0;
  for (std::size_t i = 0; i < deliveries.size(); ++i) {
    const auto index = static_cast<std::uint16_t>(i);
    Candidate candidate;
    if (!look(deliveries[i], options, candidate)) {
      // A fragment's flow is not known: nothing that comes after it may overtake it by joining an earlier packet.
      if (const auto info = parse_ip(deliveries[i].packet.bytes()); !info || info->fragment)
        work.open_of_hash.fill(none);
      start(work, index, nullptr, false);
      continue;
    }
    const bool good = mergeable(candidate);
    const std::uint16_t newest = work.open_of_hash[candidate.flow_hash % work.open_of_hash.size()];
    Group* const group = newest == none ? nullptr : &work.groups[newest];
    if (good && group != nullptr && same_flow(group->first, candidate) && continues(*group, candidate)) {
      append(work, *group, index, candidate);
    } else {
      start(work, index, &candidate, good);
    }
  }
  emit(work, deliveries, out);
}

}  // namespace postern
