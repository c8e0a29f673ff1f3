// Transform sets, profiles, crypto maps and tunnels, and the keys that the last two hold.
#include <cstring>

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

ManualSa convert_esp(const json& direction, const std::string& path, Conversion& conversion) {
  ManualSa out;
  if (!direction.contains("esp")) return out;
  const json& esp = direction["esp"];
  out.spi = esp["spi"];
  if (esp.contains("cipher")) out.cipher_key = convert_key(esp["cipher"], path + "/esp/cipher", conversion);
  if (esp.contains("authenticator"))
    out.integrity_key = convert_key(esp["authenticator"], path + "/esp/authenticator", conversion);
  return out;
}

ManualSa convert_ah(const json& direction, const std::string& path, Conversion& conversion) {
  ManualSa out;
  if (!direction.contains("ah")) return out;
  out.spi = direction["ah"]["spi"];
  out.integrity_key = convert_key(direction["ah"]["key"], path + "/ah/key", conversion);
  return out;
}

// RFC 3173 §3.3: 0 to 63 stand for algorithms, up to 255 are reserved.
std::uint16_t cpi_of(const json& direction, const std::string& path, Conversion& conversion) {
  const auto comp = direction.find("comp");
  if (comp == direction.end()) return ManualKeys::deflate_cpi;
  const std::uint16_t cpi = (*comp)["cpi"];
  if (cpi != ManualKeys::deflate_cpi && cpi < 256)
    conversion.report.error(path + "/comp/cpi", fmt::format("CPI {} does not stand for DEFLATE", cpi),
                            "2, or 256 to 61439");
  return cpi;
}

