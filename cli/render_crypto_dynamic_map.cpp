// show crypto dynamic-map (SO-24).
#include <fmt/core.h>

#include "cli/render.hpp"
#include "cli/text.hpp"

namespace postern::cli {
namespace {

using nlohmann::json;

std::string render_template(const json& map, const json& entry) {
  std::string out = fmt::format("Crypto Map Template\"{}\" {}\n", text(map, "name"), number(entry, "seq"));
  const json& acl = entry.at("acl");
  if (text(acl, "name").empty())
    out += "No matching address list set.\n";
  else
    out += access_list(entry, acl.value("family", "ipv4") == "ipv6");
  for (const json& peer : list(entry, "peers")) out += "Peer = " + address(peer.get<std::string>()) + "\n";
  if (const std::string profile = text(entry, "ikev2_profile"); !profile.empty())
    out += "IKEv2 Profile: " + profile + "\n";
  out += entry_lifetime(entry);
  out += "PFS (Y/N): " + std::string(entry.at("pfs").is_null() ? "N" : "Y, DH group: " + text(entry, "pfs")) + "\n";
  out += entry_sets(entry);
  out += fmt::format("Temporary entries: {}\n", number(entry, "temporary_entries"));
  return out;
}

}  // namespace

std::string render_crypto_dynamic_map(const json& data) {
  std::string out;
  for (const json& map : list(data, "dynamic_maps")) {
    out += out.empty() ? "" : "\n";
    for (const json& entry : list(map, "entries")) out += render_template(map, entry);
    out += fmt::format("Limit of temporary entries: {}\n", number(map, "limit"));
    out += "Crypto maps that use dynamic map " + text(map, "name") + ":\n";
    for (const json& user : list(map, "used_by")) out += "  " + printable(user.get<std::string>()) + "\n";
  }
  return out.empty() ? "No crypto map templates found.\n" : out;
}

}  // namespace postern::cli
