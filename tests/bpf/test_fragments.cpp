// Fragments that could deceive (RFC 1858, RFC 3128), and the stateful check of those that pass in clear (RFC 4301
// §7.4).
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include "tests/bpf/bpf_node.hpp"

using namespace postern;
using namespace postern::testing;

namespace {

constexpr const char* far4 = "10.2.0.2";
constexpr const char* near4 = "10.1.0.2";
constexpr const char* far6 = "2001:db8:2::2";
constexpr const char* near6 = "2001:db8:1::2";
constexpr std::uint16_t more = 0x2000;

// UDP port 1000 of the far side is protected, and the later fragments of such datagrams by a flow of their own.
struct PortNode : BpfNode {
  explicit PortNode(bool remember = true) {
    std::vector<PolicyRule> rules;
    for (const auto& [near, far, flow] :
         {std::tuple{"10.1.0.0/16", "10.2.0.0/16", 5U}, {"2001:db8:1::/64", "2001:db8:2::/64", 15U}}) {
      PolicyRule whole = permit(near, far, flow);
      whole.protocol = proto_udp;
      whole.destination_ports = {{1000, 1000}};
      whole.fragment_flow = flow + 1;
      rules.push_back(whole);
    }
    remembers_fragments = remember;
    set_policy(rules);
  }
  // The reason when the frame was dropped, Drop::none when it passed in clear.
  Drop why(std::uint32_t action, std::uint32_t pass) {
    Drop found = Drop::none;
    for (std::size_t i = 1; i < drop_count; ++i)
      if (new_drops(static_cast<Drop>(i)) != 0) found = static_cast<Drop>(i);
    CHECK((found == Drop::none) == (action == pass));
    return found;
  }
  Drop in(const Octets& frame) { return why(xdp(frame, out0).action, XDP_PASS); }
  // The flow into which the frame goes; 0: it passes in clear.
  std::uint32_t out(const Octets& frame) {
    const RunResult run = tc_egress(frame, out0);
    if (run.action == TC_ACT_REDIRECT) {
      postern_stamp stamp;
      std::memcpy(&stamp, run.frame.data(), sizeof stamp);
      return stamp.flow;
    }
    last = why(run.action, static_cast<std::uint32_t>(TC_ACT_UNSPEC));
    return 0;
  }
  Drop last = Drop::none;
};

Octets with_identification(Octets packet, std::uint16_t identification) {
  packet[14 + 4] = static_cast<std::uint8_t>(identification >> 8);
  packet[14 + 5] = static_cast<std::uint8_t>(identification);
  return packet;
}
// A piece of 24 bytes towards us; `fragment` as in the header.
Octets piece4(std::uint16_t identification, std::uint16_t fragment, std::uint16_t port, const char* source = far4,
              const char* destination = near4, std::uint8_t protocol = proto_udp) {
  const Octets body = protocol == proto_udp ? udp(port, 9) : tcp(port, 9);
  return with_identification(ethernet(type_ipv4, ipv4({source, destination, protocol, 64, fragment, 0, 0}, body)),
                             identification);
}
Octets outward4(std::uint16_t identification, std::uint16_t fragment, std::uint16_t port) {
  return with_identification(ethernet(type_ipv4, ipv4({near4, far4, proto_udp, 64, fragment, 0, 0}, udp(9, port))),
                             identification);
}
Octets piece6(std::uint16_t units, std::uint16_t port) {
  return ethernet(type_ipv6,
                  ipv6({far6, near6, proto_fragment}, fragment_header(proto_udp, units, true) + udp(port, 9)));
}

}  // namespace

