#include "worker/device.hpp"

#include <algorithm>
#include <utility>

namespace postern {
namespace {

std::uint64_t identity_of(const AddDevice& spec) { return device_identity(spec.kind, spec.ifindex, spec.queue); }

// raw_icmp sockets are one a routing table, whatever their ifindex says.
bool same_place(const AddDevice& a, const AddDevice& b) {
  return identity_of(a) == identity_of(b) && (a.kind != DeviceKind::raw_icmp || a.vrf == b.vrf);
}

// Statistics only grow; `seen` is brought up to `now`.
std::uint64_t growth(__u64 now, __u64& seen) { return now - std::exchange(seen, std::max(now, seen)); }

}  // namespace

Result<Device*> DeviceTable::add(const AddDevice& spec) {
  if (std::ranges::any_of(all_, [&](const Device* device) { return same_place(device->spec, spec); }))
    return fail(std::string("device is here already: ") + spec.name.data(), EEXIST);
  const auto row = row_for(identity_of(spec));
  if (!row) return fail("no counter row is left for another device of this thread", ENOSPC);
  auto device = std::make_unique<Device>();
  device->spec = spec;
  device->index = *row;
  device->counters = &counters_.devices[*row];
  device->counters->identity.store(identity_of(spec), std::memory_order_relaxed);
  devices_[*row] = std::move(device);
  index_roles();
  return devices_[*row].get();
}

void DeviceTable::remove(Device& device) {
  auto gone = std::move(devices_[device.index]);
  index_roles();
}

std::optional<std::uint16_t> DeviceTable::row_for(std::uint64_t identity) const {
  std::optional<std::uint16_t> fresh, reused;
  for (std::uint16_t row = 0; row < max_worker_devices; ++row) {
    if (devices_[row] != nullptr) continue;
    const auto earlier = counters_.devices[row].identity.load(std::memory_order_relaxed);
    if (earlier == identity) return row;
    if (earlier == 0 && !fresh) fresh = row;
    if (!reused) reused = row;
  }
  return fresh ? fresh : reused;
}

void DeviceTable::index_roles() {
  for (auto* list : {&all_, &xsks_, &sockets_}) list->clear();
  for (ByNumber* map : {&outside_, &inside_, &tunnels_, &icmp_}) map->clear();
  steer_ = nullptr;
  for (const auto& owned : devices_) {
    Device* const device = owned.get();
    if (device == nullptr) continue;
    all_.push_back(device);
    if (device->is_xsk()) xsks_.push_back(device);
    if (device->is_socket()) sockets_.push_back(device);
    switch (device->kind()) {
      case DeviceKind::xsk_outside: outside_.try_emplace(device->spec.ifindex, device); break;
      case DeviceKind::packet_out: outside_.insert_or_assign(device->spec.ifindex, device); break;
      case DeviceKind::xsk_inside: inside_.try_emplace(device->spec.ifindex, device); break;
      case DeviceKind::tunnel: tunnels_.try_emplace(device->spec.ifindex, device); break;
      case DeviceKind::raw_icmp: icmp_.try_emplace(device->spec.vrf, device); break;
      case DeviceKind::steer: steer_ = device; break;
      case DeviceKind::udp_encap:
      case DeviceKind::raw_esp:
      case DeviceKind::raw_ah: break;
    }
  }
  // An AF_PACKET socket goes before the XSKs of its interface, in whatever order they came.
  for (Device* const device : all_)
    if (device->kind() == DeviceKind::packet_out) outside_[device->spec.ifindex] = device;
}

std::uint32_t DeviceTable::vrf_of(std::uint32_t ifindex) const {
  const Device* const device = tunnel(ifindex) != nullptr ? tunnel(ifindex) : outside(ifindex);
  return device == nullptr ? 0 : device->spec.vrf;
}

void refresh_xsk_counters(Device& device, ThreadCounters& counters) {
  const auto now = xsk_statistics(device.files[0].get());
  if (!now) return;
  xdp_statistics& seen = device.seen;
  const auto dropped = growth(now->rx_dropped, seen.rx_dropped);
  const auto ring_full = growth(now->rx_ring_full, seen.rx_ring_full);
  const auto tx_invalid = growth(now->tx_invalid_descs, seen.tx_invalid_descs);
  count(device.counters->kernel_rx_dropped, dropped);
  count(device.counters->kernel_rx_ring_full, ring_full);
  count(device.counters->kernel_rx_fill_empty, growth(now->rx_fill_ring_empty_descs, seen.rx_fill_ring_empty_descs));
  count(device.counters->kernel_rx_invalid, growth(now->rx_invalid_descs, seen.rx_invalid_descs));
  count(device.counters->kernel_tx_invalid, tx_invalid);
  count(device.counters->rx_packets, dropped + ring_full);
  count(counters.drops[POSTERN_DROP_rx_overrun], dropped + ring_full);
  count(counters.drops[POSTERN_DROP_invalid_descriptor], tx_invalid);
  device.xsk->refused(static_cast<std::uint32_t>(tx_invalid));
}

}  // namespace postern
