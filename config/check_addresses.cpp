// Interfaces, VRFs and tunnels: names that can be, addresses that agree, families that match.
#include "config/check.hpp"

namespace postern::config {
namespace {

const char* family_name(Family family) { return family == Family::v4 ? "IPv4" : "IPv6"; }

bool is_loopback(std::string_view name) {
  const auto digits = [](std::string_view rest) {
    return rest.find_first_not_of("0123456789") == std::string_view::npos;
  };
  for (const std::string_view stem : {"loopback", "Loopback", "lo"})
    if (name.starts_with(stem) && digits(name.substr(stem.size()))) return true;
  return false;
}

bool has_family(const std::vector<Prefix>& addresses, Family family) {
  return std::ranges::any_of(addresses, [&](const Prefix& p) { return p.family() == family; });
}

void check_map_binding(Check& check, const Interface& interface, const std::optional<std::string>& name, Family family,
                       const std::string& path) {
  if (!name) return;
  if (is_loopback(interface.name))
    return check.report.error(
        path, fmt::format("{} is a loopback interface: a crypto map cannot be applied to it", interface.name),
        "an interface that packets leave by");
  const CryptoMap* const map = find_named(check.document.crypto_maps, *name);
  if (map == nullptr) return;
  if (map->family != family)
    return check.report.error(path, fmt::format("crypto map {} is {}", map->name, family_name(map->family)),
                              family == Family::v4 ? "ipv6_crypto_map for an IPv6 map" : "crypto_map for an IPv4 map");
  if (!map->local_interface && !interface.addresses.empty() && !has_family(interface.addresses, family))
    check.report.error(path,
                       fmt::format("{} has no {} address to be the tunnels' end", interface.name, family_name(family)),
                       fmt::format("an {} address in its list of addresses", family_name(family)));
}

// IF-03.
void check_local_address(Check& check, std::size_t i) {
  const CryptoMap& map = check.document.crypto_maps[i];
  if (!map.local_interface) return;
  const std::string path = at("/crypto_maps/{}/local_address", i);
  const Interface* const owner = find_named(check.document.interfaces, *map.local_interface);
  if (owner == nullptr)
    return check.report.error(path,
                              fmt::format("{} is no interface of this document", quoted(path, *map.local_interface)),
                              names_of(check.document.interfaces));
  if (!owner->addresses.empty() && !has_family(owner->addresses, map.family))
    check.report.error(path, fmt::format("{} has no {} address", owner->name, family_name(map.family)),
                       fmt::format("an {} address in its list of addresses", family_name(map.family)));
  for (std::size_t j = 0; j < check.document.interfaces.size(); ++j) {
    const Interface& interface = check.document.interfaces[j];
    if (interface.crypto_map != map.name && interface.ipv6_crypto_map != map.name) continue;
    if (interface.vrf != owner->vrf)
      check.report.error(
          at("/interfaces/{}/{}", j, interface.crypto_map == map.name ? "crypto_map" : "ipv6_crypto_map"),
          fmt::format("crypto map {} has its local address on {}, which is in another VRF", map.name, owner->name),
          "interfaces of one VRF, or a map for each");
  }
}

void check_interface(Check& check, std::size_t i) {
  const Interface& interface = check.document.interfaces[i];
  const std::string path = at("/interfaces/{}", i);
  if (interface.name == "." || interface.name == "..")
    check.report.error(path + "/name", "is not a device name", "letters, digits and _ . @ -, at most 15");
  if (interface.name.starts_with("pn-"))
    check.report.error(path + "/name", "names that begin with \"pn-\" are the node's own devices", "another device");
  for (const Tunnel& tunnel : check.document.tunnels)
    if (tunnel.device() == interface.name)
      check.report.error(path + "/name", interface.name + " is made by this document's tunnels",
                         "what it needs, under /tunnels");
  check_map_binding(check, interface, interface.crypto_map, Family::v4, path + "/crypto_map");
  check_map_binding(check, interface, interface.ipv6_crypto_map, Family::v6, path + "/ipv6_crypto_map");
}

struct Placed {
  Prefix prefix;
  std::string path, device, vrf;
};

// Every address of the document with its place.
std::vector<Placed> all_addresses(const Check& check) {
  std::vector<Placed> out;
  const auto add = [&](const std::vector<Prefix>& addresses, const std::string& path, const std::string& device,
                       const auto& vrf) {
    for (std::size_t j = 0; j < addresses.size(); ++j) {
      const std::string here = at("{}/addresses/{}", path, j);
      if (!check.report.failed_at(here)) out.push_back({addresses[j], here, device, vrf.value_or("")});
    }
  };
  for (std::size_t i = 0; i < check.document.interfaces.size(); ++i) {
    const Interface& interface = check.document.interfaces[i];
    add(interface.addresses, at("/interfaces/{}", i), interface.name, interface.vrf);
  }
  for (std::size_t i = 0; i < check.document.tunnels.size(); ++i) {
    const Tunnel& tunnel = check.document.tunnels[i];
    add(tunnel.addresses, at("/tunnels/{}", i), tunnel.device(), tunnel.vrf);
  }
  return out;
}

// One address twice is an error; two devices in one subnet of one VRF are seldom meant, and Linux allows them.
void check_overlap(Check& check, const std::vector<Placed>& all) {
  std::map<std::pair<std::string, IpAddress>, const Placed*> owners;
  for (const Placed& one : all) {
    const auto [owner, fresh] = owners.emplace(std::pair(one.vrf, one.prefix.address), &one);
    if (!fresh)
      check.report.error(one.path, fmt::format("{} is also an address of {} ({})", one.prefix.address.text(),
                                               owner->second->device, owner->second->path));
  }
  std::map<std::pair<std::string, Prefix>, const Placed*> subnets;
  for (const Placed& one : all) {
    const auto [owner, fresh] =
        subnets.emplace(std::pair(one.vrf, Prefix{one.prefix.first(), one.prefix.length}), &one);
    if (!fresh && owner->second->device != one.device && !check.report.failed_at(one.path))
      check.report.warning(one.path, fmt::format("{} overlaps with {} ({})", one.prefix.text(), owner->second->device,
                                                 owner->second->path));
  }
}

void check_not_own(Check& check, const std::vector<Placed>& all, const IpAddress& peer, const std::string& path) {
  if (check.report.failed_at(path)) return;
  for (const Placed& one : all)
    if (one.prefix.address == peer)
      return check.report.error(path, fmt::format("{} is this node's own address on {}", peer.text(), one.device),
                                "the other node's address");
}

void check_source(Check& check, const Tunnel& tunnel, const std::string& path) {
  const std::string here = path + "/source";
  const auto address = IpAddress::parse(tunnel.source);
  if (!address) {
    const Interface* const interface = find_named(check.document.interfaces, tunnel.source);
    if (interface == nullptr)
      return check.report.error(
          here, fmt::format("{} is neither an interface of this document nor an address", quoted(here, tunnel.source)),
          names_of(check.document.interfaces));
    if (!interface->addresses.empty() && !has_family(interface->addresses, tunnel.transport))
      check.report.error(here, fmt::format("{} has no {} address", interface->name, family_name(tunnel.transport)),
                         "a source of the mode's outer family");
    return;
  }
  if (address->family() != tunnel.transport)
    return check.report.error(here,
                              fmt::format("{} is not an {} address", address->text(), family_name(tunnel.transport)),
                              "a source of the mode's outer family");
  // Interfaces whose addresses the document leaves to the system may have it.
  const bool known = std::ranges::any_of(check.document.interfaces, [&](const Interface& interface) {
    return interface.addresses.empty() ||
           std::ranges::any_of(interface.addresses, [&](const Prefix& p) { return p.address == *address; });
  });
  if (!known)
    check.report.error(here, fmt::format("{} is an address of no interface of this document", address->text()),
                       names_of(check.document.interfaces));
}

void check_inner(Check& check, const Tunnel& tunnel, const std::vector<Prefix>& prefixes, const std::string& path) {
  for (std::size_t i = 0; i < prefixes.size(); ++i) {
    const std::string here = at("{}/{}", path, i);
    const bool carried = prefixes[i].family() == Family::v4 ? tunnel.carries_v4 : tunnel.carries_v6;
    if (!carried && !check.report.failed_at(here))
      check.report.error(here,
                         fmt::format("{} is {}, which the tunnel's mode does not carry", prefixes[i].text(),
                                     family_name(prefixes[i].family())),
                         tunnel.carries_v4 ? "IPv4" : "IPv6");
  }
}

void check_tunnel(Check& check, std::size_t i) {
  const Tunnel& tunnel = check.document.tunnels[i];
  const std::string path = at("/tunnels/{}", i), destination = path + "/destination";
  check_source(check, tunnel, path);
  check_inner(check, tunnel, tunnel.addresses, path + "/addresses");
  check_inner(check, tunnel, tunnel.routes, path + "/routes");
  if (tunnel.mtu != 0 && tunnel.mtu < 1280 && tunnel.carries_v6)
    check.report.error(path + "/mtu", fmt::format("{} is below the least MTU of IPv6", tunnel.mtu), "1280 to 65535");
  if (check.report.failed_at(destination)) return;
  if (tunnel.destination.is_unspecified() || tunnel.destination.is_multicast())
    check.report.error(destination, tunnel.destination.text() + " is not a host's address",
                       "the peer's unicast address");
  else if (tunnel.destination.family() != tunnel.transport)
    check.report.error(destination, fmt::format("{} is not of the mode's outer family", tunnel.destination.text()),
                       fmt::format("an {} address", family_name(tunnel.transport)));
}

void check_vrfs(Check& check) {
  for (std::size_t i = 0; i < check.document.vrfs.size(); ++i)
    if (const auto table = check.document.vrfs[i].table; table >= 253 && table <= 255)
      check.report.error(at("/vrfs/{}/table", i), fmt::format("table {} is the kernel's own", table),
                         "1 to 252, or 256 and above");
}

}  // namespace

void check_addresses(Check& check) {
  const Document& d = check.document;
  for (std::size_t i = 0; i < d.interfaces.size(); ++i) check_interface(check, i);
  for (std::size_t i = 0; i < d.crypto_maps.size(); ++i) check_local_address(check, i);
  for (std::size_t i = 0; i < d.tunnels.size(); ++i) check_tunnel(check, i);
  check_vrfs(check);
  const auto all = all_addresses(check);
  check_overlap(check, all);
  for (std::size_t i = 0; i < d.crypto_maps.size(); ++i)
    for (std::size_t j = 0; j < d.crypto_maps[i].entries.size(); ++j) {
      const std::string path = at("/crypto_maps/{}/entries/{}", i, j);
      const bool listed = check.source.contains(nlohmann::json::json_pointer(path + "/peers"));
      const auto& peers = d.crypto_maps[i].entries[j].peers;
      for (std::size_t k = 0; k < peers.size(); ++k)
        if (!peers[k].is_name())
          check_not_own(check, all, peers[k].address, listed ? at("{}/peers/{}", path, k) : path + "/peer");
    }
  for (std::size_t i = 0; i < d.tunnels.size(); ++i)
    check_not_own(check, all, d.tunnels[i].destination, at("/tunnels/{}/destination", i));
}

}  // namespace postern::config
