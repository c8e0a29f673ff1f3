#include "loader/plan_sa.hpp"

#include <algorithm>

#include "crypto/overhead.hpp"
#include "loader/plan_acl.hpp"

namespace postern::loader {
namespace {

constexpr std::uint32_t smallest_tunnel_mtu = 576;

bool is_link_local(const IpAddress& address) {
  return address.family() == Family::v6 && address.mapped()[0] == 0xfe && (address.mapped()[1] & 0xc0) == 0x80;
}

std::optional<IpAddress> first_of(const std::vector<Prefix>& addresses, Family family) {
  for (const Prefix& prefix : addresses)
    if (prefix.family() == family && !is_link_local(prefix.address) && !is_loopback(prefix.address))
      return prefix.address;
  return std::nullopt;
}

bool has_address(const std::vector<Prefix>& addresses, const IpAddress& address) {
  return std::ranges::any_of(addresses, [&](const Prefix& prefix) { return prefix.address == address; });
}

DfPolicy df_of(config::DfBit df) {
  switch (df) {
    case config::DfBit::set: return DfPolicy::set;
    case config::DfBit::clear: return DfPolicy::clear;
    case config::DfBit::copy: break;
  }
  return DfPolicy::copy;
}

// What both directions and both owners have in common.
SaParameters common_parameters(const config::Document& document, const config::TransformSet& set,
                               const config::Encapsulation& encapsulation) {
  SaParameters parameters;
  const EncapsulationPolicy policy = policy_of(encapsulation);
  parameters.df = policy.df;
  parameters.ecn = policy.ecn;
  parameters.fragmentation = policy.fragmentation;
  parameters.dscp_copy = policy.dscp_copy;
  parameters.dscp = policy.dscp;
  parameters.tcp_mss = policy.tcp_mss;
  parameters.path_mtu_aging_s = document.ipsec.path_mtu_aging_s;
  parameters.transform = set.transform;
  parameters.tfc_bytes = document.ipsec.sa.tfc_bytes.value_or(0);
  parameters.dummy_interval_us = document.ipsec.sa.dummy_interval_us.value_or(0);
  parameters.replay_window = 0;  // no anti-replay with manual keys (MAN-10)
  return parameters;
}

void set_encapsulation(SaParameters& parameters, bool on, std::uint16_t local_port, std::uint16_t remote_port) {
  parameters.udp_encapsulation = on;
  parameters.local_port = on ? local_port : std::uint16_t{0};
  parameters.remote_port = on ? remote_port : std::uint16_t{0};
}

void set_selectors(PlannedSaPair& pair, const std::vector<TrafficSelector>& outbound) {
  pair.outbound.parameters.selector_count = pair.inbound.parameters.selector_count =
      static_cast<std::uint8_t>(outbound.size());
  for (std::size_t i = 0; i < outbound.size(); ++i) {
    pair.outbound.parameters.selectors[i] = outbound[i];
    pair.inbound.parameters.selectors[i] = reversed(outbound[i]);
  }
}

Result<PlannedSaPair> pair_of(const std::string& key, const SaParameters& common, const config::ManualSa& inbound,
                              const config::ManualSa& outbound) {
  PlannedSaPair pair;
  pair.key = key;
  const auto fill = [&](PlannedSa& sa, SaDirection direction, const config::ManualSa& manual) -> Result<void> {
    sa.parameters = common;
    sa.parameters.direction = direction;
    sa.parameters.spi = manual.spi;
    sa.cipher_key = manual.cipher_key;
    sa.integrity_key = manual.integrity_key;
    if (manual.cipher_key.size() > max_cipher_key_bytes || manual.integrity_key.size() > max_integrity_key_bytes)
      return fail(key + ": a key is longer than any transform's");
    sa.parameters.cipher_key_bytes = static_cast<std::uint16_t>(manual.cipher_key.size());
    sa.parameters.integrity_key_bytes = static_cast<std::uint16_t>(manual.integrity_key.size());
    return {};
  };
  POSTERN_CHECK(fill(pair.inbound, SaDirection::inbound, inbound));
  POSTERN_CHECK(fill(pair.outbound, SaDirection::outbound, outbound));
  return pair;
}

TrafficSelector between(const IpAddress& local, const IpAddress& remote, IpProto protocol) {
  TrafficSelector selector;
  selector.source_first = selector.source_last = local;
  selector.destination_first = selector.destination_last = remote;
  selector.protocol = static_cast<std::uint8_t>(protocol);
  return selector;
}

// ESP first, AH around what it makes (RFC 4301 §4.1): AH then protects one host's ESP to another.
Result<std::vector<PlannedSaPair>> pairs_of(const std::string& key, const SaParameters& common,
                                            const config::TransformSet& set, const config::ManualKeys& keys,
                                            const std::vector<TrafficSelector>& selectors) {
  std::vector<PlannedSaPair> out;
  const auto compress = [&](PlannedSaPair& pair) {
    if (!set.compression) return;
    pair.inbound.parameters.compression_cpi = keys.cpi_inbound;
    pair.outbound.parameters.compression_cpi = keys.cpi_outbound;
  };
  if (set.has_esp()) {
    POSTERN_TRY(esp, pair_of(key, common, keys.inbound, keys.outbound));
    set_selectors(esp, selectors);
    compress(esp);
    out.push_back(std::move(esp));
  }
  if (!set.has_ah()) return out;
  SaParameters around = common;
  around.protocol = IpProto::ah;
  around.transform = {crypto::Cipher::none, 0, set.ah};
  if (set.has_esp()) around.mode = SaMode::transport;
  POSTERN_TRY(ah, pair_of(set.has_esp() ? ah_key(key) : key, around, keys.ah_inbound, keys.ah_outbound));
  set_selectors(ah, set.has_esp() ? std::vector{between(common.local, common.remote, IpProto::esp)} : selectors);
  if (!set.has_esp()) compress(ah);
  out.push_back(std::move(ah));
  return out;
}

const config::TransformSet* set_of(const config::Document& document, const config::Tunnel& tunnel) {
  const config::IpsecProfile* const profile = config::find_named(document.profiles, tunnel.profile);
  if (profile == nullptr || profile->transform_sets.empty()) return nullptr;
  return config::find_named(document.transform_sets, profile->transform_sets.front());
}

// What fits with every set that may be negotiated. 0: there is no set.
std::uint32_t tunnel_mtu(const config::Document& document, const config::Tunnel& tunnel, std::uint32_t path_mtu) {
  const config::IpsecProfile* const profile = config::find_named(document.profiles, tunnel.profile);
  std::uint32_t smallest = 0;
  for (const std::string& name : profile == nullptr ? std::vector<std::string>{} : profile->transform_sets) {
    const config::TransformSet* const set = config::find_named(document.transform_sets, name);
    if (set == nullptr) continue;
    const auto mtu = crypto::largest_inside({set->transform, set->ah, false}, tunnel.destination.family(),
                                            tunnel.udp_encapsulation, path_mtu);
    const std::uint32_t fits = mtu ? *mtu : smallest_tunnel_mtu;
    smallest = smallest == 0 ? fits : std::min(smallest, fits);
  }
  return smallest;
}

TrafficSelector traffic_of_any(Family family) {
  const Prefix any{family == Family::v4 ? IpAddress::v4(0) : IpAddress{}, 0};
  TrafficSelector selector;
  selector.source_first = selector.destination_first = any.first();
  selector.source_last = selector.destination_last = any.last();
  return selector;
}

}  // namespace

std::uint32_t table_of(const config::Document& document, const std::optional<std::string>& vrf) {
  const config::Vrf* const found = vrf ? config::find_named(document.vrfs, *vrf) : nullptr;
  return found == nullptr ? 0 : found->table;
}

std::optional<IpAddress> local_address(const config::Document& document, const LinkFacts& link, Family family) {
  if (const config::Interface* const interface = config::find_named(document.interfaces, link.name))
    if (const auto given = first_of(interface->addresses, family)) return given;
  return first_of(link.addresses, family);
}

std::vector<IpAddress> addresses_beside(const Facts& facts, const IpAddress& address) {
  std::vector<IpAddress> out;
  for (const LinkFacts& link : facts.links)
    if (has_address(link.addresses, address))
      for (const auto& [other, length] : link.addresses)
        if (other != address && other.family() == address.family() && !is_link_local(other) && !is_loopback(other))
          out.push_back(other);
  std::ranges::sort(out);
  return out;
}

MapPlace place_of(const config::Document& document, const Facts& facts, const config::CryptoMap& map,
                  const LinkFacts& link) {
  MapPlace out{false, link.name, link.name, local_address(document, link, map.family), link.ifindex, link.mtu};
  if (map.local_interface) {
    const LinkFacts* const owner = facts.find(*map.local_interface);
    out = {true, "shared " + *map.local_interface, "", {}, 0, link.mtu};
    if (owner != nullptr) out.local = local_address(document, *owner, map.family);
    for (const config::Interface& one : document.interfaces) {
      if (one.crypto_map != map.name && one.ipv6_crypto_map != map.name) continue;
      out.interfaces += (out.interfaces.empty() ? "" : " ") + one.name;
      if (const LinkFacts* const other = facts.find(one.name)) out.path_mtu = std::min(out.path_mtu, other->mtu);
    }
  }
  out.path_mtu = std::min(out.path_mtu, largest_path_mtu);
  return out;
}

const LinkFacts* tunnel_source_link(const config::Document& document, const Facts& facts,
                                    const config::Tunnel& tunnel) {
  if (const LinkFacts* const named = facts.find(tunnel.source)) return named;
  const auto address = IpAddress::parse(tunnel.source);
  if (!address) return nullptr;
  for (const config::Interface& interface : document.interfaces)
    if (has_address(interface.addresses, *address)) return facts.find(interface.name);
  for (const LinkFacts& link : facts.links)
    if (has_address(link.addresses, *address)) return &link;
  return nullptr;
}

std::optional<IpAddress> tunnel_local_address(const config::Document& document, const LinkFacts& outside,
                                              const config::Tunnel& tunnel) {
  if (const auto address = IpAddress::parse(tunnel.source)) return *address;
  return local_address(document, outside, tunnel.destination.family());
}

Result<std::vector<TrafficSelector>> selectors_of(const std::vector<const config::Ace*>& permits) {
  std::vector<TrafficSelector> out;
  const std::vector<config::PortRange> any_port(1);
  for (const config::Ace* const ace : permits) {
    // Both sides of ICMP have its type and code (worker/selectors.cpp).
    for (const auto& both : icmp_ranges(*ace))
      out.push_back({ace->source.first(), ace->source.last(), ace->destination.first(), ace->destination.last(),
                     both.first, both.last, both.first, both.last, ace->protocol, true});
    if (ace->options.icmp_type) continue;
    for (const auto& source : ace->source_ports.empty() ? any_port : ace->source_ports)
      for (const auto& destination : ace->destination_ports.empty() ? any_port : ace->destination_ports)
        out.push_back({ace->source.first(), ace->source.last(), ace->destination.first(), ace->destination.last(),
                       source.first, source.last, destination.first, destination.last, ace->protocol, true});
  }
  if (out.size() > max_selectors)
    return fail("an SA holds at most " + std::to_string(max_selectors) + " traffic selectors; the ACL needs " +
                std::to_string(out.size()));
  return out;
}

TrafficSelector reversed(const TrafficSelector& s) {
  return {s.destination_first,     s.destination_last,  s.source_first,     s.source_last, s.destination_port_first,
          s.destination_port_last, s.source_port_first, s.source_port_last, s.protocol,    s.later_fragments};
}

EncapsulationPolicy policy_of(const config::Encapsulation& in) {
  static_assert(config::tcp_mss_auto == mss_of_path);
  EncapsulationPolicy out;
  out.df = df_of(in.df);
  out.ecn = in.ecn == config::Ecn::discard ? EcnPolicy::discard : EcnPolicy::propagate;
  out.fragmentation = in.fragmentation == config::Fragmentation::after ? FragmentPolicy::after : FragmentPolicy::before;
  out.dscp_copy = !in.dscp;
  out.dscp = in.dscp.value_or(0);
  out.tcp_mss = in.tcp_mss;
  return out;
}

bool between_ends(const std::vector<TrafficSelector>& selectors, const IpAddress& local, const IpAddress& remote) {
  return !selectors.empty() && std::ranges::all_of(selectors, [&](const TrafficSelector& s) {
    return s.source_first == local && s.source_last == local && s.destination_first == remote &&
           s.destination_last == remote;
  });
}

Result<std::vector<PlannedSaPair>> map_sa_pairs(const MapSaInput& input, const std::string& key) {
  SaParameters common = common_parameters(input.document, input.set, input.entry.encapsulation);
  common.deliver = DeliverTo::map_interface;
  common.ifindex = input.place.ifindex;
  common.fvrf = input.fvrf;
  common.local = input.local;
  common.remote = input.entry.peer;
  common.inside_vrf = input.fvrf;  // both sides of a map are in the VRF of its interface
  common.path_mtu = input.place.path_mtu;
  set_encapsulation(common, input.entry.udp_encapsulation, input.entry.udp_local_port, input.entry.udp_remote_port);
  POSTERN_TRY(selectors, selectors_of(input.permits));
  const bool transport = input.set.transport_mode && between_ends(selectors, common.local, common.remote);
  if (input.set.mode_required && !transport)
    return fail(key + ": transform set " + input.set.name +
                " requires transport mode, and the traffic does not go from " + common.local.text() + " to " +
                common.remote.text());
  if (transport) common.mode = SaMode::transport;
  return pairs_of(key, common, input.set, input.entry.keys, selectors);
}

Result<std::vector<PlannedSaPair>> tunnel_sa_pairs(const TunnelSaInput& input) {
  const config::TransformSet* const set = set_of(input.document, input.tunnel);
  if (set == nullptr) return fail(input.tunnel.device() + ": its profile or transform set does not exist");
  SaParameters common = common_parameters(input.document, *set, input.tunnel.encapsulation);
  common.deliver = DeliverTo::tunnel;
  common.ttl = input.tunnel.ttl;
  common.ifindex = input.device.ifindex;
  common.fvrf = input.fvrf;
  common.local = input.local;
  common.remote = input.tunnel.destination;
  common.inside_vrf = input.inside_vrf;
  common.path_mtu = std::min(input.outside.mtu, largest_path_mtu);
  set_encapsulation(common, input.tunnel.udp_encapsulation, input.tunnel.udp_local_port, input.tunnel.udp_remote_port);
  std::vector<TrafficSelector> selectors;
  if (input.tunnel.carries_v4) selectors.push_back(traffic_of_any(Family::v4));
  if (input.tunnel.carries_v6) selectors.push_back(traffic_of_any(Family::v6));
  return pairs_of(input.tunnel.device(), common, *set, input.tunnel.keys, selectors);
}

std::vector<PlannedTunnel> plan_tunnels(const config::Document& document, const Facts& facts) {
  std::vector<PlannedTunnel> out;
  for (const config::Tunnel& tunnel : document.tunnels) {
    PlannedTunnel planned{tunnel.number,    tunnel.device(), tunnel.mtu, tunnel.carries_v6,
                          tunnel.addresses, tunnel.routes,   tunnel.vrf, 0};
    if (tunnel.vrf)
      if (const config::Vrf* const vrf = config::find_named(document.vrfs, *tunnel.vrf)) planned.table = vrf->table;
    const LinkFacts* const outside = tunnel_source_link(document, facts, tunnel);
    const std::uint32_t path = std::min(outside != nullptr ? outside->mtu : 1500, largest_path_mtu);
    if (planned.mtu == 0) planned.mtu = tunnel_mtu(document, tunnel, path);
    // RFC 8200 §5: a link that carries IPv6 has an MTU of at least 1280; the worker fragments the ESP instead.
    if (planned.ipv6) planned.mtu = std::max<std::uint32_t>(planned.mtu, 1280);
    out.push_back(std::move(planned));
  }
  return out;
}

bool same_sa(const PlannedSa& planned, const SaParameters& installed) {
  const SaParameters& p = planned.parameters;
  const auto same_selector = [](const TrafficSelector& a, const TrafficSelector& b) {
    return a.source_first == b.source_first && a.source_last == b.source_last &&
           a.destination_first == b.destination_first && a.destination_last == b.destination_last &&
           a.source_port_first == b.source_port_first && a.source_port_last == b.source_port_last &&
           a.destination_port_first == b.destination_port_first && a.destination_port_last == b.destination_port_last &&
           a.protocol == b.protocol && a.later_fragments == b.later_fragments;
  };
  if (p.selector_count != installed.selector_count || installed.selector_count > max_selectors) return false;
  if (!std::equal(p.selectors.begin(), p.selectors.begin() + p.selector_count, installed.selectors.begin(),
                  same_selector))
    return false;
  if (p.direction != installed.direction || p.mode != installed.mode || p.protocol != installed.protocol ||
      p.bundle != installed.bundle || p.compression_cpi != installed.compression_cpi || p.df != installed.df ||
      p.ecn != installed.ecn || p.deliver != installed.deliver || p.udp_encapsulation != installed.udp_encapsulation ||
      p.fragmentation != installed.fragmentation || p.dscp_copy != installed.dscp_copy || p.dscp != installed.dscp ||
      p.tcp_mss != installed.tcp_mss || p.path_mtu_aging_s != installed.path_mtu_aging_s || p.ttl != installed.ttl ||
      p.spi != installed.spi || p.flow != installed.flow || p.remote != installed.remote ||
      p.local_port != installed.local_port || p.remote_port != installed.remote_port ||
      !(p.transform == installed.transform) || p.replay_window != installed.replay_window ||
      p.extended_sequence != installed.extended_sequence || p.tfc_bytes != installed.tfc_bytes ||
      p.dummy_interval_us != installed.dummy_interval_us)
    return false;
  const auto same_key = [](const Secret& key, const auto& bytes, std::size_t size) {
    return size <= bytes.size() && equal_in_constant_time(key.bytes(), Bytes(bytes.data(), size));
  };
  return !moved(planned, installed) && same_key(planned.cipher_key, installed.cipher_key, installed.cipher_key_bytes) &&
         same_key(planned.integrity_key, installed.integrity_key, installed.integrity_key_bytes);
}

bool moved(const PlannedSa& planned, const SaParameters& installed) {
  const SaParameters& p = planned.parameters;
  return p.local != installed.local || p.fvrf != installed.fvrf || p.inside_vrf != installed.inside_vrf ||
         p.path_mtu != installed.path_mtu;
}

}  // namespace postern::loader
