#include "loader/plan.hpp"

#include <algorithm>
#include <array>
#include <set>

#include <fmt/format.h>

#include "loader/plan_acl.hpp"
#include "loader/plan_sa.hpp"
#include "loader/plan_stack.hpp"
#include "loader/planner.hpp"
#include "maps/counters.hpp"

namespace postern::loader {
namespace {

// IPv4 and IPv6 map sets of one interface are one policy; their entries must not be taken for each other's.
constexpr std::uint32_t ipv6_entry_offset = 0x10000;

// Stable while the ACE says the same, wherever it stands in its list.
std::string flow_key(const std::string& owner, const config::Ace& ace) { return "map " + owner + ": " + ace_key(ace); }

// Devices whose packets come without an Ethernet header, by which the programs find everything.
bool without_ethernet(const LinkFacts& link) {
  constexpr std::array<std::string_view, 10> kinds = {"gre", "ip6gre", "ipip", "sit",       "ip6tnl",
                                                      "vti", "vti6",   "xfrm", "wireguard", "ppp"};
  return std::ranges::find(kinds, link.kind) != kinds.end() || (link.kind == "tun" && link.mac == MacAddress{});
}

}  // namespace

Result<Plan> Planner::make() {
  POSTERN_CHECK(check_vrfs(document_, facts_, plan_.missing));
  plan_.threads = planned_threads(document_, facts_);
  for (const config::Interface& interface : document_.interfaces) POSTERN_CHECK(add_interface(interface));
  for (const config::Tunnel& tunnel : document_.tunnels) POSTERN_CHECK(add_tunnel(tunnel));
  std::erase_if(plan_.interfaces, [](const PlannedInterface& one) { return one.gone; });
  for (PlannedInterface& interface : plan_.interfaces) interface.flags |= policy_flags(interface.rules);
  POSTERN_CHECK(check_stacks(document_, facts_, plan_.interfaces));
  add_ports(facts_, plan_.interfaces);
  add_devices();
  POSTERN_CHECK(check_spis());
  flows_.keep_only(used_);
  return std::move(plan_);
}

std::uint32_t Planner::new_flow(PlannedFlow flow, const std::string& key) {
  std::string unique = key;
  for (int copy = 2; used_.contains(unique); ++copy) unique = key + " #" + std::to_string(copy);
  flow.key = unique;
  flow.id = flows_.id_of(unique);
  used_[unique] = flow.id;
  plan_.flows.push_back(std::move(flow));
  return plan_.flows.back().id;
}

PlannedInterface& Planner::interface_of(const LinkFacts& link, const std::optional<std::string>& vrf) {
  for (PlannedInterface& known : plan_.interfaces)
    if (known.name == link.name) return known;
  PlannedInterface interface;
  interface.name = link.name;
  interface.ifindex = link.ifindex;
  interface.mac = link.mac;
  interface.vrf = table_of(document_, vrf);
  interface.gone = link.gone;
  return plan_.interfaces.emplace_back(std::move(interface));
}

Result<void> Planner::add_interface(const config::Interface& interface) {
  const LinkFacts* const link = facts_.find(interface.name);
  if (link == nullptr) {
    plan_.missing.push_back("interface " + interface.name + " does not exist");
    return {};
  }
  if (link->gone)
    plan_.missing.push_back("interface " + interface.name + " does not exist: its SAs wait for it");
  else if (!link->renamed.empty())
    plan_.missing.push_back("interface " + interface.name + " has another name now: " + link->renamed);
  else
    plan_.links.push_back(interface.name);
  if (interface.crypto_map) POSTERN_CHECK(add_map(interface, *link, *interface.crypto_map, 0));
  if (interface.ipv6_crypto_map)
    POSTERN_CHECK(add_map(interface, *link, *interface.ipv6_crypto_map, ipv6_entry_offset));
  if (interface.inside && link->plain_side_af_xdp) interface_of(*link, interface.vrf).flags |= POSTERN_IF_INSIDE;
  return {};
}

Result<void> Planner::add_map(const config::Interface& interface, const LinkFacts& link, const std::string& name,
                              std::uint32_t entry_offset) {
  const config::CryptoMap* const map = config::find_named(document_.crypto_maps, name);
  if (map == nullptr) return fail("interface " + interface.name + ": no crypto map \"" + name + "\"");
  interface_of(link, interface.vrf).flags |= POSTERN_IF_OUTSIDE;
  if (!link.gone && without_ethernet(link))
    plan_.missing.push_back("interface " + interface.name + " has no Ethernet header: what crosses it is dropped");
  const MapPlace place = place_of(document_, facts_, *map, link);
  for (const config::MapEntry& entry : map->entries) {
    if (entry.dynamic)
      POSTERN_CHECK(add_dynamic({interface, link, *map, entry, place}, entry_offset));
    else if (!entry.incomplete())
      POSTERN_CHECK(add_entry({interface, link, *map, entry, place}, entry_offset));
  }
  return {};
}

// The flow of the same rule on another interface that shares the map's SAs, or a new one.
std::uint32_t Planner::flow_of(const Placement& at, PlannedFlow flow, const std::string& key) {
  flow.interface = at.place.interfaces;
  flow.ifindex = at.place.ifindex;
  if (!at.place.shared) return new_flow(std::move(flow), key);
  const auto [known, fresh] = shared_.try_emplace({flow.sa_pair, flow.ace, flow.later_fragments}, 0U);
  if (fresh) known->second = new_flow(std::move(flow), key);
  return known->second;
}

void Planner::append(PlannedInterface& planned, Placed rules) {
  for (auto& [rule, origin] : rules) {
    planned.rules.push_back(std::move(rule));
    planned.origins.push_back(std::move(origin));
  }
}

Result<void> Planner::add_entry(const Placement& at, std::uint32_t entry_offset) {
  const auto& [interface, link, map, entry, place] = at;
  const std::string key = at.key();
  const config::Acl* const acl = config::find_named(document_.acls, entry.acl);
  const config::TransformSet* const set =
      entry.transform_sets.empty() ? nullptr
                                   : config::find_named(document_.transform_sets, entry.transform_sets.front());
  if (acl == nullptr || set == nullptr) return fail("crypto map " + key + ": its ACL or transform set does not exist");
  std::vector<std::uint32_t> flows;
  std::vector<const config::Ace*> permits;
  PlannedInterface& planned = interface_of(link, interface.vrf);
  for (std::uint32_t index = 0; index < acl->rules.size(); ++index) {
    const config::Ace& ace = acl->rules[index];
    if (!ace.options.time_range.empty() && !facts_.time_ranges.contains(ace.options.time_range)) continue;
    PolicyRule rule = policy_rule(*acl, ace, entry.sequence + entry_offset);
    planned.origins.push_back({map.name, entry.sequence, acl->name, index});
    if (!rule.permit) {
      planned.rules.push_back(std::move(rule));
      continue;
    }
    PlannedFlow flow{0, "", key, map.name, entry.sequence, index, "", false, std::nullopt};
    flow.per_host = entry.per_host_limit != 0;
    const std::string book_key = flow_key(key, ace);
    rule.flow = flow_of(at, flow, book_key);
    // Pairs of hosts, and what a peer takes in SAs of their own alone (RFC 7296 §2.9).
    if (entry.negotiated && !temporaries_.empty()) {
      Placed pairs;
      POSTERN_CHECK(add_temporaries(PlannedFlow(*plan_.find_flow(rule.flow)), rule.entry, pairs));
      append(planned, std::move(pairs));
    }
    flows.push_back(rule.flow);
    permits.push_back(&ace);
    // RFC 4301 §7.2: a flow of their own for the fragments that have no ports.
    if (entry.negotiated && rule.names_ports() && entry.separate_fragment_sa) {
      PlannedFlow later = flow;
      later.later_fragments = true;
      rule.fragment_flow = flow_of(at, std::move(later), book_key + " fragments");
    }
    planned.rules.push_back(std::move(rule));
  }
  if (flows.empty()) return {};
  if (!place.local) {
    miss(without_address(at));
    return {};
  }
  // The worker asks for the way to a peer by name when it has SAs with it.
  for (const config::Peer& peer : entry.peers)
    if (!peer.is_name()) add_peer({table_of(document_, interface.vrf), peer.address});
  if (entry.negotiated) return add_negotiated(key);
  if (plan_.find_pair(key) != nullptr) return {};  // shared, and there
  POSTERN_TRY(
      pairs,
      map_sa_pairs({document_, entry, *set, place, *place.local, table_of(document_, interface.vrf), permits}, key));
  return add_pairs(std::move(pairs), std::move(flows), {table_of(document_, interface.vrf), entry.peer});
}

// Interfaces that share a map miss the same.
void Planner::miss(std::string what) {
  if (std::ranges::find(plan_.missing, what) == plan_.missing.end()) plan_.missing.push_back(std::move(what));
}

std::string Planner::without_address(const Placement& at) {
  const std::string& owner = at.map.local_interface ? *at.map.local_interface : at.interface.name;
  return "interface " + owner + " has no address of the family of " +
         (at.entry.peers.empty() ? "crypto map " + at.map.name : "peer " + at.entry.peers.front().text());
}

// AH around ESP has a flow of its own, which nothing but that ESP goes into. It is there before the ESP is.
Result<void> Planner::add_pairs(std::vector<PlannedSaPair> pairs, std::vector<std::uint32_t> flows,
                                const AdjacencyKey& peer) {
  const auto place = [](PlannedSaPair& pair, std::uint32_t flow, std::uint32_t bundle) {
    pair.inbound.parameters.flow = pair.outbound.parameters.flow = flow;
    pair.inbound.parameters.bundle = pair.outbound.parameters.bundle = bundle;
  };
  if (pairs.size() == 2) {
    const std::uint32_t bundle = flows_.id_of("bundle " + pairs[0].key);
    used_["bundle " + pairs[0].key] = bundle;
    place(pairs[1], bundle, flows.front());
    pairs[1].flows = {bundle};
    plan_.sas.push_back(std::move(pairs[1]));
    place(pairs[0], flows.front(), bundle);
  } else {
    place(pairs[0], flows.front(), 0);
  }
  pairs[0].flows = std::move(flows);
  plan_.sas.push_back(std::move(pairs[0]));
  add_peer(peer);
  return {};
}

void Planner::add_peer(const AdjacencyKey& peer) {
  if (std::ranges::find(plan_.peers, peer) == plan_.peers.end()) plan_.peers.push_back(peer);
}

// Its SAs come from postern-ike (loader/plan_ike.hpp); all else stands as for manual keys, so that nothing leaks.
Result<void> Planner::add_negotiated(const std::string& owner) {
  plan_.negotiates = plan_.negotiates || document_.ikev2.enabled;
  if (!document_.ikev2.enabled) miss(owner + " is inert: ikev2.enabled is false");
  return {};
}

Result<void> Planner::add_tunnel(const config::Tunnel& tunnel) {
  const LinkFacts* const outside = tunnel_source_link(document_, facts_, tunnel);
  const LinkFacts* const device = facts_.find(tunnel.device());
  if (outside == nullptr || device == nullptr) {
    plan_.missing.push_back(tunnel.device() + (outside == nullptr ? ": its source " + tunnel.source : "") +
                            " does not exist");
    return {};
  }
  const auto local = tunnel_local_address(document_, *outside, tunnel);
  if (!local) {
    plan_.missing.push_back(tunnel.device() + ": its source has no address of the family of " +
                            tunnel.destination.text());
    return {};
  }
  const config::Interface* const source = config::find_named(document_.interfaces, outside->name);
  const auto fvrf_name = source == nullptr ? std::nullopt : source->vrf;
  const std::uint32_t fvrf = table_of(document_, fvrf_name);
  interface_of(*outside, fvrf_name).flags |= POSTERN_IF_OUTSIDE;
  PlannedFlow flow{
      0, "", tunnel.device(), tunnel.device() + "-head-0", tunnel_sequence, 0, tunnel.device(), false, tunnel.number};
  flow.ifindex = device->ifindex;
  const std::uint32_t id = new_flow(std::move(flow), "tunnel " + std::to_string(tunnel.number));
  PlannedInterface& interface = interface_of(*device, tunnel.vrf);
  interface.flags |= POSTERN_IF_TUNNEL;
  interface.flow = id;
  if (tunnel.negotiated) {
    add_peer({fvrf, tunnel.destination});
    return add_negotiated(tunnel.device());
  }
  POSTERN_TRY(pairs,
              tunnel_sa_pairs({document_, tunnel, *outside, *device, *local, fvrf, table_of(document_, tunnel.vrf)}));
  return add_pairs(std::move(pairs), {id}, {fvrf, tunnel.destination});
}

Result<void> Planner::check_spis() const {
  std::set<std::tuple<std::uint32_t, IpAddress, IpProto, std::uint32_t>> seen;
  for (const PlannedSaPair& pair : plan_.sas) {
    const SaParameters& in = pair.inbound.parameters;
    if (!seen.emplace(in.fvrf, in.local, in.protocol, in.spi).second)
      return fail(pair.key + ": inbound SPI " + std::to_string(in.spi) + " is already in use at " + in.local.text());
  }
  return {};
}

std::uint32_t planned_threads(const config::Document& document, const Facts& facts) {
  std::uint32_t queues = 1;
  for (const config::Interface& interface : document.interfaces)
    if (const LinkFacts* const link = facts.find(interface.name))
      queues = std::max(queues, receive_queues_of(*link, facts));
  const std::uint32_t wanted =
      document.dataplane.workers != 0 ? document.dataplane.workers : std::min(facts.cpus, queues);
  return std::clamp<std::uint32_t>(wanted, 1, max_worker_threads);
}

const LinkFacts* Facts::find(std::string_view name) const { return config::find_named(links, name); }

const LinkFacts* Facts::find(std::uint32_t ifindex) const {
  const auto found = std::ranges::find(links, ifindex, &LinkFacts::ifindex);
  return ifindex == 0 || found == links.end() ? nullptr : &*found;
}

const VrfFacts* Facts::vrf_of_table(std::uint32_t table) const {
  const auto found = std::ranges::find(vrfs, table, &VrfFacts::table);
  return found == vrfs.end() ? nullptr : &*found;
}

std::uint32_t FlowBook::id_of(const std::string& key) {
  const auto [entry, added] = ids_.try_emplace(key, next_);
  if (added) ++next_;
  return entry->second;
}

void FlowBook::keep_only(const std::map<std::string, std::uint32_t>& kept) {
  std::erase_if(ids_, [&](const auto& entry) { return !kept.contains(entry.first); });
}

std::string PlannedInterface::policy_text() const {
  std::string text;
  for (const PolicyRule& rule : rules) text += rule_text(rule) + "\t" + rule.name + " " + rule.log_tag + "\n";
  return text;
}

bool PlannedInterface::operator==(const PlannedInterface& other) const {
  return name == other.name && ifindex == other.ifindex && vrf == other.vrf && flags == other.flags &&
         flow == other.flow && queues == other.queues && mac == other.mac && part_of == other.part_of &&
         has_ports == other.has_ports && policy_text() == other.policy_text();
}

const PlannedSaPair* Plan::find_pair(std::string_view key) const {
  for (const PlannedSaPair& pair : sas)
    if (pair.key == key) return &pair;
  return nullptr;
}

const PlannedFlow* Plan::find_flow(std::uint32_t id) const {
  const auto found = std::ranges::find(flows, id, &PlannedFlow::id);
  return found == flows.end() ? nullptr : &*found;
}

Result<Plan> make_plan(const config::Document& document, const Facts& facts, FlowBook& flows,
                       const Temporaries& temporaries) {
  FlowBook book = flows;  // a plan that fails spends no number
  POSTERN_TRY(plan, Planner(document, facts, book, temporaries).make());
  flows = std::move(book);
  return plan;
}

}  // namespace postern::loader
