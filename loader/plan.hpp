// From the document and the facts of the moment to everything the node wants: which policies stand on which interface,
// which devices the worker serves, which SAs exist. Pure: tests are tables. The node compares two plans and does the
// difference.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/net_types.hpp"
#include "base/result.hpp"
#include "base/secret.hpp"
#include "config/model.hpp"
#include "loader/temporaries.hpp"
#include "maps/adjacency.hpp"
#include "maps/policy.hpp"
#include "worker/sa_channel.hpp"
#include "worker/sa_state.hpp"

namespace postern::loader {

// Largest outer packet: what a worker's frame carries in both directions, behind the headroom that the kernel wants and
// an Ethernet header with a VLAN tag (loader/worker_devices.cpp).
inline constexpr std::uint32_t largest_path_mtu = 4096 - 256 - 18;

// What the kernel says about one device.
struct LinkFacts {
  std::string name;
  std::uint32_t ifindex = 0;
  std::uint32_t mtu = 1500;
  std::uint32_t queues = 1;  // receive queues in use
  MacAddress mac{};
  std::vector<Prefix> addresses;   // with host bits: the addresses themselves
  bool plain_side_af_xdp = false;  // inside devices: nothing on the path that AF_XDP would bypass
  std::string plain_side_reason;
  bool needs_packet_socket = false;  // outside devices: a qdisc or filter that AF_XDP transmit would bypass
  std::string kind;                  // "veth", "bond", "vlan", ...; empty for hardware
  std::uint32_t master = 0;          // bond, bridge or VRF device it belongs to
  std::uint32_t lower = 0;           // what a VLAN stands on
  bool up = true;                    // administratively
  // IF-20: it is not there (any more), and its SAs wait for it; or it is, and has another name now.
  bool gone = false;
  std::string renamed{};
  bool operator==(const LinkFacts&) const = default;
};

struct VrfFacts {
  std::string name;
  std::uint32_t ifindex = 0, table = 0;
  bool operator==(const VrfFacts&) const = default;
};

struct Facts {
  std::vector<LinkFacts> links;  // of the interfaces, TunnelN and steer devices that exist
  std::string steer;             // name of the steer TAP
  std::uint32_t cpus = 1;
  std::vector<VrfFacts> vrfs;         // every VRF device there is
  std::set<std::string> time_ranges;  // of the document, that hold now
  [[nodiscard]] const LinkFacts* find(std::string_view name) const;
  [[nodiscard]] const LinkFacts* find(std::uint32_t ifindex) const;
  [[nodiscard]] const VrfFacts* vrf_of_table(std::uint32_t table) const;
  bool operator==(const Facts&) const = default;
};

// Flow ids by what they stand for, so that they survive an apply and a restart; a number is never given twice.
class FlowBook {
 public:
  explicit FlowBook(std::map<std::string, std::uint32_t> ids = {}, std::uint32_t next = 1)
      : ids_(std::move(ids)), next_(next) {}
  std::uint32_t id_of(const std::string& key);
  // Forgets every key that is not in `kept`; their numbers stay spent.
  void keep_only(const std::map<std::string, std::uint32_t>& kept);
  void skip_to(std::uint32_t next) { next_ = std::max(next_, next); }
  [[nodiscard]] const std::map<std::string, std::uint32_t>& ids() const { return ids_; }
  [[nodiscard]] std::uint32_t next() const { return next_; }

