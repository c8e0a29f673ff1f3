// show crypto session (SO-02, SO-03).
#include <fmt/core.h>

#include "cli/render.hpp"
#include "cli/text.hpp"

namespace postern::cli {
namespace {

using nlohmann::json;

std::string ports(const json& ranges) {
  std::string out;
  for (const json& range : ranges) {
    const auto first = number(range, "first"), last = number(range, "last");
    out += fmt::format("{}{}", out.empty() ? " port " : ",",
                       first == last ? fmt::format("{}", first) : fmt::format("{}-{}", first, last));
  }
  return out;
}

std::string render_flow(const json& flow, bool ikev2) {
  const std::string local = text(flow, "local"), remote = text(flow, "remote");
  const auto protocol = number(flow, "protocol");
  const std::string name = protocol != 0 ? fmt::format("{}", protocol) : is_v6(local) ? "ipv6" : "ip";
  std::string out = fmt::format("  IPSEC FLOW: {} {}{} {}{} {}{}\n", text(flow, "action"), name, ikev2 ? " " : "",
                                address_and_mask(local), ports(list(flow, "local_ports")), address_and_mask(remote),
                                ports(list(flow, "remote_ports")));
  std::string idents;
  for (const json& pair : list(flow, "true_ident"))
    idents += fmt::format("    {} -> {}\n", selector(text(pair, "local"), 0, 0), selector(text(pair, "remote"), 0, 0));
  if (!idents.empty()) out += "  TRUE IDENT (addr/mask/prot/port): {LOCAL -> REMOTE}\n" + idents;
  return out + fmt::format("        Active SAs: {}, origin: {}\n", number(flow, "active_sas"), text(flow, "origin"));
}

std::string render_ike(const json& ike) {
  return fmt::format("  {} SA: local {}/{} remote {}/{} {}\n", number(ike, "version") == 2 ? "IKEv2" : "IKE",
                     address(text(ike, "local")), number(ike, "lport"), address(text(ike, "remote")),
                     number(ike, "rport"), text(ike, "state"));
}

std::string render_session(const json& session) {
  const json& peer = session.at("peer");
  std::string out = "Interface: " + text(session, "interface") + "\n";
  if (const auto profile = text(session, "profile"); !profile.empty()) out += "Profile: " + profile + "\n";
  out += "Session status: " + text(session, "status") + "\n";
  out += fmt::format("Peer: {} port {}\n", address(text(peer, "address")), number(peer, "port"));
  if (const auto id = text(session, "session_id"); !id.empty()) out += "  Session ID: " + id + "\n";
  bool ikev2 = false;
  for (const json& ike : list(session, "ike")) {
    ikev2 = ikev2 || number(ike, "version") == 2;
    out += render_ike(ike);
  }
  for (const json& flow : list(session, "flows")) out += render_flow(flow, ikev2);
  return out;
}

}  // namespace

std::string render_crypto_session(const json& data) {
  std::string out = "Crypto session current status\n";
  for (const json& session : list(data, "sessions")) out += "\n" + render_session(session);
  return out;
}

}  // namespace postern::cli
