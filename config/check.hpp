// The parts of check_meaning(). Indices are the document's, so that they name JSON paths.
#pragma once

#include <functional>
#include <map>
#include <string>

#include <nlohmann/json.hpp>

#include "config/gates.hpp"

namespace postern::config {

struct Check {
  const Document& document;
  const nlohmann::json& source;
  Report& report;
};

// MAN-01..14, TS-06, TS-08, SV-06: what manual keys need of lists, sets and keys.
void check_manual(Check& check);
// Interfaces, VRFs, tunnels: names, addresses, families.
void check_addresses(Check& check);
// DM-01 to DM-14: dynamic maps, and the entries that name one.
void check_dynamic(Check& check);
// SPIs that two SAs would share.
void check_spis(Check& check);
// PKI-01, PKI-24: trustpoints and certificate maps.
void check_pki(Check& check);
// IKE-01, IKE-23..43: proposals, policies, keyrings, profiles.
void check_ikev2(Check& check);
// RFC 7296 §2.16, RFC 5998: what a profile with EAP needs of its other side, and the users.
void check_eap(Check& check);
// What entries and tunnels need of them: a profile, a key (SV-25, SV-29).
void check_negotiated(Check& check);
// TS-43: profiles that are labelled suite B; and what one is used with: the policy for the ends, sets and PFS.
struct SuiteBUse {
  std::string path;  // of the entry or tunnel
  const std::vector<std::string>& sets;
  std::string sets_path;
  std::optional<crypto::DhGroup> pfs;
  std::string pfs_path;
};
void check_suite_b(Check& check);
void check_suite_b_use(Check& check, const SuiteBUse& use, const Ikev2Profile* profile, const struct Ikev2Ends& ends);
// What crypto map entries of both types need of their lists.
void check_list(Check& check, const CryptoMap& map, const MapEntry& entry, const std::string& path);
// A list that a map binds, of either kind: family, masks, any to any. `acl` is the document's list of that index.
void check_bound_list(Check& check, const CryptoMap& map, std::size_t acl, const std::string& path);
void check_negotiated_sets(Check& check, const std::vector<std::string>& sets, const std::string& path);

// Reports the second and later of equal keys, each at its own path.
template <class T>
void refuse_twice(Report& report, const std::vector<T>& all, const std::function<std::string(const T&)>& key_of,
                  const std::function<std::string(std::size_t)>& path_of, std::string_view what) {
  std::map<std::string, std::size_t> first;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto [seen, fresh] = first.emplace(key_of(all[i]), i);
    if (!fresh)
      report.error(path_of(i),
                   fmt::format("{} {} is given twice, first at {}", what, seen->first, path_of(seen->second)));
  }
}

// Index of the named object, for the path of what a reference leads to.
template <class T>
[[nodiscard]] std::optional<std::size_t> index_of(const std::vector<T>& all, std::string_view name) {
  for (std::size_t i = 0; i < all.size(); ++i)
    if (all[i].name == name) return i;
  return std::nullopt;
}

// "M1, M2" or "none is defined": what a missing reference could have been.
template <class T>
[[nodiscard]] std::string names_of(const std::vector<T>& all) {
  if (all.empty()) return "none is defined";
  std::string out;
  for (std::size_t i = 0; i < all.size() && i < 20; ++i) out += (i == 0 ? "" : ", ") + all[i].name;
  return all.size() > 20 ? out + ", ..." : out;
}

}  // namespace postern::config
