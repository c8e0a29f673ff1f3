// rtnetlink as values: links, addresses, routes, rules, neighbours, qdiscs and TC filters of one network namespace.
//
// Namespace: the one that the calling thread is in when open() is called; the object stays there. Not thread-safe: one
// owner. Every call is one synchronous exchange with the kernel. Errors carry the kernel's errno and, where it sent
// one, its text. Integers are host order, addresses IpAddress. Adding what exists and removing what is gone succeed
// unless said otherwise.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/net_types.hpp"
#include "base/result.hpp"
#include "loader/netlink_socket.hpp"

namespace postern::loader {

// rtm_protocol and NDA_PROTOCOL of every route and kept neighbour of a node: `ip route show proto 80` lists them.
inline constexpr std::uint8_t route_protocol = 80;
inline constexpr std::uint32_t main_table = 254;
inline constexpr std::uint32_t root_parent = 0xffffffff;  // TC_H_ROOT: Qdisc::parent of a device's root qdisc

struct LinkCounters {
  std::uint64_t rx_packets = 0, tx_packets = 0, rx_bytes = 0, tx_bytes = 0;
  std::uint64_t rx_errors = 0, tx_errors = 0, rx_dropped = 0, tx_dropped = 0;
};

// What a TUN/TAP device says of itself (IFLA_TUN_*).
struct TunAttributes {
  bool tap = false, persistent = false, multi_queue = false, vnet_header = false;
};

struct Link {
  std::uint32_t ifindex = 0;
  std::string name;
  std::string kind;   // IFLA_INFO_KIND: "veth", "tun", "vrf", "bridge", ...; empty for hardware and loopback
  std::string alias;  // IFLA_IFALIAS
  std::uint32_t mtu = 0;
  std::uint32_t flags = 0;      // IFF_*
  std::uint16_t hardware = 0;   // ARPHRD_*
  MacAddress mac{};             // zero for header-less links
  std::uint32_t master = 0;     // bridge, bond or VRF device it belongs to
  std::uint32_t lower = 0;      // IFLA_LINK: what it stands on; a veth's peer
  std::uint32_t vrf_table = 0;  // kind "vrf": its table
  std::uint32_t tx_queue_length = 0;
  std::string qdisc;
  std::optional<TunAttributes> tun;
  LinkCounters counters;

  [[nodiscard]] bool up() const;        // administratively
  [[nodiscard]] bool carrier() const;   // lower layer is up
  [[nodiscard]] bool ethernet() const;  // ARPHRD_ETHER
  [[nodiscard]] bool loopback() const;
  [[nodiscard]] bool no_arp() const;  // IFF_NOARP: no neighbour resolution
};

struct LinkAddress {
  std::uint32_t ifindex = 0;
  Prefix prefix;           // the address with its prefix length: host bits kept
  bool tentative = false;  // IPv6 duplicate address detection is running or failed
};

enum class RouteType : std::uint8_t { unicast, local, broadcast, multicast, unreachable, blackhole, prohibit, other };

struct Route {
  Prefix destination;
  RouteType type = RouteType::unicast;
  std::uint32_t table = main_table;
  std::uint32_t metric = 0;          // smaller wins; IPv6 turns 0 into 1024
  std::uint32_t ifindex = 0;         // 0: none (unreachable) or several (multipath)
  std::optional<IpAddress> gateway;  // none: on link
  std::optional<IpAddress> preferred_source;
  std::uint32_t mtu = 0;  // metric of the route or a learned path MTU; 0: the device's
  std::uint8_t protocol = route_protocol;
};

struct RouteQuery {
  IpAddress destination;
  std::uint32_t mark = 0;
  std::uint32_t vrf_ifindex = 0;  // a VRF device: look up in its table
};

struct Rule {
  Family family = Family::v4;
  std::uint32_t priority = 0;
  std::uint32_t mark = 0, mark_mask = 0xffffffff;
  std::uint32_t table = main_table;
};

struct Neighbour {
  std::uint32_t ifindex = 0;
  IpAddress address;
  MacAddress mac{};
  std::uint16_t state = 0;  // NUD_*
  bool has_mac = false;
  bool managed = false;         // NTF_EXT_MANAGED: the kernel keeps it resolved
  bool extern_learned = false;  // NTF_EXT_LEARNED
  std::uint8_t protocol = 0;

