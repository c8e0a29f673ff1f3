#include "ike/show.hpp"

#include <array>
#include <string>

namespace postern::ike {
namespace {

using nlohmann::json;

constexpr const char* no_policy = "no IKE policy is configured: this version protects traffic with manual keys only";

json success(json data) { return {{"ok", true}, {"data", std::move(data)}}; }
json failure(const std::string& message, int exit) {
  return {{"ok", false}, {"error", {{"message", message}}}, {"exit", exit}};
}

json show_ike(const DaemonFacts& facts) {
  return {{"state", "running"},         {"pid", facts.pid},
          {"uptime_s", facts.uptime_s}, {"broker_connected", facts.broker_connected},
          {"requests", facts.requests}, {"versions", json::array()},
          {"sockets", json::array()},   {"reason", no_policy}};
}

struct EmptyList {
  std::string_view command;
  const char* key;
};
constexpr std::array empty_lists = {
    EmptyList{"show crypto ikev2 sa", "sas"}, EmptyList{"show crypto ikev2 session", "sessions"},
    EmptyList{"show crypto isakmp sa", "sas"}, EmptyList{"show crypto isakmp peers", "peers"}};

}  // namespace

json answer(std::string_view request, const DaemonFacts& facts) {
  const auto parsed = json::parse(request, nullptr, false);
  if (!parsed.is_object() || !parsed.contains("command") || !parsed["command"].is_string())
    return failure("the request is not {\"command\": ...}", 2);
  const auto& command = parsed["command"].get_ref<const std::string&>();
  if (command == "show ike") return success(show_ike(facts));
  for (const EmptyList& list : empty_lists)
    if (command == list.command) return success({{list.key, json::array()}, {"reason", no_policy}});
  return failure("postern-ike does not know the command \"" + command + "\"", 2);
}

}  // namespace postern::ike
