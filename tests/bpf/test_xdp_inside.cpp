// XDP on an inside interface: what skips the kernel, with which stamp, and what must not.
#include <linux/bpf.h>

#include "tests/bpf/bpf_node.hpp"

using namespace postern;
using namespace postern::testing;

namespace {

constexpr std::uint32_t inside_slot = 8;

struct InsideNode : BpfNode {
  std::uint32_t generation = 0;
  InsideNode() {
    generation = set_policy({permit("10.1.0.0/16", "10.2.0.0/16", 5), permit("2001:db8:1::/64", "2001:db8:2::/64", 6)});
    fill_slot(inside_slot);
  }
  RunResult forward(const char* destination, std::uint8_t ttl = 64, const char* source = "10.1.0.2") {
    return xdp(ethernet(type_ipv4, ipv4({source, destination, proto_udp, ttl, 0, 0, 0}, udp(1, 2))), in0);
  }
  RunResult forward6(const char* destination, std::uint8_t hop_limit = 64) {
    return xdp(ethernet(type_ipv6, ipv6({"2001:db8:1::2", destination, proto_udp, hop_limit}, udp(1, 2))), in0);
  }
};

}  // namespace

TEST_CASE("what a crypto map protects goes to the worker, stamped") {
  POSTERN_NEEDS_ROOT();
  InsideNode node;
  const Octets frame =
      ethernet(type_ipv4, ipv4({.source = "10.1.0.2", .destination = "10.2.0.2", .protocol = proto_tcp}, tcp(1, 2)));
  const RunResult result = node.xdp(frame, node.in0);
  CHECK(result.action == XDP_REDIRECT);
  REQUIRE(result.metadata);
  CHECK(result.metadata->generation == node.generation);
  CHECK(result.metadata->flow == 5);
  CHECK(result.metadata->ifindex == node.out0);
  CHECK(result.frame == frame);  // the packet itself is untouched: TTL, checksums, addresses

  const RunResult v6 = node.forward6("2001:db8:2::2");
  CHECK(v6.action == XDP_REDIRECT);
  REQUIRE(v6.metadata);
  CHECK(v6.metadata->flow == 6);
  CHECK(node.new_verdicts(node.in0, POSTERN_HOOK_XDP_INGRESS, POSTERN_VERDICT_to_worker) == 2);
}

TEST_CASE("what a tunnel route takes goes to the worker with the tunnel's flow and no generation") {
  POSTERN_NEEDS_ROOT();
  InsideNode node;
  for (const RunResult& result : {node.forward("10.4.0.2"), node.forward6("2001:db8:4::2")}) {
    CHECK(result.action == XDP_REDIRECT);
    REQUIRE(result.metadata);
    CHECK(result.metadata->generation == 0);
    CHECK(result.metadata->flow == 77);
    CHECK(result.metadata->ifindex == node.tun0);
  }
}

TEST_CASE("everything else is the kernel's") {
  POSTERN_NEEDS_ROOT();
  InsideNode node;
  CHECK(node.forward("198.51.100.2").action == XDP_PASS);              // leaves by an interface without policy
  CHECK(node.forward("192.0.2.2").action == XDP_PASS);                 // bypass by policy
  CHECK(node.forward("10.2.0.2", 64, "10.7.0.2").action == XDP_PASS);  // bypass: other source
  CHECK(node.forward("10.1.0.1").action == XDP_PASS);                  // for us
  CHECK(node.forward("192.0.2.1").action == XDP_PASS);                 // for us, on the other side
  CHECK(node.forward("203.0.113.1").action == XDP_PASS);               // no route
  CHECK(node.forward("239.1.1.1").action == XDP_PASS);                 // multicast
  CHECK(node.forward("255.255.255.255").action == XDP_PASS);           // broadcast
  CHECK(node.forward6("ff02::1").action == XDP_PASS);
  CHECK(node.forward6("2001:db8:77::1").action == XDP_PASS);
  CHECK(node.xdp(ethernet(type_arp, zeros(46)), node.in0).action == XDP_PASS);
  CHECK(node.xdp(ethernet(type_ipv4, zeros(10)), node.in0).action == XDP_PASS);
  CHECK(node.new_verdicts(node.in0, POSTERN_HOOK_XDP_INGRESS, POSTERN_VERDICT_pass) == 12);
  CHECK(node.new_verdicts(node.in0, POSTERN_HOOK_XDP_INGRESS, POSTERN_VERDICT_drop) == 0);
}

