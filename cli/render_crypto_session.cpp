// show crypto session (SO-02, SO-03) and its detail (SO-05).
#include <fmt/core.h>

#include "cli/render.hpp"
#include "cli/text.hpp"

namespace postern::cli {
namespace {

using nlohmann::json;

std::string flow_ports(const json& ranges) {
  std::string out;
  for (const json& range : ranges) {
    const auto first = number(range, "first"), last = number(range, "last");
    out += fmt::format("{}{}", out.empty() ? " port " : ",",
                       first == last ? fmt::format("{}", first) : fmt::format("{}-{}", first, last));
  }
  return out;
}

// "4222536/3366"; a lifetime that does not exist is 0, as IOS prints it.
std::string life(const json& side) { return fmt::format("{}/{}", number(side, "life_kb"), number(side, "life_s")); }

std::string flow_counters(const json& flow) {
  const json &in = flow.at("in"), &out = flow.at("out");
  return fmt::format("        Inbound:  #pkts dec'ed {} drop {} life (KB/Sec) {}\n", number(in, "dec"),
                     number(in, "drop"), life(in)) +
         fmt::format("        Outbound: #pkts enc'ed {} drop {} life (KB/Sec) {}\n", number(out, "enc"),
                     number(out, "drop"), life(out));
}

std::string render_flow(const json& flow, bool ikev2, bool detail) {
  const std::string local = text(flow, "local"), remote = text(flow, "remote");
  const auto protocol = number(flow, "protocol");
  const std::string name = protocol != 0 ? fmt::format("{}", protocol) : is_v6(local) ? "ipv6" : "ip";
  std::string out =
      fmt::format("  IPSEC FLOW: {} {}{} {}{} {}{}{}\n", text(flow, "action"), name, ikev2 ? " " : "",
                  address_and_mask(local), flow_ports(list(flow, "local_ports")), address_and_mask(remote),
                  flow_ports(list(flow, "remote_ports")), flow.value("fragments", false) ? " fragments" : "");
  std::string idents;
  for (const json& pair : list(flow, "true_ident"))
    idents += fmt::format("    {} -> {}\n", selector(text(pair, "local"), 0, 0), selector(text(pair, "remote"), 0, 0));
  if (!idents.empty()) out += "  TRUE IDENT (addr/mask/prot/port): {LOCAL -> REMOTE}\n" + idents;
  out += fmt::format("        Active SAs: {}, origin: {}\n", number(flow, "active_sas"), text(flow, "origin"));
  return detail ? out + flow_counters(flow) : out;
}

std::string capabilities(const json& ike) {
  std::string out;
  for (const json& letter : list(ike, "capabilities")) out += printable(letter.get<std::string>());
  return out.empty() ? "(none)" : out;
}

std::string render_ike(const json& ike, bool detail) {
  std::string out = fmt::format("  {} SA: local {}/{} remote {}/{} {}\n", number(ike, "version") == 2 ? "IKEv2" : "IKE",
                                address(text(ike, "local")), number(ike, "lport"), address(text(ike, "remote")),
                                number(ike, "rport"), text(ike, "state"));
  if (detail)
    out += fmt::format("          Capabilities:{} connid:{} lifetime:{}\n", capabilities(ike), number(ike, "conn_id"),
                       clock(number(ike, "lifetime_s")));
  return out;
}

std::string render_peer(const json& peer, bool detail) {
  const std::string name = text(peer, "name"), at = text(peer, "address");
  std::string out = fmt::format("Peer: {} port {}", at.empty() ? "(unresolved)" : address(at), number(peer, "port"));
  if (!name.empty()) out += " name " + name;
  if (const auto reason = text(peer, "reason"); !reason.empty()) out += "\n      Reason: " + reason;
  if (!detail) return out + "\n";
  out += fmt::format(" fvrf: {} ivrf: {}\n", text(peer, "fvrf", "(none)"), text(peer, "ivrf", "(none)"));
  return out + fmt::format("      Phase1_id: {}\n      Desc: {}\n", text(peer, "phase1_id", "(none)"),
                           text(peer, "description", "(none)"));
}

std::string render_session(const json& session, bool detail) {
  std::string out = "Interface: " + text(session, "interface") + "\n";
  if (const auto profile = text(session, "profile"); !profile.empty()) out += "Profile: " + profile + "\n";
  if (detail) out += "Uptime: " + clock(number(session, "uptime_s")) + "\n";
  out += "Session status: " + text(session, "status") + "\n" + render_peer(session.at("peer"), detail);
  if (const auto id = text(session, "session_id"); !id.empty()) out += "  Session ID: " + id + "\n";
  bool ikev2 = false;
  for (const json& ike : list(session, "ike")) {
    ikev2 = ikev2 || number(ike, "version") == 2;
    out += render_ike(ike, detail);
  }
  for (const json& flow : list(session, "flows")) out += render_flow(flow, ikev2, detail);
  return out;
}

constexpr std::string_view legend =
    "\nCode: C - IKE Configuration mode, D - Dead Peer Detection\n"
    "K - Keepalives, N - NAT-traversal, T - cTCP encapsulation\n"
    "X - IKE Extended Authentication, F - IKE Fragmentation\n"
    "R - IKE Auto Reconnect, U - IKE Dynamic Route Update\n"
    "S - SIP VPN\n";

}  // namespace

std::string render_crypto_session(const json& data) {
  const bool detail = flag(data, "detail");
  std::string out = "Crypto session current status\n";
  if (detail) out += legend;
  for (const json& session : list(data, "sessions")) out += "\n" + render_session(session, detail);
  return out;
}

}  // namespace postern::cli
