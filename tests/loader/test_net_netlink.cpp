// loader/netlink and loader/netlink_monitor against the kernel, with iproute2 as the second opinion.
#include <algorithm>
#include <cerrno>
#include <fstream>

#include <linux/rtnetlink.h>

#include "loader/netlink.hpp"
#include "loader/netlink_monitor.hpp"
#include "maps/abi.h"
#include "tests/loader/net_lab.hpp"

using namespace postern;
using namespace postern::loader;
using namespace postern::net_test;

namespace {

IpAddress ip(std::string_view text) { return IpAddress::parse(text).value(); }
Prefix prefix(std::string_view text) { return Prefix::parse(text).value(); }

struct Lab : OwnNamespace {
  Lab() {
    shell("ip link set lo up && ip link add out0 type veth peer name far0 && ip link set far0 up");
    shell("ip link set out0 up && ip addr add 192.0.2.1/24 dev out0 && ip addr add 2001:db8:ff::1/64 dev out0 nodad");
    ifindex = netlink.link("out0").value().ifindex;
  }
  Netlink netlink = Netlink::open().value();
  std::uint32_t ifindex = 0;
};

}  // namespace

TEST_CASE("links: found by name and index, with what the kernel says of them") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  POSTERN_GET(link, lab.netlink.link("out0"));
  CHECK(link.kind == "veth");
  CHECK(link.ethernet());
  CHECK(link.up());
  CHECK(link.carrier());
  CHECK(link.mtu == 1500);
  CHECK(link.mac != MacAddress{});
  POSTERN_GET(same, lab.netlink.link(link.ifindex));
  CHECK(same.name == "out0");
  POSTERN_GET(loopback, lab.netlink.link("lo"));
  CHECK(loopback.loopback());
  CHECK(!loopback.ethernet());
  POSTERN_GET(all, lab.netlink.links());
  CHECK(std::ranges::count_if(all, [](const Link& one) { return one.kind == "veth"; }) == 2);

  CHECK(lab.netlink.link("none0").error().code == ENODEV);
  CHECK(lab.netlink.link(4242).error().code == ENODEV);
  CHECK(lab.netlink.link("a-name-that-is-too-long").error().code == EINVAL);
}

TEST_CASE("links: changed, and changes that the kernel refuses") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  POSTERN_OK(lab.netlink.set_mtu(lab.ifindex, 1400));
  POSTERN_OK(lab.netlink.set_alias(lab.ifindex, "postern test"));
  POSTERN_OK(lab.netlink.set_tx_queue_length(lab.ifindex, 77));
  POSTERN_OK(lab.netlink.set_up(lab.ifindex, false));
  POSTERN_GET(link, lab.netlink.link("out0"));
  CHECK(link.mtu == 1400);
  CHECK(link.alias == "postern test");
  CHECK(link.tx_queue_length == 77);
  CHECK(!link.up());
  const auto refused = lab.netlink.set_mtu(lab.ifindex, 20);
  REQUIRE(!refused);
  CHECK(refused.error().code == EINVAL);
  CHECK(refused.error().what.find("mtu less than device minimum") != std::string::npos);  // the kernel's own words
  POSTERN_OK(lab.netlink.remove_link(lab.ifindex));
  CHECK(lab.netlink.link("out0").error().code == ENODEV);
  POSTERN_OK(lab.netlink.remove_link(lab.ifindex));
}

TEST_CASE("links: receive queues in use, not those that were allocated") {
  POSTERN_NEEDS_ROOT();
  OwnNamespace own;
  shell("ip link add q0 numrxqueues 3 numtxqueues 3 type veth peer name q1 numrxqueues 1 numtxqueues 1");
  POSTERN_GET(netlink, Netlink::open());
  POSTERN_GET(three, netlink.link("q0"));
  POSTERN_GET(one, netlink.link("q1"));
  CHECK(netlink.receive_queues(three).value() == 3);
  CHECK(netlink.receive_queues(one).value() == 1);
  POSTERN_GET(loopback, netlink.link("lo"));
  CHECK(netlink.receive_queues(loopback).value() == 1);
}

TEST_CASE("addresses: added once, listed with host bits, removed") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  CHECK(lab.netlink.add_address(lab.ifindex, prefix("10.9.0.7/16")).value());
  CHECK(!lab.netlink.add_address(lab.ifindex, prefix("10.9.0.7/16")).value());
  CHECK(lab.netlink.add_address(lab.ifindex, prefix("2001:db8:9::7/64")).value());
  POSTERN_GET(found, lab.netlink.addresses(lab.ifindex));
  const auto has = [&](std::string_view text) {
    return std::ranges::any_of(found, [&](const LinkAddress& one) { return one.prefix == prefix(text); });
  };
  CHECK(has("10.9.0.7/16"));
  CHECK(has("192.0.2.1/24"));
  CHECK(has("2001:db8:9::7/64"));
  CHECK(std::ranges::all_of(found, [&](const LinkAddress& one) { return one.ifindex == lab.ifindex; }));
  POSTERN_GET(everywhere, lab.netlink.addresses());
  CHECK(std::ranges::any_of(everywhere, [](const LinkAddress& one) { return one.prefix == prefix("127.0.0.1/8"); }));

  POSTERN_OK(lab.netlink.remove_address(lab.ifindex, prefix("10.9.0.7/16")));
  POSTERN_OK(lab.netlink.remove_address(lab.ifindex, prefix("10.9.0.7/16")));
  CHECK(!succeeds("ip addr show dev out0 | grep -q 10.9.0.7"));
  CHECK(lab.netlink.add_address(4242, prefix("10.9.0.7/16")).error().code == ENODEV);
}

