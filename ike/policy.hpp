// What postern-ike negotiates by: posternd compiles it from the document and hands it over whole (ike/policy_link.hpp).
// Everything is resolved: names of profiles and keyrings remain for `show` alone. Immutable once made; sessions hold a
// shared pointer to the connection they were made by.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/net_types.hpp"
#include "base/secret.hpp"
#include "ike/client_configuration.hpp"
#include "ike/eap_packet.hpp"
#include "ike/identity.hpp"
#include "ike/negotiate.hpp"
#include "ike/protocol_options.hpp"
#include "worker/sa_state.hpp"

namespace postern::ike {

// What the data plane is told beside what was negotiated; the fields of SaParameters with the same names.
struct ChildPlace {
  std::uint32_t flow = 0;
  std::uint32_t base_flow =
      0;  // of the policy's child that `flow` was derived from (ike/temporary_flows.hpp); 0: `flow` is its own
  DeliverTo deliver = DeliverTo::tunnel;
  std::uint32_t ifindex = 0;
  std::uint32_t inside_vrf = 0;
  std::uint32_t path_mtu = 1500;
  std::uint16_t replay_window = 64;
  std::uint16_t tfc_bytes = 0;
  std::uint32_t dummy_interval_us = 0;
  std::uint8_t ttl = 255;
  DfPolicy df = DfPolicy::copy;
  EcnPolicy ecn = EcnPolicy::propagate;
  FragmentPolicy fragmentation = FragmentPolicy::before;
  bool dscp_copy = true;
  std::uint8_t dscp = 0;
  std::uint16_t tcp_mss = 0;
  std::uint32_t path_mtu_aging_s = 600;
  bool operator==(const ChildPlace&) const = default;
};

enum class Initiate : std::uint8_t { on_traffic, always };

// One protected flow: a permit ACE of a map entry, or a tunnel.
struct ChildPolicy {
  std::string name;            // "M1 10 out0 1" (entry, ACE counted from 1), "Tunnel0": unique in the policy
  std::string interface;       // of the map (several: base/device_names.hpp), or TunnelN
  std::string map;             // crypto map, or "TunnelN-head-0"
  std::uint32_t sequence = 0;  // of the map entry
  Initiate initiate = Initiate::on_traffic;
  std::vector<Selector> local, remote;  // both families for a tunnel that carries both
  std::vector<EspProposal> proposals;   // 1..6, in order
  std::vector<crypto::DhGroup> pfs;     // empty: none asked for
  bool transport = false;               // between `local` and `remote`, which are the connection's ends then
  bool transport_required = false;      // else tunnel mode will do
  bool compression = false;             // IPComp by DEFLATE is asked for, and taken when it is offered
  bool later_fragments = false;         // selectors with OPAQUE ports; set up by traffic alone
  std::uint32_t lifetime_s = 3600;
  std::uint64_t lifetime_bytes = 0;  // 0: no volume lifetime
  std::uint64_t lifetime_packets = 0;
  std::uint32_t idle_s = 0;  // 0: never
  // DM-01: a template: what a peer proposes inside `local` and `remote` becomes a child and a flow of its own.
  bool dynamic = false;
  std::vector<IpAddress> peers;                       // template: who may use it; empty: all
  std::vector<Selector> denied_local, denied_remote;  // template: pairs that the access list denies before it (DM-06)
  bool per_host = false;                // CM-09: each pair of hosts inside becomes a child and a flow of its own
  bool per_host_only = false;           // a peer that asks for more than a pair is refused (RFC 7296 §2.9)
  std::uint32_t limit = 0;              // flows that may be derived from it at once
  std::string base;                     // derived: the name of the child that it was derived from
  bool transport_between_ends = false;  // a peer by name: `transport` follows once it is known where it is
  std::uint32_t rank = 0;               // CM-05: place of this peer among those of the flow
  bool default_first = false;           // CM-07: the peer of rank 0 comes back after an idle time or a clear
  // A tunnel's: the peer is asked for an address of each family here, and may lend one of these networks.
  std::vector<Prefix> ask;
  ChildPlace place;
  bool operator==(const ChildPolicy&) const = default;
};

enum class DpdMode : std::uint8_t { off, on_demand, periodic };
struct Dpd {
  DpdMode mode = DpdMode::off;
  std::uint32_t interval_s = 0, retry_s = 2;  // IKE-42
  bool operator==(const Dpd&) const = default;
};

// How an end proves who it is (IKE-39): both may do it differently.
enum class AuthKind : std::uint8_t { psk, rsa, ecdsa, signature, eap };
[[nodiscard]] constexpr bool is_signature(AuthKind kind) { return kind != AuthKind::psk && kind != AuthKind::eap; }

// EAP (RFC 7296 §2.16) at the end that begins, and at the one that answers. Methods in order.
struct EapPeerSide {
  std::vector<EapType> methods;
  std::string identity;
  Secret password;
  bool operator==(const EapPeerSide&) const = default;
};
struct EapServerSide {
  std::vector<EapType> methods;
  bool query_identity = false;  // else the peer's IDi names it
  bool operator==(const EapServerSide&) const = default;
};
[[nodiscard]] bool uses_eap_tls(const struct Connection& connection);
struct EapUser {
  std::string name;
  Secret password;
  bool operator==(const EapUser&) const = default;
};

// RFC 6023: whether an IKE SA comes without a child. `allow`: the peer may begin so; `prefer`: we do where it can.
enum class Childless : std::uint8_t { never, allow, prefer, force };

// RFC 5685: whether we let a gateway send us elsewhere, and as a gateway our peers.
enum class RedirectWhen : std::uint8_t { never, init, auth };  // the exchange that a peer is sent away in
struct RedirectPolicy {
  bool follow = false;
  std::uint32_t most = 5, period_s = 300;  // §7: redirects of one connection, and within which time
  std::uint32_t leave_s = 60;              // §5: a peer that was sent away has so long to go
  RedirectWhen when = RedirectWhen::never;
  std::string to;           // an address or a name; where `when` is not never
  std::uint32_t above = 0;  // from so many established IKE SAs of the profile on
  bool operator==(const RedirectPolicy&) const = default;
};

// RFC 8784: a key that both ends have beside those that they authenticate by. Without an id there is none.
struct Ppk {
  std::string id;
  Secret key;
  bool required = false;  // a peer without it is not spoken to
  bool operator==(const Ppk&) const = default;
};

// The key of a peer at an address, or in a network (DM-13), or of one that calls itself so, from wherever (IKE-36).
struct PeerKey {
  Prefix remote;
  Secret local_key, remote_key;
  Ppk ppk;
  IdentityMatch identity = {};  // any: `remote` alone decides
  [[nodiscard]] bool is_by_identity() const { return !std::holds_alternative<AnyIdentity>(identity); }
  bool operator==(const PeerKey&) const = default;
};

// What two ends and a profile make: one IKE SA, with the children of every static crypto map entry and tunnel interface
// between these ends by this profile (TS-58).
struct Connection {
  std::string name;        // "192.0.2.1 192.0.2.2 PROFILE": unique; who owns it over edits of what it says
  std::uint32_t fvrf = 0;  // front-door VRF's routing table
  IpAddress local, remote;
  std::vector<IpAddress> other_addresses;  // of ours, where packets come in as well: the peer may go to them (RFC 4555)
  // CM-04, CM-06: the peer's name. `remote` is unspecified, of the family that is wanted, until the name is resolved
  // (at_address); `remote_dynamic`: before each negotiation.
  std::string remote_name;
  bool remote_dynamic = false;
  // RFC 5685: where the document has the peer, while a gateway has sent us to `remote` (sent_to). Of postern-ike alone.
  std::optional<IpAddress> home;

