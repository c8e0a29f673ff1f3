// show crypto map (SO-06). Manual entries have no sample in the guide: SPIs both ways, keys masked.
#include <algorithm>

#include "config/render.hpp"
#include "loader/show.hpp"
#include "loader/show_acl.hpp"
#include "loader/show_support.hpp"

namespace postern::loader {
namespace {

using nlohmann::json;

json key_json(const config::ManualSa& esp, const config::ManualSa& ah, std::uint16_t cpi) {
  json out = json::object();
  if (esp.spi != 0) {
    out["esp"] = {{"spi", hex_spi(esp.spi)}, {"cipher", config::masked_secret}, {"authenticator", nullptr}};
    if (!esp.integrity_key.empty()) out["esp"]["authenticator"] = config::masked_secret;
  }
  if (ah.spi != 0) out["ah"] = {{"spi", hex_spi(ah.spi)}, {"key", config::masked_secret}};
  if (cpi != config::ManualKeys::deflate_cpi) out["comp"] = {{"cpi", cpi}};
  return out;
}

// What every entry has; manual ones have no lifetime, PFS or choice.
json entry_json(std::uint32_t sequence, const IpAddress& peer) {
  return {{"seq", sequence},
          {"type", "ipsec-manual"},
          {"profile_instance", false},
          {"ikev2_profile", nullptr},
          {"peers", json::array({peer.text()})},
          {"current_peer", peer.text()},
          {"lifetime", nullptr},
          {"dual_stack", false},
          {"true_ident", json::array()},
          {"responder_only", false},
          {"pfs", nullptr},
          {"mixed_mode", false},
          {"always_create_sas", true}};
}

void add_keys(json& out, const config::ManualKeys& keys) {
  out["session_key"] = {{"inbound", key_json(keys.inbound, keys.ah_inbound, keys.cpi_inbound)},
                        {"outbound", key_json(keys.outbound, keys.ah_outbound, keys.cpi_outbound)}};
}

struct Negotiation {
  const std::optional<std::string>& ikev2_profile;
  const std::optional<crypto::DhGroup>& pfs;
  const config::SecurityAssociation& sa;
  config::Initiate initiate;
};

void add_negotiation(json& out, const NodeView& view, const Negotiation& negotiation) {
  const config::SecurityAssociation& global = view.document.ipsec.sa;
  const auto seconds = negotiation.sa.lifetime_s ? negotiation.sa.lifetime_s : global.lifetime_s;
  const auto kilobytes = negotiation.sa.lifetime_kb ? negotiation.sa.lifetime_kb : global.lifetime_kb;
  out["type"] = "ipsec-isakmp";
  out["ikev2_profile"] = or_null(negotiation.ikev2_profile);
  out["lifetime"] = {{"seconds", seconds.value_or(0)}, {"kilobytes", kilobytes.value_or(0)}};
  if (negotiation.pfs) out["pfs"] = fmt::format("group{}", static_cast<unsigned>(*negotiation.pfs));
  out["always_create_sas"] = negotiation.initiate == config::Initiate::always;
}

json selector_rule(const TrafficSelector& s, std::uint32_t sequence) {
  const bool v6 = s.source_first.family() == Family::v6;
  json out = {{"sequence", sequence},
              {"action", "permit"},
              {"proto", s.protocol == 0 ? (v6 ? "ipv6" : "ip") : std::to_string(s.protocol)},
              {"src", range_text(s.source_first, s.source_last)},
              {"dst", range_text(s.destination_first, s.destination_last)}};
  const auto add_ports = [&](const char* key, std::uint16_t first, std::uint16_t last) {
    if (first <= last && !(first == 0 && last == 65535)) out[key] = ports_json({{first, last}});
  };
  add_ports("src_ports", s.source_port_first, s.source_port_last);
  add_ports("dst_ports", s.destination_port_first, s.destination_port_last);
  return out;
}

// What stands beside the document: SO-06 numbers it from behind the last entry that there can be.
constexpr std::uint32_t first_temporary_sequence = 65536;

// DM-12: made by a peer, gone with its SAs.
json temporary_json(const NodeView& view, const FlowView& flow, std::uint32_t sequence) {
  json out = entry_json(sequence, flow.outbound ? flow.outbound->parameters.remote : flow.peer);
  json rules = json::array();
  for (const TrafficSelector& one : flow.selectors)
    rules.push_back(selector_rule(one, static_cast<std::uint32_t>(10 * (rules.size() + 1))));
  out["acl"] = {{"name", nullptr}, {"rules", std::move(rules)}};
  out["temporary"] = true;
  out["transform_sets"] = json::array();
  if (const config::DynamicEntry* const from = dynamic_entry_of(view, flow)) {
    add_negotiation(out, view, {from->ikev2_profile, from->pfs, from->sa, config::Initiate::on_traffic});
    for (const std::string& set : from->transform_sets) out["transform_sets"].push_back(transforms_json(view, set));
    out["created_from"] = {{"dynamic_map", flow.dynamic_map}, {"seq", flow.dynamic_sequence}};
  }
  return out;
}

void add_temporary_entries(const NodeView& view, const config::CryptoMap& map, const config::MapEntry& entry,
                           json& entries, std::uint32_t& next) {
  for (const FlowView& flow : view.flows)
    if (flow.base_flow != 0 && !flow.dynamic_map.empty() && flow.map == map.name && flow.sequence == entry.sequence)
      entries.push_back(temporary_json(view, flow, next++));
}

json peers_json(const config::MapEntry& entry) {
  json out = json::array();
  for (const config::Peer& peer : entry.peers) out.push_back(peer.text());
  return out;
}

// CM-04, CM-06: what the names among the peers stand for.
json names_json(const NodeView& view, const config::CryptoMap& map, const config::MapEntry& entry) {
  json out = json::array();
  for (const config::Peer& peer : entry.peers) {
    if (!peer.is_name()) continue;
    const NamedPeer known = named_peer(view, peer.name, map.family);
    out.push_back({{"name", peer.name},
                   {"dynamic", peer.dynamic},
                   {"address", or_null(known.address)},
                   {"reason", known.problem.empty() ? json() : json(known.problem)}});
  }
  return out;
}

// CM-05: whose SA the entry's flows are in, else whom the next attempt is for.
json current_peer(const NodeView& view, const config::CryptoMap& map, const config::MapEntry& entry) {
  for (const FlowView& flow : view.flows)
    if (flow.map == map.name && flow.sequence == entry.sequence && flow.outbound)
      return flow.outbound->parameters.remote.text();
  if (view.ike.is_object())
    for (const json& row : view.ike.value("current_peers", json::array()))
      for (const FlowView& flow : view.flows)
        if (flow.map == map.name && flow.sequence == entry.sequence && row.value("flow", 0U) == flow.flow)
          return row.value("peer", json());
  const config::Peer& first = entry.peers.front();
  return first.is_name() ? or_null(named_peer(view, first.name, map.family).address) : json(first.address.text());
}

json map_json(const NodeView& view, const config::CryptoMap& map) {
  json entries = json::array(), interfaces = json::array();
  std::uint32_t temporary = first_temporary_sequence;
  for (const config::MapEntry& entry : map.entries) {
    json& out = entries.emplace_back(entry_json(entry.sequence, entry.peer));
    if (entry.dynamic) {
      out.update({{"type", "ipsec-isakmp"},
                  {"dynamic", *entry.dynamic},
                  {"peers", json::array()},
                  {"current_peer", nullptr},
                  {"always_create_sas", false},
                  {"acl", {{"name", nullptr}, {"rules", json::array()}}},
                  {"transform_sets", json::array()}});
      add_temporary_entries(view, map, entry, entries, temporary);
      continue;
    }
    out["peers"] = peers_json(entry);
    out["current_peer"] = entry.peers.empty() ? json() : current_peer(view, map, entry);
    if (std::ranges::any_of(entry.peers, &config::Peer::is_name)) out["peer_names"] = names_json(view, map, entry);
    if (entry.default_peer) out["default_peer"] = true;
    if (entry.negotiated && entry.incomplete()) out["incomplete"] = true;
    if (entry.profile) {
      out["profile_instance"] = true;
      out["profile"] = *entry.profile;
    }
    if (entry.per_host_limit != 0) out["per_host_limit"] = entry.per_host_limit;
    if (entry.negotiated)
      add_negotiation(out, view, {entry.ikev2_profile, entry.pfs, entry.sa, entry.initiate});
    else
      add_keys(out, entry.keys);
    out["acl"] = acl_json(
        view, entry.acl, [&](const RuleView& rule) { return rule.map == map.name && rule.sequence == entry.sequence; });
    out["transform_sets"] = json::array();
    for (const std::string& set : entry.transform_sets) out["transform_sets"].push_back(transforms_json(view, set));
  }
  for (const config::Interface& interface : view.document.interfaces)
    if (interface.crypto_map == map.name || interface.ipv6_crypto_map == map.name) interfaces.push_back(interface.name);
  json out = {{"name", map.name},
              {"family", map.family == Family::v4 ? "ipv4" : "ipv6"},
              {"ikev2_profile", nullptr},
              {"entries", std::move(entries)},
              {"interfaces", std::move(interfaces)}};
  if (map.local_interface)
    out["local_address"] = {{"interface", *map.local_interface},
                            {"address", or_null(address_of(view, *map.local_interface, map.family))}};
  return out;
}

json any_rule(bool v6) {
  return {{"sequence", 10}, {"action", "permit"}, {"proto", v6 ? "ipv6" : "ip"}, {"src", "any"}, {"dst", "any"}};
}

// The map that a tunnel with protection makes: one profile instance, any to any.
json tunnel_json(const NodeView& view, const config::Tunnel& tunnel) {
  json entry = entry_json(65537, tunnel.destination);
  entry["profile_instance"] = true;
  entry["profile"] = tunnel.profile;
  const bool dual = tunnel.carries_v4 && tunnel.carries_v6;
  entry["acl"] = {{"name", nullptr}, {"rules", json::array({any_rule(!tunnel.carries_v4)})}};
  entry["dual_stack"] = dual;
  if (dual)
    entry["true_ident"] = {{{"local", "0.0.0.0/0"}, {"remote", "0.0.0.0/0"}}, {{"local", "::/0"}, {"remote", "::/0"}}};
  json sets = json::array();
  const config::IpsecProfile* const profile = config::find_named(view.document.profiles, tunnel.profile);
  if (profile != nullptr)
    for (const std::string& set : profile->transform_sets) sets.push_back(transforms_json(view, set));
  const auto ikev2_profile = tunnel.ikev2_profile || profile == nullptr ? tunnel.ikev2_profile : profile->ikev2_profile;
  if (!tunnel.negotiated)
    add_keys(entry, tunnel.keys);
  else if (profile != nullptr)
    add_negotiation(entry, view, {ikev2_profile, profile->pfs, profile->sa, profile->initiate});
  entry["transform_sets"] = std::move(sets);
  return {{"name", map_name_of(tunnel)},
          {"family", tunnel.transport == Family::v4 ? "ipv4" : "ipv6"},
          {"ikev2_profile", or_null(ikev2_profile)},
          {"entries", json::array({std::move(entry)})},
          {"interfaces", json::array({tunnel.device()})}};
}

bool wanted(const json& map, const std::optional<std::string>& tag, const std::optional<std::string>& interface) {
  if (tag && map["name"] != *tag) return false;
  return !interface ||
         std::find(map["interfaces"].begin(), map["interfaces"].end(), *interface) != map["interfaces"].end();
}

}  // namespace

Result<json> show_crypto_map(const json& args, const NodeView& view) {
  POSTERN_CHECK(only_arguments(args, {"tag", "interface"}));
  POSTERN_TRY(tag, text_argument(args, "tag"));
  POSTERN_TRY(interface, text_argument(args, "interface"));
  json maps = json::array();
  const auto add = [&](json map) {
    if (wanted(map, tag, interface)) maps.push_back(std::move(map));
  };
  for (const config::CryptoMap& map : view.document.crypto_maps) add(map_json(view, map));
  for (const config::Tunnel& tunnel : view.document.tunnels) add(tunnel_json(view, tunnel));
  if (maps.empty() && tag)
    return fail("there is no crypto map of that name" + std::string(interface ? " on that interface" : ""));
  if (maps.empty() && interface) return fail("there is no crypto map on that interface");
  return json{{"maps", std::move(maps)}};
}

}  // namespace postern::loader
