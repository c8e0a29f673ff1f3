// The JSON document as plain structs: what config/load returns after schema and semantic checks. Names follow the
// guide. Defaults that the document may leave out are filled in. Secrets are in Secret; rendering (config/render) masks
// them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/net_types.hpp"
#include "base/secret.hpp"
#include "config/model_acl.hpp"
#include "config/model_ikev2.hpp"
#include "config/model_pki.hpp"
#include "crypto/packet_cipher.hpp"

namespace postern::config {

enum class Action : std::uint8_t { deny, permit };
enum class PlainSide : std::uint8_t { automatic, tap, af_xdp };
enum class XdpMode : std::uint8_t { automatic, native, generic };
enum class OnStop : std::uint8_t { block, release };
enum class DfBit : std::uint8_t { copy, set, clear };
enum class Ecn : std::uint8_t { propagate, discard };
enum class Fragmentation : std::uint8_t { before, after };  // encryption
enum class AceLog : std::uint8_t { none, match, input };    // `log`, `log-input` (TS-12)

// TCP/UDP ports, host order, inclusive. `neq` of the guide becomes two ranges in the loader.
struct PortRange {
  std::uint16_t first = 0, last = 65535;
  bool operator==(const PortRange&) const = default;
};

// One access control entry (TS-01, TS-02, TS-04, TS-05). protocol 0 is any ("ip"/"ipv6").
struct Ace {
  std::uint32_t sequence = 0;  // order of evaluation; given or 10, 20, ...
  Action action = Action::permit;
  std::uint8_t protocol = 0;
  Prefix source, destination;                              // "any" is 0.0.0.0/0 or ::/0 by the list's family
  std::vector<PortRange> source_ports, destination_ports;  // empty: any
  bool fragments = false;                                  // matches non-initial fragments and nothing else (TS-04)
  AceLog log = AceLog::none;
  AceOptions options;
  // A discontiguous IPv4 wildcard mask (set bits: don't care), host order; only in a list that nothing binds (TS-06).
  std::optional<std::uint32_t> source_wildcard, destination_wildcard;
  bool operator==(const Ace&) const = default;
};

struct Acl {
  std::string name;  // or the number's digits
  Family family = Family::v4;
  std::vector<Ace> rules;  // sorted by sequence
  bool operator==(const Acl&) const = default;
};

struct TransformSet {
  std::string name;
  std::vector<std::string> transforms;  // as IOS spells them, with size: {"esp-aes", "256"} is "esp-256-aes"
  crypto::Transform transform;          // the same, resolved: ESP's
  bool transport_mode = false;
  bool mode_required = false;  // "transport require": what cannot be of transport mode is refused, not taken as tunnel
  crypto::Integrity ah = crypto::Integrity::none;
  bool compression = false;  // IPComp (RFC 3173) by DEFLATE
  [[nodiscard]] bool has_esp() const { return transform != crypto::Transform{}; }
  [[nodiscard]] bool has_ah() const { return ah != crypto::Integrity::none; }
  bool operator==(const TransformSet&) const = default;
};

// RFC 4301 §4.5.1: manual keys of one direction and protocol (MAN-06, MAN-07).
struct ManualSa {
  std::uint32_t spi = 0;  // 256..4294967295; 0: there is no such SA
  Secret cipher_key, integrity_key;
  bool operator==(const ManualSa&) const = default;
};

struct ManualKeys {
  ManualSa inbound, outbound;            // ESP
  ManualSa ah_inbound{}, ah_outbound{};  // without a cipher key
  // IPComp's, where the set compresses. RFC 3173 §3.3: that of the algorithm itself, or one of 256 to 61439.
  static constexpr std::uint16_t deflate_cpi = 2;
  std::uint16_t cpi_inbound = deflate_cpi, cpi_outbound = deflate_cpi;
  bool operator==(const ManualKeys&) const = default;
};

// RFC 4301 §8 and §5.1.2.1: how packets are put into their outer header. What is not given is inherited: tunnel, its
// profile, ipsec.global; map entry, ipsec.global.
inline constexpr std::uint16_t tcp_mss_auto = 0xffff;
struct Encapsulation {
  DfBit df = DfBit::copy;
  Ecn ecn = Ecn::propagate;
  std::optional<std::uint8_t> dscp;  // left out: copied
  std::uint16_t tcp_mss = 0;         // 0: off; tcp_mss_auto: what fits
  Fragmentation fragmentation = Fragmentation::before;
  bool operator==(const Encapsulation&) const = default;
};

// Lifetimes and windows of negotiated SAs; what is not given is inherited (TS-62): entry, profile, ipsec, built-in.
struct SecurityAssociation {
  std::optional<std::uint32_t> lifetime_s;
  std::optional<std::uint64_t> lifetime_kb;  // 0: none ("disable")
  std::optional<std::uint64_t> lifetime_packets;
  std::optional<std::uint32_t> idle_s;
  std::optional<std::uint16_t> replay_window;
  std::optional<bool> extended_sequence;
  std::optional<std::uint16_t> tfc_bytes;          // inner packets are padded to this; 65535: to the MTU; 0: not
  std::optional<std::uint32_t> dummy_interval_us;  // 0: none ("disable")
  bool operator==(const SecurityAssociation&) const = default;
};

enum class Initiate : std::uint8_t { on_traffic, always };

// A peer of a static entry: an address (CM-03), or a name, which is resolved when the document is loaded and again when
// negotiating fails (CM-04), or, dynamic, before each negotiation (CM-06).
struct Peer {
  IpAddress address;  // unspecified for a name
  std::string name;   // in lower case, without the last dot; empty for an address
  bool dynamic = false;
  [[nodiscard]] bool is_name() const { return !name.empty(); }
  [[nodiscard]] std::string text() const { return is_name() ? name : address.text(); }
  bool operator==(const Peer&) const = default;
};

struct MapEntry {
  std::uint32_t sequence = 0;               // 1..65535
  std::optional<std::string> dynamic;       // a dynamic map stands here (DM-03): nothing below but `negotiated` counts
  std::string acl;                          // "match address"
  IpAddress peer;                           // the first of `peers`; unspecified where that is a name
  std::vector<Peer> peers;                  // in order of preference (CM-05)
  bool default_peer = false;                // the first one comes back after an idle time or a clear (CM-07)
  std::vector<std::string> transform_sets;  // 1..6 in order of preference; manual keys: one
  bool negotiated = false;                  // type ipsec-isakmp; else ipsec-manual, and `keys` are what counts
  ManualKeys keys;
  std::optional<std::string> ikev2_profile;  // negotiated, as the next four are
  std::optional<crypto::DhGroup> pfs;
  SecurityAssociation sa;
  Initiate initiate = Initiate::on_traffic;
  std::optional<std::string> profile;  // an IPsec profile, whose sets, PFS and lifetimes are those above (CM-25)
  std::uint32_t per_host_limit = 0;    // an SA pair for each pair of hosts, so many at most (CM-09); 0: one for all
  bool per_host_only = false;          // a peer that asks for more than a pair is refused (RFC 7296 §2.9)
  Encapsulation encapsulation;
  bool separate_fragment_sa = true;  // rules with ports: non-initial fragments in SAs of their own (RFC 4301 §7.2)
  bool udp_encapsulation = false;    // manual SAs only by the operator's word, there is nobody to detect NAT
  std::uint16_t udp_local_port = 4500, udp_remote_port = 4500;
  // CM-02: warned of, shown, and not used.
  [[nodiscard]] bool incomplete() const { return !dynamic && (acl.empty() || peers.empty() || transform_sets.empty()); }
  bool operator==(const MapEntry&) const = default;
};

struct CryptoMap {
  std::string name;
  Family family = Family::v4;
  // IF-03: the interface whose address is our end of every SA, and all interfaces with the map share these. None: each
  // has SAs of its own, from its own address.
  std::optional<std::string> local_interface;
  std::vector<MapEntry> entries;  // by sequence
  bool operator==(const CryptoMap&) const = default;
};

// What peers that are not known beforehand may have: entries are templates of what they negotiate (DM-01).
struct DynamicEntry {
  std::uint32_t sequence = 0;      // 1..65535
  std::optional<std::string> acl;  // none: any proposal is taken; one that is missing or empty: everything is dropped
  std::vector<IpAddress> peers;    // that may use it; empty: all
  std::vector<std::string> transform_sets;  // 1..6 in order of preference
  std::optional<std::string> ikev2_profile;
  std::optional<crypto::DhGroup> pfs;
  SecurityAssociation sa;
  Encapsulation encapsulation;
  bool operator==(const DynamicEntry&) const = default;
};

struct DynamicMap {
  std::string name;
  std::uint32_t limit = 1000;         // flows of its peers at once, on each interface
  std::vector<DynamicEntry> entries;  // by sequence
  bool operator==(const DynamicMap&) const = default;
};

struct Interface {
  std::string name;                       // a Linux network device
  std::vector<Prefix> addresses;          // set on it when given; with host bits, they are the addresses
  std::optional<std::string> crypto_map;  // IPv4 map set
  std::optional<std::string> ipv6_crypto_map;
  bool inside = false;  // candidate for the plain side by AF_XDP
  std::optional<std::string> vrf;
  bool operator==(const Interface&) const = default;
};

// A static virtual tunnel interface (SV-01), with manual or negotiated keys.
struct Tunnel {
  std::uint32_t number = 0;  // TunnelN
  std::vector<Prefix> addresses;
  std::vector<Prefix> negotiated_addresses;    // whence the peer may lend it one; one of each family here is asked for
  Family transport = Family::v4;               // mode "ipsec ipv4" or "ipsec ipv6"
  bool carries_v4 = true, carries_v6 = false;  // inner families; plain ipv4 mode carries IPv4 (SV-13)
  std::string source;                          // interface name or address, as written
  IpAddress destination;
  std::string profile;                       // ipsec profile
  bool negotiated = false;                   // no session_key: keys by IKE
  std::optional<std::string> ikev2_profile;  // of the tunnel itself; else the ipsec profile's
  ManualKeys keys;
  bool udp_encapsulation = false;
  std::uint16_t udp_local_port = 4500, udp_remote_port = 4500;
  std::uint8_t ttl = 255;
  Encapsulation encapsulation;
  std::uint32_t mtu = 0;           // 0: from the path MTU and the transform (SV-19)
  std::vector<Prefix> routes;      // prefixes routed into the tunnel, each with its unreachable twin
  std::optional<std::string> vrf;  // inside VRF
  [[nodiscard]] std::string device() const { return "Tunnel" + std::to_string(number); }
  bool operator==(const Tunnel&) const = default;
};

// An address that the peer lends it is one that the document allows.
[[nodiscard]] bool may_be_lent(const Tunnel& tunnel, const IpAddress& address);

struct IpsecProfile {
  std::string name;
  std::vector<std::string> transform_sets;   // 1..6; manual keys use the first and only one
  std::optional<std::string> ikev2_profile;  // negotiated keys, as the next three are
  std::optional<crypto::DhGroup> pfs;
  SecurityAssociation sa;
  Initiate initiate = Initiate::always;  // SV-07
  Encapsulation encapsulation;           // of its tunnels
  bool operator==(const IpsecProfile&) const = default;
};

struct Vrf {
  std::string name;
  std::uint32_t table = 0;
  bool operator==(const Vrf&) const = default;
};

struct System {
  std::string hostname;
  std::string log_level = "info";
  std::uint32_t acl_log_interval_s = 300;
  bool operator==(const System&) const = default;
};

struct Dataplane {
  PlainSide plain_side = PlainSide::automatic;
  XdpMode xdp_mode = XdpMode::automatic;
  OnStop on_stop = OnStop::block;
  std::uint32_t workers = 0;          // threads; 0: one per CPU, at most one per receive queue
  std::uint32_t umem_frames = 8192;   // per worker thread, 4096 bytes each
  std::uint32_t ring_entries = 2048;  // RX, TX, fill and completion of each XSK
  std::uint32_t sa_capacity = 4096;
  std::uint16_t replay_window = 64;      // default of negotiated SAs; 32..4096
  bool crypto_openssl = false;           // use OpenSSL for packets even where ipsec-mb runs
  std::uint32_t interface_grace_s = 30;  // how long the SAs of an interface wait for it when it is gone (IF-20)
  bool operator==(const Dataplane&) const = default;
};

struct IpsecGlobal {
  Encapsulation encapsulation;
  std::uint32_t path_mtu_aging_s = 600;
  SecurityAssociation sa{3600, 4608000, {}, {}, {}, {}, {}, {}};  // lifetimes are always there
  bool operator==(const IpsecGlobal&) const = default;
};

struct Document {
  std::uint32_t version = 1;
  System system;
  Dataplane dataplane;
  IpsecGlobal ipsec;
  std::vector<Vrf> vrfs;
  std::vector<TimeRange> time_ranges;
  std::vector<Acl> acls;
  std::vector<TransformSet> transform_sets;
  std::vector<IpsecProfile> profiles;
  Pki pki;
  Ikev2 ikev2;
  std::vector<DynamicMap> dynamic_maps;
  std::vector<CryptoMap> crypto_maps;
  std::vector<Interface> interfaces;
  std::vector<Tunnel> tunnels;
  bool operator==(const Document&) const = default;
};

template <class T>
[[nodiscard]] const T* find_named(const std::vector<T>& all, std::string_view name) {
  for (const T& one : all)
    if (one.name == name) return &one;
  return nullptr;
}

// The interface whose address is our end of the map's SAs where the map is on `interface`.
[[nodiscard]] inline const Interface& local_end_of(const Document& document, const CryptoMap& map,
                                                   const Interface& interface) {
  const Interface* const owner = map.local_interface ? find_named(document.interfaces, *map.local_interface) : nullptr;
  return owner == nullptr ? interface : *owner;
}

// Whether `interface` is the first of those that share the map's SAs; always where they are not shared.
[[nodiscard]] inline bool first_of_map(const Document& document, const CryptoMap& map, const Interface& interface) {
  if (!map.local_interface) return true;
  for (const Interface& one : document.interfaces)
    if (one.crypto_map == map.name || one.ipv6_crypto_map == map.name) return one.name == interface.name;
  return true;
}

}  // namespace postern::config