  std::string policy_name, profile_name, keyring_name;
  std::vector<IkeProposal> proposals;
  Identity local_identity;
  std::vector<IdentityMatch> remote_identities;  // never empty, unless there are certificate maps
  Secret local_key, remote_key;                  // pre-shared, of the AUTH we send and of the one we check
  // IKE-36: the keyring knows the peer by no address: the key is of who it says it is. Those above are the first one's,
  // for an initiator, who proves itself before it knows.
  std::vector<PeerKey> identity_keys;
  Ppk ppk;

  // Signatures, by postern-pki. A local identity of type DN without data is the subject of our certificate.
  AuthKind local_auth = AuthKind::psk, remote_auth = AuthKind::psk;
  std::string sign_trustpoint;
  std::vector<std::string> other_sign_trustpoints;  // for a peer that asks for a certificate of its CAs
  std::vector<std::string> verify_trustpoints;      // the CAs of any of these
  std::vector<std::string> certificate_maps;        // one of them, or an identity, has to match (IKE-37)
  bool allow_sha1 = false;                          // RFC 7296's RSA method, whose hash is SHA-1
  bool rsa_pkcs1 = false;                           // RFC 7427 with PKCS#1 instead of PSS
  // Where local_auth, and where remote_auth is EAP; both are for EAP alone (RFC 5998).
  EapPeerSide eap_peer;
  EapServerSide eap_server;
  std::uint32_t lifetime_s = 86400;
  Dpd dpd;
  std::uint32_t nat_keepalive_s = 20;
  bool force_encapsulation = false;  // IKE-41
  Childless childless = Childless::allow;
  RedirectPolicy redirect;
  ProtocolOptions options;
  ClientConfiguration configuration;
  std::vector<ChildPolicy> children;
  // A template: `remote` is unspecified, and these are the keys of the peers that it stands for, in order. A peer by
  // name: the keys of which it gets its own.
  std::vector<PeerKey> peer_keys;
  std::string template_name;  // of one that was made of a template for a peer (connections_between)
  [[nodiscard]] bool is_template() const { return !peer_keys.empty() && remote_name.empty(); }
  [[nodiscard]] bool is_named() const { return !remote_name.empty(); }
  // RFC 5685: where the peer itself is what the traffic is for (transport mode), nobody else will do.
  [[nodiscard]] bool follows_redirects() const;
  [[nodiscard]] const ChildPolicy* child(std::string_view child_name) const;
  [[nodiscard]] bool always() const;  // some child is to be up always
  bool operator==(const Connection&) const = default;
};

// A configured or default proposal and policy, as `show crypto ikev2 proposal|policy|profile` lists them.
struct PolicyRow {
  std::string name, match_local, match_fvrf;
  std::vector<std::string> proposals;
  bool operator==(const PolicyRow&) const = default;
};
struct ProfileRow {
  std::string name, keyring, local_identity, local_authentication, remote_authentication;
  std::vector<std::string> match_remote;
  std::uint32_t lifetime_s = 86400;
  Dpd dpd;
  bool operator==(const ProfileRow&) const = default;
};

struct Policy {
  std::uint64_t generation = 0;
  std::vector<std::shared_ptr<const Connection>> connections;
  std::vector<std::uint32_t> manual_spis;  // inbound SPIs of manual SAs: never allocated (MAN-14)
  // Of this node alone, and the same in each of its lives; empty: it has none (ike/crash_token.hpp).
  Secret node_key;
  std::vector<IkeProposal> proposals;
  std::vector<PolicyRow> policies;
  std::vector<ProfileRow> profiles;
  std::vector<EapUser> eap_users;  // of the peers that come by EAP, by name
};

// Those between these addresses, in order; of a template that has children and a key for `remote`, what it makes.
[[nodiscard]] std::vector<std::shared_ptr<const Connection>> connections_between(const Policy& policy,
                                                                                 std::uint32_t fvrf,
                                                                                 const IpAddress& local,
                                                                                 const IpAddress& remote);
// A named one with its peer at this address. nullptr: there is no key for it.
[[nodiscard]] std::shared_ptr<const Connection> at_address(const Connection& named, const IpAddress& remote);
// RFC 5685 §3: what was at its gateway goes to this one, by the same keys and identities; and back to where the
// document has it.
[[nodiscard]] std::shared_ptr<const Connection> sent_to(const Connection& connection, const IpAddress& gateway);
[[nodiscard]] std::shared_ptr<const Connection> sent_home(const Connection& connection);
// IKE-36: what two ends share whose peer calls itself so; borrowed from `connection`. Nothing: the keyring has no key
// for it.
struct SharedKeys {
  const Secret &local, &remote;
  const Ppk& ppk;
};
[[nodiscard]] std::optional<SharedKeys> keys_with(const Connection& connection, const Identity& peer);
// One that was made of a template before, as the policy makes it now; else the one of that name. nullptr: gone.
[[nodiscard]] std::shared_ptr<const Connection> connection_now(const Policy& policy, const Connection& made);

}  // namespace postern::ike
