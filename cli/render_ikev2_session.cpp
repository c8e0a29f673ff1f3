// show crypto ikev2 sa and show crypto ikev2 session [detail] (SO-10, SO-11).
#include <fmt/core.h>

#include "cli/render.hpp"
#include "cli/text.hpp"

namespace postern::cli {
namespace {

using nlohmann::json;

std::string vrf(const json& sa, const char* key) { return text(sa, key, "(none)"); }

// Columns of the guide: tunnel, both ends, VRFs, state.
std::string ends_table(const json& sa) {
  const auto end = [&](const char* at, const char* port) {
    return fmt::format("{}/{}", address(text(sa, at)), number(sa, port));
  };
  return fmt::format("{:<10}{:<24}{:<24}{:<21}{}\n", "Tunnel-id", "Local", "Remote", "fvrf/ivrf", "Status") +
         fmt::format("{:<10}{:<24}{:<24}{:<21}{}\n", number(sa, "tunnel_id"), end("local", "local_port"),
                     end("remote", "remote_port"), vrf(sa, "fvrf") + "/" + vrf(sa, "ivrf"), text(sa, "state"));
}

std::string suite(const json& sa) {
  if (sa.at("encr").is_null()) return "";
  return fmt::format("      Encr: {}, keysize: {}, PRF: {}, Hash: {}, DH Grp:{}, Auth sign: {}, Auth verify: {}\n",
                     text(sa, "encr"), number(sa, "keysize"), text(sa, "prf"), text(sa, "hash"), number(sa, "dh_group"),
                     text(sa, "auth_sign"), text(sa, "auth_verify"));
}

std::string short_lines(const json& sa, std::uint64_t session) {
  return fmt::format("      Life/Active Time: {}/{} sec\n      CE id: {}, Session-id: {}\n", number(sa, "life_s"),
                     number(sa, "active_s"), number(sa, "ce_id"), session) +
         fmt::format("      Local spi: {}       Remote spi: {}\n", text(sa, "local_spi"), text(sa, "remote_spi"));
}

std::string pair(const char* left, const std::string& left_value, const char* right, const std::string& right_value) {
  return fmt::format("      {:<37}{}\n", fmt::format("{} {}", left, left_value),
                     fmt::format("{} {}", right, right_value));
}

std::string numbers(const json& sa) {
  const auto pair_of = [&](const char* object, const char* local, const char* remote, const char* label) {
    const json& from = sa.at(object);
    return pair(fmt::format("Local {}:", label).c_str(), std::to_string(number(from, local)),
                fmt::format("Remote {}:", label).c_str(), std::to_string(number(from, remote)));
  };
  return pair_of("msgid", "local_req", "remote_req", "req mess id") +
         pair_of("msgid", "local_next", "remote_next", "next mess id") +
         pair_of("queued", "local", "remote", "req queued") + pair_of("window", "local", "remote", "window");
}

// Of the configuration payload: what we lend to the peer, and what it lends and tells us.
std::string configuration_lines(const json& sa) {
  std::string out;
  const auto add = [&](const json& from, const char* key, const char* label) {
    for (const json& one : list(from, key))
      if (one.is_string()) out += fmt::format("      {}: {}\n", label, printable(one.get<std::string>()));
  };
  add(sa, "assigned", "Assigned host addr");
  const auto told = sa.find("configuration");
  if (told == sa.end() || !told->is_object()) return out;
  add(*told, "addresses", "Pushed IP address");
  add(*told, "dns", "DNS server");
  add(*told, "subnets", "Remote subnet");
  if (!text(*told, "banner").empty()) out += "      Banner: " + text(*told, "banner") + "\n";
  return out;
}

std::string long_lines(const json& sa, std::uint64_t session) {
  std::string out =
      fmt::format("      Life/Remaining/Active Time: {}/{}/{} sec\n      CE id: {}, Session-id: {}, MIB-id: {}\n",
                  number(sa, "life_s"), number(sa, "remaining_s"), number(sa, "active_s"), number(sa, "ce_id"), session,
                  number(sa, "mib_id"));
  out += "      Status Description: " + text(sa, "status_description") + "\n";
  out += fmt::format("      Local spi: {}       Remote spi: {}\n", text(sa, "local_spi"), text(sa, "remote_spi"));
  out += "      Local id: " + text(sa, "local_id", "(none)") + "\n";
  out += "      Remote id: " + text(sa, "remote_id", "(none)") + "\n";
  if (sa.contains("eap_identity") && !sa.at("eap_identity").is_null())
    out += fmt::format("      {} EAP id: {}\n", text(sa, "role") == "initiator" ? "Local" : "Remote",
                       text(sa, "eap_identity"));
  out += numbers(sa);
  out +=
      fmt::format("      DPD configured for {} seconds\n      NAT-T is {}\n", number(sa, "dpd_s"), text(sa, "nat_t"));
  out +=
      std::string("      Disconnect Revoked Peer: ") + (flag(sa, "disconnect_revoked") ? "Enabled" : "Disabled") + "\n";
  out += configuration_lines(sa);
  for (const json& one : list(sa, "other_addresses"))
    out += "      Remote additional addr: " + one.get<std::string>() + "\n";
  if (flag(sa, "ppk")) out += "      Quantum-safe Encryption using Manual PPK\n";
  if (const auto redirect = sa.find("redirect"); redirect != sa.end() && redirect->is_object()) {
    if (!text(*redirect, "from").empty()) out += "      Redirected from: " + text(*redirect, "from") + "\n";
    if (!text(*redirect, "to").empty()) out += "      Redirected to: " + text(*redirect, "to") + "\n";
  }
  out += fmt::format("      Initiator of SA : {}\n", text(sa, "role") == "initiator" ? "Yes" : "No");
  return out;
}

std::string selectors(const json& child, const char* key, const char* label) {
  std::string out;
  for (const json& one : list(child, key))
    out += fmt::format("          {} selector  {}/{} - {}/{}\n", label, address(text(one, "from")),
                       number(one, "port_from"), address(text(one, "to")), number(one, "port_to"));
  return out;
}

std::string render_child(const json& child, bool detail) {
  std::string body = selectors(child, "local_ts", "local") + selectors(child, "remote_ts", "remote");
  std::string out = "Child sa: " + (body.size() > 10 ? body.substr(10) : "\n");
  out += fmt::format("          ESP spi in/out: {}/{}\n", text(child, "esp_spi_in"), text(child, "esp_spi_out"));
  if (!detail) return out;
  out += fmt::format("          CPI in/out: {}/{}\n          AH spi in/out: {}/{}\n", text(child, "cpi_in"),
                     text(child, "cpi_out"), text(child, "ah_spi_in"), text(child, "ah_spi_out"));
  out += fmt::format("          Encr: {}, keysize: {}, esp_hmac: {}\n", text(child, "encr"), number(child, "keysize"),
                     text(child, "esp_hmac", "none"));
  return out + fmt::format("          ah_hmac: {}, comp: {}, mode {}\n", text(child, "ah_hmac", "none"),
                           text(child, "comp", "none"), text(child, "mode"));
}

std::string render_ike_session(const json& session, bool detail) {
  const auto id = number(session, "session_id");
  std::string out = fmt::format("Session-id:{}, Status:{}, IKE count:{}, CHILD count:{}\n\n", id,
                                text(session, "status"), number(session, "ike_count"), number(session, "child_count"));
  for (const json& sa : list(session, "sas")) {
    out += ends_table(sa) + suite(sa) + (detail ? long_lines(sa, id) : short_lines(sa, id));
    for (const json& child : list(sa, "children")) out += render_child(child, detail);
    out += "\n";
  }
  return out;
}

// Both headings, also when there is nothing under them.
std::string by_family(const json& data, const char* what, std::string (*render)(const json&, bool)) {
  std::string out;
  const bool detail = flag(data, "detail");
  for (const auto& [family, name] : {std::pair("ipv4", "IPv4"), std::pair("ipv6", "IPv6")}) {
    out += fmt::format(" {} Crypto IKEv2 {}\n\n", name, what);
    for (const json& session : list(data, "sessions"))
      if (text(session, "family") == family) out += render(session, detail);
  }
  return out;
}

std::string render_sa(const json& session, bool detail) {
  std::string out;
  for (const json& sa : list(session, "sas")) {
    out += ends_table(sa) + suite(sa);
    out += detail ? long_lines(sa, number(session, "session_id"))
                  : fmt::format("      Life/Active Time: {}/{} sec\n", number(sa, "life_s"), number(sa, "active_s"));
    out += "\n";
  }
  return out;
}

}  // namespace

std::string render_ikev2_session(const json& data) { return by_family(data, "Session", render_ike_session); }
std::string render_ikev2_sa(const json& data) { return by_family(data, "SA", render_sa); }

}  // namespace postern::cli
