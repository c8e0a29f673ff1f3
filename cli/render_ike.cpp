// show ike, and the lists of IKE SAs. This version negotiates none, so a list is its heading and the reason why it is
// empty.
#include <fmt/core.h>

#include "cli/render.hpp"
#include "cli/text.hpp"

namespace postern::cli {
namespace {

using nlohmann::json;

// A list that is not empty comes of a newer node: shown whole rather than in part.
std::string empty_or_json(const json& data, const char* key, std::string_view heading) {
  if (!list(data, key).empty()) return render_json(data);
  const std::string reason = text(data, "reason");
  return std::string(heading) + (reason.empty() ? "" : "(" + reason + ")\n");
}

}  // namespace

std::string render_ike(const json& data) {
  std::string out = fmt::format("postern-ike: {}, pid {}, up {}\n", text(data, "state"), number(data, "pid"),
                                clock(number(data, "uptime_s")));
  out += fmt::format("  Broker {}, {} requests\n", flag(data, "broker_connected") ? "connected" : "not connected",
                     number(data, "requests"));
  const std::string reason = text(data, "reason");
  return reason.empty() ? out : out + "  " + reason + "\n";
}

std::string render_ike_sas(const json& data) { return empty_or_json(data, "sas", ""); }

std::string render_isakmp_peers(const json& data) { return empty_or_json(data, "peers", ""); }

// SO-10: both headings, even when there is nothing under them.
std::string render_ikev2_session(const json& data) {
  return empty_or_json(data, "sessions", "IPv4 Crypto IKEv2 Session\n\nIPv6 Crypto IKEv2 Session\n\n");
}

}  // namespace postern::cli
