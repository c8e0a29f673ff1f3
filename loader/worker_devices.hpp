// Makes the descriptors of planned devices and hands them to the worker; posternd keeps no copy. Used by the node
// alone.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "config/model.hpp"
#include "loader/devices.hpp"
#include "loader/plan.hpp"
#include "loader/worker_link.hpp"
#include "loader/xsk_setup.hpp"

namespace postern::loader {

struct HandOver {
  WorkerLink& worker;
  Devices& devices;
  const config::Dataplane& dataplane;
  int xsk_map_fd = -1;
  // Index of an interface's queue 0 in `xsks`.
  std::function<std::uint32_t(std::uint32_t ifindex)> xsk_base;
  // How a TUN or TAP of the plan was made.
  std::function<TunSpec(const PlannedDevice&)> tun_spec;
};

// What came of the AF_XDP sockets, by ifindex: for `show dataplane` and the log.
using XskBindings = std::map<std::uint32_t, XskBinding>;

// The AF_XDP sockets that this posternd has made for the worker: those of one thread share a UMEM, which a further one
// joins as long as a group of its thread is known here. After an adoption none is, and all are made anew together.
class XskGroups {
 public:
  // EOPNOTSUPP: one joins a UMEM of zero-copy devices and cannot do that itself: forget(), and hand over all of them.
  [[nodiscard]] Result<XskBindings> hand_over(const HandOver& to, std::span<const PlannedDevice> xsks);
  // Whether `device` can come beside the sockets of its thread that stay.
  [[nodiscard]] bool can_join(const PlannedDevice& device) const;
  void release(std::uint32_t ifindex);
  void forget() { groups_.clear(); }

 private:
  [[nodiscard]] Result<void> hand_over_thread(const HandOver& to, const std::vector<PlannedDevice>& xsks,
                                              ZeroCopy zero_copy, XskBindings& bindings);
  std::map<std::uint32_t, XskGroup> groups_;  // by thread
};

// Every descriptor of one (ifindex, kind), which is what RemoveDevice takes away; not an XSK.
[[nodiscard]] Result<void> hand_over_devices(const HandOver& to, std::span<const PlannedDevice> group);

// What must go and what must come, to turn one set into the other. XSKs stand or fall together, where a new one cannot
// join those of its thread.
struct DeviceDifference {
  std::vector<PlannedDevice> removed, added;  // whole (ifindex, kind) groups
};
[[nodiscard]] DeviceDifference difference(
    const std::vector<PlannedDevice>& before, const std::vector<PlannedDevice>& after,
    const std::function<bool(const PlannedDevice&)>& can_join = [](const PlannedDevice&) { return false; });
[[nodiscard]] std::vector<std::vector<PlannedDevice>> groups_of(const std::vector<PlannedDevice>& devices);

}  // namespace postern::loader