TEST_CASE("a tiny first fragment and one over the transport header are dropped, each under its reason") {
  POSTERN_NEEDS_ROOT();
  PortNode node;
  const auto frame4 = [](std::uint8_t protocol, std::uint16_t fragment, std::size_t bytes) {
    return ethernet(type_ipv4, ipv4({far4, near4, protocol, 64, fragment, 0, 0}, zeros(bytes)));
  };
  const auto frame6 = [](std::uint8_t protocol, std::uint16_t units, bool follow, std::size_t bytes) {
    return ethernet(type_ipv6,
                    ipv6({far6, near6, proto_fragment}, fragment_header(protocol, units, follow) + zeros(bytes)));
  };
  struct Limit {
    std::uint8_t protocol;
    std::size_t header;
  };
  for (const Limit& limit : {Limit{proto_tcp, 20}, {proto_udp, 8}, {132, 12}, {33, 12}, {136, 8}, {47, 8}}) {
    CAPTURE(limit.protocol);
    const bool ports = limit.protocol != 47;
    for (std::size_t bytes = 0; bytes < limit.header && ports; ++bytes) {
      CHECK(node.in(frame4(limit.protocol, more, bytes)) == Drop::fragment_tiny);
      CHECK(node.in(frame6(limit.protocol, 0, true, bytes)) == Drop::fragment_tiny);
    }
    CHECK(node.in(frame4(limit.protocol, more, limit.header)) == Drop::none);
    CHECK(node.in(frame6(limit.protocol, 0, true, limit.header)) == Drop::none);
    const auto enough = static_cast<std::uint16_t>((limit.header + 7) / 8);
    for (std::uint16_t units = 1; units < enough; ++units) {
      CHECK(node.in(frame4(limit.protocol, units, 32)) == Drop::fragment_overlap);
      CHECK(node.in(frame4(limit.protocol, more | units, 32)) == Drop::fragment_overlap);
      CHECK(node.in(frame6(limit.protocol, units, false, 32)) == Drop::fragment_overlap);
    }
    CHECK(node.in(frame4(limit.protocol, enough, 32)) == Drop::none);
    CHECK(node.in(frame6(limit.protocol, enough, false, 32)) == Drop::none);
  }
  // On the way out too.
  CHECK(node.out(with_identification(ethernet(type_ipv4, ipv4({near4, far4, proto_tcp, 64, 1, 0, 0}, zeros(32))), 1)) ==
        0);
  CHECK(node.last == Drop::fragment_overlap);
  CHECK(node.out(ethernet(type_ipv4, ipv4({near4, far4, proto_tcp, 64, more, 0, 0}, zeros(16)))) == 0);
  CHECK(node.last == Drop::fragment_tiny);
}

TEST_CASE("R43-08: later fragments in clear pass behind a first one that passed, and no others") {
  POSTERN_NEEDS_ROOT();
  PortNode node;
  CHECK(node.in(piece4(7, 3, 0)) == Drop::fragment_unknown);  // nobody went before
  CHECK(node.in(piece4(7, more, 1000)) == Drop::clear_text);  // protected, so it does not pass
  CHECK(node.in(piece4(7, 3, 0)) == Drop::fragment_unknown);  // and opens no door
  CHECK(node.in(piece4(8, more, 2000)) == Drop::none);        // bypassed
  CHECK(node.in(piece4(8, 3, 0)) == Drop::none);              // 24 bytes went before
  CHECK(node.in(piece4(8, more | 6, 0)) == Drop::none);
  CHECK(node.in(piece4(8, 2, 0)) == Drop::fragment_overlap);  // into what the first one held
  CHECK(node.in(piece4(9, 3, 0)) == Drop::fragment_unknown);  // another packet
  CHECK(node.in(piece4(8, 3, 0, "10.2.0.3")) == Drop::fragment_unknown);
  CHECK(node.in(piece4(8, 3, 0, far4, "10.1.0.3")) == Drop::fragment_unknown);
  CHECK(node.in(piece4(8, 3, 0, far4, near4, proto_tcp)) == Drop::none);  // no rule speaks of it
  CHECK(node.in(piece4(8, 3, 0, "10.9.0.2")) == Drop::none);

  CHECK(node.in(piece6(3, 0)) == Drop::fragment_unknown);
  CHECK(node.in(piece6(0, 2000)) == Drop::none);
  CHECK(node.in(piece6(3, 0)) == Drop::none);
  CHECK(node.in(piece6(2, 0)) == Drop::fragment_overlap);

  // Another policy knows nothing of what the one before let through.
  PolicyRule other = permit("10.1.0.0/16", "10.2.0.0/16", 9);
  other.protocol = proto_udp;
  other.destination_ports = {{1001, 1001}};
  node.set_policy({other});
  CHECK(node.in(piece4(8, 3, 0)) == Drop::fragment_unknown);
}

