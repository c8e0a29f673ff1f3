// IKEv2 proposals, policies, keyrings and profiles; and that every negotiated entry and tunnel finds what it needs.
#include "base/http_url.hpp"
#include "config/check.hpp"
#include "config/ikev2_lookup.hpp"
#include "crypto/transforms.hpp"

namespace postern::config {
namespace {

template <class T>
void names_once(Check& check, const std::vector<T>& all, const char* section, std::string_view what) {
  refuse_twice<T>(
      check.report, all, &T::name, [section](std::size_t i) { return at("/ikev2/{}/{}/name", section, i); }, what);
}

// IKE-28: a part that is not there, or of which nothing could be read (and then that is what was reported).
void check_proposal(Check& check, std::size_t i) {
  const std::string path = at("/ikev2/proposals/{}", i);
  const auto source = check.source.find("ikev2");
  if (source == check.source.end() || !source->contains("proposals") || i >= (*source)["proposals"].size()) return;
  const Ikev2Proposal& proposal = check.document.ikev2.proposals[i];
  if (proposal.name == legacy_proposal_name)
    return check.report.error(path + "/name", std::string(legacy_proposal_name) + " is the name of a built-in set",
                              "another name");
  for (const char* const part : {"encryption", "integrity", "group"})
    for (std::size_t j = 0; j < 16; ++j)
      if (check.report.failed_at(at("{}/{}/{}", path, part, j))) return;
  if (const std::string missing = missing_in(proposal); !missing.empty())
    return check.report.error(
        path, fmt::format("proposal {} is incomplete, it could never be offered: it lacks {}", proposal.name, missing),
        "encryption, integrity (unless every cipher is an AEAD) and group");
  const bool aead_alone =
      std::ranges::all_of(proposal.encryption, [](const auto& e) { return crypto::is_aead(e.cipher); });
  if (aead_alone && !proposal.integrity.empty())
    check.report.warning(path + "/integrity", "every cipher is an AEAD, which authenticates by itself: not offered",
                         "prf, to choose the PRF");
}

// IKE-32: what no policy names is not used.
void check_attached(Check& check) {
  const Ikev2& ikev2 = check.document.ikev2;
  for (std::size_t i = 0; i < ikev2.proposals.size(); ++i) {
    const std::string& name = ikev2.proposals[i].name;
    const bool attached = std::ranges::any_of(ikev2.policies, [&](const Ikev2Policy& policy) {
      return std::ranges::find(policy.proposals, name) != policy.proposals.end();
    });
    if (!attached && name != "default")
      check.report.warning(at("/ikev2/proposals/{}", i),
                           fmt::format("proposal {} is in no policy and will not be used", name),
                           "its name in the proposals of a policy");
  }
}

void check_scope(Check& check, const Ikev2Scope& scope, const std::string& path) {
  if (scope.fvrf && scope.fvrf != "any" && find_named(check.document.vrfs, *scope.fvrf) == nullptr)
    check.report.error(path + "/fvrf", fmt::format("VRF {} does not exist", quoted(path, *scope.fvrf)),
                       names_of(check.document.vrfs) + ", or any");
}

void check_policy(Check& check, std::size_t i) {
  const Ikev2Policy& policy = check.document.ikev2.policies[i];
  const std::string path = at("/ikev2/policies/{}", i);
  check_scope(check, policy.match, path + "/match");
  for (std::size_t j = 0; j < policy.proposals.size(); ++j) {
    const std::string here = at("{}/proposals/{}", path, j);
    if (policy.proposals[j] == legacy_proposal_name)
      check.report.warning(here,
                           "the guide's older default (aes-cbc-128 and 3des, sha1 and md5, groups 5 and 2) is weak and "
                           "deprecated",
                           "default, or a proposal of the document");
    else if (find_named(check.document.ikev2.proposals, policy.proposals[j]) == nullptr)
      check.report.error(here, fmt::format("IKEv2 proposal {} does not exist", quoted(here, policy.proposals[j])),
                         names_of(check.document.ikev2.proposals));
    const auto before = policy.proposals.begin() + static_cast<std::ptrdiff_t>(j);
    if (std::find(policy.proposals.begin(), before, policy.proposals[j]) != before)
      check.report.warning(here, "is in the list already");
  }
}

void check_strength(Check& check, const Secret& key, const std::string& path) {
  constexpr std::size_t least = 8;
  if (!key.empty() && key.size() < least && !check.report.failed_at(path))
    check.report.warning(path,
                         fmt::format("the key has {} bytes and can be guessed (RFC 7296 section 2.15)", key.size()),
                         "16 bytes or more, unpredictable");
}

void check_keyring(Check& check, std::size_t i) {
  const Keyring& keyring = check.document.ikev2.keyrings[i];
  refuse_twice<KeyringPeer>(
      check.report, keyring.peers, &KeyringPeer::name,
      [i](std::size_t j) { return at("/ikev2/keyrings/{}/peers/{}/name", i, j); }, "peer");
  for (std::size_t j = 0; j < keyring.peers.size(); ++j) {
    const KeyringPeer& peer = keyring.peers[j];
    const std::string path = at("/ikev2/keyrings/{}/peers/{}", i, j);
    if (!peer.address && !peer.identity)
      check.report.error(path,
                         fmt::format("peer {} has neither address nor identity: its key is found by nobody", peer.name),
                         "address or identity");
    check_strength(check, peer.local_key, path + "/pre_shared_key");
  }
}

// IKE-40. What a side that signs needs: a trustpoint with a key of that kind of use, and CAs to verify against.
void check_trustpoints_of(Check& check, const Ikev2Profile& profile, const std::string& path) {
  const Pki& pki = check.document.pki;
  const auto known = [&](const std::string& name) {
    const PkiTrustpoint* const found = find_trustpoint(pki, name);
    if (found == nullptr)
      check.report.error(path + "/pki_trustpoints", fmt::format("trustpoint {} does not exist", name),
                         names_of(pki.trustpoints));
    return found;
  };
  const PkiTrustpoint* const own = profile.sign_trustpoint ? known(*profile.sign_trustpoint) : nullptr;
  bool any_authority = false;
  for (const std::string& name : profile.verify_trustpoints)
    if (const auto* const one = name == profile.sign_trustpoint ? own : known(name))
      any_authority = any_authority || !one->ca_certificates.empty();
  if (is_signature(profile.local_method) && !profile.sign_trustpoint)
    check.report.error(path + "/authentication/local", "signs, and the profile names no trustpoint", "pki_trustpoints");
  std::vector<const PkiTrustpoint*> signing{own};
  for (const std::string& name : profile.other_sign_trustpoints) signing.push_back(known(name));
  for (const PkiTrustpoint* const one : signing)
    if (is_signature(profile.local_method) && one != nullptr && !one->certificate)
      check.report.error(path + "/pki_trustpoints",
                         fmt::format("trustpoint {} has no certificate to sign with", one->name),
                         "certificate and key in the trustpoint");
  if (is_signature(profile.remote_method) && !any_authority)
    check.report.error(path + "/authentication/remote", "is to be verified, and no trustpoint of the profile has a CA",
                       "ca_certificates in a trustpoint of pki_trustpoints");
  if (profile.allow_sha1)
    check.report.warning(path + "/sha1_signatures", "SHA-1 signatures are weak and deprecated", "a peer with RFC 7427");
  if (!profile.match_certificate.empty() && !is_signature(profile.remote_method))
    check.report.error(path + "/match/certificate", "needs a peer that authenticates by certificate",
                       "authentication.remote.method rsa-sig, ecdsa-sig or signature");
  for (const std::string& name : profile.match_certificate)
    if (find_named(pki.maps, name) == nullptr)
      check.report.error(path + "/match/certificate", fmt::format("certificate map {} does not exist", name),
                         names_of(pki.maps));
  if (profile.match_remote.empty() && profile.match_certificate.empty())
    check.report.error(path + "/match", "matches nobody", "identity_remote or certificate");
  if (profile.local_identity && profile.local_identity->kind == IdentityKind::dn && !is_signature(profile.local_method))
    check.report.error(path + "/identity_local", "dn is the subject of a certificate, and none is used",
                       "address, fqdn, email or key_id");
}

// The side has its key in the profile, or there is a keyring to look in.
void check_key_source(Check& check, const Ikev2Profile& profile, const char* side, const std::string& path) {
  const bool local = std::string_view(side) == "local";
  if ((local ? profile.local_method : profile.remote_method) != AuthMethodWord::pre_share) return;
  const std::string here = path + "/authentication/" + side;
  const bool inline_key = check.source.contains(nlohmann::json::json_pointer(here + "/key"));
  if (!inline_key && !profile.keyring)
    check.report.error(here, "has no key, and the profile names no keyring", "key here, or keyring in the profile");
}

// RFC 5685: who is sent to this node comes back for ever.
void check_redirect(Check& check, const Ikev2Profile& profile, const std::string& path) {
  if (!profile.redirect.gateway) return;
  const auto to = IpAddress::parse(profile.redirect.gateway->to);
  for (const Interface& interface : check.document.interfaces)
    for (const Prefix& own : interface.addresses)
      if (to && own.address == *to)
        check.report.error(path + "/redirect/gateway/to",
                           fmt::format("{} is an address of this node, at {}", to->text(), interface.name),
                           "another gateway");
}

void check_profile(Check& check, std::size_t i) {
  const Ikev2Profile& profile = check.document.ikev2.profiles[i];
  const std::string path = at("/ikev2/profiles/{}", i);
  check_scope(check, profile.match, path + "/match");
  if (profile.keyring && find_named(check.document.ikev2.keyrings, *profile.keyring) == nullptr)
    check.report.error(path + "/keyring", fmt::format("keyring {} does not exist", quoted(path, *profile.keyring)),
                       names_of(check.document.ikev2.keyrings));
  check_trustpoints_of(check, profile, path);
  check_redirect(check, profile, path);
  check_key_source(check, profile, "local", path);
  check_key_source(check, profile, "remote", path);
  check_strength(check, profile.local_key, path + "/authentication/local/key");
  check_strength(check, profile.remote_key, path + "/authentication/remote/key");
}

// IKE-37: of two that accept the same, the first is taken.
void check_ambiguous(Check& check) {
  const auto& profiles = check.document.ikev2.profiles;
  for (std::size_t i = 1; i < profiles.size(); ++i)
    for (std::size_t j = 0; j < i; ++j) {
      const bool shared = std::ranges::any_of(profiles[i].match_remote, [&](const IdentityRule& rule) {
        return std::ranges::find(profiles[j].match_remote, rule) != profiles[j].match_remote.end();
      });
      if (!shared || !(profiles[i].match == profiles[j].match)) continue;
      check.report.warning(at("/ikev2/profiles/{}/match", i),
                           fmt::format("matches the same peers as profile {}, which is taken where no profile is named",
                                       profiles[j].name));
      break;
    }
}

// --- entries and tunnels

struct User {
  std::string name, path, profile_path;  // for messages: "M1 10", "/crypto_maps/0/entries/0", where it names a profile
};

// The peer's block has a PPK and no key. (A key whose file cannot be read is empty too.)
bool has_ppk_alone(const Check& check, const Ikev2Profile& profile, const IpAddress& remote) {
  const auto& keyrings = check.document.ikev2.keyrings;
  const auto i = index_of(keyrings, *profile.keyring);
  const KeyringPeer* const peer = i ? peer_for(keyrings[*i], profile, remote) : nullptr;
  if (peer == nullptr) return false;
  const std::string path = at("/ikev2/keyrings/{}/peers/{}/pre_shared_key", *i, peer - keyrings[*i].peers.data());
  return !check.source.contains(nlohmann::json::json_pointer(path));
}

// A profile, with a key for this peer; reported where it is missing. nullptr: there is none.
const Ikev2Profile* check_user(Check& check, const User& user, const Ikev2Profile* profile, const Ikev2Ends& ends) {
  if (!check.document.ikev2.enabled) {
    check.report.warning(user.path, user.name + " is inert: ikev2.enabled is false", "manual keys, or ikev2.enabled");
    return nullptr;
  }
  if (check.report.failed_at(user.profile_path)) return nullptr;
  if (profile == nullptr) {
    check.report.error(user.profile_path,
                       fmt::format("no IKEv2 profile matches peer {}, and none is named", ends.remote_text()),
                       names_of(check.document.ikev2.profiles));
    return nullptr;
  }
  if (!ends.remote_name.empty()) return profile;  // by which key is known once its address is
  const KeyPair keys = keys_for(check.document.ikev2, *profile, ends.remote);
  const bool keyring_known =
      !profile->keyring || find_named(check.document.ikev2.keyrings, *profile->keyring) != nullptr;
  const bool needs_local = profile->local_method == AuthMethodWord::pre_share,
             needs_remote = profile->remote_method == AuthMethodWord::pre_share;
  const auto lacks = [&](const Secret* key) {
    return key == nullptr || (key->empty() && has_ppk_alone(check, *profile, ends.remote));
  };
  if (keyring_known && profile->keyring && ((needs_local && lacks(keys.local)) || (needs_remote && lacks(keys.remote))))
    check.report.error(user.profile_path,
                       fmt::format("keyring {} of IKEv2 profile {} has no key for peer {}", *profile->keyring,
                                   profile->name, ends.remote.text()),
                       "a peer block with this address, a network around it, or an identity of the profile");
  return profile;
}

std::optional<IpAddress> own_address(const std::vector<Prefix>& addresses, Family family) {
  for (const Prefix& prefix : addresses)
    if (prefix.family() == family) return prefix.address;
  return std::nullopt;
}

void check_entries(Check& check, std::size_t i) {
  const CryptoMap& map = check.document.crypto_maps[i];
  for (std::size_t j = 0; j < map.entries.size(); ++j) {
    const MapEntry& entry = map.entries[j];
    const std::string path = at("/crypto_maps/{}/entries/{}", i, j);
    if (!entry.negotiated || entry.dynamic || entry.incomplete() || check.report.failed_at(path + "/peer")) continue;
    for (const Interface& interface : check.document.interfaces) {
      if (interface.crypto_map != map.name && interface.ipv6_crypto_map != map.name) continue;
      const User user{fmt::format("{} {}", map.name, entry.sequence), path,
                      path + (entry.profile ? "/profile" : "/ikev2_profile")};
      for (const Peer& peer : entry.peers) {
        const Interface& local = local_end_of(check.document, map, interface);
        const Ikev2Ends ends{own_address(local.addresses, map.family), peer.address, interface.vrf, peer.name};
        const auto* const profile =
            check_user(check, user, profile_for(check.document.ikev2, entry.ikev2_profile, ends), ends);
        const std::string owner = entry.profile ? path + "/profile" : path;
        check_suite_b_use(check,
                          {path, entry.transform_sets, entry.profile ? owner : path + "/transform_sets", entry.pfs,
                           entry.profile ? owner : path + "/pfs"},
                          profile, ends);
      }
    }
  }
}

Ikev2Ends ends_of(const Document& document, const Tunnel& tunnel) {
  if (const Interface* const source = find_named(document.interfaces, tunnel.source))
    return {own_address(source->addresses, tunnel.transport), tunnel.destination, source->vrf};
  const auto address = IpAddress::parse(tunnel.source);
  Ikev2Ends ends{address ? std::optional(*address) : std::nullopt, tunnel.destination, std::nullopt};
  for (const Interface& interface : document.interfaces)
    for (const Prefix& prefix : interface.addresses)
      if (ends.local == prefix.address) ends.fvrf = interface.vrf;
  return ends;
}

// Whoever lends a tunnel its address has to be asked, and for a family that the tunnel carries.
void check_asks(Check& check, const Tunnel& tunnel, const std::string& path) {
  if (tunnel.negotiated_addresses.empty()) return;
  if (!tunnel.negotiated)
    check.report.error(path + "/negotiated_addresses", "needs a peer to ask, and the keys are manual",
                       "a tunnel without session_key");
  for (std::size_t i = 0; i < tunnel.negotiated_addresses.size(); ++i) {
    const Family family = tunnel.negotiated_addresses[i].address.family();
    if (family == Family::v4 ? tunnel.carries_v4 : tunnel.carries_v6) continue;
    check.report.error(at("{}/negotiated_addresses/{}", path, i), "is of a family that the tunnel does not carry",
                       "networks of the inner family of its mode");
  }
}

// SV-25: what tells two tunnels between the same ends apart is who authenticates.
void check_tunnels(Check& check) {
  using Key = std::tuple<std::string, std::string, std::string, std::string>;
  std::map<Key, std::string> owners;
  for (std::size_t i = 0; i < check.document.tunnels.size(); ++i) {
    const Tunnel& tunnel = check.document.tunnels[i];
    const std::string path = at("/tunnels/{}", i);
    check_asks(check, tunnel, path);
    if (!tunnel.negotiated || check.report.failed_at(path + "/destination") ||
        check.report.failed_at(path + "/protection/profile"))
      continue;
    const Ikev2Ends ends = ends_of(check.document, tunnel);
    const User user{tunnel.device(), path, path + "/protection/ikev2_profile"};
    const Ikev2Profile* const profile = check_user(check, user, profile_for(check.document, tunnel, ends), ends);
    if (profile == nullptr) continue;
    const std::string protection = path + "/protection/profile";
    if (const IpsecProfile* const of = find_named(check.document.profiles, tunnel.profile))
      check_suite_b_use(check, {path, of->transform_sets, protection, of->pfs, protection}, profile, ends);
    const Key key{ends.local ? ends.local->text() : tunnel.source, ends.remote.text(), ends.fvrf.value_or(""),
                  profile->name};
    const auto [owner, fresh] = owners.emplace(key, tunnel.device());
    if (!fresh)
      check.report.error(path + "/protection",
                         fmt::format("{} has the source, destination and IKEv2 profile of {}: the peer could not tell "
                                     "which one is meant",
                                     tunnel.device(), owner->second),
                         "an IKEv2 profile of its own, with other identities");
  }
}

// RFC 7296 §3.6: where a peer that has not proved anything yet can make us ask.
void check_cert_lookup(Check& check) {
  const auto& prefixes = check.document.ikev2.options.cert_lookup;
  for (std::size_t i = 0; i < prefixes.size(); ++i) {
    const std::string path = at("/ikev2/http_cert_lookup/{}", i);
    if (!is_http_prefix(prefixes[i]))
      check.report.error(path, quoted(path, prefixes[i]) + " is nothing that URLs of certificates begin with",
                         "http://host[:port]/path/, in small letters up to the path, with / at its end");
    else if (prefixes[i] == "http://")
      check.report.warning(path, "whoever begins an IKE SA can have this node ask any web server that it reaches",
                           "the servers that hold the certificates of the peers, as http://pki.example.org/");
  }
}

}  // namespace

void check_ikev2(Check& check) {
  const Ikev2& ikev2 = check.document.ikev2;
  names_once(check, ikev2.proposals, "proposals", "IKEv2 proposal");
  names_once(check, ikev2.policies, "policies", "IKEv2 policy");
  names_once(check, ikev2.keyrings, "keyrings", "keyring");
  names_once(check, ikev2.profiles, "profiles", "IKEv2 profile");
  for (std::size_t i = 0; i < ikev2.proposals.size(); ++i) check_proposal(check, i);
  check_attached(check);
  for (std::size_t i = 0; i < ikev2.policies.size(); ++i) check_policy(check, i);
  for (std::size_t i = 0; i < ikev2.keyrings.size(); ++i) check_keyring(check, i);
  refuse_twice<PeerDescription>(
      check.report, ikev2.peer_descriptions, &PeerDescription::peer,
      [](std::size_t i) { return at("/ikev2/peer_descriptions/{}/peer", i); }, "description of peer");
  for (std::size_t i = 0; i < ikev2.profiles.size(); ++i) check_profile(check, i);
  check_eap(check);
  check_suite_b(check);
  check_cert_lookup(check);
  check_ambiguous(check);
  if (ikev2.nat_keepalive_s > 0 && ikev2.nat_keepalive_s < 5)
    check.report.error("/ikev2/nat_keepalive", fmt::format("{} is out of range", ikev2.nat_keepalive_s),
                       "5 to 3600, or 0 for none");
  if (ikev2.options.fragmentation_mtu > 0 && ikev2.options.fragmentation_mtu < 576)
    check.report.error("/ikev2/fragmentation_mtu", fmt::format("{} is out of range", ikev2.options.fragmentation_mtu),
                       "576 to 9000, or 0 for none");
}

void check_negotiated(Check& check) {
  for (std::size_t i = 0; i < check.document.crypto_maps.size(); ++i) check_entries(check, i);
  check_tunnels(check);
}

}  // namespace postern::config
