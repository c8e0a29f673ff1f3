// ICMP errors: of the flow of the packet that they quote (RFC 4301 §6.2), and path MTU messages about ESP (§8.2).
#include <cstring>

#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include "tests/bpf/bpf_node.hpp"

using namespace postern;
using namespace postern::testing;

namespace {

constexpr std::uint32_t go_on = static_cast<std::uint32_t>(TC_ACT_UNSPEC);

struct Kind {
  std::uint8_t type, code;
};

// The node protects 10.1/16 -> 10.2/16 (flow 5), tcp port 80 of 10.7/16 (flow 6), 2001:db8:1::/64 -> 2001:db8:2::/64
// (flow 7), and nothing else.
struct ErrorNode : BpfNode {
  std::uint32_t generation = 0;
  ErrorNode() {
    PolicyRule web = permit("10.1.0.0/16", "10.7.0.0/16", 6, 20);
    web.protocol = proto_tcp;
    web.destination_ports = {{80, 80}};
    generation =
        set_policy({permit("10.1.0.0/16", "10.2.0.0/16", 5), web, permit("2001:db8:1::/64", "2001:db8:2::/64", 7, 30)});
    fill_slot(0);
  }
  // The flow that protects the frame on its way out; 0: none, -1: dropped.
  int egress(const Octets& frame) {
    const RunResult result = tc_egress(frame, out0);
    if (result.action == TC_ACT_SHOT) return -1;
    if (result.action == go_on) return 0;
    postern_stamp stamp;
    REQUIRE(result.frame.size() >= sizeof stamp);
    std::memcpy(&stamp, result.frame.data(), sizeof stamp);
    CHECK(stamp.generation == generation);
    return static_cast<int>(stamp.flow);
  }
};

Octets quote4(const char* source, const char* destination, std::uint8_t protocol = proto_udp,
              const Octets& payload = udp(1000, 2000), std::uint16_t fragment = 0) {
  return ipv4({.source = source, .destination = destination, .protocol = protocol, .fragment = fragment}, payload);
}
Octets error4(const char* source, const char* destination, const Octets& quote, Kind kind = {3, 1}) {
  return ethernet(type_ipv4, ipv4({.source = source, .destination = destination, .protocol = proto_icmp},
                                  icmp(kind.type, kind.code) + quote));
}
Octets error6(const char* source, const char* destination, const Octets& quote, Kind kind = {2, 0}) {
  return ethernet(type_ipv6, ipv6({.source = source, .destination = destination, .next_header = proto_icmpv6},
                                  icmp(kind.type, kind.code) + quote));
}

}  // namespace

TEST_CASE("R43-15: an error that no rule names is of the flow of the packet that it quotes, reversed") {
  POSTERN_NEEDS_ROOT();
  ErrorNode node;
  const Octets arrived = quote4("10.2.0.2", "10.1.0.9");
  for (const std::uint8_t type : std::initializer_list<std::uint8_t>{3, 4, 5, 11, 12})
    CHECK(node.egress(error4("192.0.2.1", "10.2.0.2", arrived, {type, 0})) == 5);
  CHECK(node.egress(error4("172.16.9.9", "10.2.0.2", arrived)) == 5);  // a router behind us
  CHECK(node.new_drops(Drop::unparseable) == 0);

  // Not about a packet of the flow, or no error at all.
  CHECK(node.egress(error4("192.0.2.1", "10.2.0.2", quote4("10.1.0.9", "10.2.0.2"))) == 0);
  CHECK(node.egress(error4("192.0.2.1", "10.2.0.2", quote4("10.2.0.2", "10.9.0.9"))) == 0);
  for (const std::uint8_t type : std::initializer_list<std::uint8_t>{0, 8, 9, 10, 13, 14})
    CHECK(node.egress(error4("192.0.2.1", "10.2.0.2", arrived, {type, 0})) == 0);
  // By its own addresses first.
  CHECK(node.egress(error4("10.1.0.1", "10.2.0.2", quote4("10.9.0.9", "10.9.0.8"))) == 5);
}

TEST_CASE("R43-15: ports of the quoted packet count, and a quote ends where it likes behind them") {
  POSTERN_NEEDS_ROOT();
  ErrorNode node;
  const Octets web = tcp(80, 40000), other = tcp(81, 40000);
  CHECK(node.egress(error4("192.0.2.1", "10.7.0.2", quote4("10.7.0.2", "10.1.0.9", proto_tcp, web))) == 6);
  CHECK(node.egress(error4("192.0.2.1", "10.7.0.2", quote4("10.7.0.2", "10.1.0.9", proto_tcp, other))) == 0);
  CHECK(node.egress(error4("192.0.2.1", "10.7.0.2", quote4("10.7.0.2", "10.1.0.9"))) == 0);  // UDP

  const Octets whole = quote4("10.2.0.2", "10.1.0.9", proto_udp, udp(1000, 2000, zeros(100)));
  for (const std::size_t size : {std::size_t{28}, std::size_t{32}, std::size_t{40}, whole.size()})
    CHECK(node.egress(
              error4("192.0.2.1", "10.2.0.2", Octets(whole.begin(), whole.begin() + static_cast<long>(size)))) == 5);
  // RFC 792: 8 bytes behind the IP header are always there. What shows less could be of any flow.
  for (const long size : {0L, 8L, 19L, 23L})
    CHECK(node.egress(error4("192.0.2.1", "10.2.0.2", Octets(whole.begin(), whole.begin() + size))) == -1);
  CHECK(node.new_drops(Drop::unparseable) == 4);
  CHECK(node.egress(error4("192.0.2.1", "10.2.0.2", quote4("10.2.0.2", "10.1.0.9", proto_udp, zeros(32), 0x2010))) ==
        5);  // of a later fragment: addresses and protocol alone
}