TEST_CASE("R43-07, R43-08: outbound, later fragments go into their own flow, or in clear behind their first one") {
  POSTERN_NEEDS_ROOT();
  PortNode node;
  CHECK(node.out(outward4(7, more, 1000)) == 5);
  CHECK(node.out(outward4(7, 3, 0)) == 6);  // not 5: RFC 4301 §7.2
  CHECK(node.out(outward4(7, 0, 1000)) == 5);
  CHECK(node.out(outward4(8, 3, 0)) == 6);  // in any order: what cannot be told apart is protected
  CHECK(node.out(outward4(8, more, 2000)) == 0);
  CHECK(node.out(outward4(8, 3, 0)) == 0);
  CHECK(node.last == Drop::none);
  CHECK(node.out(outward4(8, 1, 0)) == 0);
  CHECK(node.last == Drop::fragment_overlap);
  // What came in clear from outside opens nothing for the way out, nor the other way round.
  CHECK(node.in(piece4(8, 3, 0)) == Drop::fragment_unknown);
  CHECK(node.in(piece4(9, more, 2000)) == Drop::none);
  CHECK(node.out(outward4(9, 3, 0)) == 6);
}

TEST_CASE("without rules that name ports nothing is remembered") {
  POSTERN_NEEDS_ROOT();
  PortNode node(false);
  CHECK(node.in(piece4(8, more, 2000)) == Drop::none);
  CHECK(node.in(piece4(8, 3, 0)) == Drop::clear_text);
  CHECK(node.out(outward4(8, more, 2000)) == 0);
  CHECK(node.out(outward4(8, 3, 0)) == 6);
  CHECK(node.maps().fragments.keys()->empty());
}

TEST_CASE("the table of first fragments is bounded: a flood pushes out the oldest") {
  POSTERN_NEEDS_ROOT();
  PortNode node;
  for (std::uint32_t i = 0; i < 2 * POSTERN_MAX_FRAGMENTS; ++i)
    node.xdp(piece4(static_cast<std::uint16_t>(i), more, 2000, i < POSTERN_MAX_FRAGMENTS ? "10.2.0.4" : "10.2.0.5"),
             node.out0);
  CHECK(node.maps().fragments.keys()->size() <= POSTERN_MAX_FRAGMENTS);
  CHECK(node.in(piece4(2 * POSTERN_MAX_FRAGMENTS - 1, 3, 0, "10.2.0.5")) == Drop::none);
}

TEST_CASE("TS-12: a rule with log tells the first packet of a flow and counts the others") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  PolicyRule quiet = permit("10.1.0.0/16", "10.3.0.0/16", 4), loud = permit("10.1.0.0/16", "10.2.0.0/16", 5, 20);
  PolicyRule refused = deny("10.1.0.0/16", "10.2.9.0/24", 20);
  refused.log = POSTERN_LOG_MATCH;
  loud.log = POSTERN_LOG_INPUT;
  node.set_policy({quiet, refused, loud});
  const auto frame = [](const char* source, const char* destination, std::uint16_t port) {
    return ethernet(type_ipv4, ipv4({.source = source, .destination = destination}, udp(port, 53)));
  };
  std::vector<postern_log_key> told;
  const auto keep = [](void* to, void* data, std::size_t size) {
    REQUIRE(size == sizeof(postern_log_key));
    static_cast<std::vector<postern_log_key>*>(to)->push_back(*static_cast<const postern_log_key*>(data));
    return 0;
  };
  ring_buffer* const ring = ring_buffer__new(node.maps().log_records.fd(), keep, &told, nullptr);
  REQUIRE(ring != nullptr);
  for (int i = 0; i < 5; ++i) node.tc_egress(frame(near4, far4, 7), node.out0);
  node.tc_egress(frame(near4, far4, 8), node.out0);
  node.tc_egress(frame(near4, "10.3.0.2", 7), node.out0);  // no log
  node.tc_egress(frame(near4, "10.2.9.2", 7), node.out0);  // the deny, and not the permit behind it
  node.xdp(frame(far4, near4, 53), node.out0);             // in clear, and mirrored
  CHECK(ring_buffer__consume(ring) == 4);
  ring_buffer__free(ring);
  REQUIRE(told.size() == 4);
  CHECK(told[0].ace == 2);
  CHECK(told[0].flow.source_port == __builtin_bswap16(7));
  CHECK(told[0].flow.protocol == proto_udp);
  CHECK(told[0].mirrored == 0);
  CHECK(told[1].flow.source_port == __builtin_bswap16(8));
  CHECK(told[2].ace == 1);
  CHECK(told[3].mirrored == 1);
  CHECK(told[3].ifindex == node.out0);
  CHECK(told[3].mac[5] == 2);
  CHECK(node.maps().log_flows.lookup(told[0])->value().packets == 5);
  CHECK(node.maps().log_flows.lookup(told[1])->value().packets == 1);
  CHECK(node.maps().log_flows.keys()->size() == 4);
}
