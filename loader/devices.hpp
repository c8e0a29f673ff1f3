// The node's own network devices (TunnelN, the steer TAP) and what it adds to the kernel's tables, with a record of
// each so that teardown undoes exactly that.
//
// Fail closed (SV-15 and the design's rule): devices are persistent; a TUN without a reader drops what is routed to it,
// and every route into a tunnel has an `unreachable` twin with a worse metric, so that losing the device, or only its
// "up", never lets the prefix fall through to a default route.
//
// rp_filter is not touched anywhere. On TunnelN it judges inner packets as the operator wants. On the steer TAP it
// never runs: TC ingress there redirects every packet before IP input sees it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/fd.hpp"
#include "base/net_types.hpp"
#include "base/result.hpp"
#include "loader/netlink.hpp"

namespace postern::loader {

// One thing that was made. Undoing what is gone already succeeds.
struct Undo {
  std::string kind = {};    // "device", "address", "route", "unreachable", "rule", "master"
  std::string name = {};    // device; unreachable: of the tunnel it guards
  std::string prefix = {};  // address, route, unreachable
  std::uint32_t table = 0;
  std::uint32_t metric = 0;  // route, unreachable; rule: priority
  std::uint32_t mark = 0;    // rule
  bool operator==(const Undo&) const = default;
};
void to_json(nlohmann::json& json, const Undo& undo);
void from_json(const nlohmann::json& json, Undo& undo);
using UndoList = std::vector<Undo>;

// Worse than any metric an operator or a routing daemon uses, better than nothing.
inline constexpr std::uint32_t unreachable_metric = 4278198272;

struct TunSpec {
  std::string name;          // at most 15 characters
  bool tap = false;          // true: the steer TAP
  bool ipv6 = true;          // TUN: carries IPv6; otherwise IPv6 is switched off on it
  std::uint32_t queues = 1;  // > 1: IFF_MULTI_QUEUE
  std::uint32_t mtu = 1500;
  std::uint32_t tx_queue_length = 4096;  // at least; packets that wait for the worker, super-packets among them
  bool bring_up = true;                  // false: a device that was there stays down, as an operator may want it
};

struct TunDevice {
  std::uint32_t ifindex = 0;
  bool created = false;  // false: a device of this node was there and was adopted
};

class Devices {
 public:
  // `node` marks what is ours (IFLA_IFALIAS "postern NODE"). Borrows `netlink`.
  Devices(Netlink& netlink, std::string node) : netlink_(netlink), node_(std::move(node)) {}

  // "pn-<node>", cut to 15 characters with a hash at the end where it would be longer.
  [[nodiscard]] static std::string steer_name(std::string_view node);

  // Makes or adopts a persistent device with its MTU, queue length and flags, and sets it up. A device of ours whose
  // kind or queue mode differs is made again; a queue that is longer already stays, since the kernel drops what waits
  // in one that it shortens. EEXIST: a device of that name belongs to somebody else.
  [[nodiscard]] Result<TunDevice> ensure_tun(const TunSpec& spec, UndoList& made);
  // One descriptor for each queue: IFF_NO_PI, IFF_VNET_HDR with a 10-byte header, offloads on, non-blocking. Waits up
  // to 2 s for an earlier owner's descriptors to go (EBUSY).
  [[nodiscard]] Result<std::vector<Fd>> open_queues(const TunSpec& spec);

  // Adds the address if the device has not got it; recorded only when added.
  [[nodiscard]] Result<void> ensure_address(std::string_view device, const Prefix& address, UndoList& made);
  // Removes addresses of `device` that are in `made` but not in `wanted`, and their records.
  [[nodiscard]] Result<void> keep_only_addresses(std::string_view device, const std::vector<Prefix>& wanted,
                                                 UndoList& made);

  // The route and its unreachable twin; the twin first, and alone while the device is down. `table` 0 is main.
  [[nodiscard]] Result<void> ensure_route(std::string_view device, const Prefix& prefix, std::uint32_t table,
                                          UndoList& made);
  [[nodiscard]] Result<void> ensure_rule(const Rule& rule, UndoList& made);
  // Enslaves `device` to the VRF device `vrf`.
  [[nodiscard]] Result<void> ensure_vrf(std::string_view device, std::string_view vrf, UndoList& made);

  [[nodiscard]] Result<void> undo(const Undo& one);
  // Everything, newest first, going on after a failure; the first error is returned and what failed stays in `made`.
  [[nodiscard]] Result<void> undo_all(UndoList& made);
  // Teardown without a record: every device with this node's mark. Their names.
  [[nodiscard]] Result<std::vector<std::string>> remove_marked_devices();

 private:
  [[nodiscard]] std::string mark() const { return "postern " + node_; }
  [[nodiscard]] Result<std::optional<Link>> own_device(const TunSpec& spec);
  [[nodiscard]] Result<void> create_tun(const TunSpec& spec);
  [[nodiscard]] Result<void> configure_tun(const TunSpec& spec, const Link& link, bool bring_up);
  [[nodiscard]] Result<void> undo_on_link(const Undo& one);

  Netlink& netlink_;
  std::string node_;
};

}  // namespace postern::loader
