// Keeps the adjacency table true: resolves next hops from the kernel's routes and neighbours, keeps those neighbours alive,
// and follows every change. The one writer of the table (maps/adjacency.hpp).
//
// Outer peers are looked up with POSTERN_MARK, so that an `ip rule` can keep a default route into a tunnel from swallowing
// the tunnel's own packets; a route that leaves by one of our own tunnels is refused anyway (recursion). Forwarded inner
// destinations are looked up without the mark, and accepted only when they leave by an inside device: everything else is the
// kernel's to forward (local addresses, other tunnels, interfaces with a crypto map).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/fd.hpp"
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
  // Makes the table in a new memfd, or takes over the one that a living worker still maps (`existing`). Borrows `netlink`.
  [[nodiscard]] static Result<AdjacencyKeeper> create(Netlink& netlink, Fd existing = Fd{}, const AdjacencyLimits& limits = {});

  [[nodiscard]] int table_fd() const { return memfd_.get(); }
  [[nodiscard]] const AdjacencyTable& table() const { return *table_; }

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
  struct Path {  // what the routes say; mac and state are the neighbour's
    std::uint32_t ifindex = 0;
    std::uint16_t mtu = 0;
    MacAddress source{};
    std::optional<IpAddress> next_hop;  // none: the link needs no neighbour
    MacAddress destination{};
    bool operator==(const Path&) const = default;
  };
  struct Entry {
    bool outer = false, forward = false;
    Time forward_asked{};
    std::optional<Path> path;
    bool forward_allowed = false;
    bool published = false;
    bool kept_by_kernel = false;
    Time next_probe{};
    std::string reason = "not looked up yet";
  };
  struct KeyOrder {
    bool operator()(const AdjacencyKey& a, const AdjacencyKey& b) const {
      return a.vrf != b.vrf ? a.vrf < b.vrf : a.address < b.address;
    }
  };

  AdjacencyKeeper(Netlink& netlink, Fd memfd, Mapping mapping, const AdjacencyLimits& limits);
  void resolve_all(Time now);
  void resolve(const AdjacencyKey& key, Entry& entry, Time now);
  [[nodiscard]] Result<Path> find_path(const AdjacencyKey& key, bool forward);
  [[nodiscard]] Result<std::uint32_t> vrf_device(std::uint32_t table);
  void keep(Entry& entry, Time now);
  void on_neighbour(const AdjacencyKey& key, Entry& entry, const Neighbour& neighbour);
  void publish(const AdjacencyKey& key, Entry& entry);
  void withdraw(const AdjacencyKey& key, Entry& entry, std::string reason);
  void let_go(const Entry& entry);
  [[nodiscard]] bool kept_by_another(const Entry& entry) const;
  void expire_forward(Time now);
  void make_room_for_forward();

  Netlink* netlink_;
  Fd memfd_;
  Mapping mapping_;
  AdjacencyTable* table_;
  AdjacencyLimits limits_;
  std::set<std::uint32_t> own_, inside_;
  std::map<AdjacencyKey, Entry, KeyOrder> entries_;
  std::size_t forward_count_ = 0;
};

}  // namespace postern::loader
