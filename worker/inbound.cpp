#include "worker/inbound.hpp"

#include "worker/checksum.hpp"
#include "worker/ecn.hpp"
#include "worker/icmp_quote.hpp"
#include "worker/tcp_mss.hpp"

namespace postern {
namespace {

constexpr std::uint8_t ipv4_in_esp = static_cast<std::uint8_t>(IpProto::ipv4);
constexpr std::uint8_t ipv6_in_esp = static_cast<std::uint8_t>(IpProto::ipv6);

constexpr std::uint16_t encapsulation_port = 4500;  // RFC 3948 §2.1

// The inner traffic class with new ECN bits.
void set_ecn(std::byte* ip, Family family, std::uint8_t ecn) {
  if (family == Family::v4) {
    const std::uint16_t before = load_raw16(ip);
    ip[1] = static_cast<std::byte>((std::to_integer<std::uint8_t>(ip[1]) & 0xfcU) | ecn);
    adjust_checksum(ip + 10, before, load_raw16(ip));
  } else {
    ip[1] = static_cast<std::byte>((std::to_integer<std::uint8_t>(ip[1]) & 0xcfU) | ecn << 4);
  }
}

}  // namespace

Inbound::Inbound(PipelineContext& context, const PipelineConfig& config)
    : context_(context),
      path_mtu_(context.sad),
      held_(config.hold_inbound_packets),
      hold_time_(config.hold_time),
      queue_(context.engine, context.counters, config.team, false),
      pending_(std::make_unique<std::array<Pending, packet_batch>[]>(queue_.slots())),
      covered_(std::make_unique_for_overwrite<std::array<CoveredHeaders, packet_batch>[]>(queue_.slots())) {}

std::expected<OuterEsp, Drop> parse_outer_esp(Bytes packet) {
  const auto info = parse_ip(packet);
  if (!info) return std::unexpected(Drop::unparseable);
  if (info->fragment) return std::unexpected(Drop::fragment_outer);
  OuterEsp esp;
  esp.family = info->family;
  esp.network_bytes = info->network_bytes;
  esp.esp_offset = info->network_bytes;
  esp.esp_bytes = info->upper_bytes();
  if (info->protocol == static_cast<std::uint8_t>(IpProto::udp)) {
    ByteReader udp(packet.subspan(esp.esp_offset, esp.esp_bytes));
    esp.udp_source = udp.u16();
    esp.udp_port = udp.u16();
    const std::uint32_t length = udp.u16();
    if (!udp.ok() || length < udp_header || length > esp.esp_bytes) return std::unexpected(Drop::unparseable);
    esp.udp = true;
    esp.esp_offset += udp_header;
    esp.esp_bytes = length - udp_header;
    // RFC 3948 §2.2, §2.3: what shares the port and is no ESP.
    const Bytes payload = packet.subspan(esp.esp_offset, esp.esp_bytes);
    if (payload.size() == 1 && payload[0] == std::byte{0xff}) return std::unexpected(Drop::nat_keepalive);
    if (payload.size() >= 4 && load_be32(payload.data()) == 0) return std::unexpected(Drop::ike_message);
  } else if (info->protocol == static_cast<std::uint8_t>(IpProto::ah)) {
    esp.protocol = IpProto::ah;
  } else if (info->protocol != static_cast<std::uint8_t>(IpProto::esp)) {
    return std::unexpected(Drop::unparseable);
  }
  ByteReader header(packet.subspan(esp.esp_offset, esp.esp_bytes));
  if (esp.protocol == IpProto::ah) {
    header.skip(1);
    esp.length_field = header.u8();
    header.skip(2);
  }
  esp.spi = header.u32();
  esp.sequence = header.u32();
  if (!header.ok()) return std::unexpected(Drop::esp_runt);
  esp.destination = destination_of(packet.data(), info->family);
  esp.traffic_class = info->traffic_class;
  return esp;
}

std::expected<InnerPlain, Drop> parse_esp_trailer(Bytes plain) {
  const std::size_t size = plain.size();
  if (size < esp_trailer) return std::unexpected(Drop::bad_padding);
  const auto next_header = std::to_integer<std::uint8_t>(plain[size - 1]);
  const auto padding = std::to_integer<std::size_t>(plain[size - 2]);
  if (padding > size - esp_trailer) return std::unexpected(Drop::bad_padding);
  const Bytes pad = plain.subspan(size - esp_trailer - padding, padding);
  for (std::size_t i = 0; i < padding; ++i)
    if (std::to_integer<std::size_t>(pad[i]) != i + 1) return std::unexpected(Drop::bad_padding);
  if (next_header == static_cast<std::uint8_t>(IpProto::no_next_header)) return std::unexpected(Drop::dummy);
  return InnerPlain{static_cast<std::uint32_t>(size - esp_trailer - padding), next_header};
}

void Inbound::packet(Packet packet, std::uint32_t fvrf) {
  const auto esp = parse_outer_esp(packet.bytes());
  if (!esp)
    return context_.drop(packet,
                         is_icmp(packet.bytes()) ? path_mtu_.take(packet.bytes(), fvrf, Clock::now()) : esp.error());
  InboundSa* const sa = context_.sad.inbound({fvrf, esp->spi, esp->destination, esp->protocol});
  if (sa == nullptr) [[unlikely]]
    return hold(packet, fvrf, esp->spi);
  // None overtakes those of its SA that wait: they could be behind the replay window then.
  if (held_.waits(esp->spi)) [[unlikely]]
    poll_held(Clock::now());
  take(packet, *esp, *sa);
}

void Inbound::hold(Packet packet, std::uint32_t fvrf, std::uint32_t spi) {
  const Time now = Clock::now();
  if (sweeping_ || !context_.sad.expected(spi, now)) return context_.drop(packet, Drop::no_sa);
  packet.flow = spi;
  if (!held_.push({packet, now + hold_time_, Drop::no_sa, fvrf})) return context_.drop(packet, Drop::hold_full);
  show_held();
}

void Inbound::poll_held(Time now) {
  if (held_.empty() || sweeping_) return;
  const auto try_to_take = [&](HeldPacket& held) {
    const auto esp = parse_outer_esp(held.packet.bytes());
    InboundSa* const sa = esp ? context_.sad.inbound({held.fvrf, esp->spi, esp->destination, esp->protocol}) : nullptr;
    if (sa == nullptr) return false;
    held.packet.flow = 0;
    take(held.packet, *esp, *sa);
    return true;
  };
  sweeping_ = true;  // what loops out of a packet could have to be held
  held_.sweep(now, try_to_take, [&](const HeldPacket& held) { context_.drop(held.packet, held.reason); });
  sweeping_ = false;
  show_held();
}

void Inbound::drop_held() {
  const auto never = [](const HeldPacket&) { return false; };
  held_.sweep(Time::max(), never, [&](const HeldPacket& held) { context_.drop(held.packet, Drop::shutting_down); });
  show_held();
}

void Inbound::show_held() {
  context_.held_inbound = held_.size();
  context_.publish_held();
}

void Inbound::take(Packet packet, const OuterEsp& esp, InboundSa& sa) {
  // RFC 4301 §5.2: the flow's policy asks for AH around ESP, and this came without.
  if (sa.bundle != 0 && sa.protocol == IpProto::esp && packet.bundle != sa.bundle) [[unlikely]]
    return context_.drop(packet, Drop::bundle, *sa.slot);
  const std::uint64_t sequence =
      sa.extended_sequence ? sa.replay->window.extend(esp.sequence) : std::uint64_t{esp.sequence};
  if (const auto refused = refuse_early(sa, esp, sequence)) {
    if (*refused == Drop::replayed || *refused == Drop::too_old)
      sa.slot->replay_drops.fetch_add(1, std::memory_order_relaxed);
    return context_.drop(packet, *refused, *sa.slot);
  }
  const bool moved = came_from_elsewhere(sa, esp, packet);
  CipherBatch& batch = queue_.filling();
  crypto::EspJob& job = batch.jobs[batch.count];
  job = {&sa.key, packet.data() + esp.esp_offset, esp.esp_bytes, sequence, false};
  if (sa.protocol == IpProto::ah) [[unlikely]] {
    CoveredHeaders& headers = covered_[queue_.filling_slot()][batch.count];
    if (sa.extended_sequence && packet.tailroom() < ah_lent_behind)
      return context_.drop(packet, Drop::no_frame, *sa.slot);
    if (!cover_headers(Bytes(packet.bytes()).first(esp.esp_offset), headers))
      return context_.drop(packet, Drop::unparseable, *sa.slot);
    job.covered = headers.data();
    job.covered_bytes = esp.esp_offset;
  }
  packet.pull(esp.esp_offset);
  packet.size = esp.esp_bytes;
  pending_[queue_.filling_slot()][batch.count] = {
      packet, &sa, static_cast<std::uint16_t>(esp.esp_offset), esp.network_bytes, esp.traffic_class, moved, Drop::none};
  if (++batch.count == packet_batch) flush();
}

// RFC 7296 §2.23: an SA that IKE made is taken in either form, in UDP where NAT traversal has its port.
bool is_form_of(const InboundSa& sa, const OuterEsp& esp) {
  if (sa.udp_encapsulation == esp.udp && (!esp.udp || esp.udp_port == sa.local_port)) [[likely]]
    return true;
  return sa.either_form && (!esp.udp || esp.udp_port == encapsulation_port);
}

// Everything that can be seen without the key.
std::optional<Drop> Inbound::refuse_early(const InboundSa& sa, const OuterEsp& esp, std::uint64_t sequence) const {
  if (!is_form_of(sa, esp)) return Drop::wrong_encapsulation;
  if (sa.protocol == IpProto::ah) {
    if (esp.esp_bytes < sa.overhead.header) return Drop::esp_runt;
    if (esp.length_field != ah_length_field(sa.overhead.header)) return Drop::ah_length;
  }
  const std::uint32_t fixed = sa.overhead.header + sa.overhead.iv_bytes + sa.overhead.icv_bytes;
  if (esp.esp_bytes < fixed + sa.overhead.block_bytes) return Drop::esp_runt;
  if ((esp.esp_bytes - fixed) % sa.overhead.block_bytes != 0) return Drop::esp_unaligned;
  switch (sa.replay->window.check(sequence)) {
    case ReplayVerdict::replayed: return Drop::replayed;
    case ReplayVerdict::too_old: return Drop::too_old;
    case ReplayVerdict::fresh: return std::nullopt;
  }
  return std::nullopt;
}

bool Inbound::came_from_elsewhere(const InboundSa& sa, const OuterEsp& esp, const Packet& packet) {
  const std::uint64_t known = sa.peer.load(std::memory_order_relaxed);
  return known != 0 && esp.udp && known != peer_mark(source_of(packet.data(), sa.destination.family()), esp.udp_source);
}

// RFC 7296 §2.23: the packet is authentic, so the peer is there now, or a NAT between.
void Inbound::tell_moved(const Pending& pending) {
  const std::byte* const esp = pending.packet.data();
  const SaPeer peer{source_of(esp - pending.headers_at, pending.sa->destination.family()), load_be16(esp - udp_header)};
  context_.egress.peer_moved(*pending.sa->slot, peer);
}

void Inbound::flush() {
  close_batch();
  collect(false);
  take_loops();
}

void Inbound::finish() {
  close_batch();
  collect(true);
  while (!looping_ && !loops_.empty()) {
    take_loops();
    collect(true);
  }
}

// Not while it runs already: taking one may open a batch.
void Inbound::take_loops() {
  if (looping_) return;
  looping_ = true;
  while (!loops_.empty()) {
    while (!loops_.empty()) {
      const LoopedPacket next = loops_.pop();
      packet(next.packet, next.vrf);
    }
    close_batch();
    collect(false);
  }
  looping_ = false;
}

void Inbound::close_batch() {
  const std::uint32_t count = queue_.filling().count;
  if (count != 0) queue_.close(count == packet_batch && context_.crowded);
}

void Inbound::collect(bool wait) {
  while (const auto slot = queue_.finished(wait)) {
    const CipherBatch& batch = queue_.at(*slot);
    settle(std::span(batch.jobs).first(batch.count), std::span(pending_[*slot]).first(batch.count));
    queue_.release();
  }
}

void Inbound::settle(std::span<const crypto::EspJob> jobs, std::span<Pending> pending) {
  delivered_ = 0;
  for (std::size_t first = 0; first < pending.size();) {
    std::size_t last = first + 1;
    while (last < pending.size() && pending[last].sa == pending[first].sa) ++last;
    settle_run(jobs.subspan(first, last - first), pending.subspan(first, last - first));
    first = last;
  }
  if (delivered_ != 0) context_.egress.deliver(std::span(deliveries_).first(delivered_));
}

void Inbound::settle_run(std::span<const crypto::EspJob> jobs, std::span<Pending> run) {
  for (std::size_t i = 0; i < run.size(); ++i)
    if (!jobs[i].ok) run[i].verdict = Drop::bad_icv;
  if (run[0].sa->replay->window.size() != 0) advance_window(jobs, run);
  deliver_run(run);
}

// RFC 4303 §3.4.3: only numbers of authentic packets move the window. The slot learns the highest before anything is
// delivered.
void Inbound::advance_window(std::span<const crypto::EspJob> jobs, std::span<Pending> run) {
  ReplayState& state = *run[0].sa->replay;
  const ReplayLock lock(state);
  for (std::size_t i = 0; i < run.size(); ++i) {
    if (run[i].verdict != Drop::none) continue;
    const ReplayVerdict verdict = state.window.advance(jobs[i].sequence);
    if (verdict == ReplayVerdict::replayed) run[i].verdict = Drop::replayed;
    if (verdict == ReplayVerdict::too_old) run[i].verdict = Drop::too_old;
    // One that was overtaken may be of the place that the peer left. A replayed one gets no further.
    if (run[i].moved && verdict == ReplayVerdict::fresh && jobs[i].sequence == state.window.highest()) [[unlikely]]
      tell_moved(run[i]);
  }
  run[0].sa->slot->highest_sequence.store(state.window.highest(), std::memory_order_relaxed);
}

void Inbound::deliver_run(std::span<Pending> all) {
  InboundSa& sa = *all[0].sa;
  Tally run;
  const std::uint64_t now = monotonic_ns();
  const bool over = sa.limited && hard_seconds_over(*sa.slot, now);
  const std::uint32_t ifindex = sa.ifindex.load(std::memory_order_relaxed);
  for (Pending& pending : all) {
    if (pending.verdict != Drop::none) {
      blame(pending, pending.verdict);
      continue;
    }
    const auto inner = decapsulate(pending);
    if (!inner) {
      blame(pending, inner.error());
      continue;
    }
    if (sa.limited && (over || expired(sa, run, pending.packet.size))) {
      blame(pending, Drop::sa_expired);
      context_.tell(*sa.slot, SaExpiryKind::hard);
      continue;
    }
    const InboundSa* const inside = nested(pending, *inner);
    if (sa.bundle != 0 && sa.protocol == IpProto::ah && (inside == nullptr || inside->bundle != sa.flow)) [[unlikely]] {
      blame(pending, Drop::bundle);
      continue;
    }
    if (inside != nullptr && pending.packet.loops >= max_packet_loops) [[unlikely]] {
      blame(pending, Drop::nested_too_deep);
      continue;
    }
    ++run.packets;
    run.bytes += pending.packet.size;
    if (inside != nullptr) [[unlikely]] {
      loop(pending);
      continue;
    }
    deliveries_[delivered_++] = {pending.packet, sa.deliver, ifindex != 0 ? ifindex : pending.packet.interface,
                                 inner->family};
  }
  if (run.packets == 0) return;
  const std::uint64_t packets = sa.slot->packets.fetch_add(run.packets, std::memory_order_relaxed) + run.packets;
  const std::uint64_t bytes = sa.slot->bytes.fetch_add(run.bytes, std::memory_order_relaxed) + run.bytes;
  sa.slot->last_used_ns.store(now, std::memory_order_relaxed);
  if (sa.limited && soft_lifetime_over(sa.slot->parameters, packets, bytes))
    context_.tell(*sa.slot, SaExpiryKind::soft);
}

// From an authentic ESP or AH packet to the IP packet that it protects; pending.packet begins at the latter when this
// succeeds.
std::expected<IpInfo, Drop> Inbound::decapsulate(Pending& pending) const {
  const InboundSa& sa = *pending.sa;
  Packet& packet = pending.packet;
  auto plain = strip(pending);
  if (plain && (sa.compresses || plain->next_header == ipcomp_protocol)) [[unlikely]]
    plain = decompress(pending, *plain);
  if (!plain) return std::unexpected(plain.error());
  packet.size = plain->bytes;
  const bool tunnel = sa.mode == SaMode::tunnel;
  const auto info = tunnel ? inner_packet(pending, *plain) : own_packet(pending, *plain);
  if (!info) return info;
  if (const Drop refused = refused_by(*sa.selectors, packet.bytes(), *info); refused != Drop::none)
    return std::unexpected(refused);
  if (sa.tcp_mss != 0 && is_syn(packet.bytes(), *info)) clamp_mss(packet.bytes(), *info, mss_limit(sa, *info));
  if (!tunnel) {
    if (sa.udp_encapsulation) renew_upper_checksum(packet.bytes(), *info);
    return info;
  }
  const auto ecn = ecn_at_egress(info->traffic_class, pending.traffic_class, sa.ecn);
  if (!ecn) return std::unexpected(Drop::ecn_invalid);
  if (*ecn != (info->traffic_class & 3)) set_ecn(packet.data(), info->family, *ecn);
  return info;
}

// What was around it; pending.packet begins behind that.
std::expected<InnerPlain, Drop> Inbound::strip(Pending& pending) {
  const EspOverhead& overhead = pending.sa->overhead;
  Packet& packet = pending.packet;
  const auto next_header = std::to_integer<std::uint8_t>(packet.data()[0]);
  const std::uint32_t front = std::uint32_t{overhead.header} + overhead.iv_bytes;
  packet.pull(front);
  pending.headers_at = static_cast<std::uint16_t>(pending.headers_at + front);
  if (pending.sa->protocol == IpProto::ah) return InnerPlain{packet.size, next_header};
  packet.size -= overhead.icv_bytes;
  return parse_esp_trailer(packet.bytes());
}

// RFC 3173 §2.1: what an SA with IPComp carries, compressed or not. Once: a payload that was compressed twice is
// refused.
std::expected<InnerPlain, Drop> Inbound::decompress(Pending& pending, const InnerPlain& plain) const {
  const InboundSa& sa = *pending.sa;
  Packet& packet = pending.packet;
  const auto add = [](std::atomic<std::uint64_t>& counter) { counter.fetch_add(1, std::memory_order_relaxed); };
  if (plain.next_header != ipcomp_protocol) {
    add(sa.slot->not_compressed);
    return plain;
  }
  if (!sa.compresses) return std::unexpected(Drop::bad_next_header);
  const auto whole = context_.compression->decompress(
      Bytes(packet.bytes()).first(plain.bytes), sa.slot->parameters.compression_cpi, packet.capacity - packet.offset);
  if (!whole || whole->next_header == ipcomp_protocol) {
    add(sa.slot->compress_failed);
    return std::unexpected(whole ? Drop::bad_next_header : whole.error());
  }
  add(sa.slot->compressed);
  packet.size = static_cast<std::uint32_t>(whole->payload.size());
  std::memcpy(packet.data(), whole->payload.data(), whole->payload.size());
  return InnerPlain{packet.size, whole->next_header};
}

// Tunnel mode: a packet of its own. What is behind it is padding against traffic analysis (RFC 4303 §2.7).
std::expected<IpInfo, Drop> Inbound::inner_packet(Pending& pending, const InnerPlain& plain) {
  Packet& packet = pending.packet;
  if (plain.next_header != ipv4_in_esp && plain.next_header != ipv6_in_esp)
    return std::unexpected(Drop::bad_next_header);
  const auto info = parse_ip(packet.bytes());
  const Family family = plain.next_header == ipv4_in_esp ? Family::v4 : Family::v6;
  if (!info || info->family != family) return std::unexpected(Drop::bad_inner);
  packet.size = info->total_bytes;
  return *info;
}

// Transport mode: the headers that it came with move to it.
std::expected<IpInfo, Drop> Inbound::own_packet(Pending& pending, const InnerPlain& plain) {
  Packet& packet = pending.packet;
  const std::byte* const headers = packet.data() - pending.headers_at;
  std::byte* const ip = packet.push(pending.network_bytes);
  std::memmove(ip, headers, pending.network_bytes);
  const Family family = pending.sa->destination.family();
  rewrite_headers(ip, family, end_of_headers(ip, family, pending.network_bytes), plain.next_header, packet.size);
  const auto info = parse_ip(packet.bytes());
  if (!info || info->fragment) return std::unexpected(Drop::bad_inner);
  return *info;
}

// The peer's host shall send what fits the way back: that is ours, so the limit is that of the SA we answer by. Asked
// for SYNs alone.
std::uint16_t Inbound::mss_limit(const InboundSa& sa, const IpInfo& info) const {
  if (sa.tcp_mss != mss_of_path) return sa.tcp_mss;
  const SaParameters& p = sa.slot->parameters;
  const OutboundSa* const answers = context_.sad.outbound(p.flow);
  if (answers != nullptr) return mss_of(info.family, inner_mtu(*answers, path_mtu_of(*answers)));
  const bool transport = sa.mode == SaMode::transport;
  return mss_of(info.family, transport ? sa.overhead.transport_mtu(p.path_mtu, ip_header(info.family))
                                       : sa.overhead.plaintext_mtu(p.path_mtu));
}

// RFC 4301 §5.2: ESP inside, addressed to this node, is ours to open too. In UDP only to the port of NAT traversal: the
// first bytes of other datagrams are no SPI.
const InboundSa* Inbound::nested(const Pending& pending, const IpInfo& inner) const {
  const bool udp = inner.protocol == static_cast<std::uint8_t>(IpProto::udp);
  if (!udp && inner.protocol != static_cast<std::uint8_t>(IpProto::esp) &&
      inner.protocol != static_cast<std::uint8_t>(IpProto::ah)) [[likely]]
    return nullptr;
  const Bytes bytes = pending.packet.bytes();
  if (udp &&
      (inner.upper_bytes() < udp_header || load_be16(bytes.data() + inner.network_bytes + 2) != encapsulation_port))
    return nullptr;
  const auto esp = parse_outer_esp(bytes);
  if (!esp) return nullptr;
  const InboundSa* const sa = context_.sad.inbound({pending.sa->fvrf, esp->spi, esp->destination, esp->protocol});
  return sa != nullptr && (sa->udp_encapsulation == udp || sa->either_form) ? sa : nullptr;
}

void Inbound::loop(const Pending& pending) {
  LoopedPacket again{pending.packet, pending.sa->fvrf};
  again.packet.bundle = pending.sa->protocol == IpProto::ah ? pending.sa->flow : 0;
  ++again.packet.loops;
  if (!loops_.push(again)) context_.drop(again.packet, Drop::tx_full);
}

bool Inbound::expired(const InboundSa& sa, const Tally& run, std::uint32_t bytes) {
  const std::uint64_t most_packets = sa.slot->parameters.hard_packets;
  return (most_packets != 0 && sa.slot->packets.load(std::memory_order_relaxed) + run.packets >= most_packets) ||
         sa.slot->bytes.load(std::memory_order_relaxed) + run.bytes + bytes > sa.hard_bytes;
}

// Counts the drop at the SA and at the thread. A dummy packet is a drop for the balance alone.
void Inbound::blame(Pending& pending, Drop reason) {
  SaSlot& slot = *pending.sa->slot;
  const auto add = [](std::atomic<std::uint64_t>& counter) { counter.fetch_add(1, std::memory_order_relaxed); };
  switch (reason) {
    case Drop::dummy: add(slot.dummy_packets); return context_.drop(pending.packet, reason);
    case Drop::replayed:
    case Drop::too_old: add(slot.replay_drops); break;
    case Drop::bad_icv: add(slot.integrity_drops); break;
    case Drop::icmp_embedded:
    case Drop::fragment_selector:
    case Drop::selector: add(slot.selector_drops); break;
    default: break;
  }
  context_.drop(pending.packet, reason, slot);
}

}  // namespace postern
