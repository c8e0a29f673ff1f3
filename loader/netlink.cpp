#include "loader/netlink.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <linux/ethtool.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/fd.hpp"

namespace postern::loader {
namespace {

ifinfomsg link_header(std::uint32_t ifindex) {
  ifinfomsg header{};
  header.ifi_family = AF_UNSPEC;
  header.ifi_index = static_cast<int>(ifindex);
  return header;
}

LinkCounters read_counters(const Attributes& attributes) {
  // Older kernels send a shorter struct; newer ones a longer.
  rtnl_link_stats64 stats{};
  const auto in = attributes.bytes(IFLA_STATS64);
  std::memcpy(&stats, in.data(), std::min(in.size(), sizeof stats));
  return {.rx_packets = stats.rx_packets,
          .tx_packets = stats.tx_packets,
          .rx_bytes = stats.rx_bytes,
          .tx_bytes = stats.tx_bytes,
          .rx_errors = stats.rx_errors,
          .tx_errors = stats.tx_errors,
          .rx_dropped = stats.rx_dropped,
          .tx_dropped = stats.tx_dropped};
}

void read_kind(Link& link, const Attributes& info) {
  link.kind = info.text(IFLA_INFO_KIND);
  const Attributes data = info.nested(IFLA_INFO_DATA);
  if (link.kind == "vrf") link.vrf_table = data.value<std::uint32_t>(IFLA_VRF_TABLE);
  if (link.kind == "tun")
    link.tun = TunAttributes{.tap = data.value<std::uint8_t>(IFLA_TUN_TYPE) == IFF_TAP,
                             .persistent = data.value<std::uint8_t>(IFLA_TUN_PERSIST) != 0,
                             .multi_queue = data.value<std::uint8_t>(IFLA_TUN_MULTI_QUEUE) != 0,
                             .vnet_header = data.value<std::uint8_t>(IFLA_TUN_VNET_HDR) != 0};
}

Link read_link(const nlmsghdr* message) {
  const auto* const header = static_cast<const ifinfomsg*>(nlmsg_data(message));
  const Attributes attributes(message, sizeof *header);
  Link link;
  link.ifindex = static_cast<std::uint32_t>(header->ifi_index);
  link.flags = header->ifi_flags;
  link.hardware = header->ifi_type;
  link.name = attributes.text(IFLA_IFNAME);
  link.alias = attributes.text(IFLA_IFALIAS);
  link.mtu = attributes.value<std::uint32_t>(IFLA_MTU);
  link.master = attributes.value<std::uint32_t>(IFLA_MASTER);
  link.lower = attributes.value<std::uint32_t>(IFLA_LINK);
  link.tx_queue_length = attributes.value<std::uint32_t>(IFLA_TXQLEN);
  link.qdisc = attributes.text(IFLA_QDISC);
  if (const auto mac = attributes.bytes(IFLA_ADDRESS); mac.size() == link.mac.size() && link.ethernet())
    std::memcpy(link.mac.data(), mac.data(), mac.size());
  if (attributes.has(IFLA_LINKINFO)) read_kind(link, attributes.nested(IFLA_LINKINFO));
  link.counters = read_counters(attributes);
  return link;
}

}  // namespace

bool Link::up() const { return (flags & IFF_UP) != 0; }
bool Link::carrier() const { return (flags & IFF_LOWER_UP) != 0; }
bool Link::ethernet() const { return hardware == ARPHRD_ETHER; }
bool Link::loopback() const { return (flags & IFF_LOOPBACK) != 0; }
bool Link::no_arp() const { return (flags & IFF_NOARP) != 0; }

Result<Netlink> Netlink::open() {
  POSTERN_TRY(socket, NetlinkSocket::open(NETLINK_ROUTE));
  return Netlink(std::move(socket));
}

Result<std::vector<Link>> Netlink::links() {
  std::vector<Link> found;
  NetlinkMessage request(RTM_GETLINK, 0, link_header(0));
  POSTERN_CHECK(socket_.dump(
      request, "list links",
      [&](const nlmsghdr* message) {
        if (message->nlmsg_type == RTM_NEWLINK) found.push_back(read_link(message));
      },
      [&] { found.clear(); }));
  return found;
}

Result<Link> Netlink::link(std::string_view name) {
  if (name.empty() || name.size() >= IFNAMSIZ) return fail("link " + std::string(name) + ": not a device name", EINVAL);
  std::optional<Link> found;
  NetlinkMessage request(RTM_GETLINK, 0, link_header(0));
  request.put_text(IFLA_IFNAME, name);
  POSTERN_CHECK(
      socket_.ask(request, "link " + std::string(name), [&](const nlmsghdr* message) { found = read_link(message); }));
  if (!found) return fail("link " + std::string(name), ENODEV);
  return std::move(*found);
}

Result<Link> Netlink::link(std::uint32_t ifindex) {
  const std::string what = "link with index " + std::to_string(ifindex);
  if (ifindex == 0) return fail(what, ENODEV);
  std::optional<Link> found;
  NetlinkMessage request(RTM_GETLINK, 0, link_header(ifindex));
  POSTERN_CHECK(socket_.ask(request, what, [&](const nlmsghdr* message) { found = read_link(message); }));
  if (!found) return fail(what, ENODEV);
  return std::move(*found);
}

Result<std::uint32_t> Netlink::receive_queues(const Link& link) {
  const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return fail_errno("socket for ethtool");
  ethtool_channels channels{};
  channels.cmd = ETHTOOL_GCHANNELS;
  ifreq request{};
  link.name.copy(request.ifr_name, IFNAMSIZ - 1);
  request.ifr_data = reinterpret_cast<char*>(&channels);
  if (::ioctl(socket.get(), SIOCETHTOOL, &request) == 0 && channels.rx_count + channels.combined_count > 0)
    return channels.rx_count + channels.combined_count;
  // A driver without channels has as many queues as it registered.
  std::uint32_t registered = 1;
  NetlinkMessage message(RTM_GETLINK, 0, link_header(link.ifindex));
  POSTERN_CHECK(socket_.ask(message, "queues of " + link.name, [&](const nlmsghdr* answer) {
    registered = Attributes(answer, sizeof(ifinfomsg)).value<std::uint32_t>(IFLA_NUM_RX_QUEUES, 1);
  }));
  return registered;
}

Result<void> Netlink::set_up(std::uint32_t ifindex, bool up) {
  ifinfomsg header = link_header(ifindex);
  header.ifi_change = IFF_UP;
  header.ifi_flags = up ? unsigned{IFF_UP} : 0U;
  NetlinkMessage request(RTM_NEWLINK, 0, header);
  return socket_.ask(request, "set link " + std::to_string(ifindex) + (up ? " up" : " down"));
}

Result<void> Netlink::set_no_arp(std::uint32_t ifindex) {
  ifinfomsg header = link_header(ifindex);
  header.ifi_change = header.ifi_flags = IFF_NOARP;
  NetlinkMessage request(RTM_NEWLINK, 0, header);
  return socket_.ask(request, "set NOARP on link " + std::to_string(ifindex));
}

Result<void> Netlink::set_mtu(std::uint32_t ifindex, std::uint32_t mtu) {
  NetlinkMessage request(RTM_NEWLINK, 0, link_header(ifindex));
  request.put_u32(IFLA_MTU, mtu);
  return socket_.ask(request, "set MTU " + std::to_string(mtu) + " on link " + std::to_string(ifindex));
}

Result<void> Netlink::set_tx_queue_length(std::uint32_t ifindex, std::uint32_t packets) {
  NetlinkMessage request(RTM_NEWLINK, 0, link_header(ifindex));
  request.put_u32(IFLA_TXQLEN, packets);
  return socket_.ask(request, "set queue length of link " + std::to_string(ifindex));
}

Result<void> Netlink::set_alias(std::uint32_t ifindex, std::string_view alias) {
  NetlinkMessage request(RTM_NEWLINK, 0, link_header(ifindex));
  request.put(IFLA_IFALIAS, std::as_bytes(std::span(alias)));
  return socket_.ask(request, "set alias of link " + std::to_string(ifindex));
}

Result<void> Netlink::set_master(std::uint32_t ifindex, std::uint32_t master) {
  NetlinkMessage request(RTM_NEWLINK, 0, link_header(ifindex));
  request.put_u32(IFLA_MASTER, master);
  return socket_.ask(request, "put link " + std::to_string(ifindex) + " under link " + std::to_string(master));
}

Result<void> Netlink::set_no_link_local(std::uint32_t ifindex) {
  NetlinkMessage request(RTM_NEWLINK, 0, link_header(ifindex));
  request.nest(IFLA_AF_SPEC, [](NetlinkMessage& families) {
    families.nest(AF_INET6,
                  [](NetlinkMessage& inet6) { inet6.put_u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE); });
  });
  return socket_.ask(request, "switch off link-local addresses of link " + std::to_string(ifindex));
}

Result<void> Netlink::remove_link(std::uint32_t ifindex) {
  NetlinkMessage request(RTM_DELLINK, 0, link_header(ifindex));
  auto removed = socket_.ask(request, "remove link " + std::to_string(ifindex));
  if (!removed && removed.error().code == ENODEV) return {};
  return removed;
}

}  // namespace postern::loader
