// loader/adjacency_keeper against real neighbours in another namespace. Time is given by the test; waiting is for the
// kernel's own messages.
#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <functional>
#include <memory>
#include <new>

#include "loader/adjacency_keeper.hpp"
#include "loader/devices.hpp"
#include "loader/sockets.hpp"
#include "maps/abi.h"
#include "tests/loader/net_lab.hpp"

using namespace postern;
using namespace postern::loader;
using namespace postern::net_test;

namespace {

IpAddress ip(std::string_view text) { return IpAddress::parse(text).value(); }
AdjacencyKey key(std::string_view text) { return {0, ip(text)}; }

// Zeroed, as a fresh memfd is.
struct Table {
  Table()
      : memory(Mapping::map(sizeof(AdjacencyTable), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, "table")
                   .value()) {}
  Mapping memory;
  [[nodiscard]] AdjacencyTable& get() const { return *memory.as<AdjacencyTable>(); }
};

// The node: out0 to a peer at .2, in0 to a host at 10.1.0.2, each in the other namespace.
struct Lab : OwnNamespace {
  Lab() {
    shell("ip link set lo up");
    shell("ip link add out0 address 02:00:00:00:01:01 type veth peer name far0 address 02:00:00:00:01:02 netns " +
          far.path());
    shell("ip link add in0 address 02:00:00:00:02:01 type veth peer name far1 address 02:00:00:00:02:02 netns " +
          far.path());
    far.run([] {
      shell("ip link set far0 up && ip addr add 192.0.2.2/24 dev far0 && ip addr add 2001:db8:ff::2/64 dev far0 nodad");
      shell("ip link set far1 up && ip addr add 10.1.0.2/16 dev far1 && ip addr add 10.1.0.3/16 dev far1");
    });
    shell("ip link set out0 up && ip addr add 192.0.2.1/24 dev out0 && ip addr add 2001:db8:ff::1/64 dev out0 nodad");
    shell("ip link set in0 up && ip addr add 10.1.0.1/16 dev in0");
    out = netlink.link("out0").value().ifindex;
    in = netlink.link("in0").value().ifindex;
    (void)monitor.drain();
    keeper.set_devices({}, {in}, now);
  }
  // Lets the keeper see events until `done`; false after 4 seconds without.
  bool settles(const std::function<bool()>& done) {
    const Time limit = Clock::now() + std::chrono::seconds(4);
    while (!done()) {
      if (Clock::now() >= limit) return false;
      if (readable(monitor.fd(), std::chrono::milliseconds(100))) keeper.on_changes(monitor.drain().value(), now);
      now = std::max(now, Clock::now());
      if (const auto due = keeper.next_deadline(); due && *due <= now) keeper.on_timer(now);
    }
    return true;
  }
  bool appears(const AdjacencyKey& wanted) {
    return settles([&] { return table.get().find(wanted).has_value(); });
  }
  bool disappears(const AdjacencyKey& wanted) {
    return settles([&] { return !table.get().find(wanted).has_value(); });
  }
  std::string reason(const AdjacencyKey& wanted) {
    for (const AdjacencyState& state : keeper.states())
      if (state.key == wanted) return state.reason;
    return "no such entry";
  }
  bool reason_has(const AdjacencyKey& wanted, std::string_view words) {
    return reason(wanted).find(words) != std::string::npos;
  }

  Namespace far;
  Netlink netlink = Netlink::open().value();
  NetworkMonitor monitor = NetworkMonitor::open().value();
  Table table;
  Time now = Clock::now();
  AdjacencyLimits limits{
      .forward_entries = 2, .forward_idle = std::chrono::seconds(60), .probe_interval = std::chrono::milliseconds(500)};
  AdjacencyKeeper keeper{netlink, table.get(), now, limits};
  std::uint32_t out = 0, in = 0;
};

constexpr MacAddress far0_mac{2, 0, 0, 0, 1, 2};
constexpr MacAddress out0_mac{2, 0, 0, 0, 1, 1};

}  // namespace

