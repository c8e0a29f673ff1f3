// show interface tunnel N (SO-01). What has no meaning on Linux (bandwidth, delay, input queue) is 0.
#include "loader/show.hpp"
#include "loader/show_support.hpp"

namespace postern::loader {
namespace {

using nlohmann::json;

Result<std::uint32_t> number_argument(const json& args) {
  const auto number = args.find("number");
  if (number == args.end() || !number->is_number_unsigned() || number->get<std::uint64_t>() > 999999999)
    return fail("which tunnel? The argument \"number\" is 0 to 999999999");
  return number->get<std::uint32_t>();
}

const FlowView* flow_of(const NodeView& view, std::uint32_t number) {
  for (const FlowView& flow : view.flows)
    if (flow.tunnel == number) return &flow;
  return nullptr;
}

const char* protocol_of(const config::Tunnel& tunnel) {
  if (tunnel.carries_v4 && tunnel.carries_v6) return "dual-overlay";
  return tunnel.carries_v4 ? "ip" : "ipv6";
}

json idle_json(const std::optional<SaView>& sa) { return sa && sa->idle_s ? json(*sa->idle_s) : json(); }

// Of 255, as the guide prints it: the share of packets without an error.
std::uint64_t reliability(std::uint64_t packets, std::uint64_t errors) {
  return errors == 0 ? 255 : 255 * packets / (packets + errors);
}

json addresses_json(const DeviceView* device, const config::Tunnel& tunnel) {
  json out = json::array();
  for (const Prefix& prefix : device == nullptr ? tunnel.addresses : device->addresses) out.push_back(prefix.text());
  return out;
}

json build(const NodeView& view, const config::Tunnel& tunnel) {
  static const DeviceView absent;
  static const FlowView no_flow;
  const DeviceView* const found = find_device(view, tunnel.device());
  const DeviceView& device = found == nullptr ? absent : *found;
  const FlowView* const own = flow_of(view, tunnel.number);
  const FlowView& flow = own == nullptr ? no_flow : *own;
  const auto context = own == nullptr ? std::nullopt : context_of(view, *own);
  // SV-08: the line protocol follows the SAs.
  const bool line_up = device.admin_up && flow.inbound && flow.outbound;
  const std::uint64_t in_errors = flow.inbound ? flow.inbound->errors : 0,
                      out_errors = flow.send_errors + (flow.outbound ? flow.outbound->errors : 0);
  const json addresses = addresses_json(found, tunnel);
  return {{"interface", tunnel.device()},
          {"present", found != nullptr},
          {"admin", device.admin_up ? "up" : "down"},
          {"line_protocol", line_up ? "up" : "down"},
          {"address", addresses.empty() ? json() : addresses.front()},
          {"addresses", addresses},
          {"mtu", device.mtu},
          {"bandwidth_kbit", 0},
          {"delay_usec", 0},
          {"reliability", reliability(device.link_rx_packets + device.link_tx_packets, in_errors + out_errors)},
          {"tunnel",
           {{"source", or_null(context ? context->local : std::nullopt)},
            {"source_interface", tunnel.source},
            {"destination", tunnel.destination.text()},
            {"protocol", "ipsec"},
            {"transport", tunnel.transport == Family::v4 ? "ip" : "ipv6"},
            {"carries", protocol_of(tunnel)},
            {"ttl", tunnel.ttl},
            {"profile", tunnel.profile},
            {"vrf", or_null(tunnel.vrf)},
            {"tx_bw_kbps", 0},
            {"rx_bw_kbps", 0}}},
          {"rate",
           {{"interval_s", device.rate_interval_s},
            {"in_bps", device.in_bps},
            {"in_pps", device.in_pps},
            {"out_bps", device.out_bps},
            {"out_pps", device.out_pps}}},
          {"last", {{"input", idle_json(flow.inbound)}, {"output", idle_json(flow.outbound)}, {"clear", nullptr}}},
          {"queue",
           {{"in", {{"size", 0}, {"max", 0}, {"drops", device.link_rx_dropped}, {"flushes", 0}}},
            {"output_drops", device.link_tx_dropped + device.qdisc_drops},
            {"out", {{"size", 0}, {"max", 0}}}}},
          {"counters",
           {{"in_packets", device.link_rx_packets},
            {"in_bytes", device.link_rx_bytes},
            {"out_packets", device.link_tx_packets},
            {"out_bytes", device.link_tx_bytes},
            {"in_errors", in_errors},
            {"out_errors", out_errors}}}};
}

}  // namespace

Result<json> show_interface_tunnel(const json& args, const NodeView& view) {
  POSTERN_CHECK(only_arguments(args, {"number"}));
  POSTERN_TRY(number, number_argument(args));
  for (const config::Tunnel& tunnel : view.document.tunnels)
    if (tunnel.number == number) return build(view, tunnel);
  return fail("there is no Tunnel" + std::to_string(number));
}

}  // namespace postern::loader
