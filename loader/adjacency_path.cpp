// From a destination to a device and a next hop: the routing half of loader/adjacency_keeper.hpp.
#include <algorithm>
#include <cerrno>
#include <limits>

#include <fmt/format.h>

#include "loader/adjacency_keeper.hpp"
#include "maps/abi.h"

namespace postern::loader {
namespace {

std::uint16_t smaller_mtu(std::uint32_t route, std::uint32_t link) {
  const std::uint32_t mtu = route == 0 ? link : std::min(route, link);
  return static_cast<std::uint16_t>(std::min<std::uint32_t>(mtu, std::numeric_limits<std::uint16_t>::max()));
}

}  // namespace

void AdjacencyKeeper::refresh_links(const NetworkChanges& changes) {
  if (changes.resync) links_.clear();
  for (const auto ifindex : changes.gone) links_.erase(ifindex);
  for (const auto ifindex : changes.links) links_.erase(ifindex);
  if (changes.resync || !changes.gone.empty() || !changes.links.empty()) vrfs_.clear();
}

Result<Link> AdjacencyKeeper::link_of(std::uint32_t ifindex) {
  if (const auto found = links_.find(ifindex); found != links_.end()) return found->second;
  POSTERN_TRY(link, netlink_.link(ifindex));
  return links_.insert_or_assign(ifindex, std::move(link)).first->second;
}

Result<std::uint32_t> AdjacencyKeeper::vrf_device(std::uint32_t table) {
  if (table == 0 || table == main_table) return 0U;
  if (const auto known = vrfs_.find(table); known != vrfs_.end()) return known->second;
  POSTERN_TRY(all, netlink_.links());
  for (const Link& link : all)
    if (link.kind == "vrf") vrfs_[link.vrf_table] = link.ifindex;
  const auto found = vrfs_.find(table);
  if (found == vrfs_.end()) return fail(fmt::format("no VRF device has table {}", table), ENODEV);
  return found->second;
}

Result<AdjacencyKeeper::Path> AdjacencyKeeper::find_path(const AdjacencyKey& key, bool forward) {
  POSTERN_TRY(vrf, vrf_device(key.vrf));
  POSTERN_TRY(route,
              netlink_.lookup({.destination = key.address, .mark = forward ? 0U : POSTERN_MARK, .vrf_ifindex = vrf}));
  // A VRF without a route of its own falls through to the rules behind it, and so to the main table.
  if (vrf != 0 && route.table != key.vrf) return fail(fmt::format("table {} has no route to it", key.vrf), ENETUNREACH);
  if (route.type != RouteType::unicast)
    return fail(route.type == RouteType::local ? "it is an address of this node" : "not a unicast destination");
  POSTERN_TRY(link, link_of(route.ifindex));
  if (own_.contains(link.ifindex)) return fail(fmt::format("its route leaves by {}: recursive routing", link.name));
  if (forward && !inside_.contains(link.ifindex))
    return fail(fmt::format("leaves by {}, which is not an inside interface: the kernel forwards it", link.name));
  return path_by(key, route, link);
}

Result<AdjacencyKeeper::Path> AdjacencyKeeper::path_by(const AdjacencyKey& key, const Route& route,
                                                       const Link& link) const {
  if (link.loopback()) return fail(fmt::format("leaves by {}", link.name));
  if (!link.up() || !link.carrier()) return fail(fmt::format("{} is down", link.name));
  Path path{.ifindex = link.ifindex,
            .mtu = smaller_mtu(route.mtu, link.mtu),
            .source = link.mac,
            .next_hop = std::nullopt,
            .destination = {}};
  // Header-less links have no addresses; a NOARP Ethernet is what the kernel makes of it: its own address on both
  // sides.
  if (!link.ethernet()) return path;
  if (link.no_arp()) {
    path.destination = link.mac;
    return path;
  }
  path.next_hop = route.gateway.value_or(key.address);
  return path;
}

}  // namespace postern::loader