TEST_CASE("outer peer on link: resolved with both addresses, the MTU, and kept by the kernel") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  lab.keeper.want(key("192.0.2.2"), false, lab.now);
  REQUIRE(lab.appears(key("192.0.2.2")));
  const auto found = lab.table.get().find(key("192.0.2.2")).value();
  CHECK(found.ifindex == lab.out);
  CHECK(found.destination == far0_mac);
  CHECK(found.source == out0_mac);
  CHECK(found.mtu == 1500);
  CHECK(!found.forward);
  CHECK(succeeds("ip neigh show 192.0.2.2 | grep -q managed"));
  CHECK(lab.reason(key("192.0.2.2")).empty());
  lab.keeper.want(key("2001:db8:ff::2"), false, lab.now);
  REQUIRE(lab.appears(key("2001:db8:ff::2")));
  CHECK(lab.table.get().find(key("2001:db8:ff::2"))->destination == far0_mac);

  lab.keeper.unwant(key("192.0.2.2"));
  CHECK(!lab.table.get().find(key("192.0.2.2")));
  CHECK(!succeeds("ip neigh show 192.0.2.2 | grep -q managed"));
  CHECK(lab.table.get().find(key("2001:db8:ff::2")));
  lab.keeper.unwant(key("192.0.2.2"));
}

TEST_CASE("outer peer behind a gateway: the gateway's address, the route's MTU; one neighbour serves two peers") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  shell("ip route add 198.51.100.0/24 via 192.0.2.2 mtu 1280");
  lab.keeper.want(key("198.51.100.7"), false, lab.now);
  lab.keeper.want(key("198.51.100.8"), false, lab.now);
  REQUIRE(lab.appears(key("198.51.100.7")));
  REQUIRE(lab.appears(key("198.51.100.8")));
  CHECK(lab.table.get().find(key("198.51.100.7"))->destination == far0_mac);
  CHECK(lab.table.get().find(key("198.51.100.7"))->mtu == 1280);
  lab.keeper.unwant(key("198.51.100.7"));
  CHECK(succeeds("ip neigh show 192.0.2.2 | grep -q managed"));
  lab.keeper.unwant(key("198.51.100.8"));
  CHECK(!succeeds("ip neigh show 192.0.2.2 | grep -q managed"));
}

TEST_CASE("nobody answers: no row, and the reason says so") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  lab.keeper.want(key("192.0.2.77"), false, lab.now);
  CHECK(!lab.table.get().find(key("192.0.2.77")));
  CHECK(lab.reason_has(key("192.0.2.77"), "has not answered yet"));
  CHECK(lab.settles([&] { return lab.reason_has(key("192.0.2.77"), "does not answer"); }));
  CHECK(!lab.table.get().find(key("192.0.2.77")));
}

TEST_CASE("the peer's MAC changes: the row follows") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  shell("echo 0 > /proc/sys/net/ipv4/neigh/out0/locktime");
  lab.keeper.want(key("192.0.2.2"), false, lab.now);
  REQUIRE(lab.appears(key("192.0.2.2")));
  const auto epoch = lab.table.get().epoch.load();
  lab.far.run([] {
    shell("echo 1 > /proc/sys/net/ipv4/conf/far0/arp_notify");
    shell("ip link set far0 address 02:00:00:00:01:99");
  });
  CHECK(lab.settles([&] {
    const auto found = lab.table.get().find(key("192.0.2.2"));
    return found && found->destination == MacAddress{2, 0, 0, 0, 1, 0x99};
  }));
  CHECK(lab.table.get().epoch.load() > epoch);
}

TEST_CASE("our own MAC or MTU changes: the row follows") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  lab.keeper.want(key("192.0.2.2"), false, lab.now);
  REQUIRE(lab.appears(key("192.0.2.2")));
  shell("ip link set out0 mtu 1400 && ip link set out0 address 02:00:00:00:01:77");
  CHECK(lab.settles([&] {
    const auto found = lab.table.get().find(key("192.0.2.2"));
    return found && found->mtu == 1400 && found->source == MacAddress{2, 0, 0, 0, 1, 0x77};
  }));
}

