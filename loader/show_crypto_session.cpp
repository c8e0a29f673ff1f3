// show crypto session (SO-02, SO-03): flows grouped by interface and peer.
#include "loader/show.hpp"
#include "loader/show_support.hpp"

namespace postern::loader {
namespace {

using nlohmann::json;

json ports_json(const std::vector<config::PortRange>& ports) {
  json out = json::array();
  for (const config::PortRange& range : ports) out.push_back({{"first", range.first}, {"last", range.last}});
  return out;
}

json flow_json(const FlowContext& context) {
  const FlowView& flow = *context.flow;
  const FlowSelector& selector = context.selector;
  json true_ident = json::array();
  if (selector.second_local)
    true_ident = {{{"local", selector.local.text()}, {"remote", selector.remote.text()}},
                  {{"local", selector.second_local->text()}, {"remote", selector.second_remote->text()}}};
  return {{"action", selector.action == config::Action::permit ? "permit" : "deny"},
          {"protocol", selector.protocol},
          {"local", selector.local.text()},
          {"remote", selector.remote.text()},
          {"local_ports", ports_json(selector.local_ports)},
          {"remote_ports", ports_json(selector.remote_ports)},
          {"true_ident", std::move(true_ident)},
          {"active_sas", (flow.inbound ? 1 : 0) + (flow.outbound ? 1 : 0)},
          {"origin", "crypto map"},
          {"in",
           {{"dec", flow.inbound ? flow.inbound->packets : 0},
            {"drop", flow.inbound ? flow.inbound->errors : 0},
            {"life_kb", nullptr},
            {"life_s", nullptr}}},
          {"out",
           {{"enc", flow.outbound ? flow.outbound->packets : 0},
            {"drop", flow.send_errors},
            {"life_kb", nullptr},
            {"life_s", nullptr}}}};
}

// Both SAs exist and nobody negotiated them: the guide's UP-NO-IKE. One of two is not up.
bool is_up(const FlowView& flow) { return flow.inbound && flow.outbound; }

std::uint64_t age_of(const FlowView& flow) {
  return is_up(flow) ? std::min(flow.inbound->age_s, flow.outbound->age_s) : 0;
}

json session_json(const NodeView& view, const FlowContext& context) {
  const config::Interface* const interface = config::find_named(view.document.interfaces, context.flow->interface);
  const auto vrf = context.tunnel != nullptr ? context.tunnel->vrf : std::optional<std::string>();
  const auto fvrf = interface == nullptr ? std::optional<std::string>() : interface->vrf;
  return {{"interface", context.flow->interface},
          {"profile", nullptr},
          {"uptime_s", age_of(*context.flow)},
          {"status", "DOWN"},
          {"peer",
           {{"address", context.peer.text()},
            {"port", context.peer_port},
            {"fvrf", or_null(fvrf)},
            {"ivrf", or_null(vrf)},
            {"phase1_id", nullptr},
            {"description", nullptr}}},
          {"session_id", nullptr},
          {"ike", json::array()},
          {"flows", json::array()}};
}

json& session_for(json& sessions, const NodeView& view, const FlowContext& context) {
  for (json& session : sessions)
    if (session["interface"] == context.flow->interface && session["peer"]["address"] == context.peer.text() &&
        session["peer"]["port"] == context.peer_port)
      return session;
  return sessions.emplace_back(session_json(view, context));
}

}  // namespace

Result<json> show_crypto_session(const json& args, const NodeView& view) {
  POSTERN_CHECK(only_arguments(args, {"interface"}));
  POSTERN_TRY(interface, text_argument(args, "interface"));
  json sessions = json::array();
  for (const FlowView& flow : view.flows) {
    if (interface && flow.interface != *interface) continue;
    const auto context = context_of(view, flow);
    if (!context) continue;
    json& session = session_for(sessions, view, *context);
    session["flows"].push_back(flow_json(*context));
    if (is_up(flow)) session["status"] = "UP-NO-IKE";
    session["uptime_s"] = std::max(session["uptime_s"].get<std::uint64_t>(), age_of(flow));
  }
  if (sessions.empty() && interface) return fail("there is no session on that interface");
  return json{{"sessions", std::move(sessions)}};
}

}  // namespace postern::loader
