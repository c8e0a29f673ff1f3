#include "worker/outbound.hpp"

#include <algorithm>

#include "crypto/random.hpp"
#include "worker/icmp_quote.hpp"
#include "worker/tcp_mss.hpp"

namespace postern {

namespace {

// Without a generator the clock does: what it hides is that a dummy is one, and the cipher does that.
std::uint64_t seed() {
  std::array<std::byte, sizeof(std::uint64_t)> bytes;
  if (!crypto::random_bytes(bytes)) return monotonic_ns();
  std::uint64_t out;
  std::memcpy(&out, bytes.data(), sizeof out);
  return out;
}

}  // namespace

Outbound::Outbound(PipelineContext& context, const PipelineConfig& config)
    : context_(context),
      config_(config),
      held_(config.hold_packets),
      queue_(context.engine, context.counters, config.team, true),
      pending_(std::make_unique<std::array<Pending, packet_batch>[]>(queue_.slots())),
      covered_(std::make_unique_for_overwrite<std::array<CoveredHeaders, packet_batch>[]>(queue_.slots())),
      nestings_(std::make_unique<Nesting[]>(context.sad.capacity())),
      fragment_identification_(static_cast<std::uint32_t>(monotonic_ns())),
      random_(seed()) {}

void Outbound::packet(Packet packet) {
  if (!admissible(packet.flow, packet.generation)) return context_.frames.give(packet.frame);
  if (held_.waits(packet.flow)) return hold(packet, waiting_for(packet.flow));
  if (const auto wait = send(packet)) hold(packet, *wait);
}

// Counts the drop of a packet that the policy in force did not stamp.
bool Outbound::admissible(std::uint32_t flow, std::uint32_t generation) {
  if (flow == 0) {
    context_.count_drop(Drop::unknown_flow);
    return false;
  }
  if (generation != 0 && generation < oldest_generation_) {
    context_.count_drop(Drop::stale_policy);
    return false;
  }
  return true;
}

Drop Outbound::waiting_for(std::uint32_t flow) const {
  const OutboundSa* const sa = context_.sad.outbound(flow);
  if (sa == nullptr) return Drop::no_outbound_sa;
  return sa->limited && is_expired(*sa->slot) ? Drop::sa_expired : Drop::no_adjacency;
}

std::optional<Drop> Outbound::find_route(std::uint32_t flow) {
  if (route_.sa != nullptr && route_.flow == flow) return std::nullopt;
  route_.sa = nullptr;
  OutboundSa* const sa = context_.sad.outbound(flow);
  if (sa == nullptr) return Drop::no_outbound_sa;
  if (sa->limited && is_expired(*sa->slot)) return Drop::sa_expired;
  const AdjacencyKey key{sa->slot->parameters.fvrf, outer_destination(*sa)};
  const auto adjacency = context_.adjacencies.find(key);
  if (!adjacency) {
    context_.egress.unresolved(key, false);
    return Drop::no_adjacency;
  }
  const std::uint32_t path = path_mtu_of(*sa);
  std::uint32_t outer_mtu = adjacency->mtu == 0 ? path : std::min<std::uint32_t>(path, adjacency->mtu);
  const std::uint32_t nested = nested_in(*sa, adjacency->ifindex, flow);
  if (nested != 0) outer_mtu = path_through(nested, outer_mtu);
  // A path of jumbo frames carries no more than one frame of ours holds.
  const std::uint32_t plaintext_mtu = std::min(inner_mtu(*sa, outer_mtu), context_.largest_copy());
  route_ = {flow, sa, *adjacency, outer_mtu, plaintext_mtu, nested};
  return std::nullopt;
}

std::optional<Drop> Outbound::send(Packet packet) {
  if (const auto wait = find_route(packet.flow)) return wait;
  send_routed(packet);
  return std::nullopt;
}

void Outbound::send_routed(Packet packet) {
  auto info = parse_ip(packet.bytes());
  if (!info) return context_.drop(packet, Drop::unparseable);
  packet.size = info->total_bytes;  // Ethernet pads short frames
  if (route_.nested_in != 0 && packet.loops == max_packet_loops)
    return context_.drop(packet, Drop::nested_too_deep, *route_.sa->slot);
  if (const Drop refused = refuse(packet.bytes(), *info); refused != Drop::none) {
    if (is_selector_violation(refused)) route_.sa->slot->selector_drops.fetch_add(1, std::memory_order_relaxed);
    return context_.drop(packet, refused, *route_.sa->slot);
  }
  if (packet.bypassed_kernel && !forward_hop(packet, *info)) return;
  if (route_.sa->tcp_mss != 0 && is_syn(packet.bytes(), *info))
    clamp_mss(packet.bytes(), *info, mss_limit(info->family));
  if (packet.size > largest(packet.bytes(), *info)) return oversize(packet, *info);
  encapsulate(packet, *info, next_header_of(*info), false);
}

std::uint16_t Outbound::mss_limit(Family family) const {
  const std::uint16_t most = route_.sa->tcp_mss;
  return most == mss_of_path ? mss_of(family, route_.plaintext_mtu) : most;
}

// What policy forbids in this SA, whatever brought the packet here.
Drop Outbound::refuse(Bytes ip_packet, const IpInfo& info) const {
  const OutboundSa& sa = *route_.sa;
  if (sa.unicast_only && is_group_destination(ip_packet.data(), info.family)) return Drop::multicast_not_protected;
  return refused_by(*sa.selectors, ip_packet, info);
}

// In transport mode the IP headers of the packet are in the way.
std::uint32_t Outbound::largest(Bytes packet, const IpInfo& info) const {
  if (route_.sa->mode == SaMode::tunnel) [[likely]]
    return route_.plaintext_mtu;
  const auto place = place_to_protect(packet, info);
  if (!place) return route_.plaintext_mtu;
  return std::min(route_.sa->overhead.transport_mtu(route_.outer_mtu, place->bytes), context_.largest_copy());
}

// What the kernel's forwarding would have done. False: the packet's time is over, and it is gone.
bool Outbound::forward_hop(Packet& packet, IpInfo& info) {
  complete_if_partial(packet.bytes(), info);
  if (step_ttl(packet)) {
    --info.hop_limit;
    return true;
  }
  answer_hop_limit(packet, info);
  context_.drop(packet, Drop::hop_limit);
  return false;
}

// RFC 4303 §2.7: octets behind the inner packet, whose own length tells the receiver where it ends. As many as the SA
// wants and as fit; returns the packet's own size.
std::uint32_t Outbound::pad_flow(Packet& packet) const {
  const std::uint32_t own = packet.size;
  const EspOverhead& overhead = route_.sa->overhead;
  const std::uint32_t behind = std::uint32_t{overhead.block_bytes} + esp_trailer + overhead.icv_bytes;
  const std::uint32_t room = packet.tailroom() < behind ? 0 : packet.tailroom() - behind;
  const std::uint32_t wanted = std::min({std::uint32_t{route_.sa->tfc_bytes}, route_.plaintext_mtu, own + room});
  if (wanted <= own) return own;
  std::memset(packet.data() + own, 0, wanted - own);
  packet.size = wanted;
  return own;
}

void Outbound::encapsulate(Packet packet, const IpInfo& info, IpProto next_header, bool cut_outer) {
  const OutboundSa& sa = *route_.sa;
  if (sa.mode == SaMode::transport) [[unlikely]]
    return encapsulate_between(packet, info, cut_outer);
  const bool dummy = next_header == IpProto::no_next_header;
  const bool pads = sa.tfc_bytes != 0 && sa.protocol == IpProto::esp && !cut_outer && !dummy;
  const std::uint32_t inner_bytes = dummy ? 0 : pads ? pad_flow(packet) : packet.size;
  // What is padded to hide its size must not become smaller again.
  if (sa.compresses && !dummy && !pads) next_header = compress(packet, next_header);
  Around around;
  around.cut_to = cut_outer ? static_cast<std::uint16_t>(route_.outer_mtu) : std::uint16_t{0};
  around.traffic_class = outer_traffic_class(sa, info.traffic_class);
  around.dont_fragment = !cut_outer && outer_dont_fragment(sa, info.dont_fragment);
  protect(packet, inner_bytes, next_header, around);
}

// Transport mode: the packet's own headers move to the front, and become the outer ones.
void Outbound::encapsulate_between(Packet packet, const IpInfo& info, bool cut_outer) {
  const OutboundSa& sa = *route_.sa;
  const auto place = place_to_protect(packet.bytes(), info);
  // RFC 4303 §3.3.4: transport mode is for whole packets.
  if (!place) return context_.drop(packet, Drop::fragment_inner, *sa.slot);
  const std::uint32_t inner_bytes = packet.size;
  auto next_header = static_cast<IpProto>(place->next_header);
  if (sa.compresses) {
    packet.pull(place->bytes);
    next_header = compress(packet, next_header);
    packet.push(place->bytes);
  }
  const std::uint32_t moved = std::uint32_t{sa.overhead.outer_bytes} + sa.overhead.header + sa.overhead.iv_bytes;
  const std::uint32_t upper = packet.size - place->bytes;
  const std::uint32_t total = packet.size + moved + sa.overhead.trailer_bytes(upper) + sa.overhead.icv_bytes;
  if (packet.headroom() < ethernet_header + moved || total > 65535) return context_.drop(packet, Drop::no_frame);
  std::byte* const headers = packet.data() - moved;
  std::memmove(headers, packet.data(), place->bytes);
  rewrite_headers(headers, info.family, *place,
                  static_cast<std::uint8_t>(sa.udp_encapsulation ? IpProto::udp : sa.protocol), total);
  if (sa.udp_encapsulation) write_udp(sa, total - place->bytes - udp_header, headers + place->bytes);
  packet.pull(place->bytes);
  Around around;
  around.cut_to = cut_outer ? static_cast<std::uint16_t>(route_.outer_mtu) : std::uint16_t{0};
  around.network_bytes = place->bytes;
  protect(packet, inner_bytes, next_header, around);
}

// RFC 3173 §2.2: `packet` in its compressed form where that is smaller, else as it is. What its first header is then.
IpProto Outbound::compress(Packet& packet, IpProto next_header) {
  const OutboundSa& sa = *route_.sa;
  SaSlot& slot = *sa.slot;
  const auto smaller = next_header == IpProto{ipcomp_protocol}
                           ? std::nullopt  // by the host that sent it
                           : context_.compression->compress(packet.bytes(), static_cast<std::uint8_t>(next_header),
                                                            slot.parameters.compression_cpi);
  if (!smaller) {
    slot.not_compressed.fetch_add(1, std::memory_order_relaxed);
    if (packet.size >= least_to_compress) slot.compress_failed.fetch_add(1, std::memory_order_relaxed);
    return next_header;
  }
  slot.compressed.fetch_add(1, std::memory_order_relaxed);
  std::memcpy(packet.data(), smaller->data(), smaller->size());
  packet.size = static_cast<std::uint32_t>(smaller->size());
  return IpProto{ipcomp_protocol};
}

// What compress() did, undone: `packet` begins at its IPComp header, and had `bytes` before.
bool Outbound::decompress(Packet& packet, const OutboundSa& sa, std::uint32_t bytes) {
  const auto plain = context_.compression->decompress(packet.bytes(), sa.slot->parameters.compression_cpi, bytes);
  if (!plain || plain->payload.size() != bytes) return false;
  std::memcpy(packet.data(), plain->payload.data(), bytes);
  packet.size = bytes;
  sa.slot->compressed.fetch_sub(1, std::memory_order_relaxed);
  return true;
}

// `packet` is what ESP or AH protects; its trailer, header and place in the batch.
void Outbound::protect(Packet packet, std::uint32_t inner_bytes, IpProto next_header, const Around& around) {
  const OutboundSa& sa = *route_.sa;
  const EspOverhead& overhead = sa.overhead;
  const std::uint32_t trailer = overhead.trailer_bytes(packet.size);
  const std::uint32_t front = ethernet_header + overhead.outer_bytes + overhead.header + overhead.iv_bytes;
  const std::uint32_t esp_bytes = overhead.header + overhead.iv_bytes + packet.size + trailer + overhead.icv_bytes;
  const std::uint32_t lent = sa.protocol == IpProto::ah && sa.extended_sequence ? ah_lent_behind : 0;
  if (packet.headroom() < front || packet.tailroom() < trailer + overhead.icv_bytes + lent ||
      overhead.outer_bytes + esp_bytes > 65535)
    return context_.drop(packet, Drop::no_frame);

  CipherBatch& batch = queue_.filling();
  Pending& pending = pending_[queue_.filling_slot()][batch.count];
  pending.inner_bytes = inner_bytes;
  pending.dummy = next_header == IpProto::no_next_header && around.network_bytes == 0;
  pending.compressed = next_header == IpProto{ipcomp_protocol} && around.network_bytes == 0;
  if (sa.protocol == IpProto::esp) [[likely]] {
    // RFC 4303 §2.4: padding 1, 2, 3, ...; then its length and the next header.
    std::byte* const end = packet.data() + packet.size;
    const std::uint32_t padding = trailer - esp_trailer;
    for (std::uint32_t i = 0; i < padding; ++i) end[i] = static_cast<std::byte>(i + 1);
    end[padding] = static_cast<std::byte>(padding);
    end[padding + 1] = static_cast<std::byte>(next_header);
    std::memcpy(packet.push(esp_header + overhead.iv_bytes), &sa.spi, sizeof sa.spi);
  } else {
    write_ah(packet.push(overhead.header), static_cast<std::uint8_t>(next_header), overhead.header, sa.spi);
  }
  packet.size = esp_bytes;
  pending.packet = packet;
  pending.sa = route_.sa;
  pending.adjacency = route_.adjacency;
  pending.nested_in = route_.nested_in;
  pending.around = around;
  // Compressed it may fit after all.
  if (std::uint32_t{overhead.outer_bytes} + around.network_bytes + esp_bytes <= around.cut_to)
    pending.around.cut_to = 0;
  pending.refused = Drop::none;
  batch.jobs[batch.count] = {&sa.key, packet.data(), esp_bytes, 0, false};
  if (++batch.count == packet_batch) flush();
}

void Outbound::hold(const Packet& packet, Drop reason) {
  if (reason == Drop::no_outbound_sa) context_.egress.acquire(packet.flow, packet.bytes());
  if (!held_.push({packet, Clock::now() + config_.hold_time, reason})) return context_.drop(packet, Drop::hold_full);
  show_held();
}

void Outbound::poll_held(Time now) {
  if (held_.empty()) return;
  const auto try_to_send = [&](HeldPacket& held) {
    if (held.packet.generation != 0 && held.packet.generation < oldest_generation_) {
      context_.drop(held.packet, Drop::stale_policy);
      return true;
    }
    const auto wait = send(held.packet);
    if (!wait) return true;
    held.reason = *wait;
    // Asked again: the first question may have come while one that led to nothing was still fresh.
    if (*wait == Drop::no_outbound_sa) context_.egress.acquire(held.packet.flow, held.packet.bytes());
    return false;
  };
  looping_ = sweeping_ = true;  // a packet that is looped now could have to be held
  held_.sweep(now, try_to_send, [&](const HeldPacket& held) { context_.drop(held.packet, held.reason); });
  looping_ = sweeping_ = false;
  for (const HeldPacket& held : std::span(late_).first(std::exchange(late_count_, 0)))
    if (!held_.push(held)) context_.drop(held.packet, Drop::hold_full);
  show_held();
  flush();
}

void Outbound::drop_held() {
  const auto never = [](const HeldPacket&) { return false; };
  held_.sweep(Time::max(), never, [&](const HeldPacket& held) { context_.drop(held.packet, Drop::shutting_down); });
  show_held();
}

}  // namespace postern
