// show ike, the lists of IKEv1, and the short answers of commands to postern-ike.
#include <fmt/core.h>

#include "cli/render.hpp"
#include "cli/text.hpp"

namespace postern::cli {
namespace {

using nlohmann::json;

// A list that is not empty comes of a newer node: shown whole rather than in part.
std::string empty_or_json(const json& data, const char* key) {
  if (!list(data, key).empty()) return render_json(data);
  const std::string reason = text(data, "reason");
  return reason.empty() ? "" : "(" + reason + ")\n";
}

std::string plural(std::uint64_t count, const char* what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

}  // namespace

std::string render_ike(const json& data) {
  std::string out = fmt::format("postern-ike: {}, pid {}, up {}\n", text(data, "state"), number(data, "pid"),
                                clock(number(data, "uptime_s")));
  const auto linked = [&](const char* key) { return flag(data, key) ? "connected" : "not connected"; };
  out += fmt::format("  Broker {}, worker {}, {} requests, debug {}\n", linked("broker_connected"),
                     linked("worker_connected"), number(data, "requests"), flag(data, "debug") ? "on" : "off");
  out += fmt::format("  Policy {}: {}; {}, {} established\n", number(data, "policy_generation"),
                     plural(number(data, "connections"), "connection"), plural(number(data, "sessions"), "IKE SA"),
                     number(data, "established"));
  for (const json& socket : list(data, "sockets"))
    out += fmt::format("  Socket {} port {} table {}\n", text(socket, "family"), number(socket, "port"),
                       number(socket, "fvrf"));
  if (const auto counters = data.find("counters"); counters != data.end())
    out += fmt::format("  Datagrams: {} received, {} sent, {} not sent, {} keepalives\n", number(*counters, "received"),
                       number(*counters, "sent"), number(*counters, "send_errors"), number(*counters, "keepalives"));
  const std::string reason = text(data, "reason");
  return reason.empty() ? out : out + "  " + reason + "\n";
}

std::string render_isakmp_sas(const json& data) { return empty_or_json(data, "sas"); }
std::string render_isakmp_peers(const json& data) { return empty_or_json(data, "peers"); }

std::string render_clear_session(const json& data) {
  return fmt::format("{} cleared\n", plural(number(data, "cleared"), "session"));
}
std::string render_rekey(const json& data) {
  return fmt::format("rekey of {} begun\n", plural(number(data, "rekeyed"), "IKE SA"));
}
std::string render_redirect(const json& data) {
  return fmt::format("{} of {} sent to {}\n", number(data, "redirected"), plural(number(data, "matched"), "session"),
                     text(data, "to"));
}
std::string render_connect(const json& data) {
  const auto started = number(data, "started"), all = number(data, "connections");
  if (started == 0) return fmt::format("{} {} up\n", plural(all, "connection"), all == 1 ? "is" : "are");
  return fmt::format("{} of {} started; show crypto session tells how far they are\n", started,
                     plural(all, "connection"));
}
std::string render_debug(const json& data) {
  return fmt::format("IKEv2 debugging is {}\n", flag(data, "debug") ? "on" : "off");
}

}  // namespace postern::cli
