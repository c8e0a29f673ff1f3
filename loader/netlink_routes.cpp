// Addresses, routes and rules of loader/netlink.hpp.
#include <cerrno>

#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include "loader/netlink.hpp"

namespace postern::loader {
namespace {

std::uint8_t netlink_family(Family family) { return family == Family::v4 ? AF_INET : AF_INET6; }

std::uint8_t kernel_type(RouteType type) {
  switch (type) {
    case RouteType::unreachable: return RTN_UNREACHABLE;
    case RouteType::blackhole: return RTN_BLACKHOLE;
    case RouteType::prohibit: return RTN_PROHIBIT;
    case RouteType::local: return RTN_LOCAL;
    case RouteType::broadcast: return RTN_BROADCAST;
    case RouteType::multicast: return RTN_MULTICAST;
    case RouteType::unicast:
    case RouteType::other: break;
  }
  return RTN_UNICAST;
}

RouteType route_type(std::uint8_t type) {
  switch (type) {
    case RTN_UNICAST: return RouteType::unicast;
    case RTN_LOCAL:
    case RTN_ANYCAST: return RouteType::local;
    case RTN_BROADCAST: return RouteType::broadcast;
    case RTN_MULTICAST: return RouteType::multicast;
    case RTN_UNREACHABLE: return RouteType::unreachable;
    case RTN_BLACKHOLE: return RouteType::blackhole;
    case RTN_PROHIBIT: return RouteType::prohibit;
    default: return RouteType::other;
  }
}

bool is_unicast(RouteType type) { return type == RouteType::unicast || type == RouteType::other; }

rtmsg route_header(const Route& route) {
  rtmsg header{};
  header.rtm_family = netlink_family(route.destination.family());
  header.rtm_dst_len = route.destination.length;
  header.rtm_table = route.table < 256 ? static_cast<unsigned char>(route.table) : std::uint8_t{RT_TABLE_UNSPEC};
  header.rtm_protocol = route.protocol;
  header.rtm_type = kernel_type(route.type);
  header.rtm_scope = is_unicast(route.type) && !route.gateway && route.destination.family() == Family::v4
                         ? RT_SCOPE_LINK
                         : RT_SCOPE_UNIVERSE;
  return header;
}

void put_route(NetlinkMessage& request, const Route& route) {
  request.put_address(RTA_DST, route.destination.first());
  request.put_u32(RTA_TABLE, route.table);
  if (route.metric != 0) request.put_u32(RTA_PRIORITY, route.metric);
  if (route.ifindex != 0) request.put_u32(RTA_OIF, route.ifindex);
  if (route.gateway) request.put_address(RTA_GATEWAY, *route.gateway);
  if (route.preferred_source) request.put_address(RTA_PREFSRC, *route.preferred_source);
  if (route.mtu != 0) request.nest(RTA_METRICS, [&](NetlinkMessage& metrics) { metrics.put_u32(RTAX_MTU, route.mtu); });
}

// RFC 5549: an IPv4 route may have an IPv6 gateway (RTA_VIA: family, then the address).
std::optional<IpAddress> read_gateway(const Attributes& attributes) {
  if (const auto gateway = attributes.address(RTA_GATEWAY)) return gateway;
  const auto via = attributes.bytes(RTA_VIA);
  if (via.size() != sizeof(rtvia) + 16) return std::nullopt;
  std::array<std::uint8_t, 16> bytes{};
  std::memcpy(bytes.data(), via.data() + sizeof(rtvia), bytes.size());
  return IpAddress::from_mapped(bytes);
}

Route read_route(const nlmsghdr* message) {
  const auto* const header = static_cast<const rtmsg*>(nlmsg_data(message));
  const Attributes attributes(message, sizeof *header);
  Route route;
  const auto any = header->rtm_family == AF_INET ? IpAddress::v4(0) : IpAddress{};
  route.destination = {attributes.address(RTA_DST).value_or(any), header->rtm_dst_len};
  route.type = route_type(header->rtm_type);
  route.table = attributes.value<std::uint32_t>(RTA_TABLE, header->rtm_table);
  route.metric = attributes.value<std::uint32_t>(RTA_PRIORITY);
  route.ifindex = attributes.value<std::uint32_t>(RTA_OIF);
  route.gateway = read_gateway(attributes);
  route.preferred_source = attributes.address(RTA_PREFSRC);
  route.mtu = attributes.nested(RTA_METRICS).value<std::uint32_t>(RTAX_MTU);
  route.protocol = header->rtm_protocol;
  return route;
}

std::string describe(const Route& route) {
  return "route " + route.destination.text() + " metric " + std::to_string(route.metric) + " table " +
         std::to_string(route.table);
}

ifaddrmsg address_header(std::uint32_t ifindex, const Prefix& address) {
  ifaddrmsg header{};
  header.ifa_family = netlink_family(address.family());
  header.ifa_prefixlen = address.length;
  header.ifa_index = ifindex;
  return header;
}

fib_rule_hdr rule_header(const Rule& rule) {
  fib_rule_hdr header{};
  header.family = netlink_family(rule.family);
  header.table = rule.table < 256 ? static_cast<std::uint8_t>(rule.table) : std::uint8_t{RT_TABLE_UNSPEC};
  header.action = FR_ACT_TO_TBL;
  return header;
}

void put_rule(NetlinkMessage& request, const Rule& rule) {
  request.put_u32(FRA_TABLE, rule.table);
  request.put_u32(FRA_PRIORITY, rule.priority);
  if (rule.mark == 0) return;
  request.put_u32(FRA_FWMARK, rule.mark);
  request.put_u32(FRA_FWMASK, rule.mark_mask);
}

}  // namespace

Result<std::vector<LinkAddress>> Netlink::addresses() { return addresses(0); }

Result<std::vector<LinkAddress>> Netlink::addresses(std::uint32_t ifindex) {
  std::vector<LinkAddress> found;
  ifaddrmsg filter{};
  filter.ifa_index = ifindex;
  NetlinkMessage request(RTM_GETADDR, 0, filter);
  POSTERN_CHECK(socket_.dump(
      request, "list addresses",
      [&](const nlmsghdr* message) {
        if (message->nlmsg_type != RTM_NEWADDR) return;
        const auto* const header = static_cast<const ifaddrmsg*>(nlmsg_data(message));
        const Attributes attributes(message, sizeof *header);
        // On a point-to-point link IFA_ADDRESS is the other end's; IFA_LOCAL is ours wherever it is given.
        const auto local = attributes.address(attributes.has(IFA_LOCAL) ? IFA_LOCAL : IFA_ADDRESS);
        if (!local || (ifindex != 0 && header->ifa_index != ifindex)) return;
        const auto flags = attributes.value<std::uint32_t>(IFA_FLAGS, header->ifa_flags);
        found.push_back({header->ifa_index, Prefix{*local, header->ifa_prefixlen},
                         (flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)) != 0});
      },
      [&] { found.clear(); }));
  return found;
}