TEST_CASE("routes: added, replaced, removed, in both families and any table") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  for (const std::string_view text : {"10.44.0.0/16", "2001:db8:44::/48"}) {
    CAPTURE(text);
    Route route;
    route.destination = prefix(text);
    route.table = 1000;
    route.metric = 50;
    route.ifindex = lab.ifindex;
    CHECK(lab.netlink.add_route(route).value());
    CHECK(!lab.netlink.add_route(route).value());
    route.mtu = 1300;
    POSTERN_OK(lab.netlink.replace_route(route));
    POSTERN_GET(found, lab.netlink.routes(route.destination.family(), 1000));
    REQUIRE(found.size() == 1);
    CHECK(found[0].destination == route.destination);
    CHECK(found[0].metric == 50);
    CHECK(found[0].mtu == 1300);
    CHECK(found[0].protocol == route_protocol);
    POSTERN_OK(lab.netlink.remove_route(route));
    POSTERN_OK(lab.netlink.remove_route(route));
    CHECK(lab.netlink.routes(route.destination.family(), 1000).value().empty());
  }
  CHECK(lab.netlink.routes(Family::v4, main_table).value().empty());  // the kernel's own are not listed
}

TEST_CASE("lookup: what the kernel would do, with and without the mark") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  shell("ip route add 198.51.100.0/24 via 192.0.2.2 mtu 1280 && ip -6 route add 2001:db8:77::/48 via 2001:db8:ff::2");
  POSTERN_GET(route, lab.netlink.lookup({ip("198.51.100.9")}));
  CHECK(route.type == RouteType::unicast);
  CHECK(route.ifindex == lab.ifindex);
  CHECK(route.gateway == ip("192.0.2.2"));
  CHECK(route.preferred_source == ip("192.0.2.1"));
  CHECK(route.mtu == 1280);
  POSTERN_GET(direct, lab.netlink.lookup({ip("192.0.2.55")}));
  CHECK(!direct.gateway);
  POSTERN_GET(six, lab.netlink.lookup({ip("2001:db8:77::1")}));
  CHECK(six.gateway == ip("2001:db8:ff::2"));
  CHECK(lab.netlink.lookup({ip("192.0.2.1")}).value().type == RouteType::local);
  CHECK(lab.netlink.lookup({ip("2001:db8:ff::1")}).value().type == RouteType::local);
  CHECK(lab.netlink.lookup({ip("192.0.2.255")}).value().type == RouteType::broadcast);

  CHECK(lab.netlink.lookup({ip("203.0.113.1")}).error().code == ENETUNREACH);
  shell("ip route add unreachable 203.0.113.0/24 && ip -6 route add unreachable 2001:db8:66::/48");
  CHECK(lab.netlink.lookup({ip("203.0.113.1")}).error().code == EHOSTUNREACH);
  CHECK(lab.netlink.lookup({ip("2001:db8:66::1")}).error().code == EHOSTUNREACH);

  for (const Family family : {Family::v4, Family::v6}) {
    const Rule rule{.family = family, .priority = 90, .mark = POSTERN_MARK, .table = 1001};
    CHECK(lab.netlink.add_rule(rule).value());
    CHECK(!lab.netlink.add_rule(rule).value());
  }
  shell("ip route add default via 192.0.2.3 table 1001");
  CHECK(lab.netlink.lookup({ip("203.0.113.1"), POSTERN_MARK}).value().gateway == ip("192.0.2.3"));
  CHECK(!lab.netlink.lookup({ip("203.0.113.1"), 7}));
  POSTERN_OK(lab.netlink.remove_rule({.priority = 90, .mark = POSTERN_MARK, .table = 1001}));
  POSTERN_OK(lab.netlink.remove_rule({.priority = 90, .mark = POSTERN_MARK, .table = 1001}));
  CHECK(!lab.netlink.lookup({ip("203.0.113.1"), POSTERN_MARK}));
}

