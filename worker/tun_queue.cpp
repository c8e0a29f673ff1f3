#include "worker/tun_queue.hpp"

#include <cstring>

namespace postern {
namespace {

// In a TAP's virtio-net header offsets count from the Ethernet header. One that lies inside it wraps, and whoever uses
// it sees that it is past the packet's end.
VnetHeader behind_ethernet(VnetHeader offload) {
  if (offload.header_bytes >= ethernet_header)
    offload.header_bytes = static_cast<std::uint16_t>(offload.header_bytes - ethernet_header);
  offload.csum_start = static_cast<std::uint16_t>(offload.csum_start - ethernet_header);
  return offload;
}

VnetHeader with_ethernet(VnetHeader offload) {
  if (offload.header_bytes != 0)
    offload.header_bytes = static_cast<std::uint16_t>(offload.header_bytes + ethernet_header);
  if (offload.csum_start != 0) offload.csum_start = static_cast<std::uint16_t>(offload.csum_start + ethernet_header);
  return offload;
}

void set_parts(const CoalescedPacket& packet, std::uint32_t header_bytes, TunWrite& out) {
  out.parts[0] = {out.header.data(), header_bytes};
  out.count = 1;
  for (const iovec& part : packet.parts) out.parts[out.count++] = part;
  out.bytes = packet.bytes;
}

}  // namespace

std::optional<TunPacket> parse_tunnel_read(Bytes buffer, std::uint32_t flow) {
  TunPacket out;
  if (buffer.size() <= sizeof out.offload) return std::nullopt;
  std::memcpy(&out.offload, buffer.data(), sizeof out.offload);
  out.ip = buffer.subspan(sizeof out.offload);
  out.flow = flow;
  return out;
}

std::optional<TunPacket> parse_steer_read(Bytes buffer) {
  TunPacket out;
  if (buffer.size() <= sizeof out.offload + ethernet_header) return std::nullopt;
  std::memcpy(&out.offload, buffer.data(), sizeof out.offload);
  const std::byte* const frame = buffer.data() + sizeof out.offload;
  const std::uint16_t type = load_be16(frame + sizeof(postern_stamp));
  if (type != static_cast<std::uint16_t>(EtherType::ipv4) && type != static_cast<std::uint16_t>(EtherType::ipv6))
    return std::nullopt;
  postern_stamp stamp;
  std::memcpy(&stamp, frame, sizeof stamp);
  if ((out.offload.flags & 1U) != 0 || out.offload.gso_type != 0) out.offload = behind_ethernet(out.offload);
  out.ip = buffer.subspan(sizeof out.offload + ethernet_header);
  out.flow = stamp.flow;
  out.generation = stamp.generation;
  return out;
}

void prepare_tunnel_write(const CoalescedPacket& packet, TunWrite& out) {
  std::memcpy(out.header.data(), &packet.offload, sizeof packet.offload);
  set_parts(packet, sizeof packet.offload, out);
}

void prepare_steer_write(const CoalescedPacket& packet, std::uint32_t ifindex, TunWrite& out) {
  const VnetHeader offload = with_ethernet(packet.offload);
  const postern_stamp stamp{POSTERN_GENERATION_INBOUND, 0, ifindex};
  std::byte* at = out.header.data();
  std::memcpy(at, &offload, sizeof offload);
  std::memcpy(at += sizeof offload, &stamp, sizeof stamp);
  store_be16(at + sizeof stamp,
             static_cast<std::uint16_t>(packet.family == Family::v4 ? EtherType::ipv4 : EtherType::ipv6));
  set_parts(packet, sizeof offload + ethernet_header, out);
}

}  // namespace postern
