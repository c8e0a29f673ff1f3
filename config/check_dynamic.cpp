// Dynamic maps (DM-01 to DM-14): what their entries name, what they leave open, and where they stand in a crypto map.
#include <algorithm>

#include "config/check.hpp"
#include "config/ikev2_lookup.hpp"

namespace postern::config {
namespace {

template <class T>
void need_named(Check& check, const std::vector<T>& all, const std::string& name, const std::string& path,
                std::string_view what) {
  if (find_named(all, name) == nullptr)
    check.report.error(path, fmt::format("{} {} does not exist", what, quoted(path, name)), names_of(all));
}

// DM-04, DM-05, DM-08.
void check_template_list(Check& check, const DynamicMap& map, const DynamicEntry& entry, const std::string& path) {
  if (!entry.acl)
    return check.report.warning(path,
                                fmt::format("dynamic map {} {} has no access list: it takes every proposal of an "
                                            "authenticated peer, and packets that arrive in clear pass",
                                            map.name, entry.sequence),
                                "match_address");
  const Acl* const acl = find_named(check.document.acls, *entry.acl);
  if (acl == nullptr || std::ranges::count(acl->rules, Action::permit, &Ace::action) == 0)
    check.report.warning(path + "/match_address",
                         fmt::format("access list {} {}: no proposal is taken, and every packet is dropped",
                                     quoted(path, *entry.acl), acl == nullptr ? "does not exist" : "permits nothing"),
                         "a list with a permit rule");
}

void check_template(Check& check, std::size_t i, std::size_t j) {
  const DynamicMap& map = check.document.dynamic_maps[i];
  const DynamicEntry& entry = map.entries[j];
  const std::string path = at("/dynamic_maps/{}/entries/{}", i, j);
  for (std::size_t k = 0; k < entry.transform_sets.size(); ++k)
    need_named(check, check.document.transform_sets, entry.transform_sets[k], at("{}/transform_sets/{}", path, k),
               "transform set");
  check_negotiated_sets(check, entry.transform_sets, path + "/transform_sets");
  if (entry.ikev2_profile)
    need_named(check, check.document.ikev2.profiles, *entry.ikev2_profile, path + "/ikev2_profile", "IKEv2 profile");
  if (entry.ikev2_profile)
    check_suite_b_use(check, {path, entry.transform_sets, path + "/transform_sets", entry.pfs, path + "/pfs"},
                      find_named(check.document.ikev2.profiles, *entry.ikev2_profile), {});
  check_template_list(check, map, entry, path);
  for (std::size_t k = 0; k < entry.peers.size(); ++k)
    if (entry.peers[k].is_unspecified() || entry.peers[k].is_multicast())
      check.report.error(at("{}/peers/{}", path, k), entry.peers[k].text() + " is not a host's address",
                         "a peer's unicast address");
}

// What the templates must be to stand in this map.
void check_use(Check& check, const CryptoMap& map, const DynamicMap& dynamic, std::size_t index) {
  for (std::size_t j = 0; j < dynamic.entries.size(); ++j) {
    const DynamicEntry& entry = dynamic.entries[j];
    const std::string path = at("/dynamic_maps/{}/entries/{}", index, j);
    if (const auto acl = entry.acl ? index_of(check.document.acls, *entry.acl) : std::nullopt)
      check_bound_list(check, map, *acl, path);
    for (std::size_t k = 0; k < entry.peers.size(); ++k)
      if (entry.peers[k].family() != map.family && !check.report.failed_at(at("{}/peers/{}", path, k)))
        check.report.error(at("{}/peers/{}", path, k),
                           fmt::format("{} is not of the family of crypto map {}", entry.peers[k].text(), map.name),
                           map.family == Family::v4 ? "an IPv4 address" : "an IPv6 address");
    if (!entry.ikev2_profile && check.document.ikev2.profiles.empty())
      check.report.error(path, "there is no IKEv2 profile to authenticate peers by", "an IKEv2 profile");
  }
}

void check_references(Check& check, std::size_t i) {
  const CryptoMap& map = check.document.crypto_maps[i];
  for (std::size_t j = 0; j < map.entries.size(); ++j) {
    const MapEntry& entry = map.entries[j];
    if (!entry.dynamic) continue;
    const std::string path = at("/crypto_maps/{}/entries/{}", i, j);
    const auto dynamic = index_of(check.document.dynamic_maps, *entry.dynamic);
    need_named(check, check.document.dynamic_maps, *entry.dynamic, path + "/dynamic", "dynamic map");
    if (dynamic) check_use(check, map, check.document.dynamic_maps[*dynamic], *dynamic);
    const std::uint32_t last = std::ranges::max(map.entries, {}, &MapEntry::sequence).sequence;
    if (entry.sequence != last)
      check.report.warning(path + "/sequence",
                           fmt::format("the dynamic map {} is not the last entry: it may take what entry {} is for",
                                       *entry.dynamic, last),
                           "the highest sequence of the map");
  }
}

}  // namespace

void check_dynamic(Check& check) {
  for (std::size_t i = 0; i < check.document.dynamic_maps.size(); ++i) {
    const DynamicMap& map = check.document.dynamic_maps[i];
    refuse_twice<DynamicEntry>(
        check.report, map.entries, [](const DynamicEntry& e) { return std::to_string(e.sequence); },
        [i](std::size_t j) { return at("/dynamic_maps/{}/entries/{}/sequence", i, j); }, "sequence");
    for (std::size_t j = 0; j < map.entries.size(); ++j) check_template(check, i, j);
  }
  for (std::size_t i = 0; i < check.document.crypto_maps.size(); ++i) check_references(check, i);
}

}  // namespace postern::config
