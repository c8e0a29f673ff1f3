#include "ike/sockets.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/log.hpp"

namespace postern::ike {
namespace {

constexpr std::size_t marker_bytes = 4;

IpAddress address_of(const in_addr& in) { return IpAddress::v4(ntohl(in.s_addr)); }
IpAddress address_of(const in6_addr& in) {
  std::array<std::uint8_t, 16> bytes;
  std::memcpy(bytes.data(), in.s6_addr, bytes.size());
  return IpAddress::from_mapped(bytes);
}
in_addr v4_of(const IpAddress& address) { return {htonl(address.v4_host_order())}; }
in6_addr v6_of(const IpAddress& address) {
  in6_addr out{};
  std::memcpy(out.s6_addr, address.mapped().data(), 16);
  return out;
}

Endpoint endpoint_of(const sockaddr_storage& from) {
  if (from.ss_family == AF_INET) {
    sockaddr_in in;
    std::memcpy(&in, &from, sizeof in);
    return {address_of(in.sin_addr), ntohs(in.sin_port)};
  }
  sockaddr_in6 in6;
  std::memcpy(&in6, &from, sizeof in6);
  return {address_of(in6.sin6_addr), ntohs(in6.sin6_port)};
}

socklen_t write_endpoint(const Endpoint& to, sockaddr_storage& out) {
  if (to.address.family() == Family::v4) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(to.port);
    in.sin_addr = v4_of(to.address);
    std::memcpy(&out, &in, sizeof in);
    return sizeof in;
  }
  sockaddr_in6 in6{};
  in6.sin6_family = AF_INET6;
  in6.sin6_port = htons(to.port);
  in6.sin6_addr = v6_of(to.address);
  std::memcpy(&out, &in6, sizeof in6);
  return sizeof in6;
}

// The address of ours that a datagram came to.
std::optional<IpAddress> destination_of(msghdr& message) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level == IPPROTO_IP && part->cmsg_type == IP_PKTINFO) {
      in_pktinfo info;
      std::memcpy(&info, CMSG_DATA(part), sizeof info);
      return address_of(info.ipi_addr);
    }
    if (part->cmsg_level == IPPROTO_IPV6 && part->cmsg_type == IPV6_PKTINFO) {
      in6_pktinfo info;
      std::memcpy(&info, CMSG_DATA(part), sizeof info);
      return address_of(info.ipi6_addr);
    }
  }
  return std::nullopt;
}

template <class Info>
void put_source(msghdr& message, int level, int type, const Info& info) {
  cmsghdr* const part = CMSG_FIRSTHDR(&message);
  part->cmsg_level = level;
  part->cmsg_type = type;
  part->cmsg_len = CMSG_LEN(sizeof info);
  std::memcpy(CMSG_DATA(part), &info, sizeof info);
  message.msg_controllen = CMSG_SPACE(sizeof info);
}

void put_source(msghdr& message, const IpAddress& local) {
  if (local.family() == Family::v4) {
    in_pktinfo info{};
    info.ipi_spec_dst = v4_of(local);
    put_source(message, IPPROTO_IP, IP_PKTINFO, info);
  } else {
    in6_pktinfo info{};
    info.ipi6_addr = v6_of(local);
    put_source(message, IPPROTO_IPV6, IPV6_PKTINFO, info);
  }
}

}  // namespace

NatTraffic classify(Bytes datagram) {
  if (datagram.size() == 1 && datagram[0] == std::byte{0xff}) return NatTraffic::keepalive;
  if (datagram.size() < marker_bytes || load_be32(datagram.data()) != 0) return NatTraffic::esp;
  return NatTraffic::ike;
}

Octets with_marker(Bytes message) {
  Octets out(marker_bytes + message.size());
  std::ranges::copy(message, out.begin() + marker_bytes);
  return out;
}

const UdpSockets::Socket* UdpSockets::find(std::uint32_t fvrf, Family family, std::uint16_t port) const {
  for (const auto& [fd, socket] : sockets_)
    if (socket.row.fvrf == fvrf && socket.row.family == family && socket.row.port == port) return &socket;
  return nullptr;
}