 private:
  std::map<std::string, std::uint32_t> ids_;
  std::uint32_t next_;
};

struct PlannedInterface {
  std::string name;
  std::uint32_t ifindex = 0;
  std::uint32_t vrf = 0;     // routing table, 0 main
  std::uint32_t flags = 0;   // POSTERN_IF_OUTSIDE, _INSIDE, _TUNNEL
  std::uint32_t flow = 0;    // _TUNNEL
  std::uint32_t queues = 0;  // that have an XSK
  MacAddress mac{};
  bool gone = false;  // LinkFacts.gone: not in a plan
  // A bond's port: what it receives counts as the bond's, under the bond's policy. Empty: an interface of its own.
  std::string part_of;
  bool has_ports = false;         // a bond: its ports run XDP, it does not
  std::vector<PolicyRule> rules;  // empty: no crypto map
  struct RuleOrigin {
    std::string map;
    std::uint32_t sequence = 0;
    std::string acl;
    std::uint32_t ace = 0;  // index in it
  };
  std::vector<RuleOrigin> origins;  // of each rule
  bool operator==(const PlannedInterface&) const;
  // Equal text, equal policy: tells over a restart whether the kernel's generation still is what is wanted. A line a
  // rule: rule_text() (loader/plan_acl.hpp), a tab, its name and log tag.
  [[nodiscard]] std::string policy_text() const;
};

// One descriptor set for one worker thread.
struct PlannedDevice {
  DeviceKind kind{};
  std::string name;
  std::uint32_t ifindex = 0, queue = 0, thread = 0, flow = 0, vrf = 0, mtu = 0;
  std::uint32_t arrives_at = 0;  // xsk_outside of a bond's port: the bond; else 0: itself
  MacAddress mac{};
  std::uint16_t port = 0;               // udp_encap
  std::string vrf_device;               // raw and UDP sockets: SocketScope
  std::vector<std::uint32_t> not_from;  // the same
  auto operator<=>(const PlannedDevice&) const = default;
  [[nodiscard]] bool is_xsk() const { return kind == DeviceKind::xsk_outside || kind == DeviceKind::xsk_inside; }
};

// The parameters without keys (their arrays stay zero), and the keys where keys belong.
struct PlannedSa {
  SaParameters parameters;
  Secret cipher_key, integrity_key;
};

struct PlannedSaPair {
  std::string key;  // "M1 10 out0", "Tunnel0": who owns it, over edits of what it says; AH around ESP: ah_key() of it
  PlannedSa inbound, outbound;
  std::vector<std::uint32_t> flows;  // that go into `outbound`
};

struct PlannedFlow {
  std::uint32_t id = 0;
  std::string key;
  std::string sa_pair;
  std::string map;               // crypto map, or "TunnelN-head-0"
  std::uint32_t sequence = 0;    // entry; 65537 for a tunnel
  std::uint32_t ace = 0;         // index in the ACL
  std::string interface;         // several that share it: base/device_names.hpp (IF-03)
  bool later_fragments = false;  // of the ACE's ports: what has none, in SAs of its own (RFC 4301 §7.2)
  std::optional<std::uint32_t> tunnel;
  std::string dynamic_map{};  // DM-01: of its entry `dynamic_sequence` the flow is, or what came of that
  std::uint32_t dynamic_sequence = 0;
  bool is_template = false;  // nothing goes into it; postern-ike derives flows from it
  bool per_host = false;     // the same, and traffic asks for them (CM-09)
  // A temporary one (loader/temporaries.hpp).
  std::uint32_t base_flow = 0;
  IpAddress peer{};
  std::vector<TrafficSelector> selectors{};
  std::uint32_t ifindex = 0;  // SaParameters.ifindex of its SAs
};

// A TunnelN device, its addresses and routes: what the node makes before it can know its ifindex.
struct PlannedTunnel {
  std::uint32_t number = 0;
  std::string name;
  std::uint32_t mtu = 0;
  bool ipv6 = false;
  std::vector<Prefix> addresses, routes;
  std::optional<std::string> vrf;
  std::uint32_t table = 0;
};

struct Plan {
  std::uint32_t threads = 1;
  std::vector<PlannedInterface> interfaces;
  std::vector<PlannedDevice> devices;
  std::vector<PlannedSaPair> sas;
  std::vector<PlannedFlow> flows;
  bool negotiates = false;           // something of it needs postern-ike
  std::vector<AdjacencyKey> peers;   // outer next hops to keep alive
  std::vector<std::string> links;    // interfaces of the document that exist
  std::vector<std::string> missing;  // why the plan is not all of the document: "interface out0 does not exist"
  [[nodiscard]] const PlannedSaPair* find_pair(std::string_view key) const;
  [[nodiscard]] const PlannedFlow* find_flow(std::uint32_t id) const;
};

// The pair of AH SAs around the ESP of pair `key`.
[[nodiscard]] inline std::string ah_key(const std::string& key) { return key + " ah"; }
// The key of the flow's owner: of ESP's pair for AH's.
[[nodiscard]] inline std::string owner_of(const PlannedSaPair& pair) {
  const SaParameters& p = pair.outbound.parameters;
  const bool around = p.protocol == IpProto::ah && p.bundle != 0;
  return around ? pair.key.substr(0, pair.key.size() - ah_key("").size()) : pair.key;
}

// Worker threads: as the document says, else one per CPU and at most one per receive queue.
[[nodiscard]] std::uint32_t planned_threads(const config::Document& document, const Facts& facts);

// The tunnels as the document and the outside links want them. Usable before the devices exist.
[[nodiscard]] std::vector<PlannedTunnel> plan_tunnels(const config::Document& document, const Facts& facts);

// Interfaces that do not exist yet leave their part out and a line in `missing`. Error: the document asks for something
// that cannot be (two inbound SAs of one SPI at one address, more selectors than an SA holds, no address of the peer's
// family).
// `temporaries`: what peers have negotiated beyond the document.
[[nodiscard]] Result<Plan> make_plan(const config::Document& document, const Facts& facts, FlowBook& flows,
                                     const Temporaries& temporaries = {});

// Same SA for the same traffic with the same keys (constant time): nothing to do.
[[nodiscard]] bool same_sa(const PlannedSa& planned, const SaParameters& installed);
// The surroundings moved (address, VRF, MTU): the installed SA cannot work as it is. Another device for the same
// interface is none of that (PlaceSa).
[[nodiscard]] bool moved(const PlannedSa& planned, const SaParameters& installed);

}  // namespace postern::loader
