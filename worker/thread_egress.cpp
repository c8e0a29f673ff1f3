#include "worker/thread_egress.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "worker/acquire.hpp"
#include "worker/parse.hpp"

namespace postern {
namespace {

constexpr std::uint32_t kick_at = 64;
constexpr int ring_full_retries = 4;
constexpr std::uint32_t patient_kicks = 8;          // failed kicks without any progress, then
constexpr std::uint64_t kick_pause_ns = 1'000'000;  // the kernel gets this long before the next one

Token token(const Device& device, Event event, std::uint32_t detail = 0) { return {event, 0, device.index, detail}; }

// The end of the run of entries that `same` as the first.
template <class T, class Same>
std::size_t run_length(std::span<T> entries, Same same) {
  std::size_t end = 1;
  while (end < entries.size() && same(entries[0], entries[end])) ++end;
  return end;
}

}  // namespace

void ThreadEgress::transmit(std::span<WirePacket> packets) {
  if (context_.capture.wants(CaptureSide::cipher)) [[unlikely]]
    for (const WirePacket& out : packets)
      context_.capture.record({CaptureSide::cipher, true, out.ifindex, out.packet.bytes()});
  while (!packets.empty()) {
    const std::size_t length =
        std::min(packet_batch,
                 run_length(packets, [](const WirePacket& a, const WirePacket& b) { return a.ifindex == b.ifindex; }));
    std::array<Packet*, packet_batch> refs;
    for (std::size_t i = 0; i < length; ++i) refs[i] = &packets[i].packet;
    const PacketRefs run(refs.data(), length);
    Device* const out = context_.devices.outside(packets[0].ifindex);
    if (out == nullptr)
      drop_packets(run, Drop::tx_failed, nullptr);
    else if (out->is_xsk())
      send_xsk(*out, run);
    else
      send_packet_socket(*out, run);
    packets = packets.subspan(length);
  }
}

void ThreadEgress::peer_moved(SaSlot& slot, const SaPeer& peer) {
  if (context_.moves.may_ask(slot.parameters.spi, context_.now_ns))
    context_.outbox.put(PeerNews{&slot, slot.reuse.load(std::memory_order_relaxed), peer});
}

void ThreadEgress::acquire(std::uint32_t flow, Bytes ip_packet) {
  if (!context_.acquires.may_ask(flow, context_.now_ns)) return;
  if (const auto wanted = describe_acquire(flow, context_.input_vrf, ip_packet)) context_.outbox.put(*wanted);
}

void ThreadEgress::drop_packets(PacketRefs packets, Drop reason, Device* refused_by) {
  if (packets.empty()) return;
  context_.drop(reason, packets.size());
  if (refused_by != nullptr) count(refused_by->counters->tx_refused, packets.size());
  for (const Packet* const packet : packets) context_.home->pool().give(packet->frame);
}

void ThreadEgress::send_xsk(Device& out, PacketRefs packets) {
  for (int attempt = 0;; ++attempt) {
    out.xsk->reclaim(*out.counters);
    packets = packets.subspan(put_packets(out, packets));
    if (packets.empty() || attempt == ring_full_retries) break;
    kick_now(out);
  }
  drop_packets(packets, Drop::tx_full, &out);
  if (out.unkicked >= kick_at) kick_now(out);
}

std::size_t ThreadEgress::put_packets(Device& out, PacketRefs packets) {
  const std::size_t fitting = std::min<std::size_t>(out.xsk->room(), packets.size());
  if (fitting == 0) return 0;
  if (&out.xsk->umem() == context_.home)
    for (Packet* const packet : packets.first(fitting))
      out.xsk->put(context_.home->address_of(packet->data()), packet->size);
  else
    for (Packet* const packet : packets.first(fitting)) put_packet(out, *packet);
  out.xsk->publish();
  out.unkicked += static_cast<std::uint32_t>(fitting);
  return fitting;
}

// To a socket of another UMEM, by a copy.
void ThreadEgress::put_packet(Device& out, Packet& packet) {
  Umem& umem = out.xsk->umem();
  const FrameAddress frame = packet.size <= umem.frame_bytes() ? umem.pool().take() : no_frame;
  if (frame == no_frame) {
    Packet* const refused = &packet;
    return drop_packets({&refused, 1}, Drop::no_frame, &out);
  }
  std::memcpy(umem.at(frame), packet.data(), packet.size);
  out.xsk->put(frame, packet.size);
  context_.home->pool().give(packet.frame);
}

void ThreadEgress::send_packet_socket(Device& out, PacketRefs packets) {
  for (const Packet* const packet : packets) {
    const auto frame = static_cast<std::uint32_t>(packet->frame / context_.home->frame_bytes());
    context_.ring.send(token(out, Event::sent, frame), packet->bytes());
    ++sends_under_way_;
  }
}

void ThreadEgress::kick_now(Device& device) {
  if (!device.xsk->needs_kick()) return;
  device.unkicked = 0;
  context_.ring.kick(token(device, Event::kicked));
  context_.ring.submit();
}

bool ThreadEgress::kick_pending() {
  bool again = false;
  for (Device* const device : context_.devices.xsks()) {
    if (device->kick_again && context_.now_ns < device->kick_after_ns) {
      again = true;
      continue;
    }
    if (device->unkicked == 0 && !device->kick_again) continue;
    device->unkicked = 0;
    device->kick_again = false;
    if (device->xsk->needs_kick()) context_.ring.kick(token(*device, Event::kicked));
  }
  return again;
}

void ThreadEgress::kicked(const Completion& failed) {
  Device* const device = context_.devices.at(failed.token.device);
  if (device == nullptr || !device->xsk) return;
  if (failed.result == -ENXIO || failed.result == -ENETDOWN)
    return;                       // not bound yet, or down: the next packet tries again
  if (failed.result == -EBUSY) {  // the device dropped one packet and the kernel stopped there
    device->xsk->refused(1);
    count(device->counters->tx_refused);
    context_.drop(Drop::tx_failed);
  }
  device->fruitless_kicks =
      device->xsk->reclaim(*device->counters) || failed.result == -EBUSY ? 0 : device->fruitless_kicks + 1;
  device->kick_again = true;
  device->kick_after_ns = device->fruitless_kicks > patient_kicks ? context_.now_ns + kick_pause_ns : 0;
}

void ThreadEgress::abandon(Device& device) {
  device.xsk->reclaim(*device.counters);
  context_.drop(Drop::tx_failed, device.xsk->tx_waiting());
}

void ThreadEgress::deliver(std::span<Delivery> deliveries) {
  if (context_.capture.wants(CaptureSide::plain)) [[unlikely]]
    for (const Delivery& in : deliveries)
      context_.capture.record({CaptureSide::plain, false, in.ifindex, in.packet.bytes()});
  if (context_.devices.any_inside()) deliveries = forward(deliveries);
  while (!deliveries.empty()) {
    const std::size_t length = std::min(packet_batch, run_length(deliveries, [](const Delivery& a, const Delivery& b) {
                                          return a.ifindex == b.ifindex && a.to == b.to;
                                        }));
    write_run(deliveries.first(length));
    deliveries = deliveries.subspan(length);
  }
}

// Sends what an inside AF_XDP socket can take; what is left, in its old order, is the kernel's.
std::span<Delivery> ThreadEgress::forward(std::span<Delivery> deliveries) {
  std::array<Packet*, packet_batch> refs;
  std::size_t kept = 0, waiting = 0;
  Device* to = nullptr;
  std::array<Packet, packet_batch> forwarded;
  for (Delivery& delivery : deliveries) {
    Device* const out = forward_device(delivery);
    if (out == nullptr) {
      deliveries[kept++] = delivery;
      continue;
    }
    if (waiting == packet_batch || (to != nullptr && out != to)) {
      send_xsk(*to, {refs.data(), waiting});
      waiting = 0;
    }
    to = out;
    forwarded[waiting] = delivery.packet;
    refs[waiting] = &forwarded[waiting];
    ++waiting;
  }
  if (waiting > 0) send_xsk(*to, {refs.data(), waiting});
  return deliveries.first(kept);
}

const std::optional<Adjacency>& ThreadEgress::forward_adjacency(const AdjacencyKey& key) {
  const std::uint64_t epoch = context_.adjacencies.epoch.load(std::memory_order_acquire);
  if (forward_cache_.epoch != epoch + 1 || !(forward_cache_.key == key))
    forward_cache_ = {key, epoch + 1, context_.adjacencies.find(key)};
  return forward_cache_.adjacency;
}

// The socket, with the Ethernet header in place and the hop taken; null where the kernel has to do it: no adjacency,
// too long for the next link, or a hop limit that ends here (the kernel answers the sender).
Device* ThreadEgress::forward_device(Delivery& delivery) {
  Packet& packet = delivery.packet;
  const AdjacencyKey key{context_.devices.vrf_of(delivery.ifindex), destination_of(packet.data(), delivery.family)};
  const std::optional<Adjacency>& next = forward_adjacency(key);
  if (!next) {
    context_.ask(key, true);
    return nullptr;
  }
  Device* const out = next->forward ? context_.devices.inside(next->ifindex) : nullptr;
  if (out == nullptr || packet.size > next->mtu || packet.headroom() < ethernet_header || !step_ttl(packet))
    return nullptr;
  std::byte* const header = packet.push(ethernet_header);
  std::memcpy(header, next->destination.data(), 6);
  std::memcpy(header + 6, next->source.data(), 6);
  store_be16(header + 12,
             static_cast<std::uint16_t>(delivery.family == Family::v4 ? EtherType::ipv4 : EtherType::ipv6));
  return out;
}

std::optional<std::uint32_t> ThreadEgress::write_slot() {
  if (const auto slot = writes_.take()) return slot;
  // Writes to a TUN end while they are submitted, so their slots are free after it.
  context_.ring.submit();
  early_.clear();
  context_.ring.collect(early_);
  for (const Completion& done : early_) {
    if (done.token.event == Event::written)
      written(done);
    else
      context_.backlog.push_back(done);
  }
  return writes_.take();
}

void ThreadEgress::write_run(std::span<Delivery> run) {
  const bool map = run[0].to == DeliverTo::map_interface;
  Device* const out = map ? context_.devices.steer() : context_.devices.tunnel(run[0].ifindex);
  if (out == nullptr) {
    for (Delivery& delivery : run) {
      Packet* const lost = &delivery.packet;
      drop_packets({&lost, 1}, Drop::tx_failed, nullptr);
    }
    return;
  }
  coalesce(run, context_.coalescing, coalesced_);
  count(context_.counters.merged, coalesced_.merged);
  for (const CoalescedPacket& packet : coalesced_.packets()) {
    const auto slot = write_slot();
    if (!slot) {
      context_.drop(Drop::tx_full);
      count(out->counters->tx_refused);
      for (const iovec& part : packet.parts) context_.home->pool().give(context_.home->address_of(part.iov_base));
      continue;
    }
    TunWrite& write = writes_[*slot];
    if (map)
      prepare_steer_write(packet, run[0].ifindex, write);
    else
      prepare_tunnel_write(packet, write);
    context_.ring.write(token(*out, Event::written, *slot), write.iovecs());
  }
}

void ThreadEgress::written(const Completion& done) {
  TunWrite& write = writes_[done.token.detail];
  for (const iovec& part : write.frames()) context_.home->pool().give(context_.home->address_of(part.iov_base));
  Device* const device = context_.devices.at(done.token.device);
  if (done.result < 0) {
    context_.drop(Drop::tx_failed);
    if (device != nullptr) count(device->counters->tx_refused);
    if (device != nullptr && (done.result == -EBADFD || done.result == -ENODEV)) context_.report_failure(*device);
  } else if (device != nullptr) {
    count(device->counters->tx_packets);
    count(device->counters->tx_bytes, write.bytes);
  }
  writes_.give(done.token.detail);
}

void ThreadEgress::icmp_error(Bytes ip_packet, std::uint32_t vrf) {
  Device* const out = context_.devices.icmp(vrf);
  const bool v4 = !ip_packet.empty() && (ip_packet[0] >> 4) == std::byte{4};
  const auto part = static_cast<std::uint8_t>(v4 ? 0 : 1);
  const auto slot =
      out != nullptr && out->files[part] && ip_packet.size() <= max_icmp_error_bytes ? icmp_.take() : std::nullopt;
  if (!slot) {
    if (out != nullptr) count(out->counters->tx_refused);
    return context_.drop(Drop::tx_failed);
  }
  IcmpSend& send = icmp_[*slot];
  const IpAddress to = destination_of(ip_packet.data(), v4 ? Family::v4 : Family::v6);
  send.message = {};
  send.destination = {};
  if (v4) {
    auto& address = reinterpret_cast<sockaddr_in&>(send.destination);
    address.sin_family = AF_INET;
    std::memcpy(&address.sin_addr, to.mapped().data() + 12, sizeof address.sin_addr);
    send.message.msg_namelen = sizeof address;
  } else {
    auto& address = reinterpret_cast<sockaddr_in6&>(send.destination);
    address.sin6_family = AF_INET6;
    std::memcpy(&address.sin6_addr, to.mapped().data(), sizeof address.sin6_addr);
    send.message.msg_namelen = sizeof address;
  }
  std::memcpy(send.bytes.data(), ip_packet.data(), ip_packet.size());
  send.part = {send.bytes.data(), ip_packet.size()};
  send.message.msg_name = &send.destination;
  send.message.msg_iov = &send.part;
  send.message.msg_iovlen = 1;
  context_.ring.send({Event::sent, part, out->index, *slot | icmp_mark}, send.message);
}

void ThreadEgress::sent(const Completion& done) {
  Device* const device = context_.devices.at(done.token.device);
  if ((done.token.detail & icmp_mark) != 0) {
    icmp_.give(done.token.detail & ~icmp_mark);
  } else {
    context_.home->pool().give(FrameAddress{done.token.detail} * context_.home->frame_bytes());
    --sends_under_way_;
  }
  if (done.result < 0) {
    context_.drop(done.result == -EAGAIN ? Drop::tx_full : Drop::tx_failed);
    if (device != nullptr) count(device->counters->tx_refused);
  } else if (device != nullptr) {
    count(device->counters->tx_packets);
    count(device->counters->tx_bytes, static_cast<std::uint64_t>(done.result));
  }
}

}  // namespace postern
