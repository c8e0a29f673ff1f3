// What the parser makes of headers, seen by the verdict: on a protected outside interface what cannot be read is
// dropped.
#include <linux/bpf.h>

#include "tests/bpf/bpf_node.hpp"

using namespace postern;
using namespace postern::testing;

namespace {

constexpr const char* far4 = "10.2.0.2";
constexpr const char* near4 = "10.1.0.2";
constexpr const char* far6 = "2001:db8:2::2";
constexpr const char* near6 = "2001:db8:1::2";

// Only TCP port 80 of the far side is protected: a packet that drops as clear_text was read to its ports.
struct WebNode : BpfNode {
  WebNode() {
    PolicyRule v4 = permit("10.1.0.0/16", "10.2.0.0/16", 5), v6 = permit("2001:db8:1::/64", "2001:db8:2::/64", 6);
    for (PolicyRule* rule : {&v4, &v6}) {
      rule->protocol = proto_tcp;
      rule->destination_ports = {{80, 80}};
    }
    remembers_fragments = false;  // of a later one nobody knows the first
    set_policy({v4, v6});
  }
  // Why a frame was dropped; Drop::none when it passed.
  Drop verdict(const Octets& frame) {
    const bool passed = xdp(frame, out0).action == XDP_PASS;
    for (const Drop reason : {Drop::clear_text, Drop::unparseable, Drop::fragment_tiny, Drop::fragment_overlap})
      if (new_drops(reason) == 1) return passed ? Drop::bad_inner : reason;
    return passed ? Drop::none : Drop::bad_inner;
  }
};

Octets web4(std::size_t option_bytes) {
  return ethernet(
      type_ipv4,
      ipv4({.source = far4, .destination = near4, .protocol = proto_tcp, .option_bytes = option_bytes}, tcp(80, 9)));
}
Octets web6(std::uint8_t next, const Octets& payload) {
  return ethernet(type_ipv6, ipv6({.source = far6, .destination = near6, .next_header = next}, payload));
}
// `count` extension headers, alternating hop-by-hop/destination options and routing, before TCP.
Octets web6_with_extensions(int count, std::uint8_t units = 0) {
  Octets chain = tcp(80, 9);
  std::uint8_t next = proto_tcp;
  for (int i = 0; i < count; ++i) {
    chain = extension(next, units) + chain;
    next = i + 1 == count ? 0 : i % 2 == 0 ? 43 : 60;
  }
  return web6(count == 0 ? proto_tcp : 0, chain);
}

}  // namespace

TEST_CASE("IPv4 options do not hide the ports") {
  POSTERN_NEEDS_ROOT();
  WebNode node;
  for (const std::size_t bytes : {0, 4, 20, 40}) CHECK(node.verdict(web4(bytes)) == Drop::clear_text);
  Octets other = web4(40);
  other[14 + 60 + 1] = 81;
  CHECK(node.verdict(other) == Drop::none);
}

TEST_CASE("IPv4: every truncation is unparseable, as is every lie about lengths") {
  POSTERN_NEEDS_ROOT();
  WebNode node;
  const Octets whole = web4(4);
  for (std::size_t size = 14; size < 14 + 24 + 14; ++size) {
    CAPTURE(size);
    CHECK(node.verdict(Octets(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size))) == Drop::unparseable);
  }
  CHECK(node.verdict(Octets(whole.begin(), whole.begin() + 14 + 24 + 14)) ==
        Drop::clear_text);  // ports and flags are there

  Octets wrong = whole;
  wrong[14] = 0x56;  // version 5
  CHECK(node.verdict(wrong) == Drop::unparseable);
  wrong[14] = 0x44;  // header of 16 bytes
  CHECK(node.verdict(wrong) == Drop::unparseable);
  wrong = whole;
  wrong[16] = 0;
  wrong[17] = 23;  // total length shorter than the header
  CHECK(node.verdict(wrong) == Drop::unparseable);
  wrong[17] = 24 + 7;  // shorter than any transport header
  CHECK(node.verdict(wrong) == Drop::unparseable);
  wrong[17] = 24 + 8;
  CHECK(node.verdict(wrong) == Drop::clear_text);
}

TEST_CASE("IPv6: every truncation is unparseable") {
  POSTERN_NEEDS_ROOT();
  WebNode node;
  const Octets whole = web6_with_extensions(1);
  for (std::size_t size = 14; size < 14 + 40 + 8 + 14; ++size) {
    CAPTURE(size);
    CHECK(node.verdict(Octets(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size))) == Drop::unparseable);
  }
  CHECK(node.verdict(Octets(whole.begin(), whole.begin() + 14 + 40 + 8 + 14)) == Drop::clear_text);
  Octets wrong = whole;
  wrong[14] = 0x50;
  CHECK(node.verdict(wrong) == Drop::unparseable);
  wrong = whole;
  wrong[19] = 15;  // payload length: the extension header and 7 bytes
  CHECK(node.verdict(wrong) == Drop::unparseable);
  wrong[19] = 7;  // not even the extension header
  CHECK(node.verdict(wrong) == Drop::unparseable);
}

