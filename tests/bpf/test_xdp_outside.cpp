// XDP on an outside interface: what goes to the worker, what is exempt, what policy drops.
#include <linux/bpf.h>

#include "tests/bpf/bpf_node.hpp"

using namespace postern;
using namespace postern::testing;

namespace {

constexpr const char* peer = "192.0.2.2";
constexpr const char* us = "192.0.2.1";
constexpr std::uint32_t known_spi = 0x1001, unknown_spi = 0x2002;

Octets v4(std::uint8_t protocol, const Octets& payload, const char* source = peer, const char* destination = us) {
  return ethernet(type_ipv4, ipv4({.source = source, .destination = destination, .protocol = protocol}, payload));
}
Octets v6(std::uint8_t protocol, const Octets& payload, const char* source = "2001:db8:ff::2",
          const char* destination = "2001:db8:ff::1", std::uint8_t hop_limit = 64) {
  return ethernet(type_ipv6, ipv6({source, destination, protocol, hop_limit}, payload));
}

// A node that protects everything, so that only exemptions and ESP get through.
struct ProtectedNode : BpfNode {
  std::uint32_t generation = 0;
  ProtectedNode() {
    generation = set_policy({permit("0.0.0.0/0", "0.0.0.0/0", 5), permit("::/0", "::/0", 6)});
    set_sa(known_spi, us);
    set_sa(known_spi, "2001:db8:ff::1");
    fill_slot(0);
  }
};

}  // namespace

TEST_CASE("ESP for us: to the worker when the SA exists, else dropped") {
  POSTERN_NEEDS_ROOT();
  ProtectedNode node;
  CHECK(node.xdp(v4(proto_esp, esp(known_spi)), node.out0).action == XDP_REDIRECT);
  CHECK(node.xdp(v6(proto_esp, esp(known_spi)), node.out0).action == XDP_REDIRECT);
  CHECK(node.new_verdicts(node.out0, POSTERN_HOOK_XDP_INGRESS, POSTERN_VERDICT_to_worker) == 2);
  CHECK(node.new_drops(Drop::no_sa) == 0);

  CHECK(node.xdp(v4(proto_esp, esp(unknown_spi)), node.out0).action == XDP_DROP);
  CHECK(node.xdp(v6(proto_esp, esp(unknown_spi)), node.out0).action == XDP_DROP);
  CHECK(node.new_drops(Drop::no_sa) == 2);
  CHECK(node.new_verdicts(node.out0, POSTERN_HOOK_XDP_INGRESS, POSTERN_VERDICT_drop) == 2);

  CHECK(node.xdp(v4(proto_esp, zeros(7)), node.out0).action == XDP_DROP);
  CHECK(node.new_drops(Drop::esp_runt) == 1);
}

