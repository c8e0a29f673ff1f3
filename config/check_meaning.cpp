// The fourth gate, its coordinator: names, references and numbers that hang together; the rest is in check_*.cpp.
#include <bit>

#include "config/check.hpp"

namespace postern::config {
namespace {

void check_names(Check& check) {
  const Document& d = check.document;
  Report& report = check.report;
  refuse_twice<Vrf>(report, d.vrfs, &Vrf::name, [](std::size_t i) { return at("/vrfs/{}/name", i); }, "VRF");
  refuse_twice<Vrf>(
      report, d.vrfs, [](const Vrf& v) { return std::to_string(v.table); },
      [](std::size_t i) { return at("/vrfs/{}/table", i); }, "table");
  refuse_twice<TimeRange>(
      report, d.time_ranges, &TimeRange::name, [](std::size_t i) { return at("/time_ranges/{}/name", i); },
      "time range");
  refuse_twice<Acl>(report, d.acls, &Acl::name, [](std::size_t i) { return at("/acls/{}/name", i); }, "access list");
  refuse_twice<TransformSet>(
      report, d.transform_sets, &TransformSet::name,
      [](std::size_t i) { return at("/ipsec/transform_sets/{}/name", i); }, "transform set");
  refuse_twice<IpsecProfile>(
      report, d.profiles, &IpsecProfile::name, [](std::size_t i) { return at("/ipsec/profiles/{}/name", i); },
      "profile");
  refuse_twice<DynamicMap>(
      report, d.dynamic_maps, &DynamicMap::name, [](std::size_t i) { return at("/dynamic_maps/{}/name", i); },
      "dynamic map");
  refuse_twice<CryptoMap>(
      report, d.crypto_maps, &CryptoMap::name, [](std::size_t i) { return at("/crypto_maps/{}/name", i); },
      "crypto map");
  refuse_twice<Interface>(
      report, d.interfaces, &Interface::name, [](std::size_t i) { return at("/interfaces/{}/name", i); }, "interface");
  refuse_twice<Tunnel>(
      report, d.tunnels, &Tunnel::device, [](std::size_t i) { return at("/tunnels/{}/number", i); }, "tunnel");
}

void check_sequences(Check& check) {
  for (std::size_t i = 0; i < check.document.acls.size(); ++i)
    refuse_twice<Ace>(
        check.report, check.document.acls[i].rules, [](const Ace& a) { return std::to_string(a.sequence); },
        [i](std::size_t j) { return at("/acls/{}/rules/{}/sequence", i, j); }, "sequence");
  for (std::size_t i = 0; i < check.document.crypto_maps.size(); ++i)
    refuse_twice<MapEntry>(
        check.report, check.document.crypto_maps[i].entries,
        [](const MapEntry& e) { return std::to_string(e.sequence); },
        [i](std::size_t j) { return at("/crypto_maps/{}/entries/{}/sequence", i, j); }, "sequence");
}

template <class T>
void need(Check& check, const std::vector<T>& all, const std::string& name, const std::string& path,
          std::string_view what) {
  if (find_named(all, name) == nullptr)
    check.report.error(path, fmt::format("{} {} does not exist", what, quoted(path, name)), names_of(all));
}

// An entry's sets stand in a list, or one by itself.
std::string set_path(const Check& check, const std::string& entry, std::size_t index) {
  const bool alone = check.source.contains(nlohmann::json::json_pointer(entry + "/transform_set"));
  return alone ? entry + "/transform_set" : at("{}/transform_sets/{}", entry, index);
}

void check_references(Check& check) {
  const Document& d = check.document;
  for (std::size_t i = 0; i < d.acls.size(); ++i)
    for (std::size_t j = 0; j < d.acls[i].rules.size(); ++j)
      if (const std::string& range = d.acls[i].rules[j].options.time_range; !range.empty())
        need(check, d.time_ranges, range, at("/acls/{}/rules/{}/time_range", i, j), "time range");
  for (std::size_t i = 0; i < d.crypto_maps.size(); ++i)
    for (std::size_t j = 0; j < d.crypto_maps[i].entries.size(); ++j) {
      const MapEntry& entry = d.crypto_maps[i].entries[j];
      const std::string path = at("/crypto_maps/{}/entries/{}", i, j);
      if (!entry.acl.empty()) need(check, d.acls, entry.acl, path + "/match_address", "access list");
      if (entry.profile) need(check, d.profiles, *entry.profile, path + "/profile", "IPsec profile");
      if (entry.profile) continue;  // what it names is checked where it is
      if (entry.ikev2_profile)
        need(check, d.ikev2.profiles, *entry.ikev2_profile, path + "/ikev2_profile", "IKEv2 profile");
      for (std::size_t k = 0; k < entry.transform_sets.size(); ++k)
        need(check, d.transform_sets, entry.transform_sets[k], set_path(check, path, k), "transform set");
    }
  for (std::size_t i = 0; i < d.profiles.size(); ++i)
    for (std::size_t j = 0; j < d.profiles[i].transform_sets.size(); ++j)
      need(check, d.transform_sets, d.profiles[i].transform_sets[j], at("/ipsec/profiles/{}/transform_sets/{}", i, j),
           "transform set");
  for (std::size_t i = 0; i < d.profiles.size(); ++i)
    if (d.profiles[i].ikev2_profile)
      need(check, d.ikev2.profiles, *d.profiles[i].ikev2_profile, at("/ipsec/profiles/{}/ikev2_profile", i),
           "IKEv2 profile");
  for (std::size_t i = 0; i < d.interfaces.size(); ++i) {
    const Interface& interface = d.interfaces[i];
    const std::string path = at("/interfaces/{}", i);
    if (interface.crypto_map) need(check, d.crypto_maps, *interface.crypto_map, path + "/crypto_map", "crypto map");
    if (interface.ipv6_crypto_map)
      need(check, d.crypto_maps, *interface.ipv6_crypto_map, path + "/ipv6_crypto_map", "crypto map");
    if (interface.vrf) need(check, d.vrfs, *interface.vrf, path + "/vrf", "VRF");
  }
  for (std::size_t i = 0; i < d.tunnels.size(); ++i) {
    const std::string path = at("/tunnels/{}", i);
    need(check, d.profiles, d.tunnels[i].profile, path + "/protection/profile", "IPsec profile");
    if (d.tunnels[i].ikev2_profile)
      need(check, d.ikev2.profiles, *d.tunnels[i].ikev2_profile, path + "/protection/ikev2_profile", "IKEv2 profile");
    if (d.tunnels[i].vrf) need(check, d.vrfs, *d.tunnels[i].vrf, path + "/vrf", "VRF");
  }
}

// TS-35: duplicates in a list of sets are warned of.
void check_sets(Check& check, const std::vector<std::string>& sets, const std::string& path) {
  for (std::size_t j = 1; j < sets.size(); ++j)
    if (std::find(sets.begin(), sets.begin() + static_cast<std::ptrdiff_t>(j), sets[j]) !=
        sets.begin() + static_cast<std::ptrdiff_t>(j))
      check.report.warning(at("{}/{}", path, j), "is in the list already");
}

void check_all_sets(Check& check) {
  const Document& d = check.document;
  for (std::size_t i = 0; i < d.profiles.size(); ++i)
    check_sets(check, d.profiles[i].transform_sets, at("/ipsec/profiles/{}/transform_sets", i));
  for (std::size_t i = 0; i < d.crypto_maps.size(); ++i)
    for (std::size_t j = 0; j < d.crypto_maps[i].entries.size(); ++j)
      check_sets(check, d.crypto_maps[i].entries[j].transform_sets,
                 at("/crypto_maps/{}/entries/{}/transform_sets", i, j));
}

// A rekey holds the old and the new pair at once.
std::size_t sas_of(const Document& document, const MapEntry& entry) {
  const Acl* const acl = find_named(document.acls, entry.acl);
  if (entry.dynamic || acl == nullptr) return 0;
  if (!entry.negotiated) return 2;
  return 4 * std::max<std::size_t>(1, entry.per_host_limit) *
         static_cast<std::size_t>(std::ranges::count(acl->rules, Action::permit, &Ace::action));
}

void check_dataplane(Check& check) {
  const Dataplane& d = check.document.dataplane;
  if (!std::has_single_bit(d.ring_entries))
    check.report.error("/dataplane/ring_entries", fmt::format("{} is not a power of two", d.ring_entries),
                       fmt::format("{} or {}", std::bit_floor(d.ring_entries), std::bit_ceil(d.ring_entries)));
  if (d.umem_frames < 2 * d.ring_entries)
    check.report.error("/dataplane/umem_frames",
                       fmt::format("{} packet buffers do not fill rings of {} entries", d.umem_frames, d.ring_entries),
                       fmt::format("{} or more", 2 * d.ring_entries));
  std::size_t sas = 0;
  for (const Tunnel& tunnel : check.document.tunnels) sas += tunnel.negotiated ? 4 : 2;
  for (const Interface& interface : check.document.interfaces)
    for (const auto& name : {interface.crypto_map, interface.ipv6_crypto_map})
      if (const CryptoMap* const map = name ? find_named(check.document.crypto_maps, *name) : nullptr)
        for (const MapEntry& entry : map->entries)
          if (first_of_map(check.document, *map, interface)) sas += sas_of(check.document, entry);
  if (sas > d.sa_capacity)
    check.report.error("/dataplane/sa_capacity", fmt::format("the document makes {} SAs", sas),
                       fmt::format("{} or more", sas));
  const bool any_inside = std::ranges::any_of(check.document.interfaces, &Interface::inside);
  if (d.plain_side == PlainSide::af_xdp && !any_inside)
    check.report.warning("/dataplane/plain_side", "af_xdp has no effect: no interface is marked inside");
}

}  // namespace

void check_meaning(const Document& document, const nlohmann::json& source, Report& report) {
  Check check{document, source, report};
  check_names(check);
  check_sequences(check);
  check_references(check);
  check_all_sets(check);
  check_dataplane(check);
  check_manual(check);
  check_addresses(check);
  check_dynamic(check);
  check_spis(check);
  check_pki(check);
  check_ikev2(check);
  check_negotiated(check);
}

}  // namespace postern::config
