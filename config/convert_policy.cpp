// Transform sets, profiles, crypto maps and tunnels, and the keys that the last two hold.
#include "config/convert.hpp"
#include "config/secret_file.hpp"
#include "config/transforms.hpp"

namespace postern::config {
namespace {

using nlohmann::json;

Secret convert_key(const json& value, const std::string& path, Conversion& conversion) {
  if (value.is_string()) return conversion.keep(parse_hex(value.get_ref<const std::string&>()), path);
  if (!conversion.options.read_secret_files) return {};
  const std::string file = value["file"];
  return conversion.keep(read_secret_file(file, conversion.options), path + "/file");
}

ManualSa convert_direction(const json& direction, const std::string& path, Conversion& conversion) {
  if (direction.contains("ah")) conversion.report.error(path + "/ah", "AH is not available in this version", "esp");
  const json& esp = direction["esp"];
  ManualSa out;
  out.spi = esp["spi"];
  out.cipher_key = convert_key(esp["cipher"], path + "/esp/cipher", conversion);
  if (esp.contains("authenticator"))
    out.integrity_key = convert_key(esp["authenticator"], path + "/esp/authenticator", conversion);
  return out;
}

ManualKeys convert_keys(const json& keys, const std::string& path, Conversion& conversion) {
  return {convert_direction(keys["inbound"], path + "/inbound", conversion),
          convert_direction(keys["outbound"], path + "/outbound", conversion)};
}

// MapEntry and Tunnel have the same three fields.
template <class T>
void convert_udp(const json& in, T& out) {
  const auto udp = in.find("udp_encapsulation");
  if (udp == in.end()) return;
  out.udp_encapsulation = true;
  out.udp_local_port = udp->value("local_port", out.udp_local_port);
  out.udp_remote_port = udp->value("remote_port", out.udp_remote_port);
}

MapEntry convert_entry(const json& entry, const std::string& path, DfBit df, Conversion& conversion) {
  MapEntry out;
  const std::string peer = entry["peer"];
  out.sequence = entry["sequence"];
  out.acl = entry["match_address"];
  out.peer = conversion.keep(parse_address(peer), path + "/peer", peer);
  out.transform_set = entry["transform_set"];
  out.keys = convert_keys(entry["session_key"], path + "/session_key", conversion);
  out.df = df_of(entry, df);
  convert_udp(entry, out);
  return out;
}

struct Mode {
  std::string_view text;
  bool over_v6, carries_v4, carries_v6;
};
constexpr Mode modes[] = {{"ipsec ipv4", false, true, false},
                          {"ipsec ipv6", true, false, true},
                          {"ipsec ipv4 v6-overlay", false, false, true},
                          {"ipsec ipv6 v4-overlay", true, true, false}};

void convert_mode(const json& tunnel, Tunnel& out) {
  for (const Mode& mode : modes) {
    if (tunnel["mode"] != mode.text) continue;
    out.transport = mode.over_v6 ? Family::v6 : Family::v4;
    out.carries_v4 = mode.carries_v4;
    out.carries_v6 = mode.carries_v6;
  }
  // Both inner families in one SA pair; the outer one is the peer's.
  if (tunnel["mode"] != "ipsec dual-overlay") return;
  out.transport = out.destination.family();
  out.carries_v4 = out.carries_v6 = true;
}

Tunnel convert_tunnel(const json& tunnel, const std::string& path, DfBit df, Conversion& conversion) {
  Tunnel out;
  const std::string destination = tunnel["destination"];
  out.number = tunnel["number"];
  for (const json& address : list_of(tunnel, "addresses")) {
    const std::string text = address;
    out.addresses.push_back(
        conversion.keep(parse_interface_address(text), at("{}/addresses/{}", path, out.addresses.size()), text));
  }
  out.source = tunnel["source"];
  out.destination = conversion.keep(parse_address(destination), path + "/destination", destination);
  convert_mode(tunnel, out);
  out.profile = tunnel["protection"]["profile"];
  out.keys = convert_keys(tunnel["protection"]["session_key"], path + "/protection/session_key", conversion);
  convert_udp(tunnel, out);
  out.ttl = tunnel.value("ttl", out.ttl);
  out.df = df_of(tunnel, df);
  out.mtu = tunnel.value("mtu", out.mtu);
  for (const json& route : list_of(tunnel, "routes")) {
    const std::string text = route;
    out.routes.push_back(conversion.keep(parse_network(text), at("{}/routes/{}", path, out.routes.size()), text));
  }
  if (tunnel.contains("vrf")) out.vrf = tunnel["vrf"].get<std::string>();
  return out;
}

Family family_of(const json& map, const std::vector<MapEntry>& entries) {
  if (map.contains("family")) return map["family"] == "ipv6" ? Family::v6 : Family::v4;
  return entries.front().peer.family() == Family::v6 && !entries.front().peer.is_unspecified() ? Family::v6
                                                                                               : Family::v4;
}

}  // namespace

std::vector<TransformSet> convert_transform_sets(const json& sets, Conversion& conversion) {
  std::vector<TransformSet> out;
  for (const json& set : sets) {
    TransformSet& made = out.emplace_back();
    const std::string path = at("/ipsec/transform_sets/{}/transforms", out.size() - 1);
    made.name = set["name"];
    auto resolved = resolve_transforms(set["transforms"].get<std::vector<std::string>>(), path, conversion.report);
    made.transforms = std::move(resolved.names);
    made.transform = resolved.transform;
    made.transport_mode = set.value("mode", "tunnel") == "transport";
  }
  return out;
}

std::vector<IpsecProfile> convert_profiles(const json& profiles) {
  std::vector<IpsecProfile> out;
  for (const json& profile : profiles)
    out.push_back(
        {profile["name"].get<std::string>(), profile.value("transform_sets", std::vector<std::string>{"default"})});
  return out;
}

std::vector<CryptoMap> convert_crypto_maps(const json& maps, DfBit df, Conversion& conversion) {
  std::vector<CryptoMap> out;
  for (const json& map : maps) {
    CryptoMap& made = out.emplace_back();
    const std::string path = at("/crypto_maps/{}", out.size() - 1);
    made.name = map["name"];
    for (const json& entry : map["entries"])
      made.entries.push_back(convert_entry(entry, at("{}/entries/{}", path, made.entries.size()), df, conversion));
    made.family = family_of(map, made.entries);
  }
  return out;
}

std::vector<Tunnel> convert_tunnels(const json& tunnels, DfBit df, Conversion& conversion) {
  std::vector<Tunnel> out;
  for (const json& tunnel : tunnels)
    out.push_back(convert_tunnel(tunnel, at("/tunnels/{}", out.size()), df, conversion));
  return out;
}

}  // namespace postern::config
