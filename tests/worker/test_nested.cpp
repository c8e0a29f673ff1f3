// What the node makes itself and its policy protects again; what it opens and is ESP for itself again.
#include "harness.hpp"
#include "worker/loop_policy.hpp"

namespace postern::test {
namespace {

constexpr std::uint32_t tunnel_flow = 5, map_flow = 50;
constexpr std::uint32_t out_interface = 3;  // of harness adjacencies

Prefix prefix(std::string_view text) { return *Prefix::parse(text); }

PolicyRule permit(std::uint32_t entry, std::uint32_t flow, std::optional<std::uint8_t> protocol,
                  std::string_view source = "0.0.0.0/0", std::string_view destination = "0.0.0.0/0") {
  PolicyRule rule;
  rule.entry = entry;
  rule.flow = flow;
  rule.protocol = protocol;
  rule.source = prefix(source);
  rule.destination = prefix(destination);
  return rule;
}
std::shared_ptr<const LoopPolicy> policy_of(std::vector<PolicyRule> rules, std::uint32_t ifindex = out_interface) {
  return std::make_shared<const LoopPolicy>(LoopPolicy::Rules{{ifindex, std::move(rules)}});
}

SaParameters layer(SaDirection direction, std::uint32_t spi, std::uint32_t flow,
                   const crypto::Transform& transform = cbc_sha256) {
  SaParameters p = sa_parameters(direction, transform);
  p.spi = spi;
  p.flow = flow;
  return p;
}

// Sender with a tunnel (SPI 0x1001) and, around it, a map's SA (0x2002); receiver with both.
struct Nest {
  Node sender, receiver;
  explicit Nest(const crypto::Transform& outer = gcm_128) {
    sender.add(layer(SaDirection::outbound, 0x1001, tunnel_flow));
    sender.add(layer(SaDirection::outbound, 0x2002, map_flow, outer));
    receiver.add(layer(SaDirection::inbound, 0x1001, tunnel_flow));
    receiver.add(layer(SaDirection::inbound, 0x2002, map_flow, outer));
  }
};

TEST_CASE("nested: a tunnel's ESP that the map protects is sealed twice, and opened twice") {
  Nest nest;
  nest.sender.pipeline->set_policy(policy_of({permit(10, map_flow, 50, "192.0.2.1/32", "192.0.2.2/32")}));
  const Octets inner = make_inner({});
  for (int i = 0; i < 100; ++i) nest.sender.outbound(inner, tunnel_flow);
  nest.sender.flush();
  REQUIRE(nest.sender.egress.wire.size() == 100);
  std::uint32_t number = 0;
  for (const Octets& frame : nest.sender.egress.wire) {
    const Octets outer = outer_of(frame);
    CHECK(reference::be32(outer, 20) == 0x2002);
    CHECK(reference::be32(outer, 24) == ++number);
    nest.receiver.inbound(outer);
  }
  nest.receiver.flush();
  REQUIRE(nest.receiver.egress.delivered.size() == 100);
  for (const Octets& out : nest.receiver.egress.delivered) CHECK(out == inner);
  CHECK(nest.receiver.slots[0].packets == 100);
  CHECK(nest.receiver.slots[1].packets == 100);
  CHECK(nest.sender.balanced());
  CHECK(nest.receiver.balanced());
}

TEST_CASE("nested: not without policy, on another interface, for another protocol, or behind a deny") {
  Nest nest;
  SUBCASE("no policy") {}
  SUBCASE("another interface") { nest.sender.pipeline->set_policy(policy_of({permit(10, map_flow, 50)}, 4)); }
  SUBCASE("another protocol") { nest.sender.pipeline->set_policy(policy_of({permit(10, map_flow, 17)})); }
  SUBCASE("another destination") {
    nest.sender.pipeline->set_policy(policy_of({permit(10, map_flow, 50, "192.0.2.1/32", "192.0.2.9/32")}));
  }
  SUBCASE("a deny") {
    PolicyRule deny = permit(10, 0, 50);
    deny.permit = false;
    nest.sender.pipeline->set_policy(policy_of({deny, permit(10, map_flow, std::nullopt)}));
  }
  SUBCASE("a policy that is gone") {
    nest.sender.pipeline->set_policy(policy_of({permit(10, map_flow, 50)}));
    nest.sender.outbound(make_inner({}), tunnel_flow);
    nest.sender.flush();
    CHECK(reference::be32(outer_of(nest.sender.egress.wire[0]), 20) == 0x2002);
    nest.sender.egress.wire.clear();
    nest.sender.pipeline->set_policy(nullptr);
  }
  nest.sender.outbound(make_inner({}), tunnel_flow);
  nest.sender.flush();
  REQUIRE(nest.sender.egress.wire.size() == 1);
  CHECK(reference::be32(outer_of(nest.sender.egress.wire[0]), 20) == 0x1001);
  CHECK(nest.sender.balanced());
}

TEST_CASE("nested: a map entry does not protect what it made itself, though it permits everything") {
  Nest nest;
  nest.sender.pipeline->set_policy(
      policy_of({permit(10, tunnel_flow, std::nullopt, "10.0.0.0/8"), permit(10, map_flow, std::nullopt)}));
  nest.sender.outbound(make_inner({}), map_flow);
  nest.sender.outbound(make_inner({}), tunnel_flow);  // another ACE of the same entry
  nest.sender.flush();
  REQUIRE(nest.sender.egress.wire.size() == 2);
  CHECK(nest.sender.drops(Drop::nested_too_deep) == 0);
}

TEST_CASE("nested: two entries that protect each other's packets end at the bound, counted") {
  Nest nest;
  nest.sender.pipeline->set_policy(policy_of({permit(10, tunnel_flow, 50), permit(20, map_flow, 50)}));
  nest.sender.outbound(make_inner({}), tunnel_flow);
  nest.sender.flush();
  CHECK(nest.sender.egress.wire.empty());
  CHECK(nest.sender.drops(Drop::nested_too_deep) == 1);
  CHECK(nest.sender.slots[0].packets + nest.sender.slots[1].packets == max_packet_loops);
  CHECK(nest.sender.balanced());
}

TEST_CASE("nested: UDP encapsulation is asked about with its ports; an outer flow without SA holds the packet") {
  Node sender;
  SaParameters udp = layer(SaDirection::outbound, 0x1001, tunnel_flow);
  udp.udp_encapsulation = true;
  udp.local_port = udp.remote_port = 4500;
  sender.add(udp);
  PolicyRule rule = permit(10, map_flow, 17);
  rule.destination_ports = {{4500, 4500}};
  sender.pipeline->set_policy(policy_of({rule}));
  sender.outbound(make_inner({}), tunnel_flow);
  sender.flush();
  CHECK(sender.egress.wire.empty());
  CHECK(sender.counters[0].held == 1);
  REQUIRE(sender.egress.acquires.size() == 1);
  CHECK(sender.egress.acquires[0].flow == map_flow);
  CHECK(sender.egress.acquires[0].destination_port == 4500);
  sender.add(layer(SaDirection::outbound, 0x2002, map_flow));
  sender.pipeline->poll_held(Clock::now());
  sender.flush();
  REQUIRE(sender.egress.wire.size() == 1);
  CHECK(reference::be32(outer_of(sender.egress.wire[0]), 20) == 0x2002);
  CHECK(sender.balanced());
}

TEST_CASE("nested: the inner tunnel's MTU leaves room for the outer layer") {
  Nest nest;
  nest.sender.pipeline->set_policy(policy_of({permit(10, map_flow, 50)}));
  nest.sender.outbound(make_inner({.payload = 1390, .dont_fragment = true}), tunnel_flow);
  nest.sender.flush();
  CHECK(nest.sender.egress.wire.empty());
  REQUIRE(nest.sender.egress.icmp.size() == 1);
  const unsigned mtu = reference::be16(nest.sender.egress.icmp[0], 20 + 6);
  CHECK(mtu < 1390);
  nest.sender.outbound(make_inner({.payload = mtu - 28, .dont_fragment = true}), tunnel_flow);
  nest.sender.flush();
  REQUIRE(nest.sender.egress.wire.size() == 1);
  CHECK(nest.sender.egress.wire[0].size() <= 1514);
  CHECK(nest.sender.balanced());
}

TEST_CASE("nested: IPv6 twice needs more room in front than a frame has there") {
  Node sender, receiver;
  for (const auto& [spi, flow] : {std::pair{0x1001U, tunnel_flow}, std::pair{0x2002U, map_flow}})
    for (Node* const node : {&sender, &receiver}) {
      const auto direction = node == &sender ? SaDirection::outbound : SaDirection::inbound;
      SaParameters p = sa_parameters(direction, cbc_sha256, "2001:db8::1", "2001:db8::2");
      p.spi = spi;
      p.flow = flow;
      node->add(p);
    }
  sender.pipeline->set_policy(policy_of({permit(10, map_flow, 50, "::/0", "::/0")}));
  const Octets inner = make_inner({});
  sender.super({}, inner, tunnel_flow);
  sender.flush();
  REQUIRE(sender.egress.wire.size() == 1);
  receiver.inbound(outer_of(sender.egress.wire[0]));
  receiver.flush();
  REQUIRE(receiver.egress.delivered.size() == 1);
  CHECK(receiver.egress.delivered[0] == inner);
}

TEST_CASE("nested: inbound, ESP for somebody else or without an SA is delivered; deeper than the bound is dropped") {
  Node sender, receiver;
  sender.add(layer(SaDirection::outbound, 0x1001, tunnel_flow));
  receiver.add(layer(SaDirection::inbound, 0x1001, tunnel_flow));
  Octets packet = make_inner({});
  const auto wrap = [&] {
    sender.outbound(packet, tunnel_flow);
    sender.flush();
    packet = outer_of(sender.egress.wire.back());
  };
  SUBCASE("another host's") {
    Octets stranger = make_inner({.protocol = 50});
    packet = stranger;
    wrap();
    receiver.inbound(packet);
    receiver.flush();
    REQUIRE(receiver.egress.delivered.size() == 1);
    CHECK(receiver.egress.delivered[0] == stranger);
  }
  SUBCASE("as deep as allowed") {
    for (int i = 0; i <= max_packet_loops; ++i) wrap();
    receiver.inbound(packet);
    receiver.flush();
    CHECK(receiver.egress.delivered.size() == 1);
    CHECK(receiver.slots[0].packets == max_packet_loops + 1);
  }
  SUBCASE("one deeper") {
    for (int i = 0; i <= max_packet_loops + 1; ++i) wrap();
    receiver.inbound(packet);
    receiver.flush();
    CHECK(receiver.egress.delivered.empty());
    CHECK(receiver.drops(Drop::nested_too_deep) == 1);
    CHECK(receiver.slots[0].packets == max_packet_loops);
    CHECK(receiver.slots[0].errors == 1);
  }
  CHECK(receiver.balanced());
}

TEST_CASE("nested: GRE and IP-in-IP for this node are the kernel's, as they came (RFC 4301 §5.2)") {
  Node sender, receiver;
  sender.add(layer(SaDirection::outbound, 0x1001, tunnel_flow));
  receiver.add(layer(SaDirection::inbound, 0x1001, tunnel_flow));
  const std::string self = sa_parameters(SaDirection::inbound, cbc_sha256).local.text();
  for (const std::uint8_t protocol : std::initializer_list<std::uint8_t>{47, 4, 41}) {
    CAPTURE(protocol);
    Octets outer = make_inner({.destination = self, .protocol = protocol, .payload = 0});
    const Octets carried = make_inner({.source = "10.7.0.1", .destination = "10.8.0.1"});
    if (protocol == 47) outer.insert(outer.end(), {0, 0, 8, 0});
    outer.insert(outer.end(), carried.begin(), carried.end());
    reference::finish(outer);
    sender.outbound(outer, tunnel_flow);
    sender.flush();
    receiver.inbound(outer_of(sender.egress.wire.back()));
    receiver.flush();
    REQUIRE_FALSE(receiver.egress.delivered.empty());
    CHECK(receiver.egress.delivered.back() == outer);
  }
  CHECK(receiver.slots[0].packets == 3);
  CHECK(receiver.balanced());
}

TEST_CASE("TS-11: multicast and broadcast do not enter a map's SA; a tunnel carries them") {
  for (const DeliverTo deliver : {DeliverTo::map_interface, DeliverTo::tunnel}) {
    Node node;
    SaParameters p = layer(SaDirection::outbound, 0x1001, tunnel_flow);
    p.deliver = deliver;
    node.add(p);
    for (const char* group : {"239.1.1.1", "224.0.0.5", "255.255.255.255", "ff0e::1"}) {
      const bool v4 = group[0] != 'f';
      node.outbound(make_inner({.source = v4 ? "10.1.0.2" : "2001:db8::1", .destination = group}), tunnel_flow);
    }
    node.outbound(make_inner({.destination = "223.255.255.255"}), tunnel_flow);
    node.flush();
    CHECK(node.egress.wire.size() == (deliver == DeliverTo::tunnel ? 5 : 1));
    CHECK(node.drops(Drop::multicast_not_protected) == (deliver == DeliverTo::tunnel ? 0 : 4));
    CHECK(node.balanced());
  }
}

TEST_CASE("R43-07: outbound, an SA for ports holds no later fragment, also none that we would make") {
  SaParameters p = layer(SaDirection::outbound, 0x1001, tunnel_flow);
  p.selectors[0] = {address("10.1.0.0"), address("10.1.255.255"), address("10.2.0.0"), address("10.2.255.255")};
  p.selectors[0].destination_port_first = p.selectors[0].destination_port_last = 2222;
  p.selectors[0].protocol = 17;
  p.selector_count = 1;
  Octets later = make_inner({});
  reference::put16(later, 6, 0x2010);
  const Octets large = make_inner({.payload = 2500});
  SUBCASE("separate") {
    Node node;
    node.add(p);
    node.outbound(later, tunnel_flow);
    node.outbound(large, tunnel_flow);
    node.flush();
    CHECK(node.drops(Drop::fragment_selector) == 1);
    CHECK(node.slots[0].packets == 1);  // sealed whole, and cut outside
    REQUIRE(node.egress.wire.size() == 2);
    CHECK((reference::be16(outer_of(node.egress.wire[0]), 6) & 0x2000) != 0);
    CHECK((reference::be16(outer_of(node.egress.wire[1]), 6) & 0x1fff) != 0);
    CHECK(node.balanced());
  }
  SUBCASE("together: manual keys") {
    p.selectors[0].later_fragments = true;
    Node node;
    node.add(p);
    node.outbound(later, tunnel_flow);
    node.outbound(large, tunnel_flow);
    node.flush();
    CHECK(node.drops(Drop::fragment_selector) == 0);
    CHECK(node.slots[0].packets == 3);
    for (const Octets& frame : node.egress.wire) CHECK((reference::be16(outer_of(frame), 6) & 0x3fff) == 0);
    CHECK(node.balanced());
  }
  SUBCASE("OPAQUE: nothing but later fragments, cut once more where they are too large") {
    p.selectors[0].source_port_first = p.selectors[0].destination_port_first = 65535;
    p.selectors[0].source_port_last = p.selectors[0].destination_port_last = 0;
    Node node;
    node.add(p);
    node.outbound(later, tunnel_flow);
    node.outbound(make_inner({}), tunnel_flow);
    Octets piece = large;
    reference::put16(piece, 6, 0x2010);
    node.outbound(piece, tunnel_flow);
    node.flush();
    CHECK(node.drops(Drop::selector) == 1);
    CHECK(node.slots[0].packets == 3);
    CHECK(node.balanced());
  }
}

TEST_CASE("port 4500: keepalives and IKE are told apart from ESP") {
  Node node;
  node.add(sa_parameters(SaDirection::inbound));
  const auto datagram = [](const Octets& payload) {
    Octets p = make_inner({.source = "192.0.2.1",
                           .destination = "192.0.2.2",
                           .payload = 0,
                           .source_port = 4500,
                           .destination_port = 4500});
    p.insert(p.end(), payload.begin(), payload.end());
    reference::finish(p);
    return p;
  };
  node.inbound(datagram({0xff}));
  CHECK(node.drops(Drop::nat_keepalive) == 1);
  node.inbound(datagram({0, 0, 0, 0, 1, 2, 3, 4}));
  CHECK(node.drops(Drop::ike_message) == 1);
  node.inbound(datagram({0xfe}));
  CHECK(node.drops(Drop::esp_runt) == 1);
  node.inbound(datagram({0, 0, 16, 0, 0, 0, 0, 1}));
  CHECK(node.drops(Drop::no_sa) == 1);
  CHECK(node.balanced());
}

TEST_CASE("policy file: written and read; what is not one is refused") {
  LoopPolicy::Rules rules;
  PolicyRule first = permit(10, 7, 17, "10.0.0.0/8", "192.0.2.0/24");
  first.source_ports = {{1, 5}, {7, 7}};
  first.destination_ports = {{4500, 4500}};
  first.fragment_flow = 70;
  first.traffic_class = {0xfc, 0xb8};
  first.tcp_flags = {2, 16, true};
  PolicyRule deny = permit(10, 0, std::nullopt);
  deny.permit = false;
  rules[3] = {deny, first};
  rules[9] = {permit(20, 8, 50, "2001:db8::/32", "::/0")};
  const std::vector<std::byte> file = LoopPolicy::write(rules);
  const auto read = LoopPolicy::read(file);
  REQUIRE(read);
  REQUIRE(read->size() == 2);
  REQUIRE(read->at(3).size() == 2);
  CHECK_FALSE(read->at(3)[0].permit);
  CHECK_FALSE(read->at(3)[0].protocol);
  const PolicyRule& back = read->at(3)[1];
  CHECK(back.flow == 7);
  CHECK(back.protocol == 17);
  CHECK(back.fragment_flow == 70);
  CHECK(back.traffic_class.takes(0xb9));
  CHECK_FALSE(back.traffic_class.takes(0));
  CHECK(back.tcp_flags.takes(2));
  CHECK_FALSE(back.tcp_flags.takes(18));
  CHECK(read->at(3)[0].fragments == PolicyFragments::also);
  CHECK(back.source == first.source);
  REQUIRE(back.source_ports.size() == 2);
  CHECK(back.source_ports[1].first == 7);
  REQUIRE(back.destination_ports.size() == 1);
  CHECK(back.destination_ports[0].last == 4500);
  CHECK(read->at(9)[0].source == rules[9][0].source);
  CHECK_FALSE(LoopPolicy::read(std::span(file).first(file.size() - 1)));
  CHECK_FALSE(LoopPolicy::read(std::span(file).first(5)));
  std::vector<std::byte> spoiled = file;
  spoiled[0] ^= std::byte{1};
  CHECK_FALSE(LoopPolicy::read(spoiled));
  CHECK(LoopPolicy::read(LoopPolicy::write({}))->empty());
}

}  // namespace
}  // namespace postern::test