TEST_CASE("link down, link up; route gone, route back; another gateway") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  lab.far.run([] { shell("ip addr add 192.0.2.3/24 dev far0"); });
  shell("ip route add 198.51.100.0/24 via 192.0.2.2");
  lab.keeper.want(key("198.51.100.7"), false, lab.now);
  REQUIRE(lab.appears(key("198.51.100.7")));

  lab.far.run([] { shell("ip link set far0 down"); });
  CHECK(lab.disappears(key("198.51.100.7")));
  CHECK(lab.reason_has(key("198.51.100.7"), "out0 is down"));
  lab.far.run([] { shell("ip link set far0 up"); });
  CHECK(lab.appears(key("198.51.100.7")));
  CHECK(lab.settles([] { return succeeds("ip neigh show 192.0.2.2 | grep -q managed"); }));

  shell("ip route del 198.51.100.0/24");
  CHECK(lab.disappears(key("198.51.100.7")));
  CHECK(lab.reason_has(key("198.51.100.7"), "Network is unreachable"));
  shell("ip route add 198.51.100.0/24 via 192.0.2.3");
  CHECK(lab.appears(key("198.51.100.7")));
  CHECK(succeeds("ip neigh show 192.0.2.3 | grep -q managed"));
  CHECK(!succeeds("ip neigh show 192.0.2.2 | grep -q managed"));
}

TEST_CASE("an operator's permanent neighbour is used and stays permanent") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  shell("ip neigh add 192.0.2.50 lladdr 02:00:00:00:00:50 dev out0 nud permanent");
  lab.keeper.want(key("192.0.2.50"), false, lab.now);
  REQUIRE(lab.table.get().find(key("192.0.2.50")));
  CHECK(lab.table.get().find(key("192.0.2.50"))->destination == MacAddress{2, 0, 0, 0, 0, 0x50});
  lab.keeper.unwant(key("192.0.2.50"));
  CHECK(succeeds("ip neigh show 192.0.2.50 | grep -q PERMANENT"));
  // Removed by the operator while it is in use: the row goes, and comes back when it does.
  lab.keeper.want(key("192.0.2.50"), false, lab.now);
  shell("ip neigh del 192.0.2.50 dev out0");
  CHECK(lab.disappears(key("192.0.2.50")));
}

TEST_CASE("recursion: a route into our own tunnel is refused; the mark leads around it") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  Devices devices(lab.netlink, "N1");
  UndoList made;
  POSTERN_GET(tunnel, devices.ensure_tun({.name = "Tunnel0"}, made));
  shell("ip route add default dev Tunnel0");
  lab.keeper.set_devices({tunnel.ifindex}, {lab.in}, lab.now);
  lab.keeper.want(key("203.0.113.9"), false, lab.now);
  CHECK(lab.reason_has(key("203.0.113.9"), "recursive routing"));
  CHECK(!lab.table.get().find(key("203.0.113.9")));
  POSTERN_OK(lab.netlink.add_rule({.priority = 90, .mark = POSTERN_MARK, .table = 1001}));
  shell("ip route add default via 192.0.2.2 table 1001");
  REQUIRE(lab.appears(key("203.0.113.9")));
  CHECK(lab.table.get().find(key("203.0.113.9"))->ifindex == lab.out);
}

TEST_CASE("destinations that are no next hop at all") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  struct Row {
    const char *address, *words;
  };
  for (const Row& row : {Row{"192.0.2.1", "address of this node"}, Row{"127.0.0.1", "address of this node"},
                         Row{"192.0.2.255", "not a unicast"}, Row{"224.0.0.5", "unreachable"},
                         Row{"203.0.113.1", "unreachable"}, Row{"2001:db8:1234::1", "unreachable"}}) {
    CAPTURE(row.address);
    CAPTURE(lab.reason(key(row.address)));
    lab.keeper.want(key(row.address), false, lab.now);
    CHECK(lab.reason_has(key(row.address), row.words));
    CHECK(!lab.table.get().find(key(row.address)));
  }
  lab.keeper.want({77, ip("192.0.2.2")}, false, lab.now);
  CHECK(lab.reason_has({77, ip("192.0.2.2")}, "no VRF device has table 77"));
}

