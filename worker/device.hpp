// What a worker thread reads from and writes to: one entry for each add_device. Owner: one worker thread.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "base/net_types.hpp"
#include "maps/counters.hpp"
#include "worker/sa_channel.hpp"
#include "worker/umem.hpp"
#include "worker/xsk.hpp"

namespace postern {

struct Device {
  AddDevice spec;
  std::uint16_t index = 0;
  std::array<Fd, 2> files;  // sockets: IPv4 and IPv6, either may be missing; else the first alone
  DeviceCounters* counters = nullptr;

  // XSKs.
  std::optional<Xsk> xsk;
  FrameHolder holder = held_by_worker;
  std::uint32_t fill_target = 0;
  std::uint32_t unkicked = 0;         // packets put on the TX ring since the last kick
  bool kick_again = false;            // the last kick did not send everything
  std::uint32_t fruitless_kicks = 0;  // in a row, that moved nothing
  std::uint64_t kick_after_ns = 0;    // not before, when kick_again
  xdp_statistics seen{};              // statistics that are in the counters already

  // A packet that came in several descriptors, while the last is due.
  Packet chain;
  bool chain_open = false, chain_broken = false;

  // udp_encap, raw_esp, raw_ah: bit `part` is set while that socket may hold more; the local port of udp_encap.
  std::uint8_t readable = 0;
  std::uint16_t port = 0;
  bool failed = false;  // reported to posternd

  [[nodiscard]] DeviceKind kind() const { return spec.kind; }
  [[nodiscard]] bool is_xsk() const { return kind() == DeviceKind::xsk_outside || kind() == DeviceKind::xsk_inside; }
  [[nodiscard]] bool is_tun() const { return kind() == DeviceKind::tunnel || kind() == DeviceKind::steer; }
  // Read as packets of the cipher side that the kernel reassembled.
  [[nodiscard]] bool is_raw() const { return kind() == DeviceKind::raw_esp || kind() == DeviceKind::raw_ah; }
  [[nodiscard]] bool is_socket() const { return kind() == DeviceKind::udp_encap || is_raw(); }
  [[nodiscard]] bool has_families() const { return is_socket() || kind() == DeviceKind::raw_icmp; }
};

// Devices by index, and by what the data path asks for. Pointers stay valid until remove().
class DeviceTable {
 public:
  explicit DeviceTable(ThreadCounters& counters) : counters_(counters) {}

  // Takes a row of the counters for it. EEXIST: {kind, ifindex, queue} is here already; ENOSPC: no row is left.
  [[nodiscard]] Result<Device*> add(const AddDevice& spec);
  void remove(Device& device);

  [[nodiscard]] Device* at(std::uint16_t index) const {
    return index < max_worker_devices ? devices_[index].get() : nullptr;
  }
  [[nodiscard]] const std::vector<Device*>& all() const { return all_; }
  [[nodiscard]] const std::vector<Device*>& xsks() const { return xsks_; }
  [[nodiscard]] const std::vector<Device*>& sockets() const { return sockets_; }  // Device::is_socket()
  [[nodiscard]] bool any_inside() const { return !inside_.empty(); }

  // Where a sealed frame for this interface goes: an AF_PACKET socket where there is one, else the first XSK.
  [[nodiscard]] Device* outside(std::uint32_t ifindex) const { return find(outside_, ifindex); }
  [[nodiscard]] Device* inside(std::uint32_t ifindex) const { return find(inside_, ifindex); }
  [[nodiscard]] Device* tunnel(std::uint32_t ifindex) const { return find(tunnels_, ifindex); }
  [[nodiscard]] Device* steer() const { return steer_; }
  // Routing table of the plain side behind a tunnel or map interface.
  [[nodiscard]] std::uint32_t vrf_of(std::uint32_t ifindex) const;
  [[nodiscard]] Device* icmp(std::uint32_t vrf) const { return find(icmp_, vrf); }

 private:
  using ByNumber = std::unordered_map<std::uint32_t, Device*>;
  [[nodiscard]] static Device* find(const ByNumber& map, std::uint32_t number) {
    const auto found = map.find(number);
    return found == map.end() ? nullptr : found->second;
  }
  [[nodiscard]] std::optional<std::uint16_t> row_for(std::uint64_t identity) const;
  void index_roles();

  ThreadCounters& counters_;
  std::array<std::unique_ptr<Device>, max_worker_devices> devices_;
  std::vector<Device*> all_, xsks_, sockets_;
  ByNumber outside_, inside_, tunnels_, icmp_;
  Device* steer_ = nullptr;
};

// Adds to the counters what XDP_STATISTICS shows beyond `device.seen` (maps/counters.hpp says how losses are counted).
void refresh_xsk_counters(Device& device, ThreadCounters& counters);

}  // namespace postern
