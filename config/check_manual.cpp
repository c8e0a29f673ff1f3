// Crypto map entries and tunnels: lists and modes of both types, and what manual keying demands: one permit rule, one
// set whose IV may begin anew, keys of the algorithms' lengths.
#include "config/check.hpp"
#include "crypto/ah_transforms.hpp"
#include "crypto/transforms.hpp"

namespace postern::config {
namespace {

// " (file /etc/postern/k1)" when the key came from one.
std::string file_of(const Check& check, const std::string& path) {
  const auto& value = check.source.at(nlohmann::json::json_pointer(path));
  return value.is_object() ? " (file " + value["file"].get<std::string>() + ")" : "";
}

bool given(const Check& check, const std::string& path) {
  return check.source.contains(nlohmann::json::json_pointer(path));
}

// Keys of files that were not read are empty and nothing can be said of them.
void check_key(Check& check, const Secret& key, std::size_t wanted, const std::string& path, const TransformSet& set) {
  if (key.empty() || key.size() == wanted || check.report.failed_at(path)) return;
  std::string transforms;
  for (const std::string& name : set.transforms) transforms += " " + name;
  check.report.error(
      path, fmt::format("the key has {} bytes{}", key.size(), file_of(check, path)),
      fmt::format("{} bytes, {} hex digits, for transform set {} ({} )", wanted, 2 * wanted, set.name, transforms));
}

// A key is there exactly when the set has the algorithm, "a cipher" or "an authenticator", whose key has `wanted`
// bytes.
void check_part(Check& check, const Secret& key, std::size_t wanted, const std::string& path, const TransformSet& set,
                const char* algorithm) {
  const bool is_given = given(check, path);
  if (wanted != 0 && !is_given)
    check.report.error(path, fmt::format("is missing: transform set {} has {}", set.name, algorithm),
                       fmt::format("{} hex digits", 2 * wanted));
  if (wanted == 0 && is_given)
    check.report.error(path, fmt::format("transform set {} does not have {} with a key", set.name, algorithm),
                       "leave the key out");
  if (wanted != 0 && is_given) check_key(check, key, wanted, path, set);
}

void check_direction(Check& check, const ManualSa& sa, const std::string& path, const TransformSet& set) {
  const crypto::TransformSizes sizes = crypto::sizes_of(set.transform).value_or(crypto::TransformSizes{});  // checked
  check_part(check, sa.cipher_key, sizes.key_bytes, path + "/cipher", set, "a cipher");
  check_part(check, sa.integrity_key, sizes.integrity_key_bytes, path + "/authenticator", set, "an authenticator");
}

// Both directions have the SAs of the set's protocols, and no others (MAN-06, MAN-09).
bool protocol_given(Check& check, const std::string& path, bool wanted, const char* protocol, const TransformSet& set) {
  if (wanted && !given(check, path))
    check.report.error(path, fmt::format("is missing: transform set {} has {}", set.name, protocol),
                       "SPI and key of both directions");
  if (!wanted && given(check, path))
    check.report.error(path, fmt::format("transform set {} has no {}", set.name, protocol), "leave it out");
  return wanted && given(check, path);
}

void check_protocols(Check& check, const ManualSa& esp, const ManualSa& ah, const std::string& path,
                     const TransformSet& set) {
  if (protocol_given(check, path + "/esp", set.has_esp(), "ESP", set)) check_direction(check, esp, path + "/esp", set);
  if (protocol_given(check, path + "/ah", set.has_ah(), "AH", set))
    check_key(check, ah.integrity_key,
              crypto::ah_sizes_of(set.ah).value_or(crypto::TransformSizes{}).integrity_key_bytes, path + "/ah/key",
              set);
}

bool broken(const Check& check, const std::string& set_name) {
  const auto index = index_of(check.document.transform_sets, set_name);
  if (!index) return true;
  const std::string path = at("/ipsec/transform_sets/{}/transforms", *index);
  for (std::size_t i = 0; i < 4; ++i)
    if (check.report.failed_at(at("{}/{}", path, i))) return true;
  return check.report.failed_at(path);
}

// `where` is the place that names the set, `keys_path` that of the session_key.
void check_keys(Check& check, const std::string& set_name, const ManualKeys& keys, const std::string& where,
                const std::string& keys_path) {
  if (broken(check, set_name)) return;
  const TransformSet& set = *find_named(check.document.transform_sets, set_name);
  if (crypto::iv_must_not_repeat(set.transform.cipher))
    return check.report.error(where,
                              fmt::format("transform set {} ({}) counts its nonces: with manual keys every start would "
                                          "begin at the same one, and nonce reuse breaks the cipher",
                                          set.name, crypto::text(set.transform)),
                              "esp-aes with an authenticator, or keys by IKE");
  check_protocols(check, keys.inbound, keys.ah_inbound, keys_path + "/inbound", set);
  check_protocols(check, keys.outbound, keys.ah_outbound, keys_path + "/outbound", set);
  for (const char* const direction : {"/inbound/comp", "/outbound/comp"})
    if (!set.compression && given(check, keys_path + direction))
      check.report.error(keys_path + direction, fmt::format("transform set {} has no compression", set.name),
                         "leave it out, or comp-deflate in the set");
  const std::string udp = keys_path.substr(0, keys_path.find("/session_key")) + "/udp_encapsulation";
  if (set.has_ah() && given(check, udp))
    check.report.error(udp, "AH authenticates the addresses that NAT changes, and is not encapsulated in UDP",
                       "ESP alone, or leave it out");
}

}  // namespace

// What IKEv2 cannot say: RFC 7296 §3.3 has one protocol in a proposal, and §2.22 compression of an SA, whatever is
// chosen.
void check_negotiated_sets(Check& check, const std::vector<std::string>& sets, const std::string& path) {
  std::size_t compressing = 0, known = 0;
  for (const std::string& name : sets) {
    const TransformSet* const set = find_named(check.document.transform_sets, name);
    if (set == nullptr) continue;
    ++known;
    compressing += set->compression ? 1 : 0;
    if (set->has_ah() && set->has_esp())
      check.report.error(
          path, fmt::format("set {} has AH and ESP: a proposal of IKEv2 is of one protocol (RFC 7296)", set->name),
          "a set of ESP alone or of AH alone, or manual keys");
  }
  if (compressing != 0 && compressing != known)
    check.report.error(path, "sets with and without compression: IKEv2 negotiates it for all of them",
                       "comp-deflate in every set, or in none");
}

void check_bound_list(Check& check, const CryptoMap& map, std::size_t index, const std::string& path) {
  const Acl& acl = check.document.acls[index];
  if (acl.family != map.family)
    check.report.error(
        path + "/match_address",
        fmt::format("access list {} is {}, the crypto map is {}", acl.name, acl.family == Family::v4 ? "IPv4" : "IPv6",
                    map.family == Family::v4 ? "IPv4" : "IPv6"),
        "a list of the map's family");
  for (std::size_t i = 0; i < acl.rules.size(); ++i) {
    const Ace& rule = acl.rules[i];
    const std::string rule_path = at("/acls/{}/rules/{}", index, i);
    const std::string why = fmt::format("a discontiguous wildcard mask in a list that crypto map {} binds", map.name);
    if (rule.source_wildcard)
      check.report.error(rule_path + "/source", why, "a mask of zeros and then ones, or several rules");
    if (rule.destination_wildcard)
      check.report.error(rule_path + "/destination", why, "a mask of zeros and then ones, or several rules");
    if (rule.action == Action::permit && rule.source.length == 0 && rule.destination.length == 0 &&
        !check.report.failed_at(rule_path + "/source") && !check.report.failed_at(rule_path + "/destination"))
      check.report.warning(
          rule_path,
          fmt::format("permits any to any in crypto map {}: clear packets that arrive there are dropped", map.name));
  }
}

void check_list(Check& check, const CryptoMap& map, const MapEntry& entry, const std::string& path) {
  const auto index = index_of(check.document.acls, entry.acl);
  if (!index) return;
  const Acl& acl = check.document.acls[*index];
  const auto permits = std::ranges::count(acl.rules, Action::permit, &Ace::action);
  if (permits == 0 && entry.negotiated)
    check.report.error(
        path + "/match_address",
        fmt::format("access list {} (/acls/{}) permits nothing, so there is nothing to protect", acl.name, *index),
        "a list with a permit rule");
  if (permits != 1 && !entry.negotiated)
    check.report.error(path + "/match_address",
                       fmt::format("access list {} (/acls/{}) has {} permit rules; a manual entry protects one flow",
                                   acl.name, *index, permits),
                       "a list with exactly one permit rule");
  check_bound_list(check, map, *index, path);
}

namespace {

bool mixes_modes(const Check& check, const MapEntry& entry) {
  return std::ranges::any_of(entry.transform_sets, [&](const std::string& name) {
    const TransformSet* const set = find_named(check.document.transform_sets, name);
    return set != nullptr && !set->transport_mode;
  });
}

// transport mode holds for traffic between the peers alone; for the rest it is taken as tunnel.
void check_mode(Check& check, const MapEntry& entry, const std::string& path) {
  const Acl* const acl = find_named(check.document.acls, entry.acl);
  const auto transport = std::ranges::find_if(entry.transform_sets, [&](const std::string& name) {
    const TransformSet* const set = find_named(check.document.transform_sets, name);
    return set != nullptr && set->transport_mode;
  });
  if (transport == entry.transform_sets.end() || acl == nullptr) return;
  const bool alone = given(check, path + "/transform_set");
  const std::string where =
      alone ? path + "/transform_set"
            : at("{}/transform_sets/{}", path, std::distance(entry.transform_sets.begin(), transport));
  const bool required = find_named(check.document.transform_sets, *transport)->mode_required;
  for (const Ace& rule : acl->rules) {
    if (rule.action != Action::permit) continue;
    const bool one_host = rule.destination == Prefix::host(rule.destination.address);
    const bool maybe = one_host && std::ranges::any_of(entry.peers, &Peer::is_name);
    const bool to_peer = maybe || std::ranges::any_of(entry.peers, [&](const Peer& p) {
                           return !p.is_name() && rule.destination == Prefix::host(p.address);
                         });
    if (to_peer && mixes_modes(check, entry))
      check.report.error(where, "sets of both modes in one entry: IKE negotiates one mode for all of them",
                         "sets of one mode");
    else if (maybe && required)
      check.report.error(where,
                         fmt::format("set {} requires transport mode, and a peer by name may be elsewhere", *transport),
                         "mode transport, or peers by address");
    else if (!to_peer && required)
      check.report.error(
          where, fmt::format("set {} requires transport mode: the traffic does not end at the peer", *transport),
          "mode transport, or a list from this host to the peer");
    else if (!to_peer)
      check.report.warning(
          where,
          fmt::format("mode transport of set {} is taken as tunnel: the traffic does not end at the peer", *transport));
  }
}

void check_peer(Check& check, const CryptoMap& map, const MapEntry& entry, const Peer& of, const std::string& path) {
  if (check.report.failed_at(path)) return;
  if (of.is_name() && !entry.negotiated)
    return check.report.error(path, "a host name: manual keys are of an address",
                              "the peer's address, or type ipsec-isakmp");
  if (of.is_name()) return;
  const IpAddress& peer = of.address;
  if (peer.is_unspecified() || peer.is_multicast())
    check.report.error(path, peer.text() + " is not a host's address", "the peer's unicast address");
  else if (peer.family() != map.family)
    check.report.error(path, fmt::format("{} is not of the crypto map's family", peer.text()),
                       map.family == Family::v4 ? "an IPv4 address" : "an IPv6 address");
}

void check_peers(Check& check, const CryptoMap& map, const MapEntry& entry, const std::string& path) {
  const bool listed = given(check, path + "/peers");
  for (std::size_t k = 0; k < entry.peers.size(); ++k) {
    const std::string here = listed ? at("{}/peers/{}", path, k) : path + "/peer";
    check_peer(check, map, entry, entry.peers[k], here);
    const auto before = entry.peers.begin() + static_cast<std::ptrdiff_t>(k);
    const auto same = [&](const Peer& one) { return one.text() == entry.peers[k].text(); };
    if (!check.report.failed_at(here) && std::find_if(entry.peers.begin(), before, same) != before)
      check.report.error(here, fmt::format("{} is in the list already", entry.peers[k].text()), "each peer once");
  }
  if (entry.default_peer && entry.peers.size() < 2)
    check.report.warning(path + "/default_peer", "has no effect: there is no other peer to come back from");
}

// CM-02. True: there is nothing more to say about it.
bool warn_of_incomplete(Check& check, const MapEntry& entry, const std::string& path) {
  if (!entry.negotiated || !entry.incomplete()) return false;
  std::string missing;
  const auto add = [&](bool is_missing, const char* what) {
    if (is_missing) missing += (missing.empty() ? "" : ", ") + std::string(what);
  };
  add(entry.acl.empty(), "match_address");
  add(entry.peers.empty(), "peer");
  add(entry.transform_sets.empty(), "transform_sets");
  check.report.warning(path, "the entry is incomplete and not used: it lacks " + missing, missing);
  return true;
}

// CM-09: a pair of hosts has the ports of its rule, and no fragments apart.
void check_per_host(Check& check, const MapEntry& entry, const std::string& path) {
  if (entry.per_host_limit != 0 && entry.initiate == Initiate::always)
    check.report.error(path + "/initiate", "SAs of pairs of hosts come with their first packet", "on_traffic");
  if (entry.per_host_only && entry.per_host_limit == 0)
    check.report.error(path + "/per_host_only", "the entry makes no SAs of pairs of hosts", "per_host_limit beside it");
}

void check_map(Check& check, std::size_t i) {
  const CryptoMap& map = check.document.crypto_maps[i];
  std::size_t rules = 0;
  for (std::size_t j = 0; j < map.entries.size(); ++j) {
    const MapEntry& entry = map.entries[j];
    const std::string path = at("/crypto_maps/{}/entries/{}", i, j);
    if (entry.dynamic) continue;
    check_peers(check, map, entry, path);
    if (warn_of_incomplete(check, entry, path)) continue;
    check_per_host(check, entry, path);
    check_list(check, map, entry, path);
    check_mode(check, entry, path);
    if (entry.negotiated)
      check_negotiated_sets(check, entry.transform_sets,
                            path + (entry.profile                           ? "/profile"
                                    : given(check, path + "/transform_set") ? "/transform_set"
                                                                            : "/transform_sets"));
    if (!entry.negotiated && entry.transform_sets.size() == 1 && given(check, path + "/session_key"))
      check_keys(check, entry.transform_sets.front(), entry.keys, path + "/transform_set", path + "/session_key");
    if (const Acl* const acl = find_named(check.document.acls, entry.acl)) rules += acl->rules.size();
  }
  if (rules > max_map_rules)
    check.report.error(at("/crypto_maps/{}/entries", i), fmt::format("the lists of all entries have {} rules", rules),
                       fmt::format("{} rules in one map", max_map_rules));
  const bool bound = std::ranges::any_of(check.document.interfaces, [&](const Interface& interface) {
    return interface.crypto_map == map.name || interface.ipv6_crypto_map == map.name;
  });
  if (!bound)
    check.report.warning(at("/crypto_maps/{}", i), fmt::format("crypto map {} is applied to no interface", map.name));
}

void check_manual_tunnel(Check& check, std::size_t i) {
  const Tunnel& tunnel = check.document.tunnels[i];
  const IpsecProfile* const profile = find_named(check.document.profiles, tunnel.profile);
  if (profile == nullptr) return;
  const std::string path = at("/tunnels/{}/protection", i);
  if (!tunnel.negotiated && profile->transform_sets.size() != 1)
    return check.report.error(path + "/profile",
                              fmt::format("profile {} has {} transform sets; manual keys belong to one", profile->name,
                                          profile->transform_sets.size()),
                              "a profile with exactly one transform set");
  for (const std::string& name : profile->transform_sets)
    if (const TransformSet* const set = find_named(check.document.transform_sets, name); set && set->transport_mode)
      return check.report.error(path + "/profile",
                                fmt::format("transform set {} of profile {} is of transport mode", name, profile->name),
                                "a tunnel's transform set must be of tunnel mode");
  if (tunnel.negotiated) return check_negotiated_sets(check, profile->transform_sets, path + "/profile");
  check_keys(check, profile->transform_sets.front(), tunnel.keys, path + "/profile", path + "/session_key");
}

}  // namespace

void check_manual(Check& check) {
  for (std::size_t i = 0; i < check.document.crypto_maps.size(); ++i) check_map(check, i);
  for (std::size_t i = 0; i < check.document.tunnels.size(); ++i) check_manual_tunnel(check, i);
}

}  // namespace postern::config