TEST_CASE("AH for us: to the worker when an AH SA has the SPI, and ESP's SA is none") {
  POSTERN_NEEDS_ROOT();
  ProtectedNode node;
  constexpr std::uint8_t proto_ah = 51;
  const auto ah = [](std::uint32_t spi, std::size_t bytes = 64) {
    return Octets{4, 4, 0, 0} + be32(spi) + be32(1) + zeros(bytes - 12);
  };
  CHECK(node.xdp(v4(proto_ah, ah(known_spi)), node.out0).action == XDP_DROP);  // that SPI is ESP's
  CHECK(node.new_drops(Drop::no_sa) == 1);
  node.set_sa(0x4004, us, 0, 0, proto_ah);
  node.set_sa(0x4004, "2001:db8:ff::1", 0, 0, proto_ah);
  CHECK(node.xdp(v4(proto_ah, ah(0x4004)), node.out0).action == XDP_REDIRECT);
  CHECK(node.xdp(v6(proto_ah, ah(0x4004)), node.out0).action == XDP_REDIRECT);
  CHECK(node.xdp(v6(0, extension(proto_ah) + ah(0x4004)), node.out0).action == XDP_REDIRECT);
  CHECK(node.xdp(v4(proto_esp, esp(0x4004)), node.out0).action == XDP_DROP);
  CHECK(node.xdp(v4(proto_ah, ah(unknown_spi)), node.out0).action == XDP_DROP);
  CHECK(node.new_drops(Drop::no_sa) == 2);
  CHECK(node.xdp(v4(proto_ah, ah(0x4004, 12)), node.out0).action == XDP_REDIRECT);
  CHECK(node.xdp(v4(proto_ah, zeros(11)), node.out0).action == XDP_DROP);
  CHECK(node.new_drops(Drop::esp_runt) == 1);
  // Fragments are the kernel's; what goes through is ordinary traffic.
  CHECK(node.xdp(ethernet(type_ipv4, ipv4({peer, us, proto_ah, 64, 0x2000}, ah(0x4004))), node.out0).action ==
        XDP_PASS);
  CHECK(node.xdp(ethernet(type_ipv4, ipv4({peer, us, proto_ah, 64, 0x0005}, zeros(64))), node.out0).action == XDP_PASS);
  CHECK(node.new_verdicts(node.out0, POSTERN_HOOK_XDP_INGRESS, POSTERN_VERDICT_exempt) == 2);
  CHECK(node.xdp(v4(proto_ah, ah(0x4004), peer, "10.1.0.2"), node.out0).action == XDP_DROP);
  CHECK(node.new_drops(Drop::clear_text) == 1);
}

TEST_CASE("an SA belongs to its address and its front-door VRF") {
  POSTERN_NEEDS_ROOT();
  ProtectedNode node;
  node.set_local("192.0.2.9");
  CHECK(node.xdp(v4(proto_esp, esp(known_spi), peer, "192.0.2.9"), node.out0).action == XDP_DROP);
  CHECK(node.new_drops(Drop::no_sa) == 1);

  auto other_vrf = node.outside();
  other_vrf.vrf = 100;
  node.set_interface(node.out0, other_vrf);
  node.set_local(us, 100);
  CHECK(node.xdp(v4(proto_esp, esp(known_spi)), node.out0).action == XDP_DROP);
  CHECK(node.new_drops(Drop::no_sa) == 1);
  node.set_sa(known_spi, us, 0, 100);
  CHECK(node.xdp(v4(proto_esp, esp(known_spi)), node.out0).action == XDP_REDIRECT);
}

TEST_CASE("a queue without owner drops, it never passes") {
  POSTERN_NEEDS_ROOT();
  ProtectedNode node;
  node.clear_slot(0);
  CHECK(node.xdp(v4(proto_esp, esp(known_spi)), node.out0).action == XDP_DROP);
  CHECK(node.new_drops(Drop::no_queue_owner) == 1);
  node.fill_slot(0);
  CHECK(node.xdp(v4(proto_esp, esp(known_spi)), node.out0).action == XDP_REDIRECT);

  auto no_queues = node.outside();  // the slot is filled, but not for a queue of this interface
  no_queues.queues = 0;
  node.set_interface(node.out0, no_queues);
  CHECK(node.xdp(v4(proto_esp, esp(known_spi)), node.out0).action == XDP_DROP);
  CHECK(node.new_drops(Drop::no_queue_owner) == 1);
}

