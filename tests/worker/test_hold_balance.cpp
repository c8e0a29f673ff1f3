// Waiting for an SA or a next hop, policy generations, and the balance of everything at once.
#include <random>

#include "harness.hpp"
#include "worker/hold_queue.hpp"
#include "worker/segment.hpp"

namespace postern::test {
namespace {

using namespace std::chrono_literals;

Octets numbered(std::uint8_t n) { return make_inner({.traffic_class = static_cast<std::uint8_t>(n << 2)}); }

// Opens what was sent and returns the numbers in order.
std::vector<int> numbers_sent(Node& sender) {
  Node receiver;
  receiver.add(sa_parameters(SaDirection::inbound));
  for (const Octets& frame : sender.egress.wire) receiver.inbound(outer_of(frame));
  receiver.flush();
  std::vector<int> out;
  for (const Octets& p : receiver.egress.delivered) out.push_back(p[1] >> 2);
  return out;
}

TEST_CASE("hold: packets wait for their SA and leave in order, with those that came after") {
  Node node;
  node.outbound(numbered(1));
  node.outbound(numbered(2));
  node.flush();
  CHECK(node.pipeline->has_held());
  CHECK(node.counters[0].held == 2);
  CHECK(node.egress.wire.empty());
  CHECK(node.balanced());
  node.add(sa_parameters(SaDirection::outbound));
  node.outbound(numbered(3));  // must not overtake
  node.flush();
  CHECK(node.egress.wire.empty());
  node.pipeline->poll_held(Clock::now());
  node.outbound(numbered(4));
  node.flush();
  CHECK_FALSE(node.pipeline->has_held());
  CHECK(numbers_sent(node) == std::vector<int>{1, 2, 3, 4});
  CHECK(node.balanced());
}

TEST_CASE("hold: an unknown next hop is asked for; one flow's wait does not stop another") {
  Node node;
  const SaParameters near = sa_parameters(SaDirection::outbound);
  SaParameters far = near;
  far.remote = address("192.0.2.77");
  far.flow = 6;
  far.spi = 0x2000;
  node.add(near);
  const auto slot = node.sad->install(far);
  REQUIRE(node.sad->bind_flow(6, *slot).has_value());
  node.outbound(numbered(1), 6);
  node.outbound(numbered(2), 5);
  node.flush();
  REQUIRE(node.egress.asked.size() == 1);
  CHECK(node.egress.asked[0].address == far.remote);
  CHECK(node.egress.wire.size() == 1);
  CHECK(node.counters[0].held == 1);
  node.pipeline->poll_held(Clock::now());
  CHECK(node.counters[0].held == 1);
  node.resolve(far);
  node.pipeline->poll_held(Clock::now());
  CHECK(node.egress.wire.size() == 2);
  CHECK(node.counters[0].held == 0);
  CHECK(node.balanced());
}

TEST_CASE("hold: in vain, and why") {
  Node node;
  SaParameters p = sa_parameters(SaDirection::outbound);
  const auto slot = node.sad->install(p);
  REQUIRE(node.sad->bind_flow(5, *slot).has_value());
  node.outbound(numbered(1), 5);  // no next hop
  node.outbound(numbered(2), 5);
  node.outbound(numbered(3), 9);  // no SA
  node.outbound(numbered(4), 9);
  node.pipeline->poll_held(Clock::now() + 900ms);
  CHECK(node.counters[0].held == 4);
  node.pipeline->poll_held(Clock::now() + 1100ms);
  CHECK(node.drops(Drop::no_adjacency) == 2);
  CHECK(node.drops(Drop::no_outbound_sa) == 2);
  CHECK_FALSE(node.pipeline->has_held());
  CHECK(node.balanced());
}

TEST_CASE("hold: bounded, and emptied at shutdown") {
  Node node(4, crypto::EngineKind::automatic, {.hold_packets = 8, .hold_time = 1s});
  for (int i = 0; i < 20; ++i) node.outbound(numbered(1));
  CHECK(node.counters[0].held == 8);
  CHECK(node.drops(Drop::hold_full) == 12);
  CHECK(node.balanced());
  node.pipeline->drop_held();
  CHECK(node.drops(Drop::shutting_down) == 8);
  CHECK_FALSE(node.pipeline->has_held());
  CHECK(node.balanced());
}

// `count` packets of the SA of sa_parameters(), sealed.
std::vector<Octets> sealed(int count) {
  Node sender;
  sender.add(sa_parameters(SaDirection::outbound));
  for (int i = 0; i < count; ++i) sender.outbound(numbered(static_cast<std::uint8_t>(i)));
  sender.flush();
  std::vector<Octets> out;
  for (const Octets& frame : sender.egress.wire) out.push_back(outer_of(frame));
  return out;
}

std::vector<int> numbers_delivered(const Node& node) {
  std::vector<int> out;
  for (const Octets& p : node.egress.delivered) out.push_back(p[1] >> 2);
  return out;
}

TEST_CASE("hold: packets of an SA that is expected wait for it, and none overtakes") {
  const auto wire = sealed(4);
  Node node;
  node.sad->expect(0x1001, Clock::now() + 10s);
  node.inbound(wire[0]);
  node.inbound(wire[1]);
  node.flush();
  CHECK(node.pipeline->has_held());
  CHECK(node.counters[0].held == 2);
  CHECK(node.egress.delivered.empty());
  CHECK(node.balanced());
  node.add(sa_parameters(SaDirection::inbound));
  node.inbound(wire[2]);  // finds the SA, and those in front of it
  node.pipeline->poll_held(Clock::now());
  node.inbound(wire[3]);
  node.flush();
  CHECK_FALSE(node.pipeline->has_held());
  CHECK(numbers_delivered(node) == std::vector<int>{0, 1, 2, 3});
  CHECK(node.drops(Drop::no_sa) == 0);
  CHECK(node.balanced());
}

TEST_CASE("hold: of an SA that nobody expects, that is not expected any more, or that does not come: no_sa") {
  const auto wire = sealed(3);
  Node node;
  node.inbound(wire[0]);
  CHECK(node.drops(Drop::no_sa) == 1);
  node.sad->expect(0x1001 + 1024, Clock::now() + 10s);  // another that shares its place
  node.inbound(wire[0]);
  CHECK(node.drops(Drop::no_sa) == 2);
  node.sad->expect(0x1001, Clock::now() - 2s);
  node.inbound(wire[0]);
  CHECK(node.drops(Drop::no_sa) == 3);
  node.sad->expect(0x1001, Clock::now() + 10s);
  node.inbound(wire[1]);
  node.inbound(wire[2]);
  node.pipeline->poll_held(Clock::now() + 900ms);
  CHECK(node.counters[0].held == 2);
  node.pipeline->poll_held(Clock::now() + 1100ms);
  CHECK(node.drops(Drop::no_sa) == 5);
  CHECK_FALSE(node.pipeline->has_held());
  CHECK(node.balanced());
}

TEST_CASE("hold: of expected SAs no more than a bounded number, beside those that wait to go out") {
  const auto wire = sealed(6);
  Node node(4, crypto::EngineKind::automatic, {.hold_packets = 8, .hold_inbound_packets = 4, .hold_time = 1s});
  node.sad->expect(0x1001, Clock::now() + 10s);
  node.outbound(numbered(1), 9);
  for (const Octets& one : wire) node.inbound(one);
  CHECK(node.counters[0].held == 5);
  CHECK(node.drops(Drop::hold_full) == 2);
  CHECK(node.balanced());
  node.pipeline->drop_held();
  CHECK(node.drops(Drop::shutting_down) == 5);
  CHECK_FALSE(node.pipeline->has_held());
  CHECK(node.balanced());
}

TEST_CASE("hold: super-packets wait as segments") {
  Node node, receiver;
  InnerSpec spec{.protocol = 6, .payload = 30000};
  const Octets super = make_inner(spec);
  VnetHeader h;
  h.gso_type = vnet_gso_tcpv4;
  h.gso_size = 1300;
  node.super(h, super);
  CHECK(node.counters[0].held == 24);
  CHECK(node.balanced());
  node.add(sa_parameters(SaDirection::outbound));
  receiver.add(sa_parameters(SaDirection::inbound));
  node.pipeline->poll_held(Clock::now());
  for (const Octets& frame : node.egress.wire) receiver.inbound(outer_of(frame));
  receiver.flush();
  CHECK(receiver.egress.delivered == reference::tso(super, 1300));
  CHECK(node.balanced());
}

TEST_CASE("generations: an old verdict is refused, also while it waits") {
  Node node;
  node.outbound(numbered(1), 5, false, 3);
  node.outbound(numbered(2), 5, false, 4);
  node.outbound(numbered(3), 5, false, 0);  // from a tunnel device: no policy stamped it
  node.pipeline->set_oldest_generation(4);
  node.outbound(numbered(4), 5, false, 3);
  CHECK(node.drops(Drop::stale_policy) == 1);
  node.add(sa_parameters(SaDirection::outbound));
  node.pipeline->poll_held(Clock::now());
  CHECK(node.drops(Drop::stale_policy) == 2);
  CHECK(numbers_sent(node) == std::vector<int>{2, 3});
  node.outbound(numbered(5), 0);
  CHECK(node.drops(Drop::unknown_flow) == 1);
  CHECK(node.balanced());
}

TEST_CASE("outbound: what may not leave by this SA") {
  Node node;
  SaParameters p = sa_parameters(SaDirection::outbound);
  p.selectors[0] = {address("10.1.0.0"), address("10.1.255.255"), address("10.2.0.0"), address("10.2.255.255")};
  p.selector_count = 1;
  const auto slot = node.add(p);
  node.outbound(make_inner({}));
  node.outbound(make_inner({.destination = "10.3.0.1"}));
  node.outbound(make_inner({.source = "2001:db8::1", .destination = "2001:db8::2"}));
  Octets runt = make_inner({});
  runt.resize(19);
  node.outbound(runt);
  Octets padded = make_inner({});
  padded.resize(padded.size() + 20);
  node.outbound(padded);
  node.flush();
  CHECK(node.egress.wire.size() == 2);
  CHECK(node.egress.wire[0].size() == node.egress.wire[1].size());
  CHECK(node.drops(Drop::selector) == 2);
  CHECK(node.drops(Drop::unparseable) == 1);
  CHECK(node.slots[slot].selector_drops == 2);
  CHECK(node.balanced());
}

TEST_CASE("frames: when there are none left everything is counted, and nothing is lost") {
  Node node(4, crypto::EngineKind::automatic, {}, 16);
  node.add(sa_parameters(SaDirection::outbound));
  InnerSpec spec{.protocol = 6, .payload = 60000};
  VnetHeader h;
  h.gso_type = vnet_gso_tcpv4;
  h.gso_size = 1000;
  node.super(h, make_inner(spec));
  node.flush();
  CHECK(node.egress.wire.size() == 60);  // a flush brings frames back
  Packet hostage[16];
  for (Packet& p : hostage) p = node.frame_of({1});
  node.super(h, make_inner(spec));
  node.super({}, make_inner({}));
  node.flush();
  CHECK(node.drops(Drop::no_frame) == 61);
  for (const Packet& p : hostage) node.frames.give(p.frame);
  CHECK(node.balanced());
}

TEST_CASE("balance: a random mix of everything, seed by seed") {
  for (unsigned seed = 1; seed <= 12; ++seed) {
    std::mt19937 random(seed);
    const auto pick = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
    Node sender(16, crypto::EngineKind::automatic, {.hold_packets = 32, .hold_time = 1s}), receiver;
    SaParameters out = sa_parameters(SaDirection::outbound, gcm_128), in = sa_parameters(SaDirection::inbound, gcm_128);
    in.replay_window = 64;
    out.df = static_cast<DfPolicy>(seed % 3);
    out.hard_packets = seed % 4 == 0 ? 300 : 0;
    out.path_mtu = 1300 + 50 * (seed % 4);
    sender.add(out);
    receiver.add(in);
    for (int round = 0; round < 400; ++round) {
      InnerSpec spec{.protocol = static_cast<std::uint8_t>(pick(2) ? 6 : 17), .payload = pick(1600)};
      spec.ttl = static_cast<std::uint8_t>(pick(4));
      spec.dont_fragment = pick(2) != 0;
      spec.traffic_class = static_cast<std::uint8_t>(pick(256));
      if (pick(2) != 0) spec.source = "2001:db8:1::2", spec.destination = "2001:db8:2::2";
      if (pick(3) == 0) spec.payload = pick(40000);
      Octets inner = make_inner(spec);
      if (pick(8) == 0) inner[pick(40)] ^= static_cast<std::uint8_t>(1U << pick(8));
      const std::uint32_t flow = pick(10) == 0 ? pick(3) + 5 : 5;
      if (inner.size() > 3000 || pick(2) == 0) {
        VnetHeader h;
        h.gso_type = static_cast<std::uint8_t>(pick(6));
        h.gso_size = static_cast<std::uint16_t>(pick(2) ? 1200 : pick(3000));
        h.flags = static_cast<std::uint8_t>(pick(2));
        h.csum_start = static_cast<std::uint16_t>(pick(2) ? 20 : 40);
        h.csum_offset = static_cast<std::uint16_t>(pick(2) ? 16 : 6);
        sender.super(h, inner, flow);
      } else {
        sender.outbound(inner, flow, pick(2) != 0, pick(3));
      }
      if (pick(20) == 0) sender.flush();
      if (pick(30) == 0) sender.pipeline->poll_held(Clock::now() + std::chrono::milliseconds(pick(1500)));
    }
    sender.flush();
    CHECK(sender.balanced());
    for (const Octets& frame : sender.egress.wire) {
      Octets outer = outer_of(frame);
      if (pick(6) == 0) outer[pick(static_cast<unsigned>(outer.size()))] ^= 0x10;
      if (pick(10) == 0) outer.resize(pick(static_cast<unsigned>(outer.size())));
      for (unsigned copies = 1 + (pick(8) == 0); copies > 0; --copies) receiver.inbound(outer);
    }
    receiver.flush();
    CHECK(receiver.balanced());
    CHECK(receiver.egress.delivered.size() > 50);
    for (const Octets& p : receiver.egress.delivered) CHECK(parse_ip(reference::view(p)).has_value());
    sender.pipeline->drop_held();
    CHECK(sender.balanced());
    CHECK(sender.counters[0].held == 0);
  }
}

}  // namespace
}  // namespace postern::test