std::vector<UdpSockets::Row> UdpSockets::keep_only(const std::vector<std::uint32_t>& fvrfs) {
  std::erase_if(sockets_,
                [&](const auto& entry) { return std::ranges::find(fvrfs, entry.second.row.fvrf) == fvrfs.end(); });
  std::vector<Row> missing;
  for (const std::uint32_t fvrf : fvrfs)
    for (const Family family : {Family::v4, Family::v6})
      for (const std::uint16_t port : {ike_port, nat_port})
        if (find(fvrf, family, port) == nullptr) missing.push_back({fvrf, family, port});
  return missing;
}

void UdpSockets::add(const Row& row, Fd socket) {
  const int number = socket.get();
  sockets_.emplace(number, Socket{std::move(socket), row});
}

void UdpSockets::receive(int fd, const std::function<void(const Datagram&)>& each) {
  for (int i = 0; i < max_datagrams; ++i) {
    const auto known = sockets_.find(fd);  // looked up each time: `each` may close it
    if (known == sockets_.end()) return;
    const Row row = known->second.row;
    sockaddr_storage from{};
    iovec part{buffer_.data(), buffer_.size()};
    alignas(cmsghdr) std::array<char, 256> control{};
    msghdr message{};
    message.msg_name = &from;
    message.msg_namelen = sizeof from;
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t got = ::recvmsg(fd, &message, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (got < 0) continue;  // an ICMP error of an earlier send: the timers notice a peer that is gone
    if ((message.msg_flags & MSG_TRUNC) != 0) {
      ++counters_.truncated;
      continue;
    }
    const auto local = destination_of(message);
    if (!local) continue;
    ++counters_.received;
    Bytes bytes(buffer_.data(), static_cast<std::size_t>(got));
    if (row.port == nat_port) {
      const NatTraffic kind = classify(bytes);
      if (kind == NatTraffic::keepalive) ++counters_.keepalives;
      if (kind == NatTraffic::esp) ++counters_.esp;
      if (kind != NatTraffic::ike) continue;
      bytes = bytes.subspan(marker_bytes);
    }
    each({{*local, row.port}, endpoint_of(from), row.fvrf, bytes});
  }
}

void UdpSockets::send(const SendDatagram& datagram) {
  if (datagram.local.port == nat_port)
    transmit(datagram.local, datagram.remote, datagram.fvrf, with_marker(datagram.bytes));
  else
    transmit(datagram.local, datagram.remote, datagram.fvrf, datagram.bytes);
}

void UdpSockets::send(const SendKeepalive& keepalive) {
  constexpr std::byte byte{0xff};
  transmit(keepalive.local, keepalive.remote, keepalive.fvrf, {&byte, 1});
}

void UdpSockets::transmit(const Endpoint& local, const Endpoint& remote, std::uint32_t fvrf, Bytes bytes) {
  const Socket* const socket = find(fvrf, remote.address.family(), local.port);
  sockaddr_storage to{};
  iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(in6_pktinfo))> control{};
  msghdr message{};
  message.msg_name = &to;
  message.msg_namelen = write_endpoint(remote, to);
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  put_source(message, local.address);
  // A datagram that cannot leave is a lost one: retransmission is the session's.
  if (socket != nullptr && ::sendmsg(socket->fd.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) {
    ++counters_.sent;
    return;
  }
  ++counters_.send_errors;
  spdlog::debug("IKE: nothing sent from {} port {} to {}: {}", local.address.text(), local.port, remote.address.text(),
                socket == nullptr ? "no socket" : std::strerror(errno));
}

std::vector<UdpSockets::Row> UdpSockets::rows() const {
  std::vector<Row> out;
  for (const auto& [fd, socket] : sockets_) out.push_back(socket.row);
  std::ranges::sort(out);
  return out;
}

}  // namespace postern::ike
