// TC egress on an outside interface: the last look at what the kernel sends.
#include <cstring>

#include <linux/pkt_cls.h>

#include "tests/bpf/bpf_node.hpp"

using namespace postern;
using namespace postern::testing;

namespace {

constexpr std::uint32_t go_on = static_cast<std::uint32_t>(TC_ACT_UNSPEC);

Octets v4(const char* source, const char* destination, std::uint8_t protocol = proto_udp,
          const Octets& payload = udp(1000, 2000)) {
  return ethernet(type_ipv4, ipv4({.source = source, .destination = destination, .protocol = protocol}, payload));
}
Octets v6(const char* source, const char* destination, std::uint8_t next, const Octets& payload,
          std::uint8_t hop_limit = 64) {
  return ethernet(type_ipv6, ipv6({source, destination, next, hop_limit}, payload));
}
postern_stamp stamp_of(const Octets& frame) {
  postern_stamp stamp;
  REQUIRE(frame.size() >= sizeof stamp);
  std::memcpy(&stamp, frame.data(), sizeof stamp);
  return stamp;
}

struct AnyNode : BpfNode {
  std::uint32_t generation = set_policy({permit("0.0.0.0/0", "0.0.0.0/0", 5), permit("::/0", "::/0", 6)});
};

}  // namespace

TEST_CASE("a permitted packet is stamped over its Ethernet addresses and redirected") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  const auto generation = node.set_policy({permit("10.1.0.0/16", "10.2.0.0/16", 5)});
  const Octets frame = v4("10.1.0.2", "10.2.0.2");
  const RunResult result = node.tc_egress(frame, node.out0);
  CHECK(result.action == TC_ACT_REDIRECT);
  const postern_stamp stamp = stamp_of(result.frame);
  CHECK(stamp.generation == generation);
  CHECK(stamp.flow == 5);
  CHECK(stamp.ifindex == node.out0);
  CHECK(Octets(result.frame.begin() + 12, result.frame.end()) == Octets(frame.begin() + 12, frame.end()));
  CHECK(node.new_verdicts(node.out0, POSTERN_HOOK_TC_EGRESS, POSTERN_VERDICT_to_steer) == 1);
  CHECK(node.hits(generation, 0) == 1);

  const Octets other = v4("10.1.0.2", "10.3.0.2");
  const RunResult passed = node.tc_egress(other, node.out0);
  CHECK(passed.action == go_on);
  CHECK(passed.frame == other);
  CHECK(node.tc_egress(v4("10.2.0.2", "10.1.0.2"), node.out0).action == go_on);  // not mirrored on the way out
  CHECK(node.new_verdicts(node.out0, POSTERN_HOOK_TC_EGRESS, POSTERN_VERDICT_pass) == 2);
}

TEST_CASE("TS-03: deny leaves its entry, later entries are asked, then bypass") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  node.set_policy({deny("10.1.0.2/32", "10.2.0.0/16", 10), permit("10.1.0.0/16", "10.2.0.0/16", 1, 10),
                   permit("10.1.0.2/32", "10.2.0.0/17", 2, 20), deny("10.1.0.3/32", "10.2.0.9/32", 30),
                   permit("10.1.0.0/16", "0.0.0.0/0", 3, 40)});
  const auto flow = [&](const char* source, const char* destination) {
    const RunResult result = node.tc_egress(v4(source, destination), node.out0);
    return result.action == TC_ACT_REDIRECT ? stamp_of(result.frame).flow : 0;
  };
  CHECK(flow("10.1.0.9", "10.2.0.1") == 1);
  CHECK(flow("10.1.0.2", "10.2.0.1") == 2);    // denied in 10, permitted in 20
  CHECK(flow("10.1.0.2", "10.2.200.1") == 3);  // denied in 10, not in 20, not in 30, permitted in 40
  CHECK(flow("10.1.0.2", "192.0.2.7") == 3);
  CHECK(flow("10.9.0.2", "10.2.0.1") == 0);
}

TEST_CASE("the node's own: exempt by mark, never by port") {
  POSTERN_NEEDS_ROOT();
  AnyNode node;
  const Octets ike = v4("192.0.2.1", "192.0.2.2", proto_udp, udp(500, 500));
  CHECK(node.tc_egress(ike, node.out0, POSTERN_MARK).action == go_on);
  CHECK(node.tc_egress(ike, node.out0).action == TC_ACT_REDIRECT);
  CHECK(node.tc_egress(ike, node.out0, 1).action == TC_ACT_REDIRECT);
  CHECK(node.tc_egress(v4("192.0.2.1", "192.0.2.2", proto_esp, esp(1)), node.out0, POSTERN_MARK).action == go_on);
  CHECK(node.tc_egress(v4("10.1.0.2", "192.0.2.2", proto_esp, esp(1)), node.out0).action == TC_ACT_REDIRECT);
  CHECK(node.new_verdicts(node.out0, POSTERN_HOOK_TC_EGRESS, POSTERN_VERDICT_exempt) == 2);
}

