#include "worker/thread_input.hpp"

#include <array>
#include <cerrno>
#include <cstring>

#include "worker/device_socket.hpp"
#include "worker/tun_queue.hpp"

namespace postern {
namespace {

constexpr std::size_t prefetch_ahead = 4;
constexpr int socket_batch = 16;
constexpr std::uint32_t home_offset = 256;  // where a packet begins in a frame it was copied to

}  // namespace

bool ThreadInput::more() const {
  for (const Device* const device : context_.devices.xsks())
    if (device->xsk->rx_ready()) return true;
  for (const Device* const device : context_.devices.sockets())
    if (device->readable != 0) return true;
  return false;
}

void ThreadInput::take_batches() {
  if (pipeline_ == nullptr) return;
  for (Device* const device : context_.devices.xsks()) take_batch(*device);
  for (Device* const device : context_.devices.sockets())
    for (const std::uint8_t part : {std::uint8_t{0}, std::uint8_t{1}})
      if ((device->readable >> part & 1) != 0) take_socket(*device, part);
}

void ThreadInput::take_batch(Device& device) {
  Xsk& xsk = *device.xsk;
  std::array<xdp_desc, packet_batch> batch;
  const std::uint32_t received = xsk.receive(batch);
  std::uint64_t bytes = 0;
  pipeline_->set_crowded(xsk.rx_waiting() >= packet_batch);
  for (std::uint32_t i = 0; i < received; ++i) {
    if (i + prefetch_ahead < received) __builtin_prefetch(xsk.umem().at(batch[i + prefetch_ahead].addr));
    bytes += batch[i].len;
    take_descriptor(device, batch[i]);
  }
  if (received > 0) {
    count(device.counters->rx_bytes, bytes);
    xsk.reclaim(*device.counters);
  }
  if (xsk.refill(device.fill_target)) context_.ring.wake_receive({Event::kicked, 0, device.index, 0});
}

void ThreadInput::take_descriptor(Device& device, const xdp_desc& entry) {
  Umem& umem = device.xsk->umem();
  const FrameAddress frame = umem.frame_of(entry.addr);
  Packet packet;
  packet.buffer = umem.at(frame);
  packet.capacity = umem.frame_bytes();
  packet.offset = static_cast<std::uint32_t>(entry.addr - frame);
  packet.size = entry.len;
  packet.frame = frame;
  packet.device = device.index;
  const bool last = (entry.options & xdp_packet_continues) == 0;
  if (!last || device.chain_open) [[unlikely]]
    return chain(device, packet, last);
  count(device.counters->rx_packets);
  take_frame(device, packet);
}

// A packet in several descriptors is put together in the first one's frame, where it fits.
void ThreadInput::chain(Device& device, Packet packet, bool last) {
  FramePool& pool = device.xsk->umem().pool();
  if (!device.chain_open) {
    device.chain = packet;
    device.chain_open = true;
    device.chain_broken = false;
    return;
  }
  Packet& whole = device.chain;
  if (packet.size <= whole.tailroom() && !device.chain_broken) {
    std::memcpy(whole.data() + whole.size, packet.data(), packet.size);
    whole.size += packet.size;
  } else {
    device.chain_broken = true;
  }
  pool.give(packet.frame);
  if (!last) return;
  device.chain_open = false;
  count(device.counters->rx_packets);
  if (!device.chain_broken) return take_frame(device, whole);
  context_.drop(Drop::oversize);
  pool.give(whole.frame);
}

// From another UMEM into a frame that the pipeline may keep.
bool ThreadInput::bring_home(Device& device, Packet& packet) {
  Umem& from = device.xsk->umem();
  if (&from == context_.home) return true;
  const FrameAddress frame =
      packet.size <= context_.home->frame_bytes() - home_offset ? context_.home->pool().take() : no_frame;
  const Packet foreign = packet;
  if (frame != no_frame) {
    packet.buffer = context_.home->at(frame);
    packet.capacity = context_.home->frame_bytes();
    packet.offset = home_offset;
    packet.frame = frame;
    // With the stamp, which lies in front of an inside packet.
    std::memcpy(packet.data() - sizeof(postern_stamp), foreign.data() - sizeof(postern_stamp),
                packet.size + sizeof(postern_stamp));
  }
  from.pool().give(foreign.frame);
  if (frame == no_frame) context_.drop(Drop::no_frame);
  return frame != no_frame;
}

// An Ethernet frame; XDP sent only IP here, with the stamp in front on an inside interface.
void ThreadInput::take_frame(Device& device, Packet& packet) {
  if (packet.size <= ethernet_header || packet.headroom() < sizeof(postern_stamp)) {
    context_.drop(Drop::unparseable);
    return device.xsk->umem().pool().give(packet.frame);
  }
  if (!bring_home(device, packet)) return;
  if (device.kind() == DeviceKind::xsk_outside) {
    if (context_.capture.wants(CaptureSide::cipher)) [[unlikely]]
      capture_cipher(device, packet);
    packet.pull(ethernet_header);
    packet.interface = device.spec.arrives_at;
    return pipeline_->inbound(packet, device.spec.vrf);
  }
  postern_stamp stamp;
  std::memcpy(&stamp, packet.data() - sizeof stamp, sizeof stamp);
  packet.pull(ethernet_header);
  packet.flow = stamp.flow;
  packet.generation = stamp.generation;
  packet.bypassed_kernel = true;
  if (context_.capture.wants(CaptureSide::plain)) [[unlikely]]
    capture_plain(device, packet.bytes());
  context_.input_vrf = device.spec.vrf;
  pipeline_->outbound(packet);
}

void ThreadInput::capture_cipher(const Device& device, const Packet& packet) {
  context_.capture.record({CaptureSide::cipher, false, device.spec.ifindex, packet.bytes()});
}

void ThreadInput::capture_plain(const Device& device, Bytes ip) {
  context_.capture.record({CaptureSide::plain, true, device.spec.ifindex, ip});
}

void ThreadInput::packet(const Completion& done) {
  Device* const device = context_.devices.at(done.token.device);
  if (done.result <= 0 || device == nullptr || pipeline_ == nullptr) {
    if (done.buffer != no_buffer) context_.ring.recycle(done.buffer);
    if (device != nullptr && done.result < 0) context_.report_failure(*device);
    return;
  }
  const Bytes bytes(context_.ring.buffer(done.buffer), static_cast<std::size_t>(done.result));
  const auto read =
      device->kind() == DeviceKind::steer ? parse_steer_read(bytes) : parse_tunnel_read(bytes, device->spec.flow);
  count(device->counters->rx_packets);
  if (read) {
    count(device->counters->rx_bytes, read->ip.size());
    if (context_.capture.wants(CaptureSide::plain)) [[unlikely]]
      capture_plain(*device, read->ip);
    context_.input_vrf = device->spec.vrf;
    pipeline_->outbound_super(read->offload, read->ip, read->flow, read->generation);
  } else {
    context_.drop(Drop::unparseable);
  }
  context_.ring.recycle(done.buffer);
}

void ThreadInput::readable(const Completion& event) {
  Device* const device = context_.devices.at(event.token.device);
  if (device == nullptr) return;
  if (event.result < 0) return context_.report_failure(*device);
  if (device->is_socket()) device->readable = static_cast<std::uint8_t>(device->readable | 1U << event.token.part);
}

void ThreadInput::take_socket(Device& device, std::uint8_t part) {
  FramePool& pool = context_.home->pool();
  for (int i = 0; i < socket_batch; ++i) {
    Packet packet;
    packet.frame = pool.take();
    if (packet.frame == no_frame) return;
    packet.buffer = pool.at(packet.frame);
    packet.capacity = pool.frame_bytes();
    packet.device = device.index;
    const SocketRead read = read_socket(device, part, packet);
    if (read == SocketRead::packet) {
      pipeline_->inbound(packet, device.spec.vrf);
      continue;
    }
    pool.give(packet.frame);
    if (read == SocketRead::dropped) {
      context_.drop(Drop::fragment_outer);
      continue;
    }
    device.readable = static_cast<std::uint8_t>(device.readable & ~(1U << part));
    if (read == SocketRead::failed) context_.report_failure(device);
    return;
  }
}

}  // namespace postern