TEST_CASE("front-door VRF: the peer is looked up in its table") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  if (!succeeds("ip link add red type vrf table 77 2>/dev/null")) {
    MESSAGE("skipped: this kernel has no VRF devices");
    return;
  }
  Devices devices(lab.netlink, "N1");
  UndoList made;
  shell("ip link set red up");
  CHECK(devices.ensure_vrf("in0", "out0", made).error().code == EINVAL);
  POSTERN_OK(devices.ensure_vrf("in0", "red", made));
  POSTERN_OK(devices.ensure_vrf("in0", "red", made));
  CHECK(made.size() == 1);
  const AdjacencyKey in_vrf{77, ip("10.1.0.2")};
  lab.keeper.want(in_vrf, false, lab.now);
  REQUIRE(lab.appears(in_vrf));
  CHECK(lab.table.get().find(in_vrf)->ifindex == lab.in);
  lab.keeper.want(key("10.1.0.2"), false, lab.now);
  CHECK(lab.reason_has(key("10.1.0.2"), "Network is unreachable"));
  POSTERN_GET(socket, open_udp({.family = Family::v4, .port = 4500, .scope = {.vrf_device = "red"}}));
  POSTERN_OK(devices.undo_all(made));
  CHECK(lab.disappears(in_vrf));  // and the main table, which has the route now, is not asked
  CHECK(lab.reason_has(in_vrf, "table 77 has no route"));
  shell("ip link del red");
  CHECK(lab.settles([&] { return lab.reason_has(in_vrf, "no VRF device has table 77"); }));
}

TEST_CASE("header-less link: no addresses needed") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  Devices devices(lab.netlink, "other");
  UndoList made;
  const TunSpec spec{.name = "ppp0", .mtu = 1400};
  POSTERN_GET(made_tun, devices.ensure_tun(spec, made));
  POSTERN_GET(queues, devices.open_queues(spec));  // gives it carrier
  shell("ip route add 203.0.113.0/24 dev ppp0");
  lab.keeper.want(key("203.0.113.9"), false, lab.now);
  REQUIRE(lab.appears(key("203.0.113.9")));
  const auto found = lab.table.get().find(key("203.0.113.9")).value();
  CHECK(found.ifindex == made_tun.ifindex);
  CHECK(found.destination == MacAddress{});
  CHECK(found.source == MacAddress{});
  CHECK(found.mtu == 1400);
}