TEST_CASE("UDP encapsulation: SPI decides between ESP, IKE and keepalive") {
  POSTERN_NEEDS_ROOT();
  ProtectedNode node;
  node.set_sa(0x3003, us, 4500);
  CHECK(node.xdp(v4(proto_udp, udp(4500, 4500, esp(0x3003))), node.out0).action == XDP_REDIRECT);
  CHECK(node.xdp(v4(proto_udp, udp(31000, 4500, esp(0x3003))), node.out0).action == XDP_REDIRECT);  // behind a NAT
  CHECK(node.xdp(v6(proto_udp, udp(4500, 4500, esp(known_spi))), node.out0).action == XDP_REDIRECT);
  CHECK(node.xdp(v4(proto_udp, udp(4500, 4500, esp(unknown_spi))), node.out0).action == XDP_DROP);
  CHECK(node.new_drops(Drop::no_sa) == 1);

  CHECK(node.xdp(v4(proto_udp, udp(4500, 4500, esp(0))), node.out0).action == XDP_PASS);        // non-ESP marker
  CHECK(node.xdp(v4(proto_udp, udp(4500, 4500, Octets{0xff})), node.out0).action == XDP_PASS);  // keepalive
  CHECK(node.xdp(v4(proto_udp, udp(4500, 4500, be32(0x3003) + be32(1))), node.out0).action == XDP_PASS);  // 8 bytes
  CHECK(node.xdp(v4(proto_udp, udp(500, 500)), node.out0).action == XDP_PASS);
  CHECK(node.xdp(v6(proto_udp, udp(500, 500)), node.out0).action == XDP_PASS);
  CHECK(node.new_verdicts(node.out0, POSTERN_HOOK_XDP_INGRESS, POSTERN_VERDICT_exempt) == 5);
  CHECK(node.new_drops(Drop::clear_text) == 0);
}

TEST_CASE("UDP encapsulation on another port: only for the SA that is configured for it") {
  POSTERN_NEEDS_ROOT();
  ProtectedNode node;
  node.set_sa(0x3003, us, 4501);
  CHECK(node.xdp(v4(proto_udp, udp(4501, 4501, esp(0x3003))), node.out0).action == XDP_REDIRECT);
  CHECK(node.xdp(v4(proto_udp, udp(4501, 4502, esp(0x3003))), node.out0).action == XDP_DROP);
  CHECK(node.xdp(v4(proto_udp, udp(4501, 4501, esp(0x3004))), node.out0).action == XDP_DROP);
  CHECK(node.new_drops(Drop::clear_text) == 2);
}

TEST_CASE("transit ESP and IKE are ordinary traffic") {
  POSTERN_NEEDS_ROOT();
  ProtectedNode node;
  CHECK(node.xdp(v4(proto_esp, esp(known_spi), peer, "10.1.0.2"), node.out0).action == XDP_DROP);
  CHECK(node.xdp(v4(proto_udp, udp(500, 500), peer, "10.1.0.2"), node.out0).action == XDP_DROP);
  CHECK(node.xdp(v4(proto_udp, udp(4500, 4500, esp(known_spi)), peer, "10.1.0.2"), node.out0).action == XDP_DROP);
  CHECK(node.new_drops(Drop::clear_text) == 3);

  node.set_policy({permit("10.1.0.0/16", "10.2.0.0/16", 5)});
  CHECK(node.xdp(v4(proto_esp, esp(known_spi), peer, "10.1.0.2"), node.out0).action == XDP_PASS);
  CHECK(node.xdp(v4(proto_udp, udp(500, 500), peer, "10.1.0.2"), node.out0).action == XDP_PASS);
  CHECK(node.new_verdicts(node.out0, POSTERN_HOOK_XDP_INGRESS, POSTERN_VERDICT_pass) == 2);
}

