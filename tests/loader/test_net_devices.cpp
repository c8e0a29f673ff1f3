// loader/devices: TUN and TAP devices, their records, and the routes that must never fall through.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <nlohmann/json.hpp>
#include <signal.h>
#include <sys/ioctl.h>

#include "loader/devices.hpp"
#include "loader/patience.hpp"
#include "tests/loader/net_lab.hpp"
#include "worker/packet.hpp"

using namespace postern;
using namespace postern::loader;
using namespace postern::net_test;

namespace {

Prefix prefix(std::string_view text) { return Prefix::parse(text).value(); }
IpAddress ip(std::string_view text) { return IpAddress::parse(text).value(); }

struct Lab : OwnNamespace {
  Netlink netlink = Netlink::open().value();
  Devices devices{netlink, "N1"};
  UndoList made;
};

TunSpec tunnel0() { return {.name = "Tunnel0", .mtu = 1400}; }

// 10 bytes of virtio-net header and an IPv4/UDP packet from 172.16.0.2 to 172.16.0.1 (RFC 791, RFC 768), checksum
// right.
std::array<std::uint8_t, 10 + 28> packet_from_peer() {
  return {0,    0,    0,    0,    0, 0, 0, 0, 0,  0,                                             //
          0x45, 0,    0,    28,   0, 0, 0, 0, 64, 17, 0xe2, 0xb1, 172, 16, 0, 2, 172, 16, 0, 1,  //
          0x03, 0xe8, 0x03, 0xe9, 0, 8, 0, 0};
}

}  // namespace

TEST_CASE("tunnel device: made once, adopted after, configured as asked") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  POSTERN_GET(first, lab.devices.ensure_tun(tunnel0(), lab.made));
  CHECK(first.created);
  POSTERN_GET(again, lab.devices.ensure_tun(tunnel0(), lab.made));
  CHECK(!again.created);
  CHECK(again.ifindex == first.ifindex);
  CHECK(lab.made.size() == 1);
  POSTERN_GET(link, lab.netlink.link("Tunnel0"));
  CHECK(link.up());
  CHECK(link.mtu == 1400);
  CHECK(link.tx_queue_length == 4096);
  CHECK(link.alias == "postern N1");
  REQUIRE(link.tun);
  CHECK(!link.tun->tap);
  CHECK(link.tun->persistent);
  CHECK(link.tun->vnet_header);

  SUBCASE("a longer queue stays, a shorter one grows") {
    for (const auto& [before, after] : {std::pair{20000U, 20000U}, std::pair{512U, 4096U}}) {
      POSTERN_OK(lab.netlink.set_tx_queue_length(link.ifindex, before));
      POSTERN_OK(lab.devices.ensure_tun(tunnel0(), lab.made));
      CHECK(lab.netlink.link("Tunnel0").value().tx_queue_length == after);
    }
  }
  SUBCASE("another mode makes it again") {
    TunSpec spec = tunnel0();
    spec.queues = 2;
    POSTERN_GET(remade, lab.devices.ensure_tun(spec, lab.made));
    CHECK(remade.created);
    CHECK(lab.netlink.link("Tunnel0").value().tun->multi_queue);
    POSTERN_GET(queues, lab.devices.open_queues(spec));
    CHECK(queues.size() == 2);
    CHECK(lab.devices.open_queues(tunnel0()).error().code == EINVAL);  // it is not a single-queue device
  }
  SUBCASE("IPv6 is off where the tunnel does not carry it, and on again where it does") {
    TunSpec spec = tunnel0();
    spec.ipv6 = false;
    POSTERN_OK(lab.devices.ensure_tun(spec, lab.made));
    CHECK(!lab.netlink.add_address(first.ifindex, prefix("2001:db8:16::1/64")).has_value());
    POSTERN_OK(lab.devices.ensure_tun(tunnel0(), lab.made));
    CHECK(lab.netlink.add_address(first.ifindex, prefix("2001:db8:16::1/64")).value());
  }
}

