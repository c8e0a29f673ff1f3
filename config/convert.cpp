// The third gate: JSON that fits the schema to the structs of config/model.hpp. Sections that are flat are here.
#include "config/convert.hpp"

#include "config/acl_options.hpp"

namespace postern::config {
namespace {

using nlohmann::json;

// One object of the document, or an empty one.
const json& object_of(const json& parent, const char* key) {
  static const json none = json::object();
  const auto member = parent.find(key);
  return member == parent.end() ? none : *member;
}

System convert_system(const json& in) {
  System out;
  out.hostname = in.value("hostname", out.hostname);
  out.log_level = in.value("log_level", out.log_level);
  out.acl_log_interval_s = in.value("acl_log_interval_s", out.acl_log_interval_s);
  return out;
}

Dataplane convert_dataplane(const json& in) {
  Dataplane out;
  const std::string plain = in.value("plain_side", "auto"), xdp = in.value("xdp_mode", "auto");
  out.plain_side = plain == "tap" ? PlainSide::tap : plain == "af_xdp" ? PlainSide::af_xdp : PlainSide::automatic;
  out.xdp_mode = xdp == "native" ? XdpMode::native : xdp == "generic" ? XdpMode::generic : XdpMode::automatic;
  out.on_stop = in.value("on_stop", "block") == "release" ? OnStop::release : OnStop::block;
  out.workers = in.value("workers", out.workers);
  out.umem_frames = in.value("umem_frames", out.umem_frames);
  out.ring_entries = in.value("ring_entries", out.ring_entries);
  out.sa_capacity = in.value("sa_capacity", out.sa_capacity);
  out.replay_window = in.value("replay_window", out.replay_window);
  out.crypto_openssl = in.value("crypto", "auto") == "openssl";
  out.interface_grace_s = in.value("interface_grace_s", out.interface_grace_s);
  return out;
}

std::vector<Vrf> convert_vrfs(const json& in) {
  std::vector<Vrf> out;
  for (const json& vrf : in) out.push_back({vrf["name"].get<std::string>(), vrf["table"].get<std::uint32_t>()});
  return out;
}

std::optional<std::string> optional_text(const json& object, const char* key) {
  const auto member = object.find(key);
  return member == object.end() ? std::nullopt : std::optional(member->get<std::string>());
}

std::vector<Interface> convert_interfaces(const json& in, Conversion& conversion) {
  std::vector<Interface> out;
  for (const json& interface : in) {
    Interface& made = out.emplace_back();
    const std::string path = at("/interfaces/{}", out.size() - 1);
    made.name = interface["name"];
    for (const json& address : list_of(interface, "addresses")) {
      const std::string text = address;
      made.addresses.push_back(
          conversion.keep(parse_interface_address(text), at("{}/addresses/{}", path, made.addresses.size()), text));
    }
    made.crypto_map = optional_text(interface, "crypto_map");
    made.ipv6_crypto_map = optional_text(interface, "ipv6_crypto_map");
    made.inside = interface.value("inside", false);
    made.vrf = optional_text(interface, "vrf");
  }
  return out;
}

}  // namespace

const json& list_of(const json& object, const char* key) {
  static const json none = json::array();
  const auto member = object.find(key);
  return member == object.end() ? none : *member;
}

Encapsulation convert_encapsulation(const json& object, Encapsulation out) {
  if (const auto df = object.find("df_bit"); df != object.end())
    out.df = *df == "set" ? DfBit::set : *df == "clear" ? DfBit::clear : DfBit::copy;
  if (const auto ecn = object.find("ecn"); ecn != object.end())
    out.ecn = *ecn == "discard" ? Ecn::discard : Ecn::propagate;
  if (const auto dscp = object.find("dscp"); dscp != object.end())
    out.dscp = dscp->is_string() ? std::nullopt : std::optional(dscp->get<std::uint8_t>());
  if (const auto mss = object.find("tcp_mss"); mss != object.end())
    out.tcp_mss = *mss == "auto" ? tcp_mss_auto : *mss == "off" ? std::uint16_t{0} : mss->get<std::uint16_t>();
  if (const auto when = object.find("fragmentation"); when != object.end())
    out.fragmentation = *when == "after-encryption" ? Fragmentation::after : Fragmentation::before;
  return out;
}

Document convert(const json& in, const LoadOptions& options, Report& report) {
  Conversion conversion{options, report};
  const json& ipsec = object_of(in, "ipsec");
  const json& global = object_of(ipsec, "global");
  Document out;
  out.version = in["version"];
  out.system = convert_system(object_of(in, "system"));
  out.dataplane = convert_dataplane(object_of(in, "dataplane"));
  out.ipsec.encapsulation = convert_encapsulation(global, {});
  out.ipsec.path_mtu_aging_s = global.value("path_mtu_aging", out.ipsec.path_mtu_aging_s);
  out.vrfs = convert_vrfs(list_of(in, "vrfs"));
  out.time_ranges = convert_time_ranges(list_of(in, "time_ranges"), conversion);
  out.acls = convert_acls(list_of(in, "acls"), conversion);
  out.transform_sets = convert_transform_sets(list_of(ipsec, "transform_sets"), conversion);
  out.ipsec.sa = convert_security_association(ipsec);
  if (!out.ipsec.sa.lifetime_s) out.ipsec.sa.lifetime_s = IpsecGlobal{}.sa.lifetime_s;
  if (!out.ipsec.sa.lifetime_kb) out.ipsec.sa.lifetime_kb = IpsecGlobal{}.sa.lifetime_kb;
  out.profiles = convert_profiles(list_of(ipsec, "profiles"), out.ipsec.encapsulation, conversion);
  out.pki = convert_pki(object_of(in, "pki"), conversion);
  out.ikev2 = convert_ikev2(object_of(in, "ikev2"), conversion);
  out.dynamic_maps = convert_dynamic_maps(list_of(in, "dynamic_maps"), out.ipsec.encapsulation, conversion);
  out.crypto_maps = convert_crypto_maps(list_of(in, "crypto_maps"), out, conversion);
  out.interfaces = convert_interfaces(list_of(in, "interfaces"), conversion);
  out.tunnels = convert_tunnels(list_of(in, "tunnels"), out, conversion);
  return out;
}

}  // namespace postern::config