TEST_CASE("neighbours: kept by the kernel, released, and an operator's entry untouched") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  CHECK(lab.netlink.keep_neighbour(lab.ifindex, ip("192.0.2.2")).value());
  CHECK(succeeds("ip neigh show 192.0.2.2 dev out0 | grep -q managed"));
  POSTERN_OK(lab.netlink.probe_neighbour(lab.ifindex, ip("192.0.2.2")));
  CHECK(lab.netlink.neighbour(lab.ifindex, ip("192.0.2.2")).value()->managed);
  POSTERN_OK(lab.netlink.release_neighbour(lab.ifindex, ip("192.0.2.2")));
  CHECK(!lab.netlink.neighbour(lab.ifindex, ip("192.0.2.2")).value()->managed);

  shell("ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev out0 nud permanent");
  CHECK(lab.netlink.keep_neighbour(lab.ifindex, ip("192.0.2.9")).value());
  POSTERN_OK(lab.netlink.probe_neighbour(lab.ifindex, ip("192.0.2.9")));
  POSTERN_GET(operators, lab.netlink.neighbour(lab.ifindex, ip("192.0.2.9")));
  REQUIRE(operators);
  CHECK(operators->permanent());
  CHECK(operators->usable());
  CHECK(!operators->managed);

  shell("ip neigh add 192.0.2.10 dev out0 managed extern_learn protocol 99");
  POSTERN_OK(lab.netlink.release_neighbour(lab.ifindex, ip("192.0.2.10")));
  POSTERN_GET(others, lab.netlink.neighbour(lab.ifindex, ip("192.0.2.10")));
  REQUIRE(others);
  CHECK(others->managed);
  CHECK(others->extern_learned);

  CHECK(!lab.netlink.neighbour(lab.ifindex, ip("192.0.2.200")).value());
  CHECK(!lab.netlink.keep_neighbour(4242, ip("192.0.2.2")));
}

TEST_CASE("traffic control: qdiscs with their drops, and filters of clsact") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  CHECK(lab.netlink.filters(lab.ifindex, TcHook::egress).value().empty());  // no clsact at all
  shell("tc qdisc add dev out0 root handle 5: tbf rate 8kbit burst 1600 limit 1600");
  shell("tc qdisc add dev out0 clsact && tc filter add dev out0 egress u32 match u32 0 0 classid 1:1");
  POSTERN_GET(qdiscs, lab.netlink.qdiscs(lab.ifindex));
  const auto root = std::ranges::find(qdiscs, root_parent, &Qdisc::parent);
  REQUIRE(root != qdiscs.end());
  CHECK(root->kind == "tbf");
  CHECK(root->handle == 0x50000);
  POSTERN_GET(egress, lab.netlink.filters(lab.ifindex, TcHook::egress));
  REQUIRE(!egress.empty());
  CHECK(egress[0].kind == "u32");
  CHECK(lab.netlink.filters(lab.ifindex, TcHook::ingress).value().empty());
  shell("ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev out0 nud permanent");
  CHECK(!succeeds("ping -q -c 20 -i 0.002 -s 1000 -W 1 -w 1 192.0.2.2 >/dev/null 2>&1"));
  POSTERN_GET(after, lab.netlink.qdiscs(lab.ifindex));
  CHECK(std::ranges::find(after, root_parent, &Qdisc::parent)->drops > 0);
}

TEST_CASE("monitor: tells what changed, once, and nothing when nothing did") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  POSTERN_GET(monitor, NetworkMonitor::open());
  CHECK(!monitor.drain().value().any());
  const auto after = [&](const std::string& command) {
    shell(command);
    REQUIRE(readable(monitor.fd(), std::chrono::seconds(2)));
    return monitor.drain().value();
  };
  CHECK(after("ip route add 10.0.0.0/8 dev out0").routes);
  CHECK(after("ip rule add pref 77 lookup main").routes);
  CHECK(after("ip addr add 10.9.9.9/32 dev out0").addresses);
  CHECK(after("tc qdisc add dev out0 clsact").traffic);
  CHECK(after("ip link set out0 mtu 1450").links == std::vector{lab.ifindex});
  const auto neighbour = after("ip neigh add 192.0.2.8 lladdr 02:00:00:00:00:08 dev out0 nud stale").neighbours;
  REQUIRE(neighbour.size() == 1);
  CHECK(neighbour[0].address == ip("192.0.2.8"));
  CHECK(neighbour[0].usable());
  const auto removed = after("ip neigh del 192.0.2.8 dev out0").neighbours;
  REQUIRE(removed.size() == 1);
  CHECK(!removed[0].usable());
  const auto gone = after("ip link del out0");
  CHECK(std::ranges::find(gone.gone, lab.ifindex) != gone.gone.end());
  CHECK(!monitor.drain().value().any());
}

TEST_CASE("monitor: lost messages become a resync, not an error") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  POSTERN_GET(monitor, NetworkMonitor::open());
  const int small = 4096;
  REQUIRE(::setsockopt(monitor.fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small) == 0);
  shell("for i in $(seq 1 60); do echo route add 10.77.$i.0/24 dev out0; done | ip -batch -");
  CHECK(monitor.drain().value().resync);
  CHECK(!monitor.drain().value().resync);
}
