// show crypto map (SO-06).
#include <utility>

#include <fmt/core.h>

#include "cli/access_rule.hpp"
#include "cli/render.hpp"
#include "cli/text.hpp"

namespace postern::cli {
namespace {

using nlohmann::json;

}  // namespace

std::string access_list(const json& entry, bool v6) {
  const json& acl = entry.at("acl");
  const std::string name = text(acl, "name"), space = name.empty() ? "" : " ";
  std::string out = v6 ? "IPv6 access list" + space + name + "\n" : "Extended IP access list" + space + name + "\n";
  for (const json& rule : list(acl, "rules")) {
    const std::string what = access_rule(rule);
    out += v6 ? fmt::format("  {} sequence {}\n", what, number(rule, "sequence"))
              : fmt::format("  access-list{}{} {}\n", space, name, what);
  }
  return out;
}

namespace {

std::string key_line(const json& keys, const char* direction, const char* label) {
  const json& sas = keys.at(direction);
  std::string out;
  if (const auto esp = sas.find("esp"); esp != sas.end())
    out += fmt::format("{} esp spi: {}, cipher key: {}, authenticator key: {}\n", label, spi(text(*esp, "spi")),
                       text(*esp, "cipher"), text(*esp, "authenticator", "(none)"));
  if (const auto ah = sas.find("ah"); ah != sas.end())
    out += fmt::format("{} ah spi: {}, key: {}\n", label, spi(text(*ah, "spi")), text(*ah, "key"));
  if (const auto comp = sas.find("comp"); comp != sas.end())
    out += fmt::format("{} comp cpi: {}\n", label, number(*comp, "cpi"));
  return out;
}

}  // namespace

std::string entry_lifetime(const json& entry) {
  const json& life = entry.at("lifetime");
  if (life.is_null()) return "";  // manual SAs have none
  const auto kilobytes = number(life, "kilobytes");
  return fmt::format("Security association lifetime: {}/{} seconds\n",
                     kilobytes == 0 ? "kilobytes disabled" : fmt::format("{} kilobytes", kilobytes),  // TS-61
                     number(life, "seconds"));
}

namespace {

std::string true_ident(const json& entry) {
  std::string out;
  for (const json& pair : list(entry, "true_ident"))
    out += fmt::format("    {} -> {}\n", selector(text(pair, "local"), 0, 0), selector(text(pair, "remote"), 0, 0));
  return out.empty() ? out : "  TRUE ident (addr/mask/prot/port): {LOCAL -> REMOTE}\n" + out;
}

}  // namespace

std::string entry_sets(const json& entry) {
  std::string out = "Transform sets={\n";
  for (const json& set : list(entry, "transform_sets")) {
    std::string transforms;
    for (const json& one : list(set, "transforms")) transforms += printable(one.get<std::string>()) + " ";
    out += fmt::format("  {}: {{ {}}} ,\n", text(set, "name"), transforms);
  }
  return out + "}\n";
}

namespace {

// "192.0.2.2", "vpn.example.net (192.0.2.2) dynamic", "vpn.example.net (unresolved: nobody has the name ...)".
std::string peer_text(const json& entry, const std::string& peer) {
  for (const json& name : list(entry, "peer_names")) {
    if (text(name, "name") != peer) continue;
    const std::string at = text(name, "address"), reason = text(name, "reason");
    return printable(peer) + " (" + (at.empty() ? "unresolved" : address(at)) +
           (reason.empty() ? "" : (at.empty() ? ": " : ", but ") + reason) + ")" +
           (flag(name, "dynamic") ? " dynamic" : "");
  }
  return address(peer);
}

std::string render_entry(const json& map, const json& entry) {
  const bool v6 = text(map, "family") == "ipv6";
  const json& rules = list(entry.at("acl"), "rules");
  const bool v6_list = flag(entry, "profile_instance") ? !rules.empty() && text(rules[0], "proto") == "ipv6" : v6;
  std::string out = fmt::format("Crypto Map {} \"{}\" {} {}\n", v6 ? "IPv6" : "IPv4", text(map, "name"),
                                number(entry, "seq"), text(entry, "type"));
  if (flag(entry, "profile_instance")) out += "Map is a PROFILE INSTANCE.\n";
  if (entry.value("incomplete", false)) out += "WARNING: This crypto map is in an incomplete state!\n";
  if (entry.contains("dynamic")) return out + "Dynamic map template tag: " + text(entry, "dynamic") + "\n";
  bool first_of_default = entry.value("default_peer", false);
  for (const json& peer : list(entry, "peers"))
    out += "Peer = " + peer_text(entry, peer.get<std::string>()) +
           (std::exchange(first_of_default, false) ? " default" : "") + "\n";
  if (const std::string profile = text(entry, "ikev2_profile"); !profile.empty())
    out += "IKEv2 Profile: " + profile + "\n";
  if (entry.contains("profile")) out += "Profile name: " + text(entry, "profile") + "\n";
  out += access_list(entry, v6_list);
  if (const auto from = entry.find("created_from"); from != entry.end())
    out += fmt::format("dynamic (created from dynamic map {}/{})\n", text(*from, "dynamic_map"), number(*from, "seq"));
  if (!entry.at("current_peer").is_null()) out += "Current peer: " + address(text(entry, "current_peer")) + "\n";
  if (const auto keys = entry.find("session_key"); keys != entry.end())
    out += key_line(*keys, "inbound", "Inbound") + key_line(*keys, "outbound", "Outbound");
  out += entry_lifetime(entry);
  out += "Dualstack (Y/N): " + yes_no(flag(entry, "dual_stack")) + "\n" + true_ident(entry) + "\n";
  if (entry.contains("per_host_limit"))
    out += fmt::format("Security association level per-host, limit {}\n", number(entry, "per_host_limit"));
  out += "Responder-Only (Y/N): " + yes_no(flag(entry, "responder_only")) + "\n";
  out += "PFS (Y/N): " + yes_no(!entry.at("pfs").is_null()) + "\n";
  out += std::string("Mixed-mode : ") + (flag(entry, "mixed_mode") ? "Enabled" : "Disabled") + "\n";
  out += entry_sets(entry);
  if (flag(entry, "always_create_sas")) out += "Always create SAs\n";
  return out;
}

// IF-03: the end that its interfaces share.
std::string local_end(const json& map) {
  const auto own = map.find("local_address");
  if (own == map.end()) return "";
  return fmt::format(" idb: {} local address: {}", text(*own, "interface"), address(text(*own, "address", "(none)")));
}

}  // namespace

std::string render_crypto_map(const json& data) {
  std::string out;
  for (const json& map : list(data, "maps")) {
    const std::string name = text(map, "name"), profile = text(map, "ikev2_profile");
    out += out.empty() ? "" : "\n";
    out += "Crypto Map: \"" + name + "\"" + (profile.empty() ? "" : " IKEv2 profile: " + profile) + local_end(map) +
           "\n\n";
    for (const json& entry : list(map, "entries")) out += render_entry(map, entry);
    out += "Interfaces using crypto map " + name + ":\n";
    for (const json& interface : list(map, "interfaces")) out += "  " + printable(interface.get<std::string>()) + "\n";
  }
  return out.empty() ? "No crypto maps found.\n" : out;
}

}  // namespace postern::cli