TEST_CASE("a hop limit of 1 is for the kernel to answer") {
  POSTERN_NEEDS_ROOT();
  InsideNode node;
  CHECK(node.forward("10.2.0.2", 2).action == XDP_REDIRECT);
  CHECK(node.forward("10.2.0.2", 1).action == XDP_PASS);
  CHECK(node.forward("10.4.0.2", 0).action == XDP_PASS);
  CHECK(node.forward6("2001:db8:2::2", 2).action == XDP_REDIRECT);
  CHECK(node.forward6("2001:db8:2::2", 1).action == XDP_PASS);
}

TEST_CASE("what is addressed to another station is none of ours to forward") {
  POSTERN_NEEDS_ROOT();
  InsideNode node;
  const Octets ours =
      ethernet(type_ipv4, ipv4({.source = "10.1.0.2", .destination = "10.2.0.2", .protocol = proto_tcp}, tcp(1, 2)));
  CHECK(node.xdp(ours, node.in0).action == XDP_REDIRECT);
  for (std::size_t i = 0; i < 6; ++i) {
    Octets other = ours;
    other[i] ^= 0x02;
    CHECK(node.xdp(other, node.in0).action == XDP_PASS);
  }
  // A link without Ethernet has no address: nothing there can be for it.
  auto headerless = node.inside();
  std::fill(std::begin(headerless.mac), std::end(headerless.mac), std::uint8_t{0});
  node.set_interface(node.in0, headerless);
  CHECK(node.xdp(ours, node.in0).action == XDP_PASS);
  CHECK(node.new_verdicts(node.in0, POSTERN_HOOK_XDP_INGRESS, POSTERN_VERDICT_pass) == 7);
}

TEST_CASE("a tagged frame is another device's, and the worker takes none") {
  POSTERN_NEEDS_ROOT();
  InsideNode node;
  for (const char* destination : {"10.2.0.2", "10.4.0.2"}) {
    const Octets packet = ipv4({.source = "10.1.0.2", .destination = destination, .protocol = proto_tcp}, tcp(1, 2));
    CHECK(node.xdp(ethernet(type_ipv4, packet), node.in0).action == XDP_REDIRECT);
    for (const std::uint16_t tag : {std::uint16_t{5}, std::uint16_t{0xa000}})  // a VLAN; a priority alone
      CHECK(node.xdp(ethernet(0x8100, vlan(tag, type_ipv4, packet)), node.in0).action == XDP_PASS);
    CHECK(node.xdp(ethernet(0x88a8, vlan(5, 0x8100, vlan(6, type_ipv4, packet))), node.in0).action == XDP_PASS);
  }
  const Octets v6 = ipv6({"2001:db8:1::2", "2001:db8:2::2"}, udp(1, 2));
  CHECK(node.xdp(ethernet(0x8100, vlan(5, type_ipv6, v6)), node.in0).action == XDP_PASS);
  CHECK(node.new_verdicts(node.in0, POSTERN_HOOK_XDP_INGRESS, POSTERN_VERDICT_drop) == 0);
}