Result<bool> Netlink::add_address(std::uint32_t ifindex, const Prefix& address) {
  NetlinkMessage request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, address_header(ifindex, address));
  request.put_address(IFA_LOCAL, address.address).put_address(IFA_ADDRESS, address.address);
  const auto added = socket_.ask(request, "add address " + address.text() + " to link " + std::to_string(ifindex));
  if (added) return true;
  if (added.error().code == EEXIST) return false;
  return std::unexpected(added.error());
}

Result<void> Netlink::remove_address(std::uint32_t ifindex, const Prefix& address) {
  NetlinkMessage request(RTM_DELADDR, 0, address_header(ifindex, address));
  request.put_address(IFA_LOCAL, address.address);
  auto removed = socket_.ask(request, "remove address " + address.text());
  if (!removed && (removed.error().code == EADDRNOTAVAIL || removed.error().code == ENODEV)) return {};
  return removed;
}

Result<bool> Netlink::add_route(const Route& route) {
  NetlinkMessage request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, route_header(route));
  put_route(request, route);
  const auto added = socket_.ask(request, "add " + describe(route));
  if (added) return true;
  if (added.error().code == EEXIST) return false;
  return std::unexpected(added.error());
}

Result<void> Netlink::replace_route(const Route& route) {
  NetlinkMessage request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route_header(route));
  put_route(request, route);
  return socket_.ask(request, "set " + describe(route));
}