TEST_CASE("a foreign device of that name is refused and left alone") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  shell("ip tuntap add dev Tunnel0 mode tun && ip link add Tunnel1 type veth peer name far1");
  Devices other(lab.netlink, "N2");
  POSTERN_OK(other.ensure_tun({.name = "Tunnel2"}, lab.made));
  lab.made.clear();
  for (const char* name : {"Tunnel0", "Tunnel1", "Tunnel2"}) {
    CAPTURE(name);
    const auto refused = lab.devices.ensure_tun({.name = name}, lab.made);
    REQUIRE(!refused);
    CHECK(refused.error().code == EEXIST);
    CHECK(lab.devices.open_queues({.name = name}).error().code == EEXIST);
    CHECK(lab.devices.undo({.kind = "device", .name = name}).error().code == EPERM);
    CHECK(lab.netlink.link(name));
  }
  CHECK(lab.made.empty());
  CHECK(lab.devices.remove_marked_devices().value().empty());
  CHECK(lab.devices.ensure_tun({.name = "a-name-that-is-too-long"}, lab.made).error().code == EINVAL);
  CHECK(lab.devices.open_queues({.name = "Tunnel9"}).error().code == ENODEV);
}

TEST_CASE("steer TAP: silent, and named after the node") {
  POSTERN_NEEDS_ROOT();
  CHECK(Devices::steer_name("N1") == "pn-N1");
  CHECK(Devices::steer_name("exactly12chr") == "pn-exactly12chr");
  CHECK(Devices::steer_name("a-long-node-name-1").size() == 15);
  CHECK(Devices::steer_name("a-long-node-name-1") != Devices::steer_name("a-long-node-name-2"));

  Lab lab;
  const TunSpec spec{.name = Devices::steer_name("N1"), .tap = true};
  POSTERN_OK(lab.devices.ensure_tun(spec, lab.made));
  POSTERN_GET(link, lab.netlink.link("pn-N1"));
  CHECK(link.ethernet());
  CHECK(link.no_arp());
  REQUIRE(link.tun);
  CHECK(link.tun->tap);
  // Nothing of its own ever appears on it: no MLD report, no router solicitation, no duplicate address detection.
  POSTERN_GET(queues, lab.devices.open_queues(spec));
  shell("ip link set pn-N1 down && ip link set pn-N1 up");
  CHECK(!succeeds("ip -6 addr show dev pn-N1 | grep -q inet6"));
  CHECK(!readable(queues[0].get(), std::chrono::milliseconds(300)));
}

TEST_CASE("a queue carries raw IP behind the 10-byte header, with offloads") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  TunSpec spec = tunnel0();
  spec.ipv6 = false;
  POSTERN_OK(lab.devices.ensure_tun(spec, lab.made));
  POSTERN_OK(lab.devices.ensure_address("Tunnel0", prefix("172.16.0.1/30"), lab.made));
  POSTERN_GET(queues, lab.devices.open_queues(spec));
  REQUIRE(queues.size() == 1);
  for (const char* feature : {"tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-checksum-ip-generic"}) {
    CAPTURE(feature);
    CHECK(succeeds(std::string("ethtool -k Tunnel0 | grep -q '") + feature + ": on'"));
  }
  (void)succeeds("ping -c 1 -W 1 -w 1 172.16.0.2 >/dev/null");
  std::array<std::uint8_t, 2048> buffer{};
  REQUIRE(readable(queues[0].get(), std::chrono::seconds(1)));
  const ssize_t size = ::read(queues[0].get(), buffer.data(), buffer.size());
  REQUIRE(size == 10 + 84);
  CHECK(buffer[10] == 0x45);
  CHECK(buffer[10 + 9] == 1);
  errno = 0;
  CHECK(::read(queues[0].get(), buffer.data(), buffer.size()) == -1);
  CHECK(errno == EAGAIN);

  const auto packet = packet_from_peer();
  REQUIRE(::write(queues[0].get(), packet.data(), packet.size()) == static_cast<ssize_t>(packet.size()));
  POSTERN_GET(link, lab.netlink.link("Tunnel0"));
  CHECK(link.counters.rx_packets == 1);
  CHECK(link.counters.rx_bytes == 28);
}

TEST_CASE("a queue whose owner has just died is waited for; a living owner's is not stolen") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  POSTERN_OK(lab.devices.ensure_tun(tunnel0(), lab.made));
  auto held = std::move(lab.devices.open_queues(tunnel0()).value());
  const pid_t owner = ::fork();
  REQUIRE(owner >= 0);
  if (owner == 0) {
    ::pause();
    ::_exit(0);
  }
  held.clear();  // the child's copy remains
  const auto refused = lab.devices.open_queues(tunnel0());
  REQUIRE(!refused);
  CHECK(refused.error().code == EBUSY);
  REQUIRE(::kill(owner, SIGKILL) == 0);
  CHECK(lab.devices.open_queues(tunnel0()).has_value());
  CHECK(::waitpid(owner, nullptr, 0) == owner);
}

