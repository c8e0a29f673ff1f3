// What a TUN or TAP queue gives: borrowed bytes with a virtio-net header, copied into frames as packets that fit the
// tunnel.
#include <algorithm>

#include "worker/icmp_quote.hpp"
#include "worker/outbound.hpp"

namespace postern {

void Outbound::super_packet(const VnetHeader& offload, Bytes ip_packet, std::uint32_t flow, std::uint32_t generation) {
  if (!admissible(flow, generation)) return;
  const auto info = parse_ip(ip_packet);
  if (!info) return context_.count_drop(Drop::unparseable);
  ip_packet = ip_packet.first(info->total_bytes);
  Packet like;
  like.flow = flow;
  like.generation = generation;
  if (offload.gso_type == vnet_gso_none) return plain_from_queue(offload, ip_packet, *info, like);

  auto plan = plan_segments(offload, ip_packet, *info);
  if (!plan) return context_.count_drop(Drop::bad_offload);
  // Without a route yet the segments wait as the kernel wanted them, and are judged one by one when it is there.
  const bool routed = !held_.waits(flow) && !find_route(flow);
  const std::uint32_t mtu = routed ? largest(ip_packet, *info) : context_.largest_copy();
  if (!clamp_to_mtu(*plan, mtu) || segment_size(*plan, 0) > context_.largest_copy())
    return context_.count_drop(Drop::too_big);
  send_segments(*plan, like);
}

void Outbound::send_segments(const SegmentPlan& plan, const Packet& like) {
  count(context_.counters.split, plan.count - 1);
  for (std::uint32_t i = 0; i < plan.count; ++i) {
    const Packet piece = allocate(segment_size(plan, i), like);
    if (piece.frame == no_frame) return context_.count_drop(Drop::no_frame, plan.count - i);
    write_segment(plan, i, piece.data());
    packet(piece);
  }
}

void Outbound::plain_from_queue(const VnetHeader& offload, Bytes ip_packet, const IpInfo& info, const Packet& like) {
  if (ip_packet.size() > context_.largest_copy()) return oversize_from_queue(offload, ip_packet, info, like);
  const Packet copy = allocate(static_cast<std::uint32_t>(ip_packet.size()), like);
  if (copy.frame == no_frame) return context_.count_drop(Drop::no_frame);
  std::memcpy(copy.data(), ip_packet.data(), ip_packet.size());
  if (!complete_checksum(offload, copy.bytes(), info)) return context_.drop(copy, Drop::bad_offload);
  packet(copy);
}

// Larger than a frame, so larger than any tunnel of ours: it is cut or answered from where it lies, and never held.
void Outbound::oversize_from_queue(const VnetHeader& offload, Bytes ip_packet, const IpInfo& info, const Packet& like) {
  const MutableBytes whole = MutableBytes(scratch_).first(ip_packet.size());
  std::memcpy(whole.data(), ip_packet.data(), ip_packet.size());
  if (!complete_checksum(offload, whole, info)) return context_.count_drop(Drop::bad_offload);
  if (held_.waits(like.flow)) return context_.count_drop(Drop::hold_full);
  if (const auto wait = find_route(like.flow)) {
    if (*wait == Drop::no_outbound_sa) context_.egress.acquire(like.flow, whole);
    return context_.count_drop(*wait);
  }
  const bool tunnel = route_.sa->mode == SaMode::tunnel;
  if (const Drop refused = refuse(whole, info); refused != Drop::none) return context_.count_drop(refused);
  if (!info.dont_fragment && tunnel && !route_.sa->selectors->permit_pieces(whole, info))
    return context_.count_drop(Drop::fragment_selector);  // nor is there a frame that holds it whole
  if (!info.dont_fragment && tunnel) return send_fragments(whole, info, like);
  if (info.dont_fragment) answer_too_big(whole, info);
  context_.count_drop(Drop::too_big);
}

Packet Outbound::allocate(std::uint32_t size, const Packet& like) {
  Packet out = context_.allocate(size);
  if (out.frame == no_frame) {
    finish();  // batches hold frames; transmitting may bring some back
    out = context_.allocate(size);
  }
  out.flow = like.flow;
  out.generation = like.generation;
  out.device = like.device;
  return out;
}

}  // namespace postern