TEST_CASE("TS-09: what should be protected and arrives in clear is dropped") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  const auto generation =
      node.set_policy({permit("10.1.0.0/16", "10.2.0.0/16", 5), permit("2001:db8:1::/64", "2001:db8:2::/64", 6)});
  CHECK(node.xdp(v4(proto_tcp, tcp(80, 1234), "10.2.0.2", "10.1.0.2"), node.out0).action == XDP_DROP);
  CHECK(node.xdp(v4(proto_tcp, tcp(80, 1234), "10.2.0.2", "10.1.0.2"), node.out0).action ==
        XDP_DROP);  // from the cache
  CHECK(node.xdp(v6(proto_tcp, tcp(80, 1234), "2001:db8:2::2", "2001:db8:1::2"), node.out0).action == XDP_DROP);
  CHECK(node.new_drops(Drop::clear_text) == 3);
  CHECK(node.hits(generation, 0) == 2);
  CHECK(node.hits(generation, 1) == 1);

  // The mirror: not the rule's own direction, not other prefixes.
  CHECK(node.xdp(v4(proto_tcp, tcp(80, 1234), "10.1.0.2", "10.2.0.2"), node.out0).action == XDP_PASS);
  CHECK(node.xdp(v4(proto_tcp, tcp(80, 1234), "10.3.0.2", "10.1.0.2"), node.out0).action == XDP_PASS);
  CHECK(node.xdp(v6(proto_tcp, tcp(80, 1234), "2001:db8:3::2", "2001:db8:1::2"), node.out0).action == XDP_PASS);
  CHECK(node.new_drops(Drop::clear_text) == 0);

  // Without policy nothing is dropped.
  REQUIRE(PolicyWriter(node.maps()).switch_interface(node.out0, 0, 0));
  CHECK(node.xdp(v4(proto_tcp, tcp(80, 1234), "10.2.0.2", "10.1.0.2"), node.out0).action == XDP_PASS);
}

TEST_CASE("ports are mirrored too") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  PolicyRule web = permit("10.1.0.0/16", "10.2.0.0/16", 5);
  web.protocol = proto_tcp;
  web.destination_ports = {{80, 81}};
  node.set_policy({web});
  CHECK(node.xdp(v4(proto_tcp, tcp(80, 1234), "10.2.0.2", "10.1.0.2"), node.out0).action == XDP_DROP);
  CHECK(node.xdp(v4(proto_tcp, tcp(1234, 80), "10.2.0.2", "10.1.0.2"), node.out0).action == XDP_PASS);
  CHECK(node.xdp(v4(proto_tcp, tcp(82, 1234), "10.2.0.2", "10.1.0.2"), node.out0).action == XDP_PASS);
  CHECK(node.xdp(v4(proto_udp, udp(80, 1234), "10.2.0.2", "10.1.0.2"), node.out0).action == XDP_PASS);
}

TEST_CASE("fragments of our ESP and IKE go to the kernel for reassembly, others are policy's") {
  POSTERN_NEEDS_ROOT();
  ProtectedNode node;
  const auto piece = [](std::uint8_t protocol, std::uint16_t fragment, const Octets& payload, const char* destination) {
    return ethernet(type_ipv4, ipv4({peer, destination, protocol, 64, fragment, 0, 0}, payload));
  };
  const std::uint16_t first = 0x2000, later = 0x0040;
  CHECK(node.xdp(piece(proto_esp, first, esp(known_spi), us), node.out0).action == XDP_PASS);
  CHECK(node.xdp(piece(proto_esp, later, zeros(64), us), node.out0).action == XDP_PASS);
  CHECK(node.xdp(piece(proto_udp, first, udp(4500, 4500, esp(known_spi)), us), node.out0).action == XDP_PASS);
  CHECK(node.xdp(piece(proto_udp, first, udp(500, 500), us), node.out0).action == XDP_PASS);
  CHECK(node.xdp(piece(proto_udp, later, zeros(64), us), node.out0).action == XDP_PASS);
  const Octets esp6 = fragment_header(proto_esp, 0, true) + esp(known_spi);
  CHECK(node.xdp(v6(proto_fragment, esp6), node.out0).action == XDP_PASS);
  CHECK(node.xdp(v6(proto_fragment, fragment_header(proto_esp, 8, false) + zeros(64)), node.out0).action == XDP_PASS);
  CHECK(node.new_verdicts(node.out0, POSTERN_HOOK_XDP_INGRESS, POSTERN_VERDICT_exempt) == 7);

  CHECK(node.xdp(piece(proto_udp, first, udp(53, 53), us), node.out0).action == XDP_DROP);
  CHECK(node.xdp(piece(proto_tcp, later, zeros(64), us), node.out0).action == XDP_DROP);
  CHECK(node.xdp(piece(proto_esp, later, zeros(64), "10.1.0.2"), node.out0).action == XDP_DROP);
  CHECK(node.xdp(piece(proto_udp, later, zeros(64), "10.1.0.2"), node.out0).action == XDP_DROP);
  CHECK(node.new_drops(Drop::clear_text) == 4);
}

