// What the data path tells of its SAs: lifetimes, the end of the numbers, and flows that want an SA.
#include "harness.hpp"
#include "worker/sa.hpp"

namespace postern::test {
namespace {

using namespace std::chrono_literals;

std::vector<SaExpiryKind> kinds(const Node& node) {
  std::vector<SaExpiryKind> out;
  for (const auto& told : node.egress.told) out.push_back(told.kind);
  return out;
}
using Kinds = std::vector<SaExpiryKind>;

TEST_CASE("lifetime: soft packets are told once, the traffic goes on") {
  Node node;
  SaParameters p = sa_parameters(SaDirection::outbound);
  p.soft_packets = 3;
  const auto slot = node.add(p);
  for (int i = 0; i < 2; ++i) node.outbound(make_inner({}));
  node.flush();
  CHECK(node.egress.told.empty());
  for (int i = 0; i < 4; ++i) {
    node.outbound(make_inner({}));
    node.flush();
  }
  CHECK(kinds(node) == Kinds{SaExpiryKind::soft});
  CHECK(node.egress.told[0].slot == &node.slots[slot]);
  CHECK(node.egress.wire.size() == 6);
}

TEST_CASE(
    "lifetime: soft and hard bytes in one batch; behind the hard limit packets wait, and are dropped in the end") {
  Node node;
  const Octets inner = make_inner({});
  SaParameters p = sa_parameters(SaDirection::outbound);
  p.soft_bytes = inner.size() * 2;
  p.hard_bytes = inner.size() * 4;
  node.add(p);
  for (int i = 0; i < 6; ++i) node.outbound(inner);
  node.flush();
  CHECK(kinds(node) == Kinds{SaExpiryKind::hard, SaExpiryKind::soft});
  CHECK(node.egress.wire.size() == 4);
  CHECK(node.drops(Drop::sa_expired) == 0);
  CHECK(node.counters[0].held.load() == 2);
  CHECK(node.balanced());
  node.pipeline->poll_held(Clock::now());
  CHECK(node.egress.wire.size() == 4);
  node.pipeline->poll_held(Clock::now() + 2s);
  CHECK(node.drops(Drop::sa_expired) == 2);
  CHECK(node.counters[0].held.load() == 0);
  node.outbound(make_inner({.payload = 1}));  // smaller, and would still fit: an SA that is over is over
  node.flush();
  CHECK(node.egress.wire.size() == 4);
  CHECK(node.balanced());
}

TEST_CASE("lifetime: packets behind the hard limit leave by the SA that a rekey makes, in order, as they were") {
  for (const bool bypassed : {false, true}) {
    Node node, receiver;
    SaParameters p = sa_parameters(SaDirection::outbound);
    p.hard_packets = 3;
    node.add(p);
    for (std::uint16_t i = 0; i < 8; ++i) node.outbound(make_inner({.source_port = i}), 5, bypassed);
    node.flush();
    CHECK(node.egress.wire.size() == 3);
    node.outbound(make_inner({.source_port = 8}), 5, bypassed);
    CHECK(node.counters[0].held.load() == 6);
    p.spi = 0x1002;
    p.hard_packets = 5;  // the next one ends in the middle of what waits
    node.add(p);
    node.pipeline->poll_held(Clock::now());
    CHECK(node.egress.wire.size() == 8);
    CHECK(node.counters[0].held.load() == 1);
    CHECK(node.balanced());
    p.spi = 0x1003;
    p.hard_packets = 0;
    node.add(p);
    node.pipeline->poll_held(Clock::now());
    CHECK(node.counters[0].held.load() == 0);
    CHECK(node.balanced());

    for (const std::uint32_t spi : {0x1001U, 0x1002U, 0x1003U}) {
      SaParameters in = sa_parameters(SaDirection::inbound);
      in.spi = spi;
      receiver.add(in);
    }
    for (const Octets& frame : node.egress.wire) receiver.inbound(outer_of(frame));
    receiver.flush();
    REQUIRE(receiver.egress.delivered.size() == 9);
    for (std::uint16_t i = 0; i < 9; ++i) {
      InnerSpec expected{.source_port = i};
      if (bypassed) --expected.ttl;  // one hop, not two
      CHECK(receiver.egress.delivered[i] == make_inner(expected));
    }
  }
}

TEST_CASE("lifetime: what waits for a successor is bounded, and every packet is counted") {
  Node node(16, crypto::EngineKind::automatic, {.hold_packets = 8, .hold_time = 1s});
  SaParameters p = sa_parameters(SaDirection::outbound);
  p.hard_packets = 1;
  node.add(p);
  for (int i = 0; i < 100; ++i) node.outbound(make_inner({}));
  node.flush();
  CHECK(node.egress.wire.size() == 1);
  CHECK(node.counters[0].held.load() == 8);
  CHECK(node.all_drops() == 91);
  CHECK(node.balanced());
}

TEST_CASE("lifetime: an SA without one says nothing, however much it carries") {
  Node node;
  node.add(sa_parameters(SaDirection::outbound));
  for (int i = 0; i < 200; ++i) node.outbound(make_inner({}));
  node.flush();
  CHECK(node.egress.told.empty());
}

TEST_CASE("lifetime: inbound, soft and then hard") {
  Node sender, node;
  sender.add(sa_parameters(SaDirection::outbound));
  SaParameters p = sa_parameters(SaDirection::inbound);
  p.soft_packets = 2;
  p.hard_packets = 4;
  node.add(p);
  for (int i = 0; i < 6; ++i) sender.outbound(make_inner({}));
  sender.flush();
  for (std::size_t i = 0; i < sender.egress.wire.size(); ++i) {
    node.inbound(outer_of(sender.egress.wire[i]));
    node.flush();
    if (i == 0) CHECK(node.egress.told.empty());
    if (i == 1) CHECK(kinds(node) == Kinds{SaExpiryKind::soft});
  }
  CHECK(kinds(node) == Kinds{SaExpiryKind::soft, SaExpiryKind::hard});
  CHECK(node.egress.delivered.size() == 4);
  CHECK(node.drops(Drop::sa_expired) == 2);
  CHECK(node.balanced());
}

TEST_CASE("lifetime: in seconds, both ways; behind its end nothing passes, whoever keys the SA or does not") {
  Node sender, receiver;
  SaParameters out = sa_parameters(SaDirection::outbound), in = sa_parameters(SaDirection::inbound);
  out.hard_seconds = in.hard_seconds = 3600;
  const auto outbound = sender.add(out), inbound = receiver.add(in);
  const auto pass = [&] {
    sender.outbound(make_inner({}));
    sender.flush();
    receiver.inbound(outer_of(sender.egress.wire.back()));
    receiver.flush();
  };
  constexpr std::uint64_t second = 1'000'000'000;
  sender.slots[outbound].installed_ns -= 3500 * second;
  receiver.slots[inbound].installed_ns -= 3500 * second;
  pass();
  CHECK(receiver.egress.delivered.size() == 1);
  CHECK(sender.egress.told.empty());
  receiver.slots[inbound].installed_ns -= 100 * second;
  pass();
  CHECK(receiver.egress.delivered.size() == 1);
  CHECK(receiver.drops(Drop::sa_expired) == 1);
  CHECK(kinds(receiver) == Kinds{SaExpiryKind::hard});
  sender.slots[outbound].installed_ns -= 100 * second;
  sender.outbound(make_inner({}));
  sender.outbound(make_inner({}));
  sender.flush();
  CHECK(sender.egress.wire.size() == 2);
  CHECK(sender.counters[0].held.load() == 2);
  CHECK(sender.balanced());
  sender.pipeline->poll_held(Clock::now() + 2s);
  CHECK(sender.drops(Drop::sa_expired) == 2);
  CHECK(kinds(sender) == Kinds{SaExpiryKind::hard});
  CHECK(sender.slots[outbound].packets == 2);
  CHECK(sender.balanced());
  CHECK(receiver.balanced());
}

TEST_CASE("numbers: a warning before the end, an end without wrapping") {
  bool extended = false;
  SUBCASE("32 bits") {}
  SUBCASE("extended") { extended = true; }
  Node node;
  SaParameters p = sa_parameters(SaDirection::outbound);
  p.extended_sequence = extended;
  const auto slot = node.add(p);
  node.slots[slot].next_sequence = sequence_warning(extended) - 1;
  node.outbound(make_inner({}));
  node.flush();
  CHECK(node.egress.told.empty());
  node.outbound(make_inner({}));
  node.outbound(make_inner({}));
  node.flush();
  CHECK(kinds(node) == Kinds{SaExpiryKind::sequence_near_end});
  node.slots[slot].next_sequence = last_sequence(extended);
  for (int i = 0; i < 3; ++i) node.outbound(make_inner({}));
  node.flush();
  CHECK(kinds(node) == Kinds{SaExpiryKind::sequence_near_end, SaExpiryKind::sequence_end});
  CHECK(node.drops(Drop::sequence_exhausted) == 2);
  CHECK(node.egress.wire.size() == 4);
  for (int i = 0; i < 1000; ++i) node.outbound(make_inner({}));
  node.flush();
  CHECK(node.drops(Drop::sequence_exhausted) == 1002);
  CHECK(node.slots[slot].next_sequence == last_sequence(extended) + 1);
  CHECK(node.balanced());
}

TEST_CASE("lifetime: what could not be told is told with the next packet, and again after tell_again") {
  Node node;
  SaParameters p = sa_parameters(SaDirection::outbound);
  p.soft_packets = 1;
  node.add(p);
  const auto send = [&] {
    node.outbound(make_inner({}));
    node.flush();
  };
  node.egress.deaf = true;
  send();
  node.egress.deaf = false;
  send();
  send();
  CHECK(node.egress.told.size() == 1);
  node.sad->tell_again(SaInstaller::ike);  // not this SA's installer
  send();
  CHECK(node.egress.told.size() == 1);
  node.sad->tell_again(SaInstaller::posternd);
  send();
  CHECK(node.egress.told.size() == 2);
}

TEST_CASE("acquire: a packet without an SA asks with its addresses and ports, and leaves when the SA comes") {
  Node node;
  node.outbound(make_inner({.source_port = 1024, .destination_port = 443}));
  REQUIRE(node.egress.acquires.size() == 1);
  const Acquire& wanted = node.egress.acquires[0];
  CHECK(wanted.flow == 5);
  CHECK(wanted.source == address("10.1.0.2"));
  CHECK(wanted.destination == address("10.2.0.2"));
  CHECK(wanted.protocol == 17);
  CHECK(wanted.source_port == 1024);
  CHECK(wanted.destination_port == 443);
  CHECK(wanted.ports_known);
  node.pipeline->poll_held(Clock::now());
  CHECK(node.egress.acquires.size() == 2);  // it still waits: the thread's limiter decides how often that is passed on
  node.add(sa_parameters(SaDirection::outbound));
  node.pipeline->poll_held(Clock::now());
  CHECK(node.egress.wire.size() == 1);
  CHECK(node.balanced());
}

TEST_CASE("acquire: IPv6, ICMP, a later fragment, a protocol without ports") {
  const auto icmp = *describe_acquire(1, 2, reference::view(make_inner({.protocol = 1})));
  CHECK(icmp.vrf == 2);
  CHECK(icmp.ports_known);
  CHECK(icmp.source_port == 8 * 256);
  const auto six =
      *describe_acquire(1, 0, reference::view(make_inner({.source = "2001:db8::1", .destination = "2001:db8::2"})));
  CHECK(six.destination == address("2001:db8::2"));
  CHECK(six.destination_port == 2222);
  CHECK_FALSE(describe_acquire(1, 0, reference::view(make_inner({.protocol = 47})))->ports_known);
  Octets fragment = make_inner({});
  reference::put16(fragment, 6, 100);
  CHECK_FALSE(describe_acquire(1, 0, reference::view(fragment))->ports_known);
  CHECK_FALSE(describe_acquire(1, 0, reference::view(Octets{0x45, 0})).has_value());
}

TEST_CASE("acquire: not for a flow that has its SA, and not for want of a next hop") {
  Node node;
  const SaParameters p = sa_parameters(SaDirection::outbound);
  const auto slot = *node.sad->install(p);
  REQUIRE(node.sad->bind_flow(p.flow, slot).has_value());
  node.outbound(make_inner({}));
  CHECK(node.counters[0].held == 1);
  CHECK(node.egress.acquires.empty());
}

}  // namespace
}  // namespace postern::test
