#include "ike/show.hpp"

#include <string>

namespace postern::ike {
namespace {

using nlohmann::json;

json sockets_json(const std::vector<UdpSockets::Row>& rows) {
  json out = json::array();
  for (const UdpSockets::Row& row : rows)
    out.push_back({{"fvrf", row.fvrf}, {"family", row.family == Family::v4 ? "ipv4" : "ipv6"}, {"port", row.port}});
  return out;
}

json show_ike(const ShowInput& input) {
  const DaemonFacts& facts = input.facts;
  std::size_t established = 0;
  for (const Manager::Row& row : input.rows) established += row.session.phase == SessionPhase::established ? 1 : 0;
  json out = {{"state", "running"},
              {"pid", facts.pid},
              {"uptime_s", facts.uptime_s},
              {"broker_connected", facts.broker_connected},
              {"worker_connected", facts.worker_connected},
              {"requests", facts.requests},
              {"versions", json::array({2})},
              {"debug", facts.debug},
              {"policy_generation", input.policy->generation},
              {"connections", input.policy->connections.size()},
              {"sessions", input.rows.size()},
              {"established", established},
              {"survivors", facts.survivors},
              {"sockets", sockets_json(facts.sockets)},
              {"counters",
               {{"received", facts.counters.received},
                {"sent", facts.counters.sent},
                {"keepalives", facts.counters.keepalives},
                {"esp", facts.counters.esp},
                {"truncated", facts.counters.truncated},
                {"send_errors", facts.counters.send_errors}}}};
  if (input.policy->connections.empty()) out["reason"] = "no crypto map entry and no tunnel negotiates by IKE";
  return out;
}

std::string argument_text(const json& args, const char* key) {
  return args.is_object() && args.contains(key) && args[key].is_string() ? args[key].get<std::string>() : "";
}

// SO-12's relatives: IKEv1 is not spoken.
json empty_isakmp(const char* key) { return {{key, json::array()}, {"reason", "this version does not speak IKEv1"}}; }

}  // namespace

json success(json data) { return {{"ok", true}, {"data", std::move(data)}}; }
json failure(const std::string& message, int exit) {
  return {{"ok", false}, {"error", {{"message", message}}}, {"exit", exit}};
}

std::optional<json> show(std::string_view command, const json& args, const ShowInput& input) {
  std::optional<IpAddress> peer;
  if (const std::string given = argument_text(args, "peer"); !given.empty()) {
    const auto parsed = IpAddress::parse(given);
    if (!parsed && command != "show crypto ikev2 diagnose") return failure(parsed.error().message(), 2);
    if (parsed) peer = *parsed;
  }
  const std::string name = argument_text(args, "name");
  const auto named = [&](json data, const char* key) {
    if (!name.empty() && data[key].empty()) return failure("there is no " + std::string(key) + " \"" + name + "\"", 1);
    return success(std::move(data));
  };
  if (command == "show ike") return success(show_ike(input));
  if (command == "show crypto ikev2 sa" || command == "show crypto ikev2 session")
    return success({{"sessions", sessions_json(input, peer)}});
  if (command == "show crypto ikev2 proposal")
    return named({{"proposals", proposals_json(*input.policy, name)}}, "proposals");
  if (command == "show crypto ikev2 policy")
    return named({{"policies", policies_json(*input.policy, name)}}, "policies");
  if (command == "show crypto ikev2 profile")
    return named({{"profiles", profiles_json(*input.policy, name)}}, "profiles");
  if (command == "show crypto ikev2 diagnose")
    return success({{"attempts", input.diagnosis->to_json(peer, peer ? "" : argument_text(args, "peer"))}});
  if (command == "show crypto session") return success(crypto_session_json(input));
  if (command == "show crypto isakmp sa") return success(empty_isakmp("sas"));
  if (command == "show crypto isakmp peers") return success(empty_isakmp("peers"));
  return std::nullopt;
}

}  // namespace postern::ike