TEST_CASE("neighbour discovery, ARP and DHCP leave in clear; their near misses do not") {
  POSTERN_NEEDS_ROOT();
  AnyNode node;
  node.set_local("fe80::1");
  CHECK(node.tc_egress(ethernet(type_arp, zeros(28)), node.out0).action == go_on);
  CHECK(node.tc_egress(v6("fe80::1", "ff02::1:ff00:2", proto_icmpv6, icmp(135), 255), node.out0).action == go_on);
  CHECK(node.tc_egress(v6("fe80::1", "ff02::2", proto_icmpv6, icmp(133), 255), node.out0).action == go_on);
  CHECK(node.tc_egress(v4("0.0.0.0", "255.255.255.255", proto_udp, udp(68, 67)), node.out0).action == go_on);
  CHECK(node.tc_egress(v4("192.0.2.1", "192.0.2.3", proto_udp, udp(68, 67)), node.out0).action == go_on);
  CHECK(node.tc_egress(v6("fe80::1", "ff02::1:2", proto_udp, udp(546, 547)), node.out0).action == go_on);
  CHECK(node.new_verdicts(node.out0, POSTERN_HOOK_TC_EGRESS, POSTERN_VERDICT_exempt) == 6);

  CHECK(node.tc_egress(v6("fe80::1", "fe80::2", proto_icmpv6, icmp(135), 254), node.out0).action == TC_ACT_REDIRECT);
  CHECK(node.tc_egress(v6("fe80::1", "fe80::2", proto_icmpv6, icmp(128), 255), node.out0).action == TC_ACT_REDIRECT);
  CHECK(node.tc_egress(v4("10.1.0.2", "192.0.2.3", proto_udp, udp(68, 67)), node.out0).action == TC_ACT_REDIRECT);
  CHECK(node.tc_egress(v6("2001:db8:1::2", "2001:db8::3", proto_udp, udp(546, 547)), node.out0).action ==
        TC_ACT_REDIRECT);
}

TEST_CASE("TS-11: multicast and broadcast that a map would protect are dropped and counted") {
  POSTERN_NEEDS_ROOT();
  AnyNode node;
  CHECK(node.tc_egress(v4("10.1.0.2", "239.1.1.1"), node.out0).action == TC_ACT_SHOT);
  CHECK(node.tc_egress(v4("10.1.0.2", "224.0.0.5", 89, zeros(32)), node.out0).action == TC_ACT_SHOT);
  CHECK(node.tc_egress(v4("10.1.0.2", "255.255.255.255"), node.out0).action == TC_ACT_SHOT);
  CHECK(node.tc_egress(v6("2001:db8:1::2", "ff0e::1", proto_udp, udp(1, 2)), node.out0).action == TC_ACT_SHOT);
  CHECK(node.new_drops(Drop::multicast_not_protected) == 4);
  CHECK(node.tc_egress(v4("10.1.0.2", "223.255.255.255"), node.out0).action == TC_ACT_REDIRECT);
  Octets directed = v4("10.1.0.2", "192.0.2.255");  // a subnet's broadcast shows in Ethernet
  std::fill_n(directed.begin(), 6, std::uint8_t{0xff});
  CHECK(node.tc_egress(directed, node.out0).action == TC_ACT_SHOT);
  CHECK(node.new_drops(Drop::multicast_not_protected) == 1);

  node.set_policy({permit("10.1.0.0/16", "10.2.0.0/16", 5)});
  CHECK(node.tc_egress(v4("10.1.0.2", "239.1.1.1"), node.out0).action == go_on);
  CHECK(node.new_drops(Drop::multicast_not_protected) == 0);
}

TEST_CASE("what cannot be read does not leave a protected interface") {
  POSTERN_NEEDS_ROOT();
  AnyNode node;
  const Octets whole = v4("10.1.0.2", "10.2.0.2");
  const Octets chain = v6("2001:db8:1::2", "2001:db8:2::2", 0, extension(60) + zeros(7));
  CHECK(node.tc_egress(chain, node.out0).action == TC_ACT_SHOT);
  CHECK(node.tc_egress(v6("2001:db8:1::2", "2001:db8:2::2", 0, extension(60) + extension(59)), node.out0).action ==
        TC_ACT_REDIRECT);
  for (const std::size_t size : {34U, 35U, 36U, 37U})  // the kernel's test run takes no shorter IPv4
    CHECK(node.tc_egress(Octets(whole.begin(), whole.begin() + size), node.out0).action == TC_ACT_SHOT);
  CHECK(node.new_drops(Drop::unparseable) == 5);
  REQUIRE(PolicyWriter(node.maps()).switch_interface(node.out0, 0, 0));
  CHECK(node.tc_egress(Octets(whole.begin(), whole.begin() + 37), node.out0).action == go_on);
}

