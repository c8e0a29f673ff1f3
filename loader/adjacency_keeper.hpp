// Keeps the adjacency table true: resolves next hops from the kernel's routes and neighbours, keeps those neighbours
// alive, and follows every change. The one writer of the table (maps/adjacency.hpp).
//
// Outer peers are looked up with POSTERN_MARK, so that an `ip rule` can keep a default route into a tunnel from
// swallowing the tunnel's own packets; a route that leaves by one of our own tunnels is refused anyway (recursion).
// Forwarded inner destinations are looked up without the mark, and accepted only when they leave by an inside device:
// everything else is the kernel's to forward (local addresses, other tunnels, interfaces with a crypto map).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "loader/netlink.hpp"
#include "loader/netlink_monitor.hpp"
#include "maps/adjacency.hpp"

namespace postern::loader {

struct AdjacencyLimits {
  std::size_t forward_entries = 2048;
  Duration forward_idle = std::chrono::seconds(60);   // since the worker last asked for it
  Duration probe_interval = std::chrono::seconds(5);  // neighbours that the kernel does not keep; failed look-ups
};

// For `show`: one wanted next hop.
struct AdjacencyState {
  AdjacencyKey key;
  bool outer = false, forward = false;
  bool resolved = false;
  Adjacency value;
  std::string reason;  // why it is not resolved
};

class AdjacencyKeeper {
 public:
  // Borrows both. Rows that are in the table already (a living worker was adopted) stay as they are until they are
  // wanted again, or for `forward_idle`.
  AdjacencyKeeper(Netlink& netlink, AdjacencyTable& table, Time now, const AdjacencyLimits& limits = {});

  // Devices that outer packets must not take (TunnelN, steer TAP), and those that forwarded inner packets may take.
  void set_devices(std::set<std::uint32_t> own, std::set<std::uint32_t> inside, Time now);

  // The worker asks (ChannelType::resolve), or an SA was installed (forward false: stays until unwant()). The route is
  // resolved at once; the row appears now, or when the neighbour answers. Refusals are in states().
  void want(const AdjacencyKey& key, bool forward, Time now);
  void unwant(const AdjacencyKey& key);  // the outer use of it

  // The owner drains one NetworkMonitor for everyone and passes on what it said.
  void on_changes(const NetworkChanges& changes, Time now);
  void on_timer(Time now);
  // When on_timer() is due; none: nothing to wait for.
  [[nodiscard]] std::optional<Time> next_deadline() const;

  [[nodiscard]] std::vector<AdjacencyState> states() const;
  // Teardown: empties the table and lets go of every neighbour that a node keeps in this namespace.
  void release_all();

 private:
  struct Path {  // what the routes say
    std::uint32_t ifindex = 0;
    std::uint16_t mtu = 0;
    MacAddress source{};
    std::optional<IpAddress> next_hop;  // none: the link needs no neighbour, `destination` is known
    MacAddress destination{};
    bool operator==(const Path&) const = default;
  };
  struct Entry {
    bool outer = false, forward = false;  // neither: adopted with the table, not wanted again yet
    Time asked{};                         // forward or adopted: when it was last asked for
    std::optional<Path> path;
    bool forward_allowed = false;
    bool kept = false;          // by the kernel (NTF_EXT_MANAGED)
    std::optional<Time> retry;  // look up or probe again
    std::optional<Adjacency> published;
    std::string reason;
    [[nodiscard]] bool looked_up_as_outer() const { return outer || !forward; }
  };
  struct KeyOrder {
    bool operator()(const AdjacencyKey& a, const AdjacencyKey& b) const {
      return a.vrf != b.vrf ? a.vrf < b.vrf : a.address < b.address;
    }
  };
  using Entries = std::map<AdjacencyKey, Entry, KeyOrder>;

  void refresh_links(const NetworkChanges& changes);
  [[nodiscard]] Result<Link> link_of(std::uint32_t ifindex);
  [[nodiscard]] Result<std::uint32_t> vrf_device(std::uint32_t table);
  [[nodiscard]] Result<Path> find_path(const AdjacencyKey& key, bool forward);
  [[nodiscard]] Result<Path> path_by(const AdjacencyKey& key, const Route& route, const Link& link) const;

  void resolve_all(Time now);
  void resolve(const AdjacencyKey& key, Entry& entry, Time now);
  void find_neighbour(const AdjacencyKey& key, Entry& entry, Time now);
  void on_neighbour(const AdjacencyKey& key, Entry& entry, const Neighbour& neighbour, Time now);
  void publish(const AdjacencyKey& key, Entry& entry, const MacAddress& destination);
  void withdraw(const AdjacencyKey& key, Entry& entry, std::string reason);
  void let_go(Entry& entry);
  void expire_unasked(Time now);
  void make_room_for_forward();

  Netlink& netlink_;
  AdjacencyTable& table_;
  AdjacencyLimits limits_;
  std::set<std::uint32_t> own_, inside_;
  std::map<std::uint32_t, Link> links_;          // as the monitor keeps them current
  std::map<std::uint32_t, std::uint32_t> vrfs_;  // table to VRF device, likewise
  Entries entries_;
  std::optional<Time> resolve_due_;  // everything anew: bounded in rate, a routing daemon may be converging
  Time resolve_not_before_{};
};

}  // namespace postern::loader