TEST_CASE("what is tagged the worker does not take: ESP and IKE are the kernel's, the rest is policy's") {
  POSTERN_NEEDS_ROOT();
  ProtectedNode node;
  node.set_sa(known_spi, us, 0, 0, 51);
  const auto tagged = [](std::uint16_t tag, std::uint8_t protocol, const Octets& payload,
                         const char* destination = us) {
    return ethernet(0x8100, vlan(tag, type_ipv4, ipv4({peer, destination, protocol}, payload)));
  };
  for (const std::uint16_t tag : {std::uint16_t{5}, std::uint16_t{0xa000}}) {  // a VLAN; a priority alone
    CHECK(node.xdp(tagged(tag, proto_esp, esp(known_spi)), node.out0).action == XDP_PASS);
    CHECK(node.xdp(tagged(tag, 51, Octets{4, 4, 0, 0} + be32(known_spi) + zeros(56)), node.out0).action == XDP_PASS);
    CHECK(node.xdp(tagged(tag, proto_udp, udp(4500, 4500, esp(known_spi))), node.out0).action == XDP_PASS);
    CHECK(node.xdp(tagged(tag, proto_udp, udp(500, 500)), node.out0).action == XDP_PASS);
  }
  const Octets esp6 = ipv6({"2001:db8:ff::2", "2001:db8:ff::1", proto_esp}, esp(known_spi));
  CHECK(node.xdp(ethernet(0x88a8, vlan(5, 0x8100, vlan(6, type_ipv6, esp6))), node.out0).action == XDP_PASS);
  CHECK(node.new_verdicts(node.out0, POSTERN_HOOK_XDP_INGRESS, POSTERN_VERDICT_exempt) == 9);

  CHECK(node.xdp(tagged(5, proto_tcp, tcp(80, 1234)), node.out0).action == XDP_DROP);
  CHECK(node.xdp(tagged(5, proto_udp, udp(53, 53)), node.out0).action == XDP_DROP);
  CHECK(node.xdp(tagged(5, proto_esp, esp(known_spi), "10.1.0.2"), node.out0).action == XDP_DROP);
  CHECK(node.new_drops(Drop::clear_text) == 3);
}

TEST_CASE("never dropped by policy: ARP, neighbour discovery, DHCP for us") {
  POSTERN_NEEDS_ROOT();
  ProtectedNode node;
  CHECK(node.xdp(ethernet(type_arp, zeros(46)), node.out0).action == XDP_PASS);
  for (std::uint8_t type = 133; type <= 137; ++type)
    CHECK(node.xdp(v6(proto_icmpv6, icmp(type), "fe80::2", "ff02::1", 255), node.out0).action == XDP_PASS);
  CHECK(node.xdp(v4(proto_udp, udp(67, 68), peer, us), node.out0).action == XDP_PASS);
  CHECK(node.xdp(v4(proto_udp, udp(67, 68), peer, "255.255.255.255"), node.out0).action == XDP_PASS);
  node.set_local("fe80::1");
  CHECK(node.xdp(v6(proto_udp, udp(547, 546), "fe80::2", "fe80::1"), node.out0).action == XDP_PASS);
  CHECK(node.new_drops(Drop::clear_text) == 0);

  // Each near miss is ordinary.
  CHECK(node.xdp(v6(proto_icmpv6, icmp(135), "fe80::2", "ff02::1", 254), node.out0).action == XDP_DROP);
  CHECK(node.xdp(v6(proto_icmpv6, icmp(132), "fe80::2", "ff02::1", 255), node.out0).action == XDP_DROP);
  CHECK(node.xdp(v6(proto_icmpv6, icmp(138), "fe80::2", "ff02::1", 255), node.out0).action == XDP_DROP);
  CHECK(node.xdp(v6(proto_icmpv6, icmp(135, 1), "fe80::2", "ff02::1", 255), node.out0).action == XDP_DROP);
  CHECK(node.xdp(v4(proto_udp, udp(67, 68), peer, "10.1.0.2"), node.out0).action == XDP_DROP);
  CHECK(node.xdp(v4(proto_udp, udp(68, 67), peer, us), node.out0).action == XDP_DROP);
  CHECK(node.xdp(v6(proto_udp, udp(547, 546), "fe80::2", "2001:db8:1::9"), node.out0).action == XDP_DROP);
  CHECK(node.new_drops(Drop::clear_text) == 3);
  CHECK(node.new_drops(Drop::multicast_not_protected) == 4);  // TS-11, inbound
}