TEST_CASE("fragments and tagged frames are protected like the packet") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  PolicyRule web = permit("10.1.0.0/16", "10.2.0.0/16", 5);
  web.protocol = proto_tcp;
  web.destination_ports = {{80, 80}};
  PolicyRule ssh = deny("10.1.0.0/16", "10.5.0.0/16", 20), rest = permit("10.1.0.0/16", "10.5.0.0/16", 7, 20);
  ssh.protocol = proto_tcp;
  ssh.destination_ports = {{22, 22}};
  node.set_policy({web, ssh, rest});
  const auto piece = [&](const char* destination, std::uint16_t fragment, std::uint16_t port) {
    return node.tc_egress(
        ethernet(type_ipv4, ipv4({"10.1.0.2", destination, proto_tcp, 64, fragment, 0, 0}, tcp(9, port))), node.out0);
  };
  CHECK(piece("10.2.0.2", 0x2000, 80).action == TC_ACT_REDIRECT);
  CHECK(piece("10.2.0.2", 0x0003, 0).action == TC_ACT_REDIRECT);
  CHECK(piece("10.2.0.2", 0x2000, 81).action == go_on);
  CHECK(piece("10.5.0.2", 0x0000, 22).action == go_on);
  CHECK(piece("10.5.0.2", 0x0003, 22).action == TC_ACT_REDIRECT);  // could be anything: protected

  const Octets frame = v4("10.1.0.2", "10.5.0.2", proto_tcp, tcp(9, 80)), inner(frame.begin() + 14, frame.end());
  const RunResult tagged = node.tc_egress(ethernet(0x8100, vlan(5, type_ipv4, inner)), node.out0);
  CHECK(tagged.action == TC_ACT_REDIRECT);
  CHECK(stamp_of(tagged.frame).flow == 7);
}

TEST_CASE("blocked: nothing that policy protects leaves") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  auto entry = node.outside();
  entry.generation = node.set_policy({permit("10.1.0.0/16", "10.2.0.0/16", 5)});
  entry.flags |= POSTERN_IF_BLOCK;
  node.set_interface(node.out0, entry);
  CHECK(node.tc_egress(v4("10.1.0.2", "10.2.0.2"), node.out0).action == TC_ACT_SHOT);
  CHECK(node.new_drops(Drop::blocked) == 1);
  CHECK(node.tc_egress(v4("10.1.0.2", "10.3.0.2"), node.out0).action == go_on);
}

TEST_CASE("policy changes take effect at once, cached verdicts of the old one do not last") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  const Octets frame = v4("10.1.0.2", "10.2.0.2");
  node.set_policy({permit("10.1.0.0/16", "10.2.0.0/16", 5)});
  CHECK(stamp_of(node.tc_egress(frame, node.out0).frame).flow == 5);
  const auto second = node.set_policy({permit("10.1.0.0/16", "10.2.0.0/16", 8)});
  CHECK(stamp_of(node.tc_egress(frame, node.out0).frame).flow == 8);
  node.set_policy({deny("10.1.0.0/16", "10.2.0.0/16")});
  CHECK(node.tc_egress(frame, node.out0).action == go_on);
  CHECK(node.hits(second, 0) == 0);  // its counters are gone with it
  REQUIRE(PolicyWriter(node.maps()).switch_interface(node.out0, 0, 0));
  CHECK(node.tc_egress(frame, node.out0).action == go_on);
  REQUIRE(node.maps().interfaces.erase(node.out0));
  CHECK(node.tc_egress(frame, node.out0).action == go_on);
}

TEST_CASE("an interface that names a policy without rows sends nothing in clear but what is exempt") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  const auto generation = node.set_policy({permit("10.1.0.0/16", "10.2.0.0/16", 5)});
  auto entry = node.outside();
  entry.generation = generation + 1;
  node.set_interface(node.out0, entry);
  // Often enough for the cache, which must not learn of it.
  for (int i = 0; i < 64; ++i) CHECK(node.tc_egress(v4("10.1.0.2", "10.2.0.2"), node.out0).action == TC_ACT_SHOT);
  CHECK(node.tc_egress(v6("2001:db8:1::2", "2001:db8:2::2", proto_udp, udp(1, 2)), node.out0).action == TC_ACT_SHOT);
  CHECK(node.new_drops(Drop::stale_policy) == 65);
  CHECK(node.tc_egress(v4("192.0.2.1", "192.0.2.2"), node.out0, POSTERN_MARK).action == go_on);
  CHECK(node.maps().flow_cache.keys()->empty());

  entry.generation = 0;
  node.set_interface(node.out0, entry);
  CHECK(node.tc_egress(v4("10.1.0.2", "10.2.0.2"), node.out0).action == go_on);
  // Rules for one family are a policy for the other too: it has none that match.
  entry.generation = generation;
  node.set_interface(node.out0, entry);
  CHECK(node.tc_egress(v6("2001:db8:1::2", "2001:db8:2::2", proto_udp, udp(1, 2)), node.out0).action == go_on);
}