TEST_CASE("forwarded destinations: inside only, probed and not kept, bounded, and forgotten when idle") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  lab.keeper.want(key("10.1.0.2"), true, lab.now);
  REQUIRE(lab.appears(key("10.1.0.2")));
  CHECK(lab.table.get().find(key("10.1.0.2"))->forward);
  CHECK(lab.table.get().find(key("10.1.0.2"))->ifindex == lab.in);
  CHECK(!succeeds("ip neigh show 10.1.0.2 | grep -q managed"));

  SUBCASE("what is not behind an inside interface is the kernel's") {
    lab.keeper.want(key("192.0.2.2"), true, lab.now);
    CHECK(lab.reason_has(key("192.0.2.2"), "not an inside interface"));
    lab.keeper.want(key("10.1.0.1"), true, lab.now);
    CHECK(lab.reason_has(key("10.1.0.1"), "address of this node"));
    CHECK(!lab.table.get().find(key("192.0.2.2")));
  }
  SUBCASE("an interface that stops being inside takes its rows along") {
    lab.keeper.set_devices({}, {}, lab.now);
    CHECK(!lab.table.get().find(key("10.1.0.2")));
  }
  SUBCASE("an outer peer behind an inside interface serves both, and stays when forwarding ends") {
    lab.keeper.want(key("10.1.0.2"), false, lab.now);
    CHECK(lab.table.get().find(key("10.1.0.2"))->forward);
    CHECK(succeeds("ip neigh show 10.1.0.2 | grep -q managed"));
    lab.keeper.on_timer(lab.now + std::chrono::seconds(61));
    REQUIRE(lab.table.get().find(key("10.1.0.2")));
    CHECK(!lab.table.get().find(key("10.1.0.2"))->forward);
  }
  SUBCASE("a packet without the mark goes another way than one with it: not for forwarding") {
    POSTERN_OK(lab.netlink.add_rule({.priority = 90, .mark = POSTERN_MARK, .table = 1001}));
    shell("ip route add 10.1.0.3 via 192.0.2.2 table 1001");
    lab.keeper.want(key("10.1.0.3"), false, lab.now);
    lab.keeper.want(key("10.1.0.3"), true, lab.now);
    REQUIRE(lab.appears(key("10.1.0.3")));
    CHECK(lab.table.get().find(key("10.1.0.3"))->ifindex == lab.out);
    CHECK(!lab.table.get().find(key("10.1.0.3"))->forward);
  }
  SUBCASE("the bound: the one asked for longest ago makes room") {
    lab.keeper.want(key("10.1.0.3"), true, lab.now + std::chrono::seconds(1));
    lab.keeper.want(key("10.1.0.2"), true, lab.now + std::chrono::seconds(2));
    lab.keeper.want(key("10.1.0.4"), true, lab.now + std::chrono::seconds(3));
    CHECK(lab.reason(key("10.1.0.3")) == "no such entry");
    CHECK(lab.table.get().find(key("10.1.0.2")));
    CHECK(lab.keeper.states().size() == 2);
  }
  SUBCASE("idle") {
    REQUIRE(lab.keeper.next_deadline());
    lab.keeper.on_timer(lab.now + std::chrono::seconds(59));
    CHECK(lab.table.get().find(key("10.1.0.2")));
    lab.keeper.on_timer(lab.now + std::chrono::seconds(61));
    CHECK(!lab.table.get().find(key("10.1.0.2")));
    CHECK(lab.keeper.states().empty());
    CHECK(!lab.keeper.next_deadline());
  }
}

TEST_CASE("a table that a living worker uses is taken over") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  lab.keeper.want(key("192.0.2.2"), false, lab.now);
  lab.keeper.want(key("10.1.0.2"), true, lab.now);
  REQUIRE(lab.appears(key("192.0.2.2")));
  REQUIRE(lab.appears(key("10.1.0.2")));

  AdjacencyKeeper next(lab.netlink, lab.table.get(), lab.now, lab.limits);
  next.set_devices({}, {lab.in}, lab.now);
  CHECK(lab.table.get().find(key("192.0.2.2")));
  next.want(key("10.1.0.2"), false, lab.now);
  next.on_timer(lab.now + std::chrono::seconds(61));
  CHECK(!lab.table.get().find(key("192.0.2.2")));  // nobody wanted it again
  CHECK(lab.table.get().find(key("10.1.0.2")));

  next.release_all();
  CHECK(!lab.table.get().find(key("10.1.0.2")));
  CHECK(!succeeds("ip neigh show | grep -q managed"));
  CHECK(next.states().empty());
}

TEST_CASE("lost events: after a resync the table is true again") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  lab.keeper.want(key("192.0.2.2"), false, lab.now);
  REQUIRE(lab.appears(key("192.0.2.2")));
  shell("ip link set out0 mtu 1399 && ip neigh replace 192.0.2.2 lladdr 02:00:00:00:00:44 dev out0 nud permanent");
  (void)lab.monitor.drain();  // nobody looks at these
  CHECK(lab.table.get().find(key("192.0.2.2"))->mtu == 1500);
  lab.keeper.on_changes({.resync = true, .links = {}, .gone = {}, .neighbours = {}}, lab.now + std::chrono::seconds(1));
  CHECK(lab.table.get().find(key("192.0.2.2"))->mtu == 1399);
  CHECK(lab.table.get().find(key("192.0.2.2"))->destination == MacAddress{2, 0, 0, 0, 0, 0x44});
}
