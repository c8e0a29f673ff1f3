// Packets larger than the tunnel's plaintext MTU: cut before encapsulation, cut after it, or answered (RFC 4301 §8.2).
#include "worker/outbound.hpp"

namespace postern {

void Outbound::oversize(Packet packet, const IpInfo& info) {
  // Transport mode takes whole packets (RFC 4303 §3.3.4); one that we made ourselves is ours to cut.
  if (route_.sa->mode == SaMode::transport && (!info.dont_fragment || packet.loops != 0))
    return encapsulate(packet, info, next_header_of(info), true);
  if (!info.dont_fragment && !cut_after(packet) && route_.sa->selectors->permit_pieces(packet.bytes(), info)) {
    send_fragments(packet.bytes(), info, packet);
    return context_.frames.give(packet.frame);
  }
  // RFC 4301 §7: its later pieces would have no ports that this SA takes, so it is sealed whole and cut then.
  if (!info.dont_fragment || may_cut_outer(info)) return encapsulate(packet, info, next_header_of(info), true);
  answer_too_big(packet.bytes(), info);
  context_.drop(packet, Drop::too_big);
}

// The inner packet must stay whole, yet its sender cannot be asked for less: IPv6 guarantees 1280 (RFC 2473 §7.1), and
// `clear` says that the outer packet may be cut (RFC 4301 §8.1).
bool Outbound::may_cut_outer(const IpInfo& info) const {
  const bool plain = route_.sa->mode == SaMode::tunnel || info.network_bytes == ipv6_header;
  if (info.family == Family::v6) return info.total_bytes <= ipv6_min_mtu && plain;
  return route_.sa->df == DfPolicy::clear;
}

// Of a packet that may be cut: whether the other end of the tunnel puts it together, not the host behind it. Only where
// the outer packet may be cut too, and the whole of it fits our frame.
bool Outbound::cut_after(const Packet& packet) const {
  const OutboundSa& sa = *route_.sa;
  const std::uint32_t behind = sa.overhead.trailer_bytes(packet.size) + sa.overhead.icv_bytes;
  return sa.fragmentation == FragmentPolicy::after && sa.df != DfPolicy::set && packet.tailroom() >= behind;
}

// `like` lends flow and device; its frame stays the caller's. The one packet becomes plan->count, or a drop.
void Outbound::send_fragments(Bytes ip_packet, const IpInfo& info, const Packet& like) {
  const auto plan = plan_ipv4_fragments(ip_packet, info, route_.plaintext_mtu);
  if (!plan) return context_.count_drop(Drop::too_big);
  count(context_.counters.split, plan->count - 1);
  const Route route = route_;
  for (std::uint32_t i = 0; i < plan->count; ++i) {
    Packet piece = context_.allocate(fragment_size(*plan, i));
    if (piece.frame == no_frame) return context_.count_drop(Drop::no_frame, plan->count - i);
    write_fragment(*plan, i, piece.data());
    piece.flow = like.flow;
    piece.device = like.device;
    route_ = route;  // a full batch was flushed; the SA stays valid until this thread is quiescent
    encapsulate(piece, info, next_header_of(info), false);
  }
}

bool Outbound::may_answer_now(Bytes ip_packet, const IpInfo& info, bool too_big) {
  return may_answer(ip_packet, info, too_big) && errors_.take(Clock::now());
}

void Outbound::answer_too_big(Bytes ip_packet, const IpInfo& info) {
  if (!may_answer_now(ip_packet, info, true)) return;
  const SaSlot& slot = *route_.sa->slot;
  count(context_.counters.made);
  context_.egress.icmp_error(packet_too_big(ip_packet, info, largest(ip_packet, info), ends_of(slot).local, icmp_),
                             slot.parameters.inside_vrf);
}

void Outbound::answer_hop_limit(const Packet& packet, const IpInfo& info) {
  if (!may_answer_now(packet.bytes(), info, false)) return;
  const SaSlot& slot = *route_.sa->slot;
  count(context_.counters.made);
  context_.egress.icmp_error(time_exceeded(packet.bytes(), info, ends_of(slot).local, icmp_),
                             slot.parameters.inside_vrf);
}

// Cuts a sealed packet, which begins at its outer IP header, into Ethernet frames; `used` of wire_ are taken. Returns
// how many are then.
std::uint32_t Outbound::transmit_cut(const Pending& pending, std::uint32_t used) {
  const Bytes outer = pending.packet.bytes();
  std::optional<FragmentPlan> plan;
  const auto info = parse_ip(outer);
  // RFC 8200 §4.5: the fragment header comes behind hop-by-hop options and routing header.
  const bool behind_headers = info && info->family == Family::v6 && info->network_bytes != ipv6_header;
  if (info && info->family == Family::v4) {
    plan = plan_ipv4_fragments(outer, *info, pending.around.cut_to);
  } else {
    plan = plan_ipv6_fragments(outer, pending.around.cut_to, fragment_identification_++);
  }
  if (!plan || behind_headers) {
    context_.drop(pending.packet, Drop::too_big);
    return used;
  }
  count(context_.counters.split, plan->count - 1);
  for (std::uint32_t i = 0; i < plan->count; ++i) {
    Packet piece = context_.allocate(fragment_size(*plan, i));
    if (piece.frame == no_frame) {
      context_.count_drop(Drop::no_frame, plan->count - i);
      break;
    }
    write_fragment(*plan, i, piece.data());
    piece.device = pending.packet.device;
    if (used == packet_batch) {
      context_.egress.transmit(std::span(wire_).first(used));
      used = 0;
    }
    write_ethernet(pending.adjacency, pending.sa->outer, piece);
    wire_[used++] = {piece, pending.adjacency.ifindex};
  }
  context_.frames.give(pending.packet.frame);
  return used;
}

}  // namespace postern
