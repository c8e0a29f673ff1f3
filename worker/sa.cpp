#include "worker/sa.hpp"

#include <fmt/format.h>

#include "crypto/ah.hpp"
#include "worker/ah.hpp"
#include "worker/outer_header.hpp"

namespace postern {
namespace {

using Rule = Result<void>;

Rule check_ends(const SaEnds& ends, IpProto protocol) {
  if (ends.local.family() != ends.remote.family())
    return fail(
        fmt::format("SA: outer addresses {} and {} must be of one family", ends.local.text(), ends.remote.text()),
        EINVAL);
  for (const IpAddress& a : {ends.local, ends.remote})
    if (a.is_unspecified() || a.is_multicast())
      return fail(fmt::format("SA: outer address {} must be one host's", a.text()), EINVAL);
  if (ends.udp_encapsulation && (ends.local_port == 0 || ends.remote_port == 0))
    return fail("SA: UDP encapsulation needs both ports, 1..65535", EINVAL);
  if (ends.udp_encapsulation && protocol == IpProto::ah) return fail("SA: AH is not encapsulated in UDP", EINVAL);
  return {};
}

Rule check_outer_header(const SaParameters& p) {
  if (p.ttl == 0) return fail("SA: the outer TTL must be 1..255");
  if (p.dscp > 63) return fail(fmt::format("SA: DSCP {} must be 0..63", p.dscp));
  const std::uint32_t least = p.local.family() == Family::v4 ? min_path_mtu : min_path_mtu_v6;
  if (p.path_mtu < least || p.path_mtu > max_path_mtu)
    return fail(fmt::format("SA: path MTU {} must be {}..{}", p.path_mtu, least, max_path_mtu));
  return {};
}

Rule check_window(const SaParameters& p) {
  if (p.replay_window != 0 && (p.replay_window < 32 || p.replay_window > max_replay_window))
    return fail(fmt::format("SA: replay window {} must be 0 or 32..{}", p.replay_window, max_replay_window));
  if (p.dummy_interval_us != 0 && p.dummy_interval_us < min_dummy_interval_us)
    return fail(
        fmt::format("SA: a dummy packet every {} us: at most every {}", p.dummy_interval_us, min_dummy_interval_us));
  // RFC 4303 §2.2.1: the window tells which high half an arriving number has.
  if (p.extended_sequence && p.direction == SaDirection::inbound && p.replay_window == 0)
    return fail("SA: extended sequence numbers need a replay window");
  return {};
}

Rule check_selector(const TrafficSelector& s, std::size_t index) {
  const Family family = s.source_first.family();
  for (const IpAddress& a : {s.source_last, s.destination_first, s.destination_last})
    if (a.family() != family) return fail(fmt::format("SA: selector {}: addresses must be of one family", index));
  if (s.source_first > s.source_last || s.destination_first > s.destination_last)
    return fail(fmt::format("SA: selector {}: an address range ends before it begins", index));
  const auto backwards = [](std::uint16_t first, std::uint16_t last) {
    return first > last && !is_opaque(first, last);
  };
  if (backwards(s.source_port_first, s.source_port_last) ||
      backwards(s.destination_port_first, s.destination_port_last))
    return fail(fmt::format("SA: selector {}: a port range ends before it begins", index));
  return {};
}

Rule check_selectors(const SaParameters& p) {
  if (p.selector_count > max_selectors)
    return fail(fmt::format("SA: {} selectors; at most {}", p.selector_count, max_selectors));
  for (std::size_t i = 0; i < p.selector_count; ++i) POSTERN_CHECK(check_selector(p.selectors[i], i));
  return {};
}

// RFC 4301 §4.1: between two hosts, and these are the SA's ends; without NAT's port AH would not survive (RFC 3948 §1).
Rule check_mode(const SaParameters& p) {
  if (p.protocol != IpProto::esp && p.protocol != IpProto::ah) return fail("SA: the protocol must be ESP or AH");
  if (p.bundle != 0 && p.bundle == p.flow) return fail("SA: a bundle names the other SA's flow");
  if (p.bundle != 0 && p.protocol == IpProto::ah && p.mode != SaMode::transport)
    return fail("SA: AH around ESP is of transport mode");
  if (p.compression_cpi != 0 && p.bundle != 0 && p.protocol == IpProto::ah)
    return fail("SA: of AH around ESP, ESP compresses");
  if (p.mode == SaMode::tunnel) return {};
  if (p.selector_count == 0) return fail("SA: transport mode needs selectors");
  const bool in = p.direction == SaDirection::inbound;
  for (std::size_t i = 0; i < p.selector_count; ++i) {
    const TrafficSelector& s = p.selectors[i];
    const auto is = [](const IpAddress& first, const IpAddress& last, const IpAddress& host) {
      return first == host && last == host;
    };
    if (!is(s.source_first, s.source_last, in ? p.remote : p.local) ||
        !is(s.destination_first, s.destination_last, in ? p.local : p.remote))
      return fail(fmt::format("SA: selector {}: in transport mode the traffic's ends are the SA's own", i));
  }
  return {};
}

Rule check_keys(const SaParameters& p) {
  POSTERN_TRY(sizes, sizes_of(p));
  if (p.cipher_key_bytes != sizes.key_bytes)
    return fail(
        fmt::format("SA: the cipher key has {} bytes, the transform needs {}", p.cipher_key_bytes, sizes.key_bytes));
  if (p.integrity_key_bytes != sizes.integrity_key_bytes)
    return fail(fmt::format("SA: the authentication key has {} bytes, the transform needs {}", p.integrity_key_bytes,
                            sizes.integrity_key_bytes));
  if (p.cipher_key_bytes > max_cipher_key_bytes || p.integrity_key_bytes > max_integrity_key_bytes)
    return fail("SA: the transform's keys do not fit into an SA slot");
  return {};
}

// A struct from another process: an enum may hold any byte.
Rule check_enums(const SaParameters& p) {
  if (p.direction > SaDirection::outbound || p.mode > SaMode::transport || p.df > DfPolicy::clear ||
      p.ecn > EcnPolicy::discard || p.fragmentation > FragmentPolicy::after || p.deliver > DeliverTo::map_interface)
    return fail("SA: a parameter has a value outside its enumeration");
  return {};
}

Result<crypto::EspKey> expand(const SaParameters& p) {
  if (p.protocol == IpProto::ah)
    return crypto::EspKey::create_authenticator(
        p.transform.integrity, Bytes(p.integrity_key).first(p.integrity_key_bytes), p.extended_sequence);
  return crypto::EspKey::create(p.transform, Bytes(p.cipher_key).first(p.cipher_key_bytes),
                                Bytes(p.integrity_key).first(p.integrity_key_bytes), p.extended_sequence);
}

bool has_lifetime(const SaParameters& p) {
  return (p.hard_packets | p.hard_bytes | p.soft_packets | p.soft_bytes | p.hard_seconds) != 0;
}

const CompiledSelectors* compile_selectors(const SaParameters& p) {
  return new CompiledSelectors(std::span(p.selectors).first(p.selector_count));
}

}  // namespace

void watch_peer(InboundSa& sa) {
  const SaPeer peer = ends_of(*sa.slot).peer();
  sa.peer.store(peer_mark(peer.address, peer.port), std::memory_order_relaxed);
}

Result<void> check_move(const SaParameters& p, const SaEnds& ends) {
  const SaEnds before = ends_of(p);
  const bool elsewhere = before.local != ends.local || before.remote != ends.remote;
  if (p.mode == SaMode::transport && elsewhere)
    return fail("SA: in transport mode the traffic's ends are the SA's own: it does not move", EINVAL);
  if (ends.local.family() == Family::v6 && p.path_mtu < min_path_mtu_v6)
    return fail(fmt::format("SA: path MTU {} is less than IPv6 has", p.path_mtu), EINVAL);
  return check_ends(ends, p.protocol);
}

EspOverhead overhead_of(const SaParameters& p, const SaEnds& ends, const crypto::TransformSizes& sizes) {
  const crypto::Around around{ends.local.family(), p.mode == SaMode::transport, ends.udp_encapsulation};
  return p.protocol == IpProto::ah ? crypto::ah_overhead(sizes, around) : crypto::esp_overhead(sizes, around);
}

Result<crypto::TransformSizes> sizes_of(const SaParameters& p) {
  return p.protocol == IpProto::ah ? crypto::ah_sizes_of(p.transform.integrity) : crypto::sizes_of(p.transform);
}

std::uint32_t inner_mtu(const OutboundSa& sa, std::uint32_t mtu) {
  return sa.mode == SaMode::transport ? sa.overhead.transport_mtu(mtu, ip_header(sa.outer))
                                      : sa.overhead.plaintext_mtu(mtu);
}

InboundSa::~InboundSa() { delete selectors; }

OutboundSa::~OutboundSa() { delete selectors; }

Result<void> validate(const SaParameters& p) {
  POSTERN_CHECK(check_enums(p));
  if (p.spi < first_usable_spi) return fail(fmt::format("SA: SPI {} must be {}..4294967295", p.spi, first_usable_spi));
  POSTERN_CHECK(check_ends(ends_of(p), p.protocol));
  POSTERN_CHECK(check_outer_header(p));
  POSTERN_CHECK(check_window(p));
  POSTERN_CHECK(check_selectors(p));
  POSTERN_CHECK(check_mode(p));
  return check_keys(p);
}

Result<std::unique_ptr<InboundSa>> make_inbound(SaSlot& slot, ReplayState& replay) {
  const SaParameters& p = slot.parameters;
  const SaEnds ends = ends_of(slot);
  POSTERN_TRY(key, expand(p));
  auto sa = std::make_unique<InboundSa>(std::move(key));
  sa->overhead = overhead_of(p, ends, sa->key.sizes());
  sa->spi = p.spi;
  sa->fvrf = p.fvrf;
  sa->destination = ends.local;
  sa->slot = &slot;
  sa->replay = &replay;
  sa->selectors = compile_selectors(p);
  sa->hard_bytes = p.hard_bytes == 0 ? UINT64_MAX : p.hard_bytes;
  sa->limited = has_lifetime(p);
  sa->ifindex.store(p.ifindex, std::memory_order_relaxed);
  sa->local_port = ends.local_port;
  sa->either_form = p.either_form;
  sa->tcp_mss = p.tcp_mss;
  sa->compresses = p.compression_cpi != 0;
  sa->udp_encapsulation = ends.udp_encapsulation;
  sa->extended_sequence = p.extended_sequence;
  sa->ecn = p.ecn;
  sa->deliver = p.deliver;
  sa->protocol = p.protocol;
  sa->mode = p.mode;
  sa->flow = p.flow;
  sa->bundle = p.bundle;
  if (p.follow_peer) watch_peer(*sa);
  return sa;
}

Result<std::unique_ptr<OutboundSa>> make_outbound(SaSlot& slot) {
  const SaParameters& p = slot.parameters;
  const SaEnds ends = ends_of(slot);
  POSTERN_TRY(key, expand(p));
  auto sa = std::make_unique<OutboundSa>(std::move(key));
  sa->overhead = overhead_of(p, ends, sa->key.sizes());
  sa->slot = &slot;
  sa->selectors = compile_selectors(p);
  sa->path_mtu = static_cast<std::uint16_t>(p.path_mtu);
  sa->tfc_bytes = p.tfc_bytes;
  sa->identification = static_cast<std::uint16_t>((p.spi * 2654435761U) >> 16);
  sa->dscp_copy = p.dscp_copy;
  sa->dscp = static_cast<std::uint8_t>(p.dscp << 2);
  sa->df = p.df;
  sa->ecn = p.ecn;
  sa->fragmentation = p.fragmentation;
  sa->tcp_mss = p.tcp_mss;
  sa->compresses = p.compression_cpi != 0;
  sa->udp_encapsulation = ends.udp_encapsulation;
  sa->extended_sequence = p.extended_sequence;
  sa->limited = has_lifetime(p);
  sa->unicast_only = p.deliver == DeliverTo::map_interface;
  sa->protocol = p.protocol;
  sa->mode = p.mode;
  sa->bundle = p.bundle;
  sa->spi = __builtin_bswap32(p.spi);
  build_outer_template(p, ends, *sa);
  return sa;
}

}  // namespace postern
