#include "loader/worker_devices.hpp"

#include <algorithm>
#include <iterator>

#include "base/log.hpp"
#include "loader/sockets.hpp"

namespace postern::loader {
namespace {

// A frame holds the kernel's headroom, ours, and a packet; what is larger comes in several descriptors.
constexpr std::uint32_t frame_bytes = 4096;
constexpr std::uint32_t frame_headroom = 256;
constexpr std::uint32_t ethernet_bytes = 18;  // with one VLAN tag
static_assert(largest_path_mtu == frame_bytes - frame_headroom - ethernet_bytes);

AddDevice message_of(const PlannedDevice& device) {
  AddDevice message;
  message.kind = device.kind;
  message.thread = device.thread;
  message.ifindex = device.ifindex;
  message.queue = device.queue;
  message.flow = device.flow;
  message.vrf = device.vrf;
  message.arrives_at = device.arrives_at != 0 ? device.arrives_at : device.ifindex;
  message.mtu = device.mtu;
  message.mac = device.mac;
  std::copy_n(device.name.begin(), std::min(device.name.size(), message.name.size() - 1), message.name.begin());
  return message;
}

UmemLayout layout_of(const config::Dataplane& dataplane, std::uint32_t thread) {
  UmemLayout layout;
  layout.frames = dataplane.umem_frames;
  layout.frame_bytes = frame_bytes;
  layout.headroom = frame_headroom;
  layout.fill_entries = layout.completion_entries = dataplane.ring_entries;
  layout.rx_entries = layout.tx_entries = dataplane.ring_entries;
  layout.umem_id = thread + 1;
  return layout;
}

bool wants_scatter_gather(const PlannedDevice& xsk) {
  return xsk.mtu + ethernet_bytes + frame_headroom + xdp_headroom > frame_bytes;
}

Result<void> hand_over_sockets(const HandOver& to, const PlannedDevice& device) {
  std::vector<Fd> sockets;
  const auto keep = [&](Result<Fd> socket) -> Result<void> {
    if (!socket) return std::unexpected(std::move(socket.error()));
    sockets.push_back(std::move(*socket));
    return {};
  };
  const SocketScope scope{device.vrf_device, device.not_from};
  for (const Family family : {Family::v4, Family::v6}) {
    if (device.kind == DeviceKind::raw_icmp) POSTERN_CHECK(keep(open_raw_icmp(family, scope)));
    if (device.kind == DeviceKind::raw_esp) POSTERN_CHECK(keep(open_raw_esp(family, scope)));
    if (device.kind == DeviceKind::raw_ah) POSTERN_CHECK(keep(open_raw_ah(family, scope)));
    if (device.kind == DeviceKind::udp_encap)
      POSTERN_CHECK(keep(open_udp({family, device.port, scope, UdpTaker::worker})));
  }
  if (device.kind == DeviceKind::packet_out) POSTERN_CHECK(keep(open_packet_out(device.ifindex)));
  std::vector<int> fds;
  for (const Fd& socket : sockets) fds.push_back(socket.get());
  return to.worker.add_device(message_of(device), fds);
}

bool is_tun(DeviceKind kind) { return kind == DeviceKind::tunnel || kind == DeviceKind::steer; }

}  // namespace

Result<void> XskGroups::hand_over_thread(const HandOver& to, const std::vector<PlannedDevice>& xsks, ZeroCopy zero_copy,
                                         XskBindings& bindings) {
  const std::uint32_t thread = xsks.front().thread;
  auto found = groups_.find(thread);
  bool first = found == groups_.end();
  if (first) {
    POSTERN_TRY(group, XskGroup::create({layout_of(to.dataplane, thread), zero_copy,
                                         std::ranges::any_of(xsks, wants_scatter_gather)}));
    found = groups_.emplace(thread, std::move(group)).first;
  }
  XskGroup& group = found->second;
  for (const PlannedDevice& device : xsks) {
    POSTERN_TRY(socket, group.prepare({device.ifindex, device.queue, device.name}));
    AddDevice message = message_of(device);
    message.umem = socket.layout();
    const int fds[] = {socket.fd(), group.umem_memfd()};
    POSTERN_CHECK(to.worker.add_device(message, std::span(fds).first(first ? 2 : 1)));
    first = false;
    POSTERN_TRY(binding, group.bind(socket, to.xsk_map_fd, to.xsk_base(device.ifindex) + device.queue));
    bindings[device.ifindex] = binding;
  }
  return {};
}

bool XskGroups::can_join(const PlannedDevice& device) const {
  const auto group = groups_.find(device.thread);
  if (group == groups_.end() || group->second.empty()) return false;
  return !wants_scatter_gather(device) || group->second.scatter_gather();
}

void XskGroups::release(std::uint32_t ifindex) {
  for (auto& [thread, group] : groups_) group.release(ifindex);
  std::erase_if(groups_, [](const auto& one) { return one.second.empty(); });
}

Result<XskBindings> XskGroups::hand_over(const HandOver& to, std::span<const PlannedDevice> xsks) {
  std::map<std::uint32_t, std::vector<PlannedDevice>> threads;
  for (const PlannedDevice& xsk : xsks) threads[xsk.thread].push_back(xsk);
  XskBindings bindings;
  for (const auto& [thread, mine] : threads) {
    const bool joins = groups_.contains(thread);
    auto done = hand_over_thread(to, mine, ZeroCopy::automatic, bindings);
    if (!done && done.error().code == EOPNOTSUPP && !joins) {
      groups_.erase(thread);
      // One UMEM cannot serve a zero-copy and a copying device: all of the thread copy then.
      spdlog::info("AF_XDP zero-copy is not possible on every device of thread {}: copying on all", thread);
      for (const auto& group : groups_of(mine))
        POSTERN_CHECK(to.worker.remove_device(group.front().ifindex, group.front().kind));
      done = hand_over_thread(to, mine, ZeroCopy::off, bindings);
    }
    if (!done) return std::unexpected(done.error());
  }
  return bindings;
}

Result<void> hand_over_devices(const HandOver& to, std::span<const PlannedDevice> group) {
  if (!is_tun(group.front().kind)) {
    for (const PlannedDevice& device : group) POSTERN_CHECK(hand_over_sockets(to, device));
    return {};
  }
  POSTERN_TRY(queues, to.devices.open_queues(to.tun_spec(group.front())));
  if (queues.size() < group.size()) return fail(group.front().name + ": fewer queues than worker threads");
  for (std::size_t i = 0; i < group.size(); ++i) {
    const int fds[] = {queues[i].get()};
    POSTERN_CHECK(to.worker.add_device(message_of(group[i]), fds));
  }
  return {};
}

std::vector<std::vector<PlannedDevice>> groups_of(const std::vector<PlannedDevice>& devices) {
  std::map<std::pair<std::uint32_t, DeviceKind>, std::vector<PlannedDevice>> groups;
  for (const PlannedDevice& device : devices) groups[{device.ifindex, device.kind}].push_back(device);
  std::vector<std::vector<PlannedDevice>> out;
  for (auto& [key, group] : groups) {
    std::ranges::sort(group);
    out.push_back(std::move(group));
  }
  return out;
}

DeviceDifference difference(const std::vector<PlannedDevice>& before, const std::vector<PlannedDevice>& after,
                            const std::function<bool(const PlannedDevice&)>& can_join) {
  const auto xsks_of = [](const std::vector<PlannedDevice>& all) {
    std::vector<PlannedDevice> out;
    std::ranges::copy_if(all, std::back_inserter(out), &PlannedDevice::is_xsk);
    std::ranges::sort(out);
    return out;
  };
  const auto xsks_before = xsks_of(before), xsks_after = xsks_of(after);
  // All stay or go together, unless each new one finds a UMEM that it can join.
  const bool one_by_one = xsks_before == xsks_after || std::ranges::all_of(xsks_after, can_join);
  const auto missing_in = [&](const std::vector<PlannedDevice>& from, const std::vector<PlannedDevice>& other) {
    const auto others = groups_of(other);
    std::vector<PlannedDevice> out;
    for (const auto& group : groups_of(from)) {
      const bool kept = (one_by_one || !group.front().is_xsk()) && std::ranges::find(others, group) != others.end();
      if (!kept) out.insert(out.end(), group.begin(), group.end());
    }
    return out;
  };
  return {missing_in(before, after), missing_in(after, before)};
}

}  // namespace postern::loader
