#include "worker/device_socket.hpp"

#include <array>
#include <cerrno>
#include <cstring>

#include <netinet/in.h>
#include <sys/socket.h>

#include "worker/checksum.hpp"
#include "worker/parse.hpp"

namespace postern {
namespace {

constexpr std::uint32_t packet_offset = 256;  // in the frame: behind it there is room for any header written here

struct Option {
  int level, name;
};
constexpr std::array v4_options = {Option{IPPROTO_IP, IP_PKTINFO}, Option{IPPROTO_IP, IP_RECVTOS}};
constexpr std::array v6_options = {Option{IPPROTO_IPV6, IPV6_RECVPKTINFO}, Option{IPPROTO_IPV6, IPV6_RECVTCLASS}};

// Where a datagram came from and went to, as ancillary data tells it. Addresses in network order, 4 or 16 bytes.
struct Origin {
  std::array<std::byte, 16> source{}, destination{};
  std::uint16_t source_port = 0;  // host order
  std::uint8_t traffic_class = 0;
  std::uint32_t interface = 0;
  bool complete = false;
};

Origin origin_of(msghdr& message, Family family) {
  Origin out;
  const void* const name = message.msg_name;
  if (family == Family::v4) {
    const auto* const from = static_cast<const sockaddr_in*>(name);
    std::memcpy(out.source.data(), &from->sin_addr, 4);
    out.source_port = ntohs(from->sin_port);
  } else {
    const auto* const from = static_cast<const sockaddr_in6*>(name);
    std::memcpy(out.source.data(), &from->sin6_addr, 16);
    out.source_port = ntohs(from->sin6_port);
  }
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level == IPPROTO_IP && part->cmsg_type == IP_PKTINFO) {
      in_pktinfo info;
      std::memcpy(&info, CMSG_DATA(part), sizeof info);
      std::memcpy(out.destination.data(), &info.ipi_addr, 4);
      out.interface = static_cast<std::uint32_t>(info.ipi_ifindex);
      out.complete = true;
    } else if (part->cmsg_level == IPPROTO_IPV6 && part->cmsg_type == IPV6_PKTINFO) {
      in6_pktinfo info;
      std::memcpy(&info, CMSG_DATA(part), sizeof info);
      std::memcpy(out.destination.data(), &info.ipi6_addr, 16);
      out.interface = static_cast<std::uint32_t>(info.ipi6_ifindex);
      out.complete = true;
    } else if ((part->cmsg_level == IPPROTO_IP && part->cmsg_type == IP_TOS) ||
               (part->cmsg_level == IPPROTO_IPV6 && part->cmsg_type == IPV6_TCLASS)) {
      std::memcpy(&out.traffic_class, CMSG_DATA(part), 1);  // a byte, or an int of which it is the low one
    }
  }
  return out;
}

void push_udp(Packet& packet, const Origin& origin, std::uint16_t destination_port) {
  std::byte* const udp = packet.push(udp_header);
  store_be16(udp, origin.source_port);
  store_be16(udp + 2, destination_port);
  store_be16(udp + 4, static_cast<std::uint16_t>(packet.size));
  store_be16(udp + 6, 0);  // the kernel has verified it
}

void push_ip(Packet& packet, const Origin& origin, Family family, IpProto protocol) {
  const auto payload = static_cast<std::uint16_t>(packet.size);
  if (family == Family::v4) {
    std::byte* const ip = packet.push(ipv4_min_header);
    std::memset(ip, 0, ipv4_min_header);
    ip[0] = std::byte{0x45};
    ip[1] = std::byte{origin.traffic_class};
    store_be16(ip + 2, static_cast<std::uint16_t>(payload + ipv4_min_header));
    ip[8] = std::byte{64};
    ip[9] = static_cast<std::byte>(protocol);
    std::memcpy(ip + 12, origin.source.data(), 4);
    std::memcpy(ip + 16, origin.destination.data(), 4);
    set_ipv4_checksum(ip, ipv4_min_header);
    return;
  }
  std::byte* const ip = packet.push(ipv6_header);
  store_be32(ip, 6U << 28 | std::uint32_t{origin.traffic_class} << 20);
  store_be16(ip + 4, payload);
  ip[6] = static_cast<std::byte>(protocol);
  ip[7] = std::byte{64};
  std::memcpy(ip + 8, origin.source.data(), 16);
  std::memcpy(ip + 24, origin.destination.data(), 16);
}

}  // namespace

Result<void> prepare_socket(Device& device) {
  for (std::size_t part = 0; part < device.files.size(); ++part) {
    const int socket = device.files[part].get();
    if (socket < 0) continue;
    const int on = 1;
    for (const Option& option : part == 0 ? v4_options : v6_options)
      if (::setsockopt(socket, option.level, option.name, &on, sizeof on) != 0) return fail_errno("ESP socket options");
    sockaddr_storage bound{};
    socklen_t size = sizeof bound;
    if (::getsockname(socket, reinterpret_cast<sockaddr*>(&bound), &size) != 0) return fail_errno("ESP socket name");
    device.port = ntohs(part == 0 ? reinterpret_cast<const sockaddr_in&>(bound).sin_port
                                  : reinterpret_cast<const sockaddr_in6&>(bound).sin6_port);
  }
  return {};
}

SocketRead read_socket(Device& device, std::uint8_t part, Packet& packet) {
  const Family family = part == 0 ? Family::v4 : Family::v6;
  sockaddr_storage from{};
  alignas(cmsghdr) std::array<char, 256> control;
  packet.offset = packet_offset;
  iovec payload{packet.data(), packet.capacity - packet_offset};
  msghdr message{};
  message.msg_name = &from;
  message.msg_namelen = sizeof from;
  message.msg_iov = &payload;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t got = ::recvmsg(device.files[part].get(), &message, MSG_DONTWAIT);
  if (got < 0) return errno == EAGAIN || errno == EINTR ? SocketRead::empty : SocketRead::failed;
  packet.size = static_cast<std::uint32_t>(got);
  count(device.counters->rx_packets);
  count(device.counters->rx_bytes, packet.size);
  if ((message.msg_flags & MSG_TRUNC) != 0 || packet.size == 0) return SocketRead::dropped;
  const bool raw = device.is_raw();
  const Origin origin = origin_of(message, family);
  packet.interface = origin.interface;
  if (raw && family == Family::v4) return SocketRead::packet;  // raw IPv4 sockets give the IP header
  if (!origin.complete) return SocketRead::dropped;
  if (!raw) push_udp(packet, origin, device.port);
  const IpProto raw_protocol = device.kind() == DeviceKind::raw_ah ? IpProto::ah : IpProto::esp;
  push_ip(packet, origin, family, raw ? raw_protocol : IpProto::udp);
  return SocketRead::packet;
}

}  // namespace postern