ManualKeys convert_keys(const json& keys, const std::string& path, Conversion& conversion) {
  const std::string in = path + "/inbound", out = path + "/outbound";
  return {convert_esp(keys["inbound"], in, conversion), convert_esp(keys["outbound"], out, conversion),
          convert_ah(keys["inbound"], in, conversion),  convert_ah(keys["outbound"], out, conversion),
          cpi_of(keys["inbound"], in, conversion),      cpi_of(keys["outbound"], out, conversion)};
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

std::optional<std::string> optional_name(const json& object, const char* key) {
  const auto member = object.find(key);
  return member == object.end() ? std::nullopt : std::optional(member->get<std::string>());
}

Initiate initiate_of(const json& object, Initiate otherwise) {
  const auto member = object.find("initiate");
  if (member == object.end()) return otherwise;
  return *member == "always" ? Initiate::always : Initiate::on_traffic;
}

// Keys that belong to one of the two types of entry.
void check_type(const json& entry, bool negotiated, const std::string& path, Report& report) {
  const auto refuse = [&](std::initializer_list<const char*> keys, const char* why, const char* allowed) {
    for (const char* const key : keys)
      if (entry.contains(key)) report.error(path + "/" + key, why, allowed);
  };
  if (negotiated) {
    refuse({"session_key", "udp_encapsulation"}, "belongs to an entry of type ipsec-manual; here IKE decides",
           "leave it out");
    if (entry.contains("peers") && entry.contains("peer"))
      report.error(path + "/peer", "peers is given too", "one of the two");
    if (entry.contains("transform_sets") && entry.contains("transform_set"))
      report.error(path + "/transform_set", "transform_sets is given too", "one of the two");
    return;
  }
  refuse({"ikev2_profile", "pfs", "security_association", "initiate", "separate_fragment_sa", "dynamic", "profile",
          "per_host_limit", "per_host_only"},
         "a manual entry has no negotiation", "type ipsec-isakmp, or leave it out");
  refuse({"peers", "default_peer"}, "a manual entry has exactly one peer; failover between peers needs IKE", "peer");
  for (const char* const key : {"match_address", "peer"})
    if (!entry.contains(key)) report.error(path + "/" + key, "is missing", "what a manual entry is about");
  refuse({"transform_sets"}, "a manual entry has exactly one transform set; a choice of sets needs IKE",
         "transform_set");
  if (!entry.contains("transform_set")) report.error(path + "/transform_set", "is missing", "one transform set");
  if (!entry.contains("session_key"))
    report.error(path + "/session_key", "is missing: a manual entry has its keys here",
                 "SPIs and keys of both directions");
}

std::vector<std::string> sets_of(const json& entry) {
  if (const auto list = entry.find("transform_sets"); list != entry.end()) return list->get<std::vector<std::string>>();
  if (const auto one = entry.find("transform_set"); one != entry.end()) return {one->get<std::string>()};
  return {};
}

// "192.0.2.2", "vpn.example.net", or {"name": "vpn.example.net", "dynamic": true}.
Peer peer_of(const json& one, const std::string& path, Conversion& conversion) {
  if (one.is_string()) {
    const std::string text = one;
    return conversion.keep(parse_peer(text), path, text);
  }
  const std::string name = one["name"];
  return {{}, conversion.keep(parse_host_name(name), path + "/name", name), one.value("dynamic", false)};
}

std::vector<Peer> peers_of(const json& entry, const std::string& path, Conversion& conversion) {
  std::vector<Peer> out;
  if (const auto one = entry.find("peer"); one != entry.end()) out.push_back(peer_of(*one, path + "/peer", conversion));
  for (const json& one : list_of(entry, "peers"))
    out.push_back(peer_of(one, at("{}/peers/{}", path, out.size()), conversion));
  return out;
}

// DM-03: everything else is in the dynamic map.
void check_alone(const json& entry, const std::string& path, Report& report) {
  for (const auto& [key, value] : entry.items())
    if (key != "sequence" && key != "type" && key != "dynamic")
      report.error(path + "/" + key, "a dynamic map stands here, and says everything", "sequence, type and dynamic");
}

// CM-25: the profile's own, where it exists; config/check_meaning.cpp says when it does not.
void take_profile(MapEntry& entry, const json& source, const std::string& path, const Document& around,
                  Report& report) {
  for (const char* const key : {"transform_set", "transform_sets", "ikev2_profile", "pfs", "security_association"})
    if (source.contains(key))
      report.error(path + "/" + key, "the profile says it", "profile alone, or what it says without it");
  const IpsecProfile* const profile = find_named(around.profiles, *entry.profile);
  if (profile == nullptr) return;
  entry.transform_sets = profile->transform_sets;
  entry.ikev2_profile = profile->ikev2_profile;
  entry.pfs = profile->pfs;
  entry.sa = profile->sa;
}

MapEntry convert_entry(const json& entry, const std::string& path, const Document& around, Conversion& conversion) {
  MapEntry out;
  out.sequence = entry["sequence"];
  out.negotiated = entry["type"] == "ipsec-isakmp";
  out.dynamic = optional_name(entry, "dynamic");
  if (out.dynamic && out.negotiated) {
    check_alone(entry, path, conversion.report);
    return out;
  }
  out.acl = entry.value("match_address", "");
  out.peers = peers_of(entry, path, conversion);
  if (!out.peers.empty()) out.peer = out.peers.front().address;
  out.default_peer = entry.value("default_peer", false);
  check_type(entry, out.negotiated, path, conversion.report);
  out.transform_sets = sets_of(entry);
  if (!out.negotiated && entry.contains("session_key"))
    out.keys = convert_keys(entry["session_key"], path + "/session_key", conversion);
  out.ikev2_profile = optional_name(entry, "ikev2_profile");
  out.pfs = convert_pfs(entry, path, conversion);
  out.sa = convert_security_association(entry);
  out.profile = optional_name(entry, "profile");
  if (out.profile && out.negotiated) take_profile(out, entry, path, around, conversion.report);
  out.initiate = initiate_of(entry, Initiate::on_traffic);
  out.per_host_limit = entry.value("per_host_limit", out.per_host_limit);
  out.per_host_only = entry.value("per_host_only", out.per_host_only);
  out.encapsulation = convert_encapsulation(entry, around.ipsec.encapsulation);
  out.separate_fragment_sa = entry.value("separate_fragment_sa", true);
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

void convert_protection(const json& tunnel, const std::string& path, Tunnel& out, Conversion& conversion) {
  const json& protection = tunnel["protection"];
  out.profile = protection["profile"];
  out.negotiated = !protection.contains("session_key");
  out.ikev2_profile = optional_name(protection, "ikev2_profile");
  if (out.negotiated && tunnel.contains("udp_encapsulation"))
    conversion.report.error(path.substr(0, path.rfind('/')) + "/udp_encapsulation",
                            "belongs to manual keys; IKE detects NAT by itself",
                            "ikev2 nat_force_encap, or leave it out");
  if (out.negotiated) return;
  out.keys = convert_keys(protection["session_key"], path + "/session_key", conversion);
  if (out.ikev2_profile) conversion.report.error(path + "/ikev2_profile", "session_key is given too", "one of the two");
}

Tunnel convert_tunnel(const json& tunnel, const std::string& path, const Document& around, Conversion& conversion) {
  Tunnel out;
  const std::string destination = tunnel["destination"];
  out.number = tunnel["number"];
  for (const json& address : list_of(tunnel, "addresses")) {
    const std::string text = address;
    out.addresses.push_back(
        conversion.keep(parse_interface_address(text), at("{}/addresses/{}", path, out.addresses.size()), text));
  }
  for (const json& network : list_of(tunnel, "negotiated_addresses")) {
    const std::string text = network;
    out.negotiated_addresses.push_back(conversion.keep(
        parse_network(text), at("{}/negotiated_addresses/{}", path, out.negotiated_addresses.size()), text));
  }
  out.source = tunnel["source"];
  out.destination = conversion.keep(parse_address(destination), path + "/destination", destination);
  convert_mode(tunnel, out);
  convert_protection(tunnel, path + "/protection", out, conversion);
  convert_udp(tunnel, out);
  out.ttl = tunnel.value("ttl", out.ttl);
  const IpsecProfile* const profile = find_named(around.profiles, out.profile);
  out.encapsulation =
      convert_encapsulation(tunnel, profile == nullptr ? around.ipsec.encapsulation : profile->encapsulation);
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
  for (const MapEntry& entry : entries)
    if (!entry.peer.is_unspecified()) return entry.peer.family();
  return Family::v4;
}

}  // namespace

// "group19"; true is the guide's bare `set pfs`, which means group 1 (TS-65).
std::optional<crypto::DhGroup> convert_pfs(const json& object, const std::string& path, Conversion& conversion) {
  const auto pfs = object.find("pfs");
  if (pfs == object.end() || *pfs == false) return std::nullopt;
  const std::string here = path + "/pfs";
  if (*pfs == true) return convert_group(1, here, conversion.report);
  const auto& text = pfs->get_ref<const std::string&>();
  return convert_group(static_cast<std::uint32_t>(std::strtoul(text.c_str() + std::strlen("group"), nullptr, 10)), here,
                       conversion.report);
}

bool may_be_lent(const Tunnel& tunnel, const IpAddress& address) {
  return std::ranges::any_of(tunnel.negotiated_addresses, [&](const Prefix& one) {
    return one.address.family() == address.family() && !(address < one.first()) && !(one.last() < address);
  });
}

std::vector<TransformSet> convert_transform_sets(const json& sets, Conversion& conversion) {
  std::vector<TransformSet> out;
  for (const json& set : sets) {
    TransformSet& made = out.emplace_back();
    const std::string path = at("/ipsec/transform_sets/{}/transforms", out.size() - 1);
    made.name = set["name"];
    auto resolved = resolve_transforms(set["transforms"].get<std::vector<std::string>>(), path, conversion.report);
    made.transforms = std::move(resolved.names);
    made.transform = resolved.transform;
    made.ah = resolved.ah;
    made.compression = resolved.compression;
    const std::string mode = set.value("mode", "tunnel");
    made.transport_mode = mode.starts_with("transport");
    made.mode_required = mode == "transport require";
  }
  return out;
}

std::vector<IpsecProfile> convert_profiles(const json& profiles, const Encapsulation& inherited,
                                           Conversion& conversion) {
  std::vector<IpsecProfile> out;
  for (const json& profile : profiles) {
    const std::string path = at("/ipsec/profiles/{}", out.size());
    IpsecProfile& made = out.emplace_back();
    made.name = profile["name"];
    made.transform_sets = profile.value("transform_sets", std::vector<std::string>{"default"});
    made.ikev2_profile = optional_name(profile, "ikev2_profile");
    made.pfs = convert_pfs(profile, path, conversion);
    made.sa = convert_security_association(profile);
    made.initiate = initiate_of(profile, Initiate::always);
    made.encapsulation = convert_encapsulation(profile, inherited);
  }
  return out;
}

// "disable", {"pps": 5} or {"seconds": 15}.
std::uint32_t convert_dummy(const json& dummy) {
  constexpr std::uint32_t second = 1'000'000;
  if (dummy.is_string()) return 0;
  if (dummy.contains("pps")) return second / dummy["pps"].get<std::uint32_t>();
  return second * dummy["seconds"].get<std::uint32_t>();
}

SecurityAssociation convert_security_association(const json& object) {
  SecurityAssociation out;
  const auto in = object.find("security_association");
  if (in == object.end()) return out;
  if (in->contains("lifetime_seconds")) out.lifetime_s = (*in)["lifetime_seconds"].get<std::uint32_t>();
  if (const auto kilobytes = in->find("lifetime_kilobytes"); kilobytes != in->end())
    out.lifetime_kb = kilobytes->is_string() ? 0 : kilobytes->get<std::uint64_t>();  // "disable"
  if (in->contains("lifetime_packets")) out.lifetime_packets = (*in)["lifetime_packets"].get<std::uint64_t>();
  if (in->contains("idle_time")) out.idle_s = (*in)["idle_time"].get<std::uint32_t>();
  if (in->contains("replay_window")) out.replay_window = (*in)["replay_window"].get<std::uint16_t>();
  if (const auto padding = in->find("tfc_padding"); padding != in->end())
    out.tfc_bytes = padding->is_number()    ? padding->get<std::uint16_t>()
                    : *padding == "disable" ? std::uint16_t{0}
                                            : std::uint16_t{65535};
  if (const auto dummy = in->find("dummy"); dummy != in->end()) out.dummy_interval_us = convert_dummy(*dummy);
  if (in->contains("extended_sequence_numbers")) out.extended_sequence = (*in)["extended_sequence_numbers"].get<bool>();
  return out;
}

std::vector<CryptoMap> convert_crypto_maps(const json& maps, const Document& around, Conversion& conversion) {
  std::vector<CryptoMap> out;
  for (const json& map : maps) {
    CryptoMap& made = out.emplace_back();
    const std::string path = at("/crypto_maps/{}", out.size() - 1);
    made.name = map["name"];
    made.local_interface = optional_name(map, "local_address");
    for (const json& entry : map["entries"])
      made.entries.push_back(convert_entry(entry, at("{}/entries/{}", path, made.entries.size()), around, conversion));
    made.family = family_of(map, made.entries);
  }
  return out;
}

std::vector<Tunnel> convert_tunnels(const json& tunnels, const Document& around, Conversion& conversion) {
  std::vector<Tunnel> out;
  for (const json& tunnel : tunnels)
    out.push_back(convert_tunnel(tunnel, at("/tunnels/{}", out.size()), around, conversion));
  return out;
}

}  // namespace postern::config
