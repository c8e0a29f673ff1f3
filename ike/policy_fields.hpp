// The fields of a Policy and of everything in it, each struct listed once for both directions of policy_link. And which
// numbers are enumerators: by the table of transforms, or a switch without default, so that a new one is not forgotten.
#pragma once

#include <concepts>
#include <type_traits>

#include "crypto/transforms.hpp"
#include "ike/policy.hpp"

namespace postern::ike {

// `const T` when it is written, `T` when it is read.
template <class T, class... Any>
concept IsOneOf = (std::same_as<std::remove_const_t<T>, Any> || ...);
template <class T>
concept HasFields =
    IsOneOf<T, ChildPlace, Selector, crypto::Transform, EspProposal, EncryptionChoice, IkeProposal, Identity, Dpd,
            ProtocolOptions, ClientConfiguration, RedirectPolicy, ChildPolicy, EapPeerSide, EapServerSide, EapUser, Ppk,
            PeerKey, Connection, PolicyRow, ProfileRow, Policy>;

template <class Codec, IsOneOf<ChildPlace> T>
void fields(Codec& codec, T& place) {
  codec("flow", place.flow);
  codec("base_flow", place.base_flow);
  codec("deliver", place.deliver);
  codec("ifindex", place.ifindex);
  codec("inside_vrf", place.inside_vrf);
  codec("path_mtu", place.path_mtu);
  codec("replay_window", place.replay_window);
  codec("tfc_bytes", place.tfc_bytes);
  codec("dummy_interval_us", place.dummy_interval_us);
  codec("ttl", place.ttl);
  codec("df", place.df);
  codec("ecn", place.ecn);
  codec("fragmentation", place.fragmentation);
  codec("dscp_copy", place.dscp_copy);
  codec("dscp", place.dscp);
  codec("tcp_mss", place.tcp_mss);
  codec("path_mtu_aging_s", place.path_mtu_aging_s);
}

template <class Codec, IsOneOf<Selector> T>
void fields(Codec& codec, T& selector) {
  codec("protocol", selector.protocol);
  codec("first_port", selector.first_port);
  codec("last_port", selector.last_port);
  codec("first", selector.first);
  codec("last", selector.last);
}

template <class Codec, IsOneOf<crypto::Transform> T>
void fields(Codec& codec, T& transform) {
  codec("cipher", transform.cipher);
  codec("key_bits", transform.key_bits);
  codec("integrity", transform.integrity);
}

template <class Codec, IsOneOf<EspProposal> T>
void fields(Codec& codec, T& proposal) {
  codec("protocol", proposal.protocol);
  codec("extended_sequence", proposal.extended_sequence);
  if (proposal.protocol == ProtocolId::ah)
    codec("authenticator", proposal.transform.integrity);
  else
    codec("transform", proposal.transform);
}

template <class Codec, IsOneOf<EncryptionChoice> T>
void fields(Codec& codec, T& choice) {
  codec("cipher", choice.cipher);
  codec("key_bits", choice.key_bits);
}

template <class Codec, IsOneOf<IkeProposal> T>
void fields(Codec& codec, T& proposal) {
  codec("name", proposal.name);
  codec("encryption", proposal.encryption);
  codec("integrity", proposal.integrity);
  codec("prf", proposal.prf);
  codec("groups", proposal.groups);
}

template <class Codec, IsOneOf<Identity> T>
void fields(Codec& codec, T& identity) {
  codec("type", identity.type);
  codec("data", identity.data);
}

template <class Codec, IsOneOf<Dpd> T>
void fields(Codec& codec, T& dpd) {
  codec("mode", dpd.mode);
  codec("interval_s", dpd.interval_s);
  codec("retry_s", dpd.retry_s);
}

template <class Codec, IsOneOf<ClientConfiguration> T>
void fields(Codec& codec, T& configuration) {
  codec("pools", configuration.pools);
  codec("dns", configuration.dns);
  codec("subnets", configuration.subnets);
  codec("banner", configuration.banner);
  codec("required", configuration.required);
}

template <class Codec, IsOneOf<RedirectPolicy> T>
void fields(Codec& codec, T& redirect) {
  codec("follow", redirect.follow);
  codec("most", redirect.most);
  codec("period_s", redirect.period_s);
  codec("leave_s", redirect.leave_s);
  codec("when", redirect.when);
  codec("to", redirect.to);
  codec("above", redirect.above);
}

template <class Codec, IsOneOf<ProtocolOptions> T>
void fields(Codec& codec, T& options) {
  codec("fragment_mtu", options.fragment_mtu);
  codec("window", options.window);
  codec("max_selectors", options.max_selectors);
  codec("mobike", options.mobike);
  codec("crash_detection", options.crash_detection);
  codec("cert_lookup", options.cert_lookup);
}

template <class Codec, IsOneOf<ChildPolicy> T>
void fields(Codec& codec, T& child) {
  codec("name", child.name);
  codec("interface", child.interface);
  codec("map", child.map);
  codec("sequence", child.sequence);
  codec("initiate", child.initiate);
  codec("local", child.local);
  codec("remote", child.remote);
  codec("proposals", child.proposals);
  codec("pfs", child.pfs);
  codec("transport", child.transport);
  codec("compression", child.compression);
  codec("later_fragments", child.later_fragments);
  codec("transport_required", child.transport_required);
  codec("lifetime_s", child.lifetime_s);
  codec("lifetime_bytes", child.lifetime_bytes);
  codec("lifetime_packets", child.lifetime_packets);
  codec("idle_s", child.idle_s);
  codec("dynamic", child.dynamic);
  codec("peers", child.peers);
  codec("denied_local", child.denied_local);
  codec("denied_remote", child.denied_remote);
  codec("per_host", child.per_host);
  codec("per_host_only", child.per_host_only);
  codec("limit", child.limit);
  codec("base", child.base);
  codec("transport_between_ends", child.transport_between_ends);
  codec("rank", child.rank);
  codec("default_first", child.default_first);
  codec("ask", child.ask);
  codec("place", child.place);
}

template <class Codec, IsOneOf<Ppk> T>
void fields(Codec& codec, T& ppk) {
  codec("id", ppk.id);
  codec("key", ppk.key);
  codec("required", ppk.required);
}

template <class Codec, IsOneOf<EapPeerSide> T>
void fields(Codec& codec, T& side) {
  codec("methods", side.methods);
  codec("identity", side.identity);
  codec("password", side.password);
}

template <class Codec, IsOneOf<EapServerSide> T>
void fields(Codec& codec, T& side) {
  codec("methods", side.methods);
  codec("query_identity", side.query_identity);
}

template <class Codec, IsOneOf<EapUser> T>
void fields(Codec& codec, T& user) {
  codec("name", user.name);
  codec("password", user.password);
}

template <class Codec, IsOneOf<PeerKey> T>
void fields(Codec& codec, T& key) {
  codec("remote", key.remote);
  codec("identity", key.identity);
  codec("local_key", key.local_key);
  codec("remote_key", key.remote_key);
  codec("ppk", key.ppk);
}

template <class Codec, IsOneOf<Connection> T>
void fields(Codec& codec, T& connection) {
  codec("name", connection.name);
  codec("fvrf", connection.fvrf);
  codec("local", connection.local);
  codec("remote", connection.remote);
  codec("other_addresses", connection.other_addresses);
  codec("remote_name", connection.remote_name);
  codec("remote_dynamic", connection.remote_dynamic);
  codec("policy_name", connection.policy_name);
  codec("profile_name", connection.profile_name);
  codec("keyring_name", connection.keyring_name);
  codec("proposals", connection.proposals);
  codec("local_identity", connection.local_identity);
  codec("remote_identities", connection.remote_identities);
  codec("local_key", connection.local_key);
  codec("remote_key", connection.remote_key);
  codec("identity_keys", connection.identity_keys);
  codec("ppk", connection.ppk);
  codec("local_auth", connection.local_auth);
  codec("remote_auth", connection.remote_auth);
  codec("sign_trustpoint", connection.sign_trustpoint);
  codec("other_sign_trustpoints", connection.other_sign_trustpoints);
  codec("verify_trustpoints", connection.verify_trustpoints);
  codec("certificate_maps", connection.certificate_maps);
  codec("allow_sha1", connection.allow_sha1);
  codec("rsa_pkcs1", connection.rsa_pkcs1);
  codec("eap_peer", connection.eap_peer);
  codec("eap_server", connection.eap_server);
  codec("lifetime_s", connection.lifetime_s);
  codec("dpd", connection.dpd);
  codec("nat_keepalive_s", connection.nat_keepalive_s);
  codec("force_encapsulation", connection.force_encapsulation);
  codec("childless", connection.childless);
  codec("redirect", connection.redirect);
  codec("options", connection.options);
  codec("configuration", connection.configuration);
  codec("children", connection.children);
  codec("peer_keys", connection.peer_keys);
  codec("template_name", connection.template_name);
}

template <class Codec, IsOneOf<PolicyRow> T>
void fields(Codec& codec, T& row) {
  codec("name", row.name);
  codec("match_local", row.match_local);
  codec("match_fvrf", row.match_fvrf);
  codec("proposals", row.proposals);
}

template <class Codec, IsOneOf<ProfileRow> T>
void fields(Codec& codec, T& row) {
  codec("name", row.name);
  codec("keyring", row.keyring);
  codec("local_identity", row.local_identity);
  codec("local_authentication", row.local_authentication);
  codec("remote_authentication", row.remote_authentication);
  codec("match_remote", row.match_remote);
  codec("lifetime_s", row.lifetime_s);
  codec("dpd", row.dpd);
}

template <class Codec, IsOneOf<Policy> T>
void fields(Codec& codec, T& policy) {
  codec("generation", policy.generation);
  codec("connections", policy.connections);
  codec("manual_spis", policy.manual_spis);
  codec("node_key", policy.node_key);
  codec("proposals", policy.proposals);
  codec("policies", policy.policies);
  codec("profiles", policy.profiles);
  codec("eap_users", policy.eap_users);
}

// --- enumerators

constexpr bool known(DeliverTo value) {
  switch (value) {
    case DeliverTo::tunnel:
    case DeliverTo::map_interface: return true;
  }
  return false;
}
constexpr bool known(DfPolicy value) {
  switch (value) {
    case DfPolicy::copy:
    case DfPolicy::set:
    case DfPolicy::clear: return true;
  }
  return false;
}
constexpr bool known(EcnPolicy value) {
  switch (value) {
    case EcnPolicy::propagate:
    case EcnPolicy::discard: return true;
  }
  return false;
}
constexpr bool known(FragmentPolicy value) {
  switch (value) {
    case FragmentPolicy::before:
    case FragmentPolicy::after: return true;
  }
  return false;
}
constexpr bool known(Initiate value) {
  switch (value) {
    case Initiate::on_traffic:
    case Initiate::always: return true;
  }
  return false;
}
constexpr bool known(Childless value) {
  switch (value) {
    case Childless::never:
    case Childless::allow:
    case Childless::prefer:
    case Childless::force: return true;
  }
  return false;
}
constexpr bool known(RedirectWhen value) {
  switch (value) {
    case RedirectWhen::never:
    case RedirectWhen::init:
    case RedirectWhen::auth: return true;
  }
  return false;
}
constexpr bool known(AuthKind value) {
  switch (value) {
    case AuthKind::psk:
    case AuthKind::rsa:
    case AuthKind::ecdsa:
    case AuthKind::signature:
    case AuthKind::eap: return true;
  }
  return false;
}
constexpr bool known(EapType value) {
  return value == EapType::md5 || value == EapType::tls || value == EapType::mschapv2;
}
constexpr bool known(DpdMode value) {
  switch (value) {
    case DpdMode::off:
    case DpdMode::on_demand:
    case DpdMode::periodic: return true;
  }
  return false;
}
constexpr bool known(IdType value) {
  switch (value) {
    case IdType::ipv4:
    case IdType::fqdn:
    case IdType::email:
    case IdType::ipv6:
    case IdType::dn:
    case IdType::general_name:
    case IdType::key_id: return true;
  }
  return false;
}
inline bool known(crypto::Cipher value) { return crypto::ike_id(value) != 0; }
constexpr bool known(ProtocolId value) { return value == ProtocolId::ah || value == ProtocolId::esp; }
inline bool known(crypto::Integrity value) { return value == crypto::Integrity::none || crypto::ike_id(value) != 0; }
inline bool known(crypto::Prf value) { return crypto::find_prf(static_cast<std::uint16_t>(value)) != nullptr; }
inline bool known(crypto::DhGroup value) { return crypto::find_group(static_cast<std::uint16_t>(value)) != nullptr; }

}  // namespace postern::ike
