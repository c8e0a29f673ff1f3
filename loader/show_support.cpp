#include "loader/show_support.hpp"

#include <algorithm>

#include "base/device_names.hpp"
#include "loader/plan_sa.hpp"

namespace postern::loader {
namespace {

const config::Ace* ace_of(const NodeView& view, const config::MapEntry& entry, std::uint32_t index) {
  const config::Acl* const acl = config::find_named(view.document.acls, entry.acl);
  return acl == nullptr || index >= acl->rules.size() ? nullptr : &acl->rules[index];
}

constexpr Prefix prefix_of_any(Family family) { return {family == Family::v4 ? IpAddress::v4(0) : IpAddress{}, 0}; }

std::optional<FlowContext> of_tunnel(const NodeView& view, const FlowView& flow) {
  const auto& tunnels = view.document.tunnels;
  const auto tunnel = std::ranges::find(tunnels, *flow.tunnel, &config::Tunnel::number);
  if (tunnel == tunnels.end()) return std::nullopt;
  FlowContext out;
  out.flow = &flow;
  out.tunnel = &*tunnel;
  out.peer = tunnel->destination;
  if (tunnel->udp_encapsulation) out.peer_port = tunnel->udp_remote_port;
  const Family first = tunnel->carries_v4 ? Family::v4 : Family::v6;
  out.selector.local = out.selector.remote = prefix_of_any(first);
  if (tunnel->carries_v4 && tunnel->carries_v6)
    out.selector.second_local = out.selector.second_remote = prefix_of_any(Family::v6);
  if (const auto address = IpAddress::parse(tunnel->source)) {
    out.local = *address;
    const auto owner = std::ranges::find_if(view.devices, [&](const DeviceView& device) {
      return std::ranges::any_of(device.addresses, [&](const Prefix& p) { return p.address == *address; });
    });
    out.outside = owner == view.devices.end() ? nullptr : &*owner;
  } else {
    out.local = address_of(view, tunnel->source, tunnel->transport);
    out.outside = find_device(view, tunnel->source);
  }
  return out;
}

// The smallest network that holds all of it.
Prefix around(const IpAddress& first, const IpAddress& last) {
  const std::uint8_t whole = first.family() == Family::v4 ? 32 : 128;
  for (std::uint8_t length = whole; length > 0; --length)
    if (const Prefix prefix{first, length}; prefix.contains(last)) return {prefix.first(), length};
  return prefix_of_any(first.family());
}

std::vector<config::PortRange> ports_of(std::uint16_t first, std::uint16_t last) {
  if (first > last || (first == 0 && last == 65535)) return {};
  return {{first, last}};
}

// What a peer negotiated, not what the document says.
void take_selectors(FlowContext& out, const FlowView& flow) {
  out.peer = flow.peer;
  if (flow.selectors.empty()) return;
  const TrafficSelector& s = flow.selectors.front();
  out.selector = {config::Action::permit,
                  s.protocol,
                  around(s.source_first, s.source_last),
                  around(s.destination_first, s.destination_last),
                  ports_of(s.source_port_first, s.source_port_last),
                  ports_of(s.destination_port_first, s.destination_port_last),
                  {},
                  {}};
}

std::optional<FlowContext> of_map(const NodeView& view, const FlowView& flow, std::string_view interface) {
  const config::CryptoMap* const map = config::find_named(view.document.crypto_maps, flow.map);
  if (map == nullptr) return std::nullopt;
  const auto entry = std::ranges::find(map->entries, flow.sequence, &config::MapEntry::sequence);
  if (entry == map->entries.end()) return std::nullopt;
  FlowContext out;
  out.flow = &flow;
  out.map = map;
  out.entry = &*entry;
  out.local = address_of(view, map->local_interface ? *map->local_interface : interface, map->family);
  out.outside = find_device(view, interface);
  if (flow.base_flow != 0) {
    take_selectors(out, flow);
    return out;
  }
  const config::Ace* const ace = ace_of(view, *entry, flow.ace);
  if (ace == nullptr) return std::nullopt;
  out.peer = entry->peer;
  if (!entry->peers.empty() && entry->peers.front().is_name()) {
    out.peer_name = entry->peers.front().name;
    out.peer = named_peer(view, out.peer_name, map->family).address.value_or(IpAddress{});
  }
  if (entry->udp_encapsulation) out.peer_port = entry->udp_remote_port;
  out.selector.action = ace->action;
  out.selector.protocol = ace->protocol;
  out.selector.local = ace->source;
  out.selector.remote = ace->destination;
  if (!flow.later_fragments) {
    out.selector.local_ports = ace->source_ports;
    out.selector.remote_ports = ace->destination_ports;
  }
  return out;
}

}  // namespace

std::optional<FlowContext> context_of(const NodeView& view, const FlowView& flow, std::string_view interface) {
  const auto names = device_names(flow.interface);
  if (interface.empty() && !names.empty()) interface = names.front();
  auto out = flow.tunnel ? of_tunnel(view, flow) : of_map(view, flow, interface);
  if (out) out->interface = interface;
  // An installed SA knows best.
  if (out && flow.outbound) {
    const SaParameters& sa = flow.outbound->parameters;
    out->local = sa.local;
    if (flow.negotiated && sa.udp_encapsulation) out->peer_port = sa.remote_port;
    if (flow.negotiated) out->peer = sa.remote;  // the one of several that is in use, or where it has moved
    if (flow.negotiated && out->entry != nullptr && flow.base_flow == 0)
      out->peer_name = name_at(view, *out->map, *out->entry, sa.remote);
  }
  return out;
}

NamedPeer named_peer(const NodeView& view, const std::string& name, Family family) {
  const char* const wanted = family == Family::v4 ? "ipv4" : "ipv6";
  if (view.ike.is_object())
    for (const auto& row : view.ike.value("names", nlohmann::json::array())) {
      if (row.value("name", "") != name || row.value("family", "") != wanted) continue;
      const auto address = row["address"].is_string() ? IpAddress::parse(row["address"].get<std::string>())
                                                      : Result<IpAddress>(fail("unresolved"));
      return {address ? std::optional(*address) : std::nullopt, row.value("problem", "")};
    }
  return {{}, "postern-ike does not know the name"};
}

// Of several by name the only one, where none is there any more: it has moved since.
std::string name_at(const NodeView& view, const config::CryptoMap& map, const config::MapEntry& entry,
                    const IpAddress& address) {
  for (const config::Peer& peer : entry.peers)
    if (!peer.is_name() && peer.address == address) return {};
  for (const config::Peer& peer : entry.peers)
    if (peer.is_name() && named_peer(view, peer.name, map.family).address == address) return peer.name;
  return entry.peers.size() == 1 ? entry.peers.front().name : std::string();
}

std::string range_text(const IpAddress& first, const IpAddress& last) {
  const std::uint8_t whole = first.family() == Family::v4 ? 32 : 128;
  for (std::uint8_t length = 0; length <= whole; ++length)
    if (const Prefix prefix{first, length}; prefix.first() == first && prefix.last() == last) return prefix.text();
  return first.text() + "-" + last.text();
}

const config::DynamicEntry* dynamic_entry_of(const NodeView& view, const FlowView& flow) {
  const config::DynamicMap* const map = config::find_named(view.document.dynamic_maps, flow.dynamic_map);
  if (map == nullptr) return nullptr;
  const auto entry = std::ranges::find(map->entries, flow.dynamic_sequence, &config::DynamicEntry::sequence);
  return entry == map->entries.end() ? nullptr : &*entry;
}

const DeviceView* find_device(const NodeView& view, std::string_view name) {
  const auto device = std::ranges::find(view.devices, name, &DeviceView::name);
  return device == view.devices.end() ? nullptr : &*device;
}

std::optional<IpAddress> address_of(const NodeView& view, std::string_view interface, Family family) {
  const auto first = [&](const std::vector<Prefix>& addresses) -> std::optional<IpAddress> {
    const auto found = std::ranges::find_if(
        addresses, [&](const Prefix& one) { return one.family() == family && !is_loopback(one.address); });
    return found == addresses.end() ? std::nullopt : std::optional(found->address);
  };
  if (const DeviceView* const device = find_device(view, interface))
    if (const auto address = first(device->addresses)) return address;
  const config::Interface* const configured = config::find_named(view.document.interfaces, interface);
  return configured == nullptr ? std::nullopt : first(configured->addresses);
}

std::string map_name_of(const config::Tunnel& tunnel) { return tunnel.device() + "-head-0"; }

std::string hex_spi(std::uint32_t spi) { return fmt::format("0x{:X}", spi); }

nlohmann::json transforms_json(const NodeView& view, const std::string& set) {
  const config::TransformSet* const found = config::find_named(view.document.transform_sets, set);
  return {{"name", set}, {"transforms", found == nullptr ? std::vector<std::string>{} : found->transforms}};
}

nlohmann::json ports_json(const std::vector<config::PortRange>& ports) {
  nlohmann::json out = nlohmann::json::array();
  for (const config::PortRange& range : ports) out.push_back({{"first", range.first}, {"last", range.last}});
  return out;
}

nlohmann::json or_null(const std::optional<std::string>& text) {
  return text ? nlohmann::json(*text) : nlohmann::json();
}
nlohmann::json or_null(const std::optional<IpAddress>& address) {
  return address ? nlohmann::json(address->text()) : nlohmann::json();
}

nlohmann::json life_kilobytes(const SaView& sa) {
  const SaParameters& p = sa.parameters;
  if (p.hard_bytes == 0) return nullptr;
  const std::uint64_t grace = p.direction == SaDirection::inbound ? inbound_grace_bytes : 0;
  const std::uint64_t whole = p.hard_bytes > grace ? p.hard_bytes - grace : 0;
  return sa.bytes >= whole ? 0 : (whole - sa.bytes) / 1024;
}

nlohmann::json child_of(const NodeView& view, const FlowView& flow) {
  if (!flow.negotiated || !view.ike.is_object()) return nullptr;
  const std::string spi = flow.inbound ? hex_spi(flow.inbound->parameters.spi) : "";
  for (const auto& session : view.ike.value("sessions", nlohmann::json::array()))
    for (const auto& child : session.value("children", nlohmann::json::array()))
      if (child.value("flow", 0U) == flow.flow && child.value("esp_spi_in", "") == spi) return child;
  return nullptr;
}

nlohmann::json life_seconds(const NodeView& view, const FlowView& flow) {
  const auto child = child_of(view, flow);
  return child.is_object() ? child.value("remaining_s", nlohmann::json()) : nlohmann::json();
}

Result<std::optional<std::string>> text_argument(const nlohmann::json& args, const char* name) {
  const auto found = args.find(name);
  if (found == args.end() || found->is_null()) return std::nullopt;
  if (!found->is_string()) return fail(std::string("argument \"") + name + "\" must be text");
  return found->get<std::string>();
}

Result<void> only_arguments(const nlohmann::json& args, std::initializer_list<std::string_view> known) {
  if (!args.is_object()) return fail("the arguments must be an object");
  for (const auto& [name, value] : args.items())
    if (std::ranges::find(known, std::string_view(name)) == known.end())
      return fail("unknown argument \"" + name + "\"");
  return {};
}

}  // namespace postern::loader