TEST_CASE("IPv6 extension headers: up to the limit and not beyond") {
  POSTERN_NEEDS_ROOT();
  WebNode node;
  for (int count = 0; count <= 8; ++count) {
    CAPTURE(count);
    CHECK(node.verdict(web6_with_extensions(count)) == Drop::clear_text);
  }
  CHECK(node.verdict(web6_with_extensions(9)) == Drop::unparseable);
  CHECK(node.verdict(web6_with_extensions(20)) == Drop::unparseable);
  // 14 + 40 + 3 * 320 = 1014 bytes of headers, and 14 + 40 + 3 * 328 = 1038: over the 1024 that are walked.
  CHECK(node.verdict(web6_with_extensions(3, 39)) == Drop::clear_text);
  CHECK(node.verdict(web6_with_extensions(3, 40)) == Drop::unparseable);
  CHECK(node.verdict(web6_with_extensions(1, 255)) == Drop::unparseable);
}

TEST_CASE("non-initial fragments match on addresses and protocol") {
  POSTERN_NEEDS_ROOT();
  WebNode node;
  const auto piece4 = [](std::uint8_t protocol, std::uint16_t fragment, const char* source = far4) {
    return ethernet(type_ipv4, ipv4({source, near4, protocol, 64, fragment, 0, 0}, tcp(81, 9)));
  };
  CHECK(node.verdict(piece4(proto_tcp, 0x2000)) == Drop::none);        // a first one has ports: 81
  CHECK(node.verdict(piece4(proto_tcp, 0x0003)) == Drop::clear_text);  // a later one has none
  CHECK(node.verdict(piece4(proto_tcp, 0x2003)) == Drop::clear_text);
  CHECK(node.verdict(piece4(proto_udp, 0x0001)) == Drop::none);
  CHECK(node.verdict(piece4(proto_tcp, 0x0003, "10.9.0.2")) == Drop::none);

  const auto piece6 = [](std::uint8_t next, std::uint16_t offset) {
    return web6(proto_fragment, fragment_header(next, offset, true) + tcp(81, 9));
  };
  CHECK(node.verdict(piece6(proto_tcp, 0)) == Drop::none);
  CHECK(node.verdict(piece6(proto_tcp, 3)) == Drop::clear_text);
  CHECK(node.verdict(piece6(proto_udp, 1)) == Drop::none);
  CHECK(node.verdict(piece6(60, 1)) == Drop::unparseable);  // what follows is no header: protocol unknown
  CHECK(node.verdict(web6(proto_fragment, fragment_header(60, 0, true) + extension(proto_tcp) + tcp(80, 9))) ==
        Drop::clear_text);
  CHECK(node.verdict(web6(0, extension(proto_fragment) + fragment_header(proto_tcp, 5, false) + zeros(16))) ==
        Drop::clear_text);
}

TEST_CASE("VLAN tags: up to two are stepped over") {
  POSTERN_NEEDS_ROOT();
  WebNode node;
  const Octets whole = web4(0), inner(whole.begin() + 14, whole.end());
  CHECK(node.verdict(ethernet(0x8100, vlan(5, type_ipv4, inner))) == Drop::clear_text);
  CHECK(node.verdict(ethernet(0x88a8, vlan(5, 0x8100, vlan(6, type_ipv4, inner)))) == Drop::clear_text);
  CHECK(node.verdict(ethernet(0x88a8, vlan(5, 0x8100, vlan(6, 0x8100, vlan(7, type_ipv4, inner))))) ==
        Drop::unparseable);
  CHECK(node.verdict(ethernet(0x8100, Octets{0, 5, 8})) == Drop::unparseable);
  CHECK(node.verdict(ethernet(0x8100, vlan(5, type_arp, zeros(28)))) == Drop::none);
}

TEST_CASE("addresses of IPv4 in an IPv6 header are not IPv4's") {
  POSTERN_NEEDS_ROOT();
  WebNode node;
  const auto frame = [](const char* source, const char* destination) {
    return ethernet(type_ipv6, ipv6({source, destination, proto_tcp}, tcp(80, 9)));
  };
  CHECK(node.verdict(frame("::ffff:10.2.0.2", "::ffff:10.1.0.2")) == Drop::unparseable);
  CHECK(node.verdict(frame("::ffff:10.2.0.2", near6)) == Drop::unparseable);
  CHECK(node.verdict(frame("::10.2.0.2", near6)) == Drop::none);
}

TEST_CASE("without policy the unparseable is the kernel's business") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  CHECK(node.xdp(ethernet(type_ipv4, zeros(3)), node.out0).action == XDP_PASS);
  CHECK(node.xdp(ethernet(type_ipv6, zeros(3)), node.in0).action == XDP_PASS);
  CHECK(node.new_drops(Drop::unparseable) == 0);
}