Result<void> Netlink::remove_route(const Route& route) {
  rtmsg header = route_header(route);
  header.rtm_scope = RT_SCOPE_NOWHERE;  // of any scope
  NetlinkMessage request(RTM_DELROUTE, 0, header);
  put_route(request, route);
  auto removed = socket_.ask(request, "remove " + describe(route));
  if (!removed && (removed.error().code == ESRCH || removed.error().code == ENODEV)) return {};
  return removed;
}

Result<std::vector<Route>> Netlink::routes(Family family, std::uint32_t table) {
  std::vector<Route> found;
  rtmsg header{};
  header.rtm_family = netlink_family(family);
  header.rtm_protocol = route_protocol;  // filtered by the kernel: the table may hold a full routing feed
  NetlinkMessage request(RTM_GETROUTE, 0, header);
  request.put_u32(RTA_TABLE, table);
  POSTERN_CHECK(socket_.dump(
      request, "list routes",
      [&](const nlmsghdr* message) {
        if (message->nlmsg_type != RTM_NEWROUTE) return;
        const auto* const route_message = static_cast<const rtmsg*>(nlmsg_data(message));
        if (route_message->rtm_protocol != route_protocol) return;
        if (Route route = read_route(message); route.table == table) found.push_back(std::move(route));
      },
      [&] { found.clear(); }));
  return found;
}

Result<Route> Netlink::lookup(const RouteQuery& query) {
  rtmsg header{};
  header.rtm_family = netlink_family(query.destination.family());
  header.rtm_dst_len = query.destination.family() == Family::v4 ? 32 : 128;
  // IPv6 tells the table unasked, and refuses the flag.
  if (header.rtm_family == AF_INET) header.rtm_flags = RTM_F_LOOKUP_TABLE;
  NetlinkMessage request(RTM_GETROUTE, 0, header);
  request.put_address(RTA_DST, query.destination);
  if (query.mark != 0) request.put_u32(RTA_MARK, query.mark);
  if (query.vrf_ifindex != 0) request.put_u32(RTA_OIF, query.vrf_ifindex);
  std::optional<Route> found;
  POSTERN_CHECK(socket_.ask(request, "route to " + query.destination.text(), [&](const nlmsghdr* message) {
    if (message->nlmsg_type == RTM_NEWROUTE) found = read_route(message);
  }));
  if (!found) return fail("route to " + query.destination.text(), ENETUNREACH);
  // IPv4 refuses with an errno; IPv6 may answer with the reject route itself.
  if (found->type == RouteType::unreachable || found->type == RouteType::blackhole ||
      found->type == RouteType::prohibit)
    return fail("route to " + query.destination.text(), EHOSTUNREACH);
  return std::move(*found);
}

Result<bool> Netlink::add_rule(const Rule& rule) {
  NetlinkMessage request(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, rule_header(rule));
  put_rule(request, rule);
  request.put_u8(FRA_PROTOCOL, route_protocol);
  const auto added = socket_.ask(request, "add rule " + std::to_string(rule.priority));
  if (added) return true;
  if (added.error().code == EEXIST) return false;
  return std::unexpected(added.error());
}

Result<void> Netlink::remove_rule(const Rule& rule) {
  NetlinkMessage request(RTM_DELRULE, 0, rule_header(rule));
  put_rule(request, rule);
  auto removed = socket_.ask(request, "remove rule " + std::to_string(rule.priority));
  if (!removed && removed.error().code == ENOENT) return {};
  return removed;
}

}  // namespace postern::loader