TEST_CASE("blocked: nothing of an SA gets in") {
  POSTERN_NEEDS_ROOT();
  ProtectedNode node;
  auto entry = node.outside();
  entry.generation = node.generation;
  entry.flags |= POSTERN_IF_BLOCK;
  node.set_interface(node.out0, entry);
  CHECK(node.xdp(v4(proto_esp, esp(known_spi)), node.out0).action == XDP_DROP);
  CHECK(node.new_drops(Drop::blocked) == 1);
  CHECK(node.xdp(v4(proto_tcp, tcp(1, 2)), node.out0).action == XDP_DROP);
  CHECK(node.new_drops(Drop::clear_text) == 1);
  CHECK(node.xdp(v4(proto_udp, udp(500, 500)), node.out0).action == XDP_PASS);
}

TEST_CASE("generic mode: a frame that TC ingress injected is not looked at again") {
  POSTERN_NEEDS_ROOT();
  ProtectedNode node;
  Octets injected = v4(proto_tcp, tcp(80, 1234), "10.2.0.2", "10.1.0.2");
  const auto entry = node.outside();
  std::copy(std::begin(entry.inject_source), std::end(entry.inject_source), injected.begin() + 6);
  CHECK(node.xdp(injected, node.out0).action == XDP_DROP);  // native: nobody injects, somebody pretends

  auto generic = entry;
  generic.generation = node.generation;
  generic.flags |= POSTERN_IF_GENERIC;
  node.set_interface(node.out0, generic);
  CHECK(node.xdp(injected, node.out0).action == XDP_PASS);
  ++injected[11];
  CHECK(node.xdp(injected, node.out0).action == XDP_DROP);
  CHECK(node.new_drops(Drop::clear_text) == 2);
}

TEST_CASE("an interface that is not ours is not touched") {
  POSTERN_NEEDS_ROOT();
  ProtectedNode node;
  CHECK(node.xdp(v4(proto_esp, esp(unknown_spi)), node.plain0).action == XDP_PASS);
  CHECK(node.xdp(v4(proto_tcp, tcp(80, 1234), "10.2.0.2", "10.1.0.2"), node.plain0).action == XDP_PASS);
  CHECK(node.new_verdicts(node.plain0, POSTERN_HOOK_XDP_INGRESS, POSTERN_VERDICT_pass) == 0);
}

TEST_CASE("an interface that names a policy without rows takes nothing in clear, and ESP as ever") {
  POSTERN_NEEDS_ROOT();
  ProtectedNode node;
  auto entry = node.outside();
  entry.generation = node.generation + 1;
  node.set_interface(node.out0, entry);
  CHECK(node.xdp(v4(proto_udp, udp(1, 2), "10.2.0.2", "10.1.0.2"), node.out0).action == XDP_DROP);
  CHECK(node.xdp(v6(proto_udp, udp(1, 2), "2001:db8:2::2", "2001:db8:1::2"), node.out0).action == XDP_DROP);
  CHECK(node.new_drops(Drop::stale_policy) == 2);
  CHECK(node.xdp(v4(proto_esp, esp(known_spi)), node.out0).action == XDP_REDIRECT);
  CHECK(node.xdp(v4(proto_udp, udp(500, 500)), node.out0).action == XDP_PASS);  // IKE
}
