// show crypto ipsec sa (SO-07, SO-08).
#include "base/device_names.hpp"
#include "crypto/packet_cipher.hpp"
#include "loader/show.hpp"
#include "loader/show_support.hpp"

namespace postern::loader {
namespace {

using nlohmann::json;

struct Filter {
  std::optional<std::string> interface, map, peer;
};

// An SA of one port carries it; ranges and lists have no number in this notation, and print 0 as "any" does.
std::uint16_t port_of(const std::vector<config::PortRange>& ports) {
  return ports.size() == 1 && ports.front().first == ports.front().last ? ports.front().first : std::uint16_t{0};
}

json ident_json(const Prefix& prefix, std::uint8_t protocol, const std::vector<config::PortRange>& ports) {
  return {{"prefix", prefix.text()}, {"proto", protocol}, {"port", port_of(ports)}};
}

json counters_json(const FlowView& flow) {
  const SaView none;
  const SaView &out = flow.outbound ? *flow.outbound : none, &in = flow.inbound ? *flow.inbound : none;
  return {{"encaps", out.packets},
          {"encrypt", out.packets},
          {"digest", out.packets},
          {"decaps", in.packets},
          {"decrypt", in.packets},
          {"verify", in.packets},
          {"compressed", out.compressed},
          {"decompressed", in.compressed},
          {"not_compressed", out.not_compressed},
          {"compress_failed", out.compress_failed},
          {"not_decompressed", in.not_compressed},
          {"decompress_failed", in.compress_failed},
          {"dummy_sent", out.dummy_packets},
          {"dummy_recv", in.dummy_packets},
          {"send_errors", flow.send_errors + out.errors},
          {"recv_errors", in.errors}};
}

// The guide prints a platform's bits here. Ours: 0x80000000 live, 0x40 tunnel mode, 0x4 UDP-encapsulated.
std::string sibling_flags(const SaParameters& sa) {
  const std::uint64_t bits =
      0x80000000U | (sa.mode == SaMode::tunnel ? 0x40U : 0U) | (sa.udp_encapsulation ? 0x4U : 0U);
  return fmt::format("{:016X}", bits);
}

// Of a set's words those of one protocol.
json words_of(const json& transforms, IpProto protocol) {
  json out = json::array();
  for (const json& word : transforms)
    if (word.get_ref<const std::string&>().starts_with("ah-") == (protocol == IpProto::ah)) out.push_back(word);
  return out;
}

json sa_json(const SaView& sa, const FlowView& flow, const json& transforms, const json& life_s) {
  const SaParameters& parameters = sa.parameters;
  const auto sizes = crypto::sizes_of(parameters.transform);  // AH has no IV
  const bool inbound = parameters.direction == SaDirection::inbound;
  return {{"dir", inbound ? "in" : "out"},
          {"proto", parameters.protocol == IpProto::ah ? "ah" : "esp"},
          {"spi", hex_spi(parameters.spi)},
          {"transforms", words_of(transforms, parameters.protocol)},
          {"mode", parameters.mode == SaMode::tunnel ? "tunnel" : "transport"},
          {"udp_encap", parameters.udp_encapsulation},
          {"conn_id", sa.slot},
          {"flow_id", flow.flow},
          {"sibling_flags", sibling_flags(parameters)},
          {"life_kb", life_kilobytes(sa)},
          {"life_s", life_s},
          {"iv_bytes", sizes && parameters.protocol == IpProto::esp ? sizes->iv_bytes : 0},
          {"replay", parameters.replay_window != 0},
          {"replay_window", parameters.replay_window},
          {"extended_sequence", parameters.extended_sequence},
          {"status", "ACTIVE"},
          {"packets", sa.packets},
          {"bytes", sa.bytes},
          {"errors", sa.errors},
          {"replay_drops", sa.replay_drops},
          {"integrity_drops", sa.integrity_drops},
          {"selector_drops", sa.selector_drops},
          {"sequence", inbound ? sa.highest_sequence : sa.next_sequence - (sa.next_sequence == 0 ? 0 : 1)},
          {"age_s", sa.age_s},
          {"idle_s", sa.idle_s ? json(*sa.idle_s) : json()}};
}

bool made_by(const config::TransformSet& set, const SaParameters& sa) {
  if (sa.compression_cpi != 0 && !set.compression) return false;  // a peer may decline
  return sa.protocol == IpProto::ah ? !set.has_esp() && set.ah == sa.transform.integrity
                                    : set.transform == sa.transform && set.has_ah() == (sa.bundle != 0);
}

// The set that the SA was made by: the first whose transform it has; without an SA the first.
std::string set_of(const NodeView& view, const FlowContext& context) {
  const config::IpsecProfile* const profile =
      context.tunnel == nullptr ? nullptr : config::find_named(view.document.profiles, context.tunnel->profile);
  const std::vector<std::string> none;
  const config::DynamicEntry* const dynamic = dynamic_entry_of(view, *context.flow);
  const auto& sets = dynamic != nullptr         ? dynamic->transform_sets
                     : context.entry != nullptr ? context.entry->transform_sets
                     : profile != nullptr       ? profile->transform_sets
                                                : none;
  if (context.flow->outbound)
    for (const std::string& name : sets)
      if (const config::TransformSet* const set = config::find_named(view.document.transform_sets, name);
          set != nullptr && made_by(*set, context.flow->outbound->parameters))
        return name;
  return sets.empty() ? "" : sets.front();
}

// The guide's ident is what was agreed on: the first of the child's selectors, which the peer may have narrowed.
// Without a child it is the policy's.
json agreed_ident(const json& child, const char* side, json by_policy) {
  const json agreed = child.is_object() ? child.value(side, json::array()) : json::array();
  if (agreed.empty()) return by_policy;
  const json& selector = agreed.front();
  const auto first = IpAddress::parse(selector.value("from", "")), last = IpAddress::parse(selector.value("to", ""));
  if (!first || !last) return by_policy;
  const auto from = selector.value("port_from", 0U), to = selector.value("port_to", 65535U);
  return {{"prefix", range_text(*first, *last)},
          {"proto", selector.value("protocol", 0U)},
          {"port", from == to ? from : 0U}};
}

// All that was agreed on, one text each.
json agreed_texts(const json& child, const char* side) {
  json out = json::array();
  if (child.is_object())
    for (const json& selector : child.value(side, json::array())) out.push_back(selector.value("text", ""));
  return out;
}

json pfs_of(const json& child) {
  const json group = child.is_object() ? child.value("pfs_group", json()) : json();
  return group.is_null() ? json() : json("group" + std::to_string(group.get<unsigned>()));
}

json mtu_json(const FlowContext& context) {
  const FlowView& flow = *context.flow;
  const std::uint32_t device_mtu = context.outside == nullptr ? 0 : context.outside->mtu;
  const std::uint32_t path = flow.outbound ? flow.outbound->path_mtu : device_mtu;
  const std::string idb = context.outside == nullptr ? context.interface : context.outside->name;
  return {{"plaintext", flow.plaintext_mtu}, {"path", path}, {"ip", device_mtu}, {"idb", idb}};
}

// R43-12: null where the SA sends none.
json dummy_state(const FlowView& flow) {
  if (!flow.outbound || flow.outbound->parameters.dummy_interval_us == 0) return nullptr;
  return flow.outbound->dummy_packets == 0 ? "Initializing" : "Active";
}

json sa_flow_json(const NodeView& view, const FlowContext& context) {
  const FlowView& flow = *context.flow;
  const FlowSelector& selector = context.selector;
  const json transforms = transforms_json(view, set_of(view, context))["transforms"];
  const json child = child_of(view, flow), life_s = life_seconds(view, flow);
  json sas = json::array(), true_ident = json::array();
  for (const auto* const sa : {&flow.inbound, &flow.inbound_ah, &flow.outbound, &flow.outbound_ah})
    if (*sa) sas.push_back(sa_json(**sa, flow, transforms, life_s));
  if (selector.second_local)
    true_ident = {{{"local", selector.local.text()}, {"remote", selector.remote.text()}},
                  {{"local", selector.second_local->text()}, {"remote", selector.second_remote->text()}}};
  const auto ident = [&](const char* side, const Prefix& prefix, const std::vector<config::PortRange>& ports) {
    json out = agreed_ident(child, side, ident_json(prefix, selector.protocol, ports));
    if (flow.later_fragments) out["opaque"] = true;
    return out;
  };
  return {{"protected_vrf", or_null(context.tunnel != nullptr ? context.tunnel->vrf : std::optional<std::string>())},
          {"local_ident", ident("local_ts", selector.local, selector.local_ports)},
          {"remote_ident", ident("remote_ts", selector.remote, selector.remote_ports)},
          {"true_ident", std::move(true_ident)},
          {"peer", context.peer.text()},
          {"peer_port", context.peer_port},
          {"flags", json::array({"origin_is_acl"})},
          {"counters", counters_json(flow)},
          {"endpoints", {{"local", or_null(context.local)}, {"remote", context.peer.text()}}},
          {"mtu", mtu_json(context)},
          {"outbound_spi", hex_spi(flow.outbound ? flow.outbound->parameters.spi : 0)},
          {"pfs", pfs_of(child)},
          {"negotiated_local", agreed_texts(child, "local_ts")},
          {"negotiated_remote", agreed_texts(child, "remote_ts")},
          {"dummy_state", dummy_state(flow)},
          {"sas", std::move(sas)}};
}

bool wanted(const Filter& filter, const FlowContext& context) {
  if (filter.interface && *filter.interface != context.interface) return false;
  if (filter.map && *filter.map != context.flow->map) return false;
  return !filter.peer || *filter.peer == context.peer.text();
}

// One block for each map on each interface.
json& block_for(json& blocks, const FlowContext& context) {
  for (json& block : blocks)
    if (block["name"] == context.interface && block["map"] == context.flow->map) return block;
  return blocks.emplace_back(json{{"name", context.interface},
                                  {"map", context.flow->map},
                                  {"local", or_null(context.local)},
                                  {"flows", json::array()}});
}

}  // namespace

Result<json> show_crypto_ipsec_sa(const json& args, const NodeView& view) {
  POSTERN_CHECK(only_arguments(args, {"interface", "map", "peer"}));
  Filter filter;
  POSTERN_TRY(interface, text_argument(args, "interface"));
  POSTERN_TRY(map, text_argument(args, "map"));
  POSTERN_TRY(peer, text_argument(args, "peer"));
  filter.interface = std::move(interface);
  filter.map = std::move(map);
  if (peer) {
    POSTERN_TRY(address, IpAddress::parse(*peer));
    filter.peer = address.text();
  }
  json blocks = json::array();
  for (const FlowView& flow : view.flows)  // IF-03: shared SAs stand in the block of each of their interfaces
    for (const std::string_view name : device_names(flow.interface))
      if (const auto context = context_of(view, flow, name); context && wanted(filter, *context))
        block_for(blocks, *context)["flows"].push_back(sa_flow_json(view, *context));
  if (blocks.empty() && (filter.interface || filter.map || filter.peer))
    return fail("no flow is of that interface, map and peer");
  return json{{"node", view.node}, {"interfaces", std::move(blocks)}};
}

}  // namespace postern::loader