TEST_CASE("fragments are classified like any packet") {
  POSTERN_NEEDS_ROOT();
  InsideNode node;
  const auto later = [](const char* destination) {
    return ethernet(type_ipv4, ipv4({"10.1.0.2", destination, proto_udp, 64, 0x0007, 0, 0}, zeros(32)));
  };
  CHECK(node.xdp(later("10.2.0.2"), node.in0).action == XDP_REDIRECT);
  CHECK(node.xdp(later("10.4.0.2"), node.in0).action == XDP_REDIRECT);
  CHECK(node.xdp(later("198.51.100.2"), node.in0).action == XDP_PASS);
}

TEST_CASE("inside, a queue without owner passes: TC egress protects what the kernel forwards") {
  POSTERN_NEEDS_ROOT();
  InsideNode node;
  node.clear_slot(inside_slot);
  const RunResult result = node.forward("10.2.0.2");
  CHECK(result.action == XDP_PASS);
  CHECK(!result.metadata);
  CHECK(node.new_drops(Drop::no_queue_owner) == 0);
}

TEST_CASE("blocked: what would be protected is dropped, the rest passes") {
  POSTERN_NEEDS_ROOT();
  InsideNode node;
  auto entry = node.outside();
  entry.generation = node.generation;
  entry.flags |= POSTERN_IF_BLOCK;
  node.set_interface(node.out0, entry);
  CHECK(node.forward("10.2.0.2").action == XDP_DROP);
  CHECK(node.new_drops(Drop::blocked) == 1);
  CHECK(node.forward("192.0.2.2").action == XDP_PASS);
  CHECK(node.forward("10.4.0.2").action == XDP_REDIRECT);  // the tunnel is not blocked
  postern_interface tunnel{};
  tunnel.flow = 77;
  tunnel.flags = POSTERN_IF_TUNNEL | POSTERN_IF_BLOCK;
  node.set_interface(node.tun0, tunnel);
  CHECK(node.forward("10.4.0.2").action == XDP_DROP);
  CHECK(node.new_drops(Drop::blocked) == 1);
}

TEST_CASE("an interface that is outside and inside does both") {
  POSTERN_NEEDS_ROOT();
  InsideNode node;
  auto both = node.outside();
  both.generation = node.generation;
  both.flags |= POSTERN_IF_INSIDE;
  both.xsk_base = inside_slot;
  node.set_interface(node.out0, both);
  node.set_sa(0x1001, "192.0.2.1");
  const auto packet = [](const char* source, const char* destination, std::uint8_t protocol, const Octets& payload) {
    return ethernet(type_ipv4, ipv4({.source = source, .destination = destination, .protocol = protocol}, payload));
  };
  CHECK(node.xdp(packet("192.0.2.2", "192.0.2.1", proto_esp, esp(0x1001)), node.out0).action == XDP_REDIRECT);
  CHECK(node.xdp(packet("10.2.0.2", "10.1.0.2", proto_udp, udp(1, 2)), node.out0).action == XDP_DROP);
  CHECK(node.new_drops(Drop::clear_text) == 1);
  const RunResult hairpin = node.xdp(packet("192.0.2.7", "10.4.0.2", proto_udp, udp(1, 2)), node.out0);
  CHECK(hairpin.action == XDP_REDIRECT);
  REQUIRE(hairpin.metadata);
  CHECK(hairpin.metadata->flow == 77);
  const RunResult mapped = node.xdp(packet("10.1.0.9", "10.2.0.2", proto_udp, udp(1, 2)), node.out0);
  CHECK(mapped.action == XDP_REDIRECT);  // classified in its own direction after the mirror said nothing
  REQUIRE(mapped.metadata);
  CHECK(mapped.metadata->flow == 5);
}

TEST_CASE("towards an interface that names a policy without rows nothing is forwarded") {
  POSTERN_NEEDS_ROOT();
  InsideNode node;
  auto entry = node.outside();
  entry.generation = node.generation + 1;
  node.set_interface(node.out0, entry);
  CHECK(node.forward("10.2.0.2").action == XDP_DROP);
  CHECK(node.forward6("2001:db8:2::2").action == XDP_DROP);
  CHECK(node.new_drops(Drop::stale_policy) == 2);
}
