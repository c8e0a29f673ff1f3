#include "loader/netlink_monitor.hpp"

#include <algorithm>
#include <array>
#include <cerrno>

#include <linux/if.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include "loader/netlink_parse.hpp"

namespace postern::loader {
namespace {

constexpr std::size_t buffer_bytes = 1U << 16;
constexpr int receive_buffer_bytes = 1 << 21;
constexpr std::size_t listed_limit = 1024;  // more neighbours than that at once: take everything anew

constexpr int datagrams_at_once = 4096;  // the rest waits for the next call: a flood must not hold the loop

constexpr std::array groups = {RTNLGRP_LINK,        RTNLGRP_NEIGH,       RTNLGRP_TC,
                               RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE,
                               RTNLGRP_IPV6_ROUTE,  RTNLGRP_IPV4_RULE,   RTNLGRP_IPV6_RULE};

void add_once(std::vector<std::uint32_t>& list, std::uint32_t value) {
  if (std::ranges::find(list, value) == list.end()) list.push_back(value);
}

void on_link(NetworkChanges& changes, const nlmsghdr* message) {
  if (nlmsg_datalen(message) < static_cast<int>(sizeof(ifinfomsg))) return;
  const auto* const header = static_cast<const ifinfomsg*>(nlmsg_data(message));
  // AF_BRIDGE: only a bridge port's attributes.
  if (header->ifi_family != AF_UNSPEC) return;
  const auto ifindex = static_cast<std::uint32_t>(header->ifi_index);
  if (message->nlmsg_type == RTM_DELLINK) {
    std::erase(changes.links, ifindex);
    add_once(changes.gone, ifindex);
  } else {
    std::erase(changes.gone, ifindex);
    add_once(changes.links, ifindex);
    if ((header->ifi_flags & IFF_UP) == 0) add_once(changes.down, ifindex);
  }
}

void on_neighbour(NetworkChanges& changes, const nlmsghdr* message) {
  const auto neighbour = parse_neighbour(message);
  if (!neighbour) return;
  const auto same = std::ranges::find_if(changes.neighbours, [&](const Neighbour& one) {
    return one.ifindex == neighbour->ifindex && one.address == neighbour->address;
  });
  if (same != changes.neighbours.end()) {
    *same = *neighbour;
  } else if (changes.neighbours.size() < listed_limit) {
    changes.neighbours.push_back(*neighbour);
  } else {
    changes.resync = true;
  }
}

void on_message(NetworkChanges& changes, const nlmsghdr* message) {
  switch (message->nlmsg_type) {
    case RTM_NEWLINK:
    case RTM_DELLINK: on_link(changes, message); break;
    case RTM_NEWNEIGH:
    case RTM_DELNEIGH: on_neighbour(changes, message); break;
    case RTM_NEWADDR:
    case RTM_DELADDR: changes.addresses = true; break;
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
    case RTM_NEWRULE:
    case RTM_DELRULE: changes.routes = true; break;
    case RTM_NEWQDISC:
    case RTM_DELQDISC:
    case RTM_NEWTFILTER:
    case RTM_DELTFILTER:
    case RTM_NEWCHAIN:
    case RTM_DELCHAIN: changes.traffic = true; break;
    default: break;
  }
}

}  // namespace

Result<NetworkMonitor> NetworkMonitor::open() {
  POSTERN_TRY(socket, NetlinkSocket::open(NETLINK_ROUTE));
  // SO_RCVBUFFORCE may pass rmem_max; a refusal only makes ENOBUFS likelier, which drain() handles.
  (void)::setsockopt(socket.fd(), SOL_SOCKET, SO_RCVBUFFORCE, &receive_buffer_bytes, sizeof receive_buffer_bytes);
  for (const auto group : groups) {
    const int number = group;
    if (::setsockopt(socket.fd(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &number, sizeof number) != 0)
      return fail_errno("join rtnetlink group " + std::to_string(number));
  }
  NetworkMonitor monitor(std::move(socket));
  monitor.buffer_.resize(buffer_bytes);
  return monitor;
}

Result<NetworkChanges> NetworkMonitor::drain() {
  NetworkChanges changes;
  for (int taken = 0; taken < datagrams_at_once; ++taken) {
    sockaddr_nl from{};
    iovec vector{buffer_.data(), buffer_.size()};
    msghdr header{};
    header.msg_name = &from;
    header.msg_namelen = sizeof from;
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    const ssize_t received = ::recvmsg(socket_.fd(), &header, MSG_DONTWAIT);
    if (received < 0) {
      if (errno == EAGAIN || errno == EWOULDBLOCK) return changes;
      if (errno == EINTR) continue;
      if (errno != ENOBUFS) return fail_errno("read rtnetlink events");
      changes.resync = true;
      continue;
    }
    if (from.nl_pid != 0) continue;
    if ((header.msg_flags & MSG_TRUNC) != 0) changes.resync = true;
    int left = static_cast<int>(received);
    for (auto* message = reinterpret_cast<nlmsghdr*>(buffer_.data()); nlmsg_ok(message, left);
         message = nlmsg_next(message, &left))
      on_message(changes, message);
  }
  return changes;
}

}  // namespace postern::loader
