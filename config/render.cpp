#include "config/render.hpp"

#include <algorithm>

#include <fmt/core.h>

#include "config/acl_options.hpp"
#include "config/render_ikev2.hpp"

namespace postern::config {
namespace {

using nlohmann::json;

const char* text_of(DfBit df) { return df == DfBit::set ? "set" : df == DfBit::clear ? "clear" : "copy"; }
const char* text_of(Family family) { return family == Family::v4 ? "ipv4" : "ipv6"; }

json protocol_json(std::uint8_t protocol, Family family) {
  switch (protocol) {
    case 0: return family == Family::v4 ? "ip" : "ipv6";
    case 1: return family == Family::v4 ? json("icmp") : json(1);
    case 6: return "tcp";
    case 17: return "udp";
    case 58: return family == Family::v6 ? json("icmpv6") : json(58);
    default: return protocol;
  }
}

// The forms that parse_ports() makes, back to their words.
std::string ports_text(const std::vector<PortRange>& ports) {
  const bool single = std::ranges::all_of(ports, [](const PortRange& r) { return r.first == r.last; });
  if (single) {
    std::string out = "eq";
    for (const PortRange& range : ports) out += fmt::format(" {}", range.first);
    return out;
  }
  if (ports.size() == 2) return fmt::format("neq {}", ports[0].last + 1);
  return fmt::format("range {} {}", ports[0].first, ports[0].last);
}

void render_side(json& out, const char* key, const Prefix& prefix, const std::optional<std::uint32_t>& wildcard) {
  const bool host = prefix == Prefix::host(prefix.address);
  out[key] = wildcard             ? prefix.address.text() + " " + IpAddress::v4(*wildcard).text()
             : prefix.length == 0 ? "any"
             : host               ? "host " + prefix.address.text()
                                  : prefix.text();
}

json render_rule(const Ace& rule, Family family) {
  json out = {{"sequence", rule.sequence},
              {"action", rule.action == Action::permit ? "permit" : "deny"},
              {"protocol", protocol_json(rule.protocol, family)}};
  render_side(out, "source", rule.source, rule.source_wildcard);
  render_side(out, "destination", rule.destination, rule.destination_wildcard);
  if (!rule.source_ports.empty()) out["source_ports"] = ports_text(rule.source_ports);
  if (!rule.destination_ports.empty()) out["destination_ports"] = ports_text(rule.destination_ports);
  if (rule.fragments) out["fragments"] = true;
  if (rule.log != AceLog::none) out["log"] = rule.log == AceLog::input ? json("input") : json(true);
  render_ace_options(out, rule.options);
  return out;
}

json render_acl(const Acl& acl) {
  json rules = json::array();
  for (const Ace& rule : acl.rules) rules.push_back(render_rule(rule, acl.family));
  return {{"name", acl.name}, {"family", text_of(acl.family)}, {"rules", std::move(rules)}};
}

json render_direction(const ManualSa& esp, const ManualSa& ah, std::uint16_t cpi) {
  json out = json::object();
  if (esp.spi != 0) {
    json& sa = out["esp"] = {{"spi", esp.spi}};
    if (!esp.cipher_key.empty() || esp.integrity_key.empty()) sa["cipher"] = masked_secret;  // esp-null has none
    if (!esp.integrity_key.empty()) sa["authenticator"] = masked_secret;
  }
  if (ah.spi != 0) out["ah"] = {{"spi", ah.spi}, {"key", masked_secret}};
  if (cpi != ManualKeys::deflate_cpi) out["comp"] = {{"cpi", cpi}};
  return out;
}

json render_keys(const ManualKeys& keys) {
  return {{"inbound", render_direction(keys.inbound, keys.ah_inbound, keys.cpi_inbound)},
          {"outbound", render_direction(keys.outbound, keys.ah_outbound, keys.cpi_outbound)}};
}

template <class T>
void render_udp(json& out, const T& object) {
  if (object.udp_encapsulation)
    out["udp_encapsulation"] = {{"local_port", object.udp_local_port}, {"remote_port", object.udp_remote_port}};
}

const char* text_of(Initiate initiate) { return initiate == Initiate::always ? "always" : "on_traffic"; }

// What names the interval best: 40 us are 25,000 a second, 15,000,000 us are 15 seconds.
json render_dummy(std::uint32_t interval_us) {
  constexpr std::uint32_t second = 1'000'000;
  if (interval_us == 0) return "disable";
  if (interval_us > second) return {{"seconds", interval_us / second}};
  return {{"pps", second / interval_us}};
}

json render_sa(const SecurityAssociation& sa) {
  json out = json::object();
  if (sa.lifetime_s) out["lifetime_seconds"] = *sa.lifetime_s;
  if (sa.lifetime_kb) out["lifetime_kilobytes"] = *sa.lifetime_kb == 0 ? json("disable") : json(*sa.lifetime_kb);
  if (sa.lifetime_packets) out["lifetime_packets"] = *sa.lifetime_packets;
  if (sa.idle_s) out["idle_time"] = *sa.idle_s;
  if (sa.replay_window) out["replay_window"] = *sa.replay_window;
  if (sa.tfc_bytes)
    out["tfc_padding"] = *sa.tfc_bytes == 0       ? json("disable")
                         : *sa.tfc_bytes == 65535 ? json("mtu")
                                                  : json(*sa.tfc_bytes);
  if (sa.dummy_interval_us) out["dummy"] = render_dummy(*sa.dummy_interval_us);
  if (sa.extended_sequence) out["extended_sequence_numbers"] = *sa.extended_sequence;
  return out;
}

void render_encapsulation(json& out, const Encapsulation& encapsulation) {
  out["df_bit"] = text_of(encapsulation.df);
  out["ecn"] = encapsulation.ecn == Ecn::discard ? "discard" : "propagate";
  out["dscp"] = encapsulation.dscp ? json(*encapsulation.dscp) : json("copy");
  out["tcp_mss"] = encapsulation.tcp_mss == tcp_mss_auto ? json("auto")
                   : encapsulation.tcp_mss == 0          ? json("off")
                                                         : json(encapsulation.tcp_mss);
  out["fragmentation"] = encapsulation.fragmentation == Fragmentation::after ? "after-encryption" : "before-encryption";
}

// What MapEntry and IpsecProfile have in common.
template <class T>
void render_negotiation(json& out, const T& object) {
  if (object.ikev2_profile) out["ikev2_profile"] = *object.ikev2_profile;
  if (object.pfs) out["pfs"] = fmt::format("group{}", static_cast<unsigned>(*object.pfs));
  if (json sa = render_sa(object.sa); !sa.empty()) out["security_association"] = std::move(sa);
}

json addresses(const std::vector<IpAddress>& all) {
  json out = json::array();
  for (const IpAddress& one : all) out.push_back(one.text());
  return out;
}

json render_dynamic_map(const DynamicMap& map) {
  json entries = json::array();
  for (const DynamicEntry& entry : map.entries) {
    json& out = entries.emplace_back(json{{"sequence", entry.sequence}, {"transform_sets", entry.transform_sets}});
    if (entry.acl) out["match_address"] = *entry.acl;
    if (!entry.peers.empty()) out["peers"] = addresses(entry.peers);
    render_encapsulation(out, entry.encapsulation);
    render_negotiation(out, entry);
  }
  return {{"name", map.name}, {"limit", map.limit}, {"entries", std::move(entries)}};
}

json render_peer(const Peer& peer) {
  if (peer.dynamic) return {{"name", peer.name}, {"dynamic", true}};
  return peer.text();
}

void render_peers(json& out, const MapEntry& entry) {
  if (!entry.acl.empty()) out["match_address"] = entry.acl;
  if (entry.peers.size() == 1) out["peer"] = render_peer(entry.peers.front());
  if (entry.peers.size() > 1)
    for (const Peer& peer : entry.peers) out["peers"].push_back(render_peer(peer));
  if (entry.default_peer) out["default_peer"] = true;
}

json render_map(const CryptoMap& map) {
  json entries = json::array();
  for (const MapEntry& entry : map.entries) {
    json& out = entries.emplace_back(
        json{{"sequence", entry.sequence}, {"type", entry.negotiated ? "ipsec-isakmp" : "ipsec-manual"}});
    if (entry.dynamic) {
      out["dynamic"] = *entry.dynamic;
      continue;
    }
    render_peers(out, entry);
    render_encapsulation(out, entry.encapsulation);
    if (entry.negotiated) {
      out["initiate"] = text_of(entry.initiate);
      out["separate_fragment_sa"] = entry.separate_fragment_sa;
      if (entry.per_host_limit != 0) out["per_host_limit"] = entry.per_host_limit;
      if (entry.per_host_only) out["per_host_only"] = true;
      if (entry.profile) {
        out["profile"] = *entry.profile;
        continue;
      }
      if (!entry.transform_sets.empty()) out["transform_sets"] = entry.transform_sets;
      render_negotiation(out, entry);
    } else {
      out["transform_set"] = entry.transform_sets.front();
      out["session_key"] = render_keys(entry.keys);
      render_udp(out, entry);
    }
  }
  json out = {{"name", map.name}, {"family", text_of(map.family)}, {"entries", std::move(entries)}};
  if (map.local_interface) out["local_address"] = *map.local_interface;
  return out;
}

json texts(const std::vector<Prefix>& prefixes) {
  json out = json::array();
  for (const Prefix& prefix : prefixes) out.push_back(prefix.text());
  return out;
}

json render_interface(const Interface& interface) {
  json out = {{"name", interface.name}, {"inside", interface.inside}};
  if (!interface.addresses.empty()) out["addresses"] = texts(interface.addresses);
  if (interface.crypto_map) out["crypto_map"] = *interface.crypto_map;
  if (interface.ipv6_crypto_map) out["ipv6_crypto_map"] = *interface.ipv6_crypto_map;
  if (interface.vrf) out["vrf"] = *interface.vrf;
  return out;
}

const char* mode_text(const Tunnel& tunnel) {
  if (tunnel.carries_v4 && tunnel.carries_v6) return "ipsec dual-overlay";
  if (tunnel.transport == Family::v4) return tunnel.carries_v4 ? "ipsec ipv4" : "ipsec ipv4 v6-overlay";
  return tunnel.carries_v6 ? "ipsec ipv6" : "ipsec ipv6 v4-overlay";
}

json render_protection(const Tunnel& tunnel) {
  json out = {{"profile", tunnel.profile}};
  if (tunnel.ikev2_profile) out["ikev2_profile"] = *tunnel.ikev2_profile;
  if (!tunnel.negotiated) out["session_key"] = render_keys(tunnel.keys);
  return out;
}

json render_tunnel(const Tunnel& tunnel) {
  json out = {{"number", tunnel.number},
              {"addresses", texts(tunnel.addresses)},
              {"mode", mode_text(tunnel)},
              {"source", tunnel.source},
              {"destination", tunnel.destination.text()},
              {"protection", render_protection(tunnel)},
              {"ttl", tunnel.ttl},
              {"routes", texts(tunnel.routes)}};
  if (!tunnel.negotiated_addresses.empty()) out["negotiated_addresses"] = texts(tunnel.negotiated_addresses);
  render_encapsulation(out, tunnel.encapsulation);
  if (tunnel.mtu != 0) out["mtu"] = tunnel.mtu;
  if (tunnel.vrf) out["vrf"] = *tunnel.vrf;
  render_udp(out, tunnel);
  return out;
}

const char* mode_text(const TransformSet& set) {
  if (!set.transport_mode) return "tunnel";
  return set.mode_required ? "transport require" : "transport";
}

json render_ipsec(const Document& document) {
  json sets = json::array(), profiles = json::array();
  for (const TransformSet& set : document.transform_sets)
    sets.push_back({{"name", set.name}, {"transforms", set.transforms}, {"mode", mode_text(set)}});
  for (const IpsecProfile& profile : document.profiles) {
    json& out = profiles.emplace_back(json{
        {"name", profile.name}, {"transform_sets", profile.transform_sets}, {"initiate", text_of(profile.initiate)}});
    render_encapsulation(out, profile.encapsulation);
    render_negotiation(out, profile);
  }
  json global = {{"path_mtu_aging", document.ipsec.path_mtu_aging_s}};
  render_encapsulation(global, document.ipsec.encapsulation);
  return {{"global", std::move(global)},
          {"security_association", render_sa(document.ipsec.sa)},
          {"transform_sets", std::move(sets)},
          {"profiles", std::move(profiles)}};
}

json render_dataplane(const Dataplane& d) {
  const char* const plain = d.plain_side == PlainSide::tap      ? "tap"
                            : d.plain_side == PlainSide::af_xdp ? "af_xdp"
                                                                : "auto";
  const char* const xdp = d.xdp_mode == XdpMode::native    ? "native"
                          : d.xdp_mode == XdpMode::generic ? "generic"
                                                           : "auto";
  return {{"plain_side", plain},
          {"xdp_mode", xdp},
          {"on_stop", d.on_stop == OnStop::release ? "release" : "block"},
          {"workers", d.workers},
          {"umem_frames", d.umem_frames},
          {"ring_entries", d.ring_entries},
          {"sa_capacity", d.sa_capacity},
          {"replay_window", d.replay_window},
          {"crypto", d.crypto_openssl ? "openssl" : "auto"},
          {"interface_grace_s", d.interface_grace_s}};
}

template <class T, class Render>
json list(const std::vector<T>& all, Render render_one) {
  json out = json::array();
  for (const T& one : all) out.push_back(render_one(one));
  return out;
}

}  // namespace

json render(const Document& document) {
  json system = {{"log_level", document.system.log_level}, {"acl_log_interval_s", document.system.acl_log_interval_s}};
  if (!document.system.hostname.empty()) system["hostname"] = document.system.hostname;
  return {{"version", document.version},
          {"system", std::move(system)},
          {"dataplane", render_dataplane(document.dataplane)},
          {"vrfs", list(document.vrfs, [](const Vrf& vrf) { return json{{"name", vrf.name}, {"table", vrf.table}}; })},
          {"time_ranges", list(document.time_ranges, render_time_range)},
          {"acls", list(document.acls, render_acl)},
          {"ipsec", render_ipsec(document)},
          {"pki", render_pki(document.pki)},
          {"ikev2", render_ikev2(document.ikev2)},
          {"dynamic_maps", list(document.dynamic_maps, render_dynamic_map)},
          {"crypto_maps", list(document.crypto_maps, render_map)},
          {"interfaces", list(document.interfaces, render_interface)},
          {"tunnels", list(document.tunnels, render_tunnel)}};
}

}  // namespace postern::config
