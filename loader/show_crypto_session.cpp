// show crypto session (SO-02, SO-03, SO-05; statuses SV-22): flows grouped by interface and peer, and, where IKE
// negotiates, by connection (TS-58: several flows under one peer). What IKE knows comes from postern-ike
// (NodeView.ike), the counters from the data plane.
#include "base/device_names.hpp"
#include "loader/show.hpp"
#include "loader/show_support.hpp"

namespace postern::loader {
namespace {

using nlohmann::json;

int active_sas(const FlowView& flow) {
  int count = 0;
  for (const auto* const sa : {&flow.inbound, &flow.outbound, &flow.inbound_ah, &flow.outbound_ah})
    count += sa->has_value();
  return count;
}

json session_flow_json(const NodeView& view, const FlowContext& context) {
  const FlowView& flow = *context.flow;
  const FlowSelector& selector = context.selector;
  json true_ident = json::array();
  if (selector.second_local)
    true_ident = {{{"local", selector.local.text()}, {"remote", selector.remote.text()}},
                  {{"local", selector.second_local->text()}, {"remote", selector.second_remote->text()}}};
  const json life_s = life_seconds(view, flow);
  json out = {{"action", selector.action == config::Action::permit ? "permit" : "deny"},
              {"protocol", selector.protocol},
              {"local", selector.local.text()},
              {"remote", selector.remote.text()},
              {"local_ports", ports_json(selector.local_ports)},
              {"remote_ports", ports_json(selector.remote_ports)},
              {"true_ident", std::move(true_ident)},
              {"active_sas", active_sas(flow)},
              {"origin", "crypto map"},
              {"in",
               {{"dec", flow.inbound ? flow.inbound->packets : 0},
                {"drop", flow.inbound ? flow.inbound->errors : 0},
                {"life_kb", flow.inbound ? life_kilobytes(*flow.inbound) : json()},
                {"life_s", life_s}}},
              {"out",
               {{"enc", flow.outbound ? flow.outbound->packets : 0},
                {"drop", flow.send_errors},
                {"life_kb", flow.outbound ? life_kilobytes(*flow.outbound) : json()},
                {"life_s", life_s}}}};
  if (flow.later_fragments) out["fragments"] = true;
  return out;
}

// One of two SAs is not up.
bool is_up(const FlowView& flow) { return flow.inbound && flow.outbound; }

std::uint64_t age_of(const FlowView& flow) {
  return is_up(flow) ? std::min(flow.inbound->age_s, flow.outbound->age_s) : 0;
}

json peer_json(const FlowContext& context) {
  return context.peer.is_unspecified() ? json() : json(context.peer.text());
}

// IKE-58: of the name that the crypto map has for the peer, else of its address.
json description_json(const NodeView& view, const FlowContext& context) {
  const auto& all = view.document.ikev2.peer_descriptions;
  const auto of = [&](const std::string& peer) { return std::ranges::find(all, peer, &config::PeerDescription::peer); };
  auto found = context.peer_name.empty() ? all.end() : of(context.peer_name);
  if (found == all.end() && !context.peer.is_unspecified()) found = of(context.peer.text());
  return found == all.end() ? json() : json(found->text);
}

json session_json(const NodeView& view, const FlowContext& context) {
  const config::Interface* const interface = config::find_named(view.document.interfaces, context.interface);
  const auto vrf = context.tunnel != nullptr ? context.tunnel->vrf : std::optional<std::string>();
  const auto fvrf = interface == nullptr ? std::optional<std::string>() : interface->vrf;
  json peer = {{"address", peer_json(context)}, {"port", context.peer_port},
               {"fvrf", or_null(fvrf)},         {"ivrf", or_null(vrf)},
               {"phase1_id", nullptr},          {"description", description_json(view, context)}};
  if (!context.peer_name.empty()) {
    const std::string problem = named_peer(view, context.peer_name, context.map->family).problem;
    peer["name"] = context.peer_name;
    peer["reason"] = problem.empty() ? json() : json(problem);
  }
  return {{"interface", context.flow->interface},
          {"profile", nullptr},
          {"uptime_s", age_of(*context.flow)},
          {"status", "DOWN"},
          {"peer", std::move(peer)},
          {"session_id", nullptr},
          {"ike", json::array()},
          {"flows", json::array()}};
}

json list_of(const json& object, const char* key) {
  return object.is_object() ? object.value(key, json::array()) : json::array();
}

// postern-ike's connection that a flow belongs to; empty: it knows none.
std::string connection_of(const json& ike, std::uint32_t flow) {
  for (const json& known : list_of(ike, "connections"))
    for (const json& one : list_of(known, "flows"))
      if (one == flow) return known.value("name", "");
  return {};
}

// What one block of the output is about.
struct Owner {
  bool negotiated = false;
  std::string connection, interface, peer;
  std::uint16_t port = 0;  // manual keys: with another port it is another session
  bool operator==(const Owner&) const = default;
};

Owner owner_of(const NodeView& view, const FlowContext& context) {
  const FlowView& flow = *context.flow;
  if (!flow.negotiated) return {false, {}, flow.interface, context.peer.text(), context.peer_port};
  return {true, connection_of(view.ike, flow.flow), flow.interface, context.peer.text(), 0};
}

json& session_for(json& sessions, std::vector<Owner>& owners, const NodeView& view, const FlowContext& context) {
  Owner owner = owner_of(view, context);
  for (std::size_t i = 0; i < sessions.size(); ++i)
    if (owners[i] == owner) return sessions[i];
  owners.push_back(std::move(owner));
  return sessions.emplace_back(session_json(view, context));
}

// What postern-ike knows about a connection, into its session.
void add_ike(json& session, const Owner& owner, const json& ike) {
  bool established = false, negotiating = false;
  std::size_t children = 0;
  for (const json& known : list_of(ike, "connections")) {
    if (known.value("name", "") != owner.connection) continue;
    negotiating = known.value("negotiating", false);
    session["profile"] = known.value("profile", json());
  }
  for (const json& sa : list_of(ike, "sessions")) {
    if (sa.value("connection", "") != owner.connection) continue;
    session["ike"].push_back(sa.value("ike", json::object()));
    session["session_id"] = sa.value("session_id", json());
    if (!sa.value("established", false)) {
      negotiating = true;
      continue;
    }
    established = true;
    for (const json& child : list_of(sa, "children"))
      children += child.value("interface", json()) == owner.interface ? 1 : 0;
    session["uptime_s"] = sa.value("uptime_s", 0U);
    session["peer"]["phase1_id"] = sa.value("phase1_id", json());
    session["peer"]["port"] = sa["ike"].value("rport", 500);
  }
  bool sas = false;
  for (const json& flow : session["flows"]) sas = sas || flow["active_sas"] == 2;
  session["status"] = established   ? (children != 0 ? "UP-ACTIVE" : "UP-IDLE")
                      : sas         ? "UP-NO-IKE"
                      : negotiating ? "DOWN-NEGOTIATING"
                                    : "DOWN";
}

}  // namespace

Result<json> show_crypto_session(const json& args, const NodeView& view) {
  POSTERN_CHECK(only_arguments(args, {"interface", "peer"}));
  POSTERN_TRY(interface, text_argument(args, "interface"));
  POSTERN_TRY(peer, text_argument(args, "peer"));
  json sessions = json::array();
  std::vector<Owner> owners;  // of sessions
  for (const FlowView& flow : view.flows) {
    if (interface && !is_among(*interface, flow.interface)) continue;
    const auto context = context_of(view, flow);
    if (!context || (peer && context->peer.text() != *peer && context->peer_name != *peer)) continue;
    json& session = session_for(sessions, owners, view, *context);
    session["flows"].push_back(session_flow_json(view, *context));
    if (flow.negotiated) continue;
    if (is_up(flow)) session["status"] = "UP-NO-IKE";
    session["uptime_s"] = std::max(session["uptime_s"].get<std::uint64_t>(), age_of(flow));
  }
  for (std::size_t i = 0; i < owners.size(); ++i)
    if (owners[i].negotiated) add_ike(sessions[i], owners[i], view.ike);
  if (sessions.empty() && interface) return fail("there is no session on that interface");
  if (sessions.empty() && peer) return fail("there is no session with that peer");
  return json{{"sessions", std::move(sessions)}};
}

}  // namespace postern::loader