TEST_CASE("R43-18: the same for ICMPv6") {
  POSTERN_NEEDS_ROOT();
  ErrorNode node;
  const Octets arrived = ipv6({.source = "2001:db8:2::2", .destination = "2001:db8:1::9"}, udp(1000, 2000));
  for (const std::uint8_t type : std::initializer_list<std::uint8_t>{1, 2, 3, 4})
    CHECK(node.egress(error6("2001:db8:ff::1", "2001:db8:2::2", arrived, {type, 0})) == 7);
  CHECK(node.egress(error6("2001:db8:ff::1", "2001:db8:2::2", arrived, {128, 0})) == 0);
  const Octets fragmented = ipv6({.source = "2001:db8:2::2", .destination = "2001:db8:1::9", .next_header = 44},
                                 fragment_header(proto_udp, 0, true) + udp(1000, 2000));
  CHECK(node.egress(error6("2001:db8:ff::1", "2001:db8:2::2", fragmented)) == 7);
  const Octets forged = ipv6({.source = "2001:db8:9::2", .destination = "2001:db8:1::9"}, udp(1000, 2000));
  CHECK(node.egress(error6("2001:db8:ff::1", "2001:db8:2::2", forged)) == 0);
  CHECK(node.egress(error6("2001:db8:ff::1", "2001:db8:2::2", Octets(arrived.begin(), arrived.begin() + 39))) == -1);
}

TEST_CASE("an error in clear about a packet that leaves protected is made up") {
  POSTERN_NEEDS_ROOT();
  ErrorNode node;
  const Octets left = quote4("10.1.0.9", "10.2.0.2");
  CHECK(node.xdp(error4("203.0.113.5", "10.1.0.9", left), node.out0).action == XDP_DROP);
  CHECK(node.xdp(error4("203.0.113.5", "10.1.0.9", left, {3, 4}), node.out0).action == XDP_DROP);
  CHECK(node.xdp(error6("2001:db8:9::5", "2001:db8:1::9",
                        ipv6({.source = "2001:db8:1::9", .destination = "2001:db8:2::2"}, udp(1, 2))),
                 node.out0)
            .action == XDP_DROP);
  CHECK(node.new_drops(Drop::clear_text) == 3);
  CHECK(node.xdp(error4("203.0.113.5", "10.1.0.9", quote4("10.1.0.9", "198.51.100.7")), node.out0).action == XDP_PASS);
  CHECK(node.xdp(error4("203.0.113.5", "10.1.0.9", Octets(left.begin(), left.begin() + 12)), node.out0).action ==
        XDP_DROP);
  CHECK(node.new_drops(Drop::unparseable) == 1);
}

TEST_CASE("too big, about ESP of ours: to the worker") {
  POSTERN_NEEDS_ROOT();
  ErrorNode node;
  node.set_local("2001:db8:ff::1");
  constexpr const char *us = "192.0.2.1", *peer = "192.0.2.2", *router = "203.0.113.5";
  const auto action = [&](const Octets& frame) { return node.xdp(frame, node.out0).action; };
  const Octets sent = quote4(us, peer, proto_esp, esp(0x1001));
  const Octets in_udp = quote4(us, peer, proto_udp, udp(4500, 31000, esp(0x1001)));
  CHECK(action(error4(router, us, sent, {3, 4})) == XDP_REDIRECT);
  CHECK(action(error4(router, us, Octets(sent.begin(), sent.begin() + 28), {3, 4})) == XDP_REDIRECT);
  CHECK(action(error4(router, us, in_udp, {3, 4})) == XDP_REDIRECT);
  CHECK(action(error6("2001:db8:9::5", "2001:db8:ff::1",
                      ipv6({.source = "2001:db8:ff::1", .destination = "2001:db8:ff::2", .next_header = proto_esp},
                           esp(0x1001)))) == XDP_REDIRECT);
  const Octets ah = Octets{4, 4, 0, 0} + be32(0x1001) + be32(1) + zeros(12);
  CHECK(action(error4(router, us, quote4(us, peer, 51, ah), {3, 4})) == XDP_REDIRECT);
  CHECK(node.new_verdicts(node.out0, POSTERN_HOOK_XDP_INGRESS, POSTERN_VERDICT_to_worker) == 5);

  // The kernel's: other errors, IKE, other ports, another's packet, less than the SPI.
  CHECK(action(error4(router, us, sent, {3, 1})) == XDP_PASS);
  CHECK(action(error4(router, us, sent, {11, 0})) == XDP_PASS);
  CHECK(action(error4(router, us, quote4(us, peer, proto_udp, udp(4500, 4500, esp(0))), {3, 4})) == XDP_PASS);
  CHECK(action(error4(router, us, quote4(us, peer, proto_udp, udp(53, 31000, esp(0x1001))), {3, 4})) == XDP_PASS);
  CHECK(action(error4(router, us, Octets(in_udp.begin(), in_udp.begin() + 28), {3, 4})) == XDP_PASS);
  CHECK(action(error4(router, us, quote4(peer, us, proto_esp, esp(0x1001)), {3, 4})) == XDP_PASS);
  CHECK(action(error4(router, us, quote4("203.0.113.9", peer, proto_esp, esp(0x1001)), {3, 4})) == XDP_PASS);
  CHECK(action(error4(router, us, Octets(sent.begin(), sent.begin() + 20), {3, 4})) == XDP_DROP);  // quotes nothing
  CHECK(node.new_drops(Drop::unparseable) == 1);

  node.clear_slot(0);
  CHECK(action(error4(router, us, sent, {3, 4})) == XDP_DROP);
  CHECK(node.new_drops(Drop::no_queue_owner) == 1);
}
