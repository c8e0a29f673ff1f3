// The devices and sockets of a plan, and the worker thread that serves each.
#include <algorithm>
#include <set>

#include "loader/planner.hpp"

namespace postern::loader {

void Planner::add_devices() {
  for (PlannedInterface& interface : plan_.interfaces) add_interface_devices(interface, *facts_.find(interface.name));
  if (const LinkFacts* const steer = facts_.find(facts_.steer)) add_queues(DeviceKind::steer, *steer, 0, 0);
  add_sockets();
}

// ESP arrives in front-door VRFs; ICMP errors leave in the VRF of the plain side.
void Planner::add_sockets() {
  std::set<std::uint32_t> fronts{0}, plains{0};
  for (const PlannedInterface& interface : plan_.interfaces) {
    plains.insert(interface.vrf);
    if ((interface.flags & POSTERN_IF_OUTSIDE) != 0) fronts.insert(interface.vrf);
  }
  std::set<std::pair<std::uint32_t, std::uint16_t>> ports;
  if (plan_.negotiates)  // what the kernel reassembles of UDP-encapsulated ESP (RFC 3948)
    for (const std::uint32_t vrf : fronts) ports.emplace(vrf, std::uint16_t{4500});
  for (const PlannedSaPair& pair : plan_.sas)
    if (pair.inbound.parameters.udp_encapsulation)
      ports.emplace(pair.inbound.parameters.fvrf, pair.inbound.parameters.local_port);
  for (const std::uint32_t vrf : plains)
    for (std::uint32_t thread = 0; thread < plan_.threads; ++thread)
      add_socket("raw icmp", DeviceKind::raw_icmp, vrf, thread);
  for (const std::uint32_t vrf : fronts) {
    add_socket("raw esp", DeviceKind::raw_esp, vrf, 0);
    add_socket("raw ah", DeviceKind::raw_ah, vrf, 0);
  }
  std::uint32_t number = 0;  // `queue`: the worker knows a device by kind, ifindex and queue
  for (const auto& [vrf, port] : ports)
    add_socket("udp " + std::to_string(port), DeviceKind::udp_encap, vrf, 0, port, number++);
}

void Planner::add_interface_devices(PlannedInterface& interface, const LinkFacts& link) {
  if ((interface.flags & POSTERN_IF_TUNNEL) != 0)
    return add_queues(DeviceKind::tunnel, link, interface.flow, interface.vrf);
  const bool outside = (interface.flags & POSTERN_IF_OUTSIDE) != 0;
  // A bond only sends: one ring a thread. It receives by its ports, of which none sends.
  interface.queues = interface.has_ports ? std::min(link.queues, plan_.threads) : link.queues;
  for (std::uint32_t queue = 0; queue < interface.queues; ++queue) {
    PlannedDevice device = device_of(outside ? DeviceKind::xsk_outside : DeviceKind::xsk_inside, link, interface.vrf);
    device.queue = queue;
    device.thread = queue % plan_.threads;
    if (const auto bond = std::ranges::find(plan_.interfaces, interface.part_of, &PlannedInterface::name);
        outside && bond != plan_.interfaces.end())
      device.arrives_at = bond->ifindex;
    plan_.devices.push_back(std::move(device));
  }
  // Instead of AF_XDP, or for a thread that has no queue here.
  if (outside)
    for (std::uint32_t thread = link.needs_packet_socket ? 0 : link.queues; thread < plan_.threads; ++thread) {
      PlannedDevice device = device_of(DeviceKind::packet_out, link, interface.vrf);
      device.thread = thread;
      plan_.devices.push_back(std::move(device));
    }
}

PlannedDevice Planner::device_of(DeviceKind kind, const LinkFacts& link, std::uint32_t vrf) {
  PlannedDevice device;
  device.kind = kind;
  device.name = link.name;
  device.ifindex = link.ifindex;
  device.vrf = vrf;
  device.mtu = link.mtu;
  device.mac = link.mac;
  return device;
}

void Planner::add_queues(DeviceKind kind, const LinkFacts& link, std::uint32_t flow, std::uint32_t vrf) {
  for (std::uint32_t thread = 0; thread < plan_.threads; ++thread) {
    PlannedDevice device = device_of(kind, link, vrf);
    device.queue = device.thread = thread;
    device.flow = flow;
    plan_.devices.push_back(std::move(device));
  }
}

// Named after its VRF device, whose ifindex it bears. Packets of a VRF are none of the main table's.
void Planner::add_socket(const std::string& name, DeviceKind kind, std::uint32_t vrf, std::uint32_t thread,
                         std::uint16_t port, std::uint32_t queue) {
  PlannedDevice device;
  const VrfFacts* const front = facts_.vrf_of_table(vrf);
  if (vrf != 0 && front == nullptr) return;  // check_vrfs() has said so
  device.name = vrf == 0 ? name : name + " " + front->name;
  device.vrf = vrf;
  if (vrf != 0) {
    device.ifindex = front->ifindex;
    device.vrf_device = front->name;
  } else if (kind != DeviceKind::raw_icmp) {  // which receives nothing
    for (const VrfFacts& other : facts_.vrfs) device.not_from.push_back(other.ifindex);
  }
  device.kind = kind;
  device.thread = thread;
  device.port = port;
  device.queue = queue;
  plan_.devices.push_back(std::move(device));
}

}  // namespace postern::loader