  [[nodiscard]] bool usable() const;     // has a MAC address that the kernel itself would use now
  [[nodiscard]] bool permanent() const;  // set by an operator; never touched
  [[nodiscard]] bool failed() const;     // asked for in vain
};

struct Qdisc {
  std::uint32_t ifindex = 0;
  std::string kind;
  std::uint32_t handle = 0;  // 0: attached by the kernel by default
  std::uint32_t parent = 0;
  std::uint64_t packets = 0, bytes = 0, drops = 0, overlimits = 0;
};

struct TcFilter {
  std::uint32_t ifindex = 0;
  std::uint32_t parent = 0;
  std::string kind;              // "bpf", "u32", "flower", ...
  std::string name;              // kind bpf: TCA_BPF_NAME
  std::uint32_t program_id = 0;  // kind bpf
};

enum class TcHook : std::uint8_t { ingress, egress };

class Netlink {
 public:
  [[nodiscard]] static Result<Netlink> open();

  // --- links (netlink.cpp)
  [[nodiscard]] Result<std::vector<Link>> links();
  [[nodiscard]] Result<Link> link(std::string_view name);  // ENODEV when there is none
  [[nodiscard]] Result<Link> link(std::uint32_t ifindex);
  // Receive queues in use, by ethtool channels where the driver tells, else as many as it registered.
  [[nodiscard]] Result<std::uint32_t> receive_queues(const Link& link);
  [[nodiscard]] Result<void> set_up(std::uint32_t ifindex, bool up);
  [[nodiscard]] Result<void> set_no_arp(std::uint32_t ifindex);
  [[nodiscard]] Result<void> set_mtu(std::uint32_t ifindex, std::uint32_t mtu);
  [[nodiscard]] Result<void> set_tx_queue_length(std::uint32_t ifindex, std::uint32_t packets);
  [[nodiscard]] Result<void> set_alias(std::uint32_t ifindex, std::string_view alias);
  [[nodiscard]] Result<void> set_master(std::uint32_t ifindex, std::uint32_t master);  // 0: none
  [[nodiscard]] Result<void> set_no_link_local(std::uint32_t ifindex);                 // IPv6 addr_gen_mode none
  [[nodiscard]] Result<void> remove_link(std::uint32_t ifindex);

  // --- addresses (netlink_routes.cpp). add: false when it was there already.
  [[nodiscard]] Result<std::vector<LinkAddress>> addresses();
  [[nodiscard]] Result<std::vector<LinkAddress>> addresses(std::uint32_t ifindex);
  [[nodiscard]] Result<bool> add_address(std::uint32_t ifindex, const Prefix& address);
  [[nodiscard]] Result<void> remove_address(std::uint32_t ifindex, const Prefix& address);

  // --- routes and rules (netlink_routes.cpp). There is one of each prefix, table and metric.
  [[nodiscard]] Result<bool> add_route(const Route& route);  // false: there is one of that prefix, table and metric
  [[nodiscard]] Result<void> replace_route(const Route& route);
  [[nodiscard]] Result<void> remove_route(const Route& route);
  [[nodiscard]] Result<std::vector<Route>> routes(Family family,
                                                  std::uint32_t table);  // with this node's protocol only
  // What the kernel would do with a packet of ours now. ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL: no way to go.
  [[nodiscard]] Result<Route> lookup(const RouteQuery& query);
  [[nodiscard]] Result<bool> add_rule(const Rule& rule);  // false when it was there already
  [[nodiscard]] Result<void> remove_rule(const Rule& rule);

  // --- neighbours (netlink_neighbours.cpp)
  [[nodiscard]] Result<std::vector<Neighbour>> neighbours();
  [[nodiscard]] Result<std::optional<Neighbour>> neighbour(std::uint32_t ifindex, const IpAddress& address);
  // Starts resolving it and asks the kernel to keep it resolved (NTF_EXT_MANAGED). False: this kernel cannot
  // (before 5.16); then probe now and again. A permanent entry, or one that somebody else keeps, is left as it is:
  // true.
  [[nodiscard]] Result<bool> keep_neighbour(std::uint32_t ifindex, const IpAddress& address);
  // Takes back keep_neighbour(): the entry ages as usual from now on.
  [[nodiscard]] Result<void> release_neighbour(std::uint32_t ifindex, const IpAddress& address);
  // Resolves it, or confirms it when it is stale, once.
  [[nodiscard]] Result<void> probe_neighbour(std::uint32_t ifindex, const IpAddress& address);

  // --- traffic control (netlink_traffic.cpp)
  [[nodiscard]] Result<std::vector<Qdisc>> qdiscs();
  [[nodiscard]] Result<std::vector<Qdisc>> qdiscs(std::uint32_t ifindex);
  // Filters of the clsact hook; empty where there is no clsact qdisc.
  [[nodiscard]] Result<std::vector<TcFilter>> filters(std::uint32_t ifindex, TcHook hook);

 private:
  explicit Netlink(NetlinkSocket socket) : socket_(std::move(socket)) {}
  [[nodiscard]] Result<void> neighbour_request(std::uint32_t ifindex, const IpAddress& address, bool managed,
                                               bool extern_learned);
  NetlinkSocket socket_;
};

}  // namespace postern::loader