TEST_CASE("patience: only for EBUSY, and only for so long") {
  int calls = 0;
  const auto busy_twice = [&]() -> Result<int> { return ++calls < 3 ? Result<int>(fail("busy", EBUSY)) : 7; };
  CHECK(with_patience(busy_twice).value() == 7);
  CHECK(calls == 3);
  calls = 0;
  CHECK(with_patience([&]() -> Result<int> { return ++calls, fail("no", EPERM); }).error().code == EPERM);
  CHECK(calls == 1);
  const auto always = [&]() -> Result<int> { return fail("busy", EBUSY); };
  CHECK(with_patience(always, std::chrono::milliseconds(50)).error().code == EBUSY);
}

TEST_CASE("the unreachable twin: a lost tunnel never falls through to the default route") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  shell("ip link set lo up && ip link add out0 type veth peer name far0 && ip link set far0 up && ip link set out0 up");
  shell("ip addr add 192.0.2.1/24 dev out0 && ip addr add 2001:db8:ff::1/64 dev out0 nodad");
  shell("ip route add default via 192.0.2.2 && ip -6 route add default via 2001:db8:ff::2");
  POSTERN_GET(tunnel, lab.devices.ensure_tun(tunnel0(), lab.made));
  struct Row {
    std::string_view prefix, inside;
  };
  for (const Row& row : {Row{"10.4.0.0/16", "10.4.1.1"}, Row{"2001:db8:4::/48", "2001:db8:4::1"}}) {
    CAPTURE(row.prefix);
    CHECK(lab.netlink.lookup({ip(row.inside)}).value().ifindex != tunnel.ifindex);  // the default route has it
    POSTERN_OK(lab.devices.ensure_route("Tunnel0", prefix(row.prefix), 0, lab.made));
    CHECK(lab.netlink.lookup({ip(row.inside)}).value().ifindex == tunnel.ifindex);
    const auto records = lab.made.size();
    POSTERN_OK(lab.devices.ensure_route("Tunnel0", prefix(row.prefix), 0, lab.made));
    CHECK(lab.made.size() == records);

    POSTERN_OK(lab.netlink.set_up(tunnel.ifindex, false));
    CHECK(lab.netlink.lookup({ip(row.inside)}).error().code == EHOSTUNREACH);
    POSTERN_OK(lab.netlink.set_up(tunnel.ifindex, true));
    POSTERN_OK(lab.devices.ensure_route("Tunnel0", prefix(row.prefix), 0, lab.made));
    CHECK(lab.netlink.lookup({ip(row.inside)}).value().ifindex == tunnel.ifindex);
  }
  shell("ip link del Tunnel0");
  CHECK(lab.netlink.lookup({ip("10.4.1.1")}).error().code == EHOSTUNREACH);
  CHECK(lab.netlink.lookup({ip("2001:db8:4::1")}).error().code == EHOSTUNREACH);

  // Teardown gives the prefixes back.
  POSTERN_OK(lab.devices.undo_all(lab.made));
  CHECK(lab.made.empty());
  CHECK(lab.netlink.lookup({ip("10.4.1.1")}).has_value());
  CHECK(lab.netlink.lookup({ip("2001:db8:4::1")}).has_value());
}

TEST_CASE("routes: an operator's own route is neither replaced nor removed") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  shell("ip link add out0 type veth peer name far0 && ip link set out0 up && ip link set far0 up");
  POSTERN_OK(lab.devices.ensure_tun(tunnel0(), lab.made));
  shell("ip route add 10.4.0.0/16 dev out0");
  const auto refused = lab.devices.ensure_route("Tunnel0", prefix("10.4.0.0/16"), 0, lab.made);
  REQUIRE(!refused);
  CHECK(refused.error().code == EEXIST);
  POSTERN_OK(lab.devices.undo_all(lab.made));
  CHECK(succeeds("ip route show 10.4.0.0/16 dev out0 | grep -q 10.4"));
  CHECK(!succeeds("ip route show 10.4.0.0/16 | grep -q unreachable"));
}

TEST_CASE("routes follow a device that was made again") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  POSTERN_OK(lab.devices.ensure_tun(tunnel0(), lab.made));
  POSTERN_OK(lab.devices.ensure_tun({.name = "Tunnel1"}, lab.made));
  POSTERN_OK(lab.devices.ensure_route("Tunnel0", prefix("10.4.0.0/16"), 1000, lab.made));
  POSTERN_OK(lab.devices.ensure_route("Tunnel1", prefix("10.4.0.0/16"), 1000, lab.made));
  CHECK(succeeds("ip route show table 1000 10.4.0.0/16 | grep -q Tunnel1"));
  CHECK(!succeeds("ip route show table 1000 10.4.0.0/16 | grep -q Tunnel0"));
  // The records name the tunnel that has the prefix now, the twin's too: undoing Tunnel0's takes nothing from Tunnel1.
  const auto of = [&](std::string_view name) {
    return std::ranges::count_if(lab.made, [&](const Undo& one) { return one.kind != "device" && one.name == name; });
  };
  CHECK(of("Tunnel0") == 0);
  CHECK(of("Tunnel1") == 2);
}

TEST_CASE("addresses: recorded only when added, removed when no longer wanted") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  shell("ip link add out0 type veth peer name far0 && ip addr add 192.0.2.1/24 dev out0");
  POSTERN_OK(lab.devices.ensure_address("out0", prefix("192.0.2.1/24"), lab.made));
  CHECK(lab.made.empty());
  POSTERN_OK(lab.devices.ensure_address("out0", prefix("192.0.2.11/24"), lab.made));
  POSTERN_OK(lab.devices.ensure_address("out0", prefix("2001:db8::11/64"), lab.made));
  REQUIRE(lab.made.size() == 2);
  POSTERN_OK(lab.devices.keep_only_addresses("out0", {prefix("2001:db8::11/64")}, lab.made));
  CHECK(lab.made == UndoList{{.kind = "address", .name = "out0", .prefix = "2001:db8::11/64"}});
  CHECK(succeeds("ip addr show dev out0 | grep -q 192.0.2.1/24"));
  CHECK(!succeeds("ip addr show dev out0 | grep -q 192.0.2.11/24"));
  CHECK(lab.devices.ensure_address("none0", prefix("10.0.0.1/8"), lab.made).error().code == ENODEV);
}

TEST_CASE("undo: everything that was made, also when some of it is gone, and nothing else") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  shell("ip link add out0 type veth peer name far0 && ip link set out0 up && ip link set far0 up");
  POSTERN_OK(lab.devices.ensure_tun(tunnel0(), lab.made));
  POSTERN_OK(lab.devices.ensure_tun({.name = "pn-N1", .tap = true}, lab.made));
  POSTERN_OK(lab.devices.ensure_address("out0", prefix("192.0.2.1/24"), lab.made));
  POSTERN_OK(lab.devices.ensure_route("Tunnel0", prefix("10.4.0.0/16"), 0, lab.made));
  POSTERN_OK(lab.devices.ensure_rule({.priority = 90, .mark = 7, .table = 1000}, lab.made));
  CHECK(lab.made.size() == 6);

  const UndoList reread = nlohmann::json::parse(nlohmann::json(lab.made).dump()).get<UndoList>();
  CHECK(reread == lab.made);
  CHECK_THROWS(nlohmann::json::parse(R"([{"name":"x"}])").get<UndoList>());

  shell("ip link del Tunnel0");
  UndoList with_nonsense = reread;
  with_nonsense.push_back({.kind = "nonsense"});
  CHECK(lab.devices.undo_all(with_nonsense).error().code == EINVAL);
  CHECK(with_nonsense == UndoList{{.kind = "nonsense"}});
  CHECK(lab.netlink.link("pn-N1").error().code == ENODEV);
  CHECK(!succeeds("ip rule | grep -q '^90:'"));
  CHECK(!succeeds("ip addr show dev out0 | grep -q 192.0.2.1/24"));
  CHECK(!succeeds("ip route show proto 80 | grep -q ."));
  CHECK(lab.netlink.link("out0").has_value());
}

TEST_CASE("teardown without a record finds the node's own devices by their mark") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  POSTERN_OK(lab.devices.ensure_tun(tunnel0(), lab.made));
  POSTERN_OK(Devices(lab.netlink, "N2").ensure_tun({.name = "Tunnel7"}, lab.made));
  CHECK(lab.devices.remove_marked_devices().value() == std::vector<std::string>{"Tunnel0"});
  CHECK(lab.netlink.link("Tunnel7").has_value());
}
