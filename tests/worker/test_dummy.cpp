// Dummy packets and traffic flow confidentiality (RFC 4303 §2.6, §2.7).
#include <algorithm>
#include <map>
#include <set>

#include "harness.hpp"
#include "worker/dummy_schedule.hpp"
#include "worker/sa.hpp"

namespace postern::test {
namespace {

using namespace std::chrono_literals;

SaParameters with_dummies(const crypto::Transform& transform = gcm_128) {
  SaParameters p = sa_parameters(SaDirection::outbound, transform);
  p.dummy_interval_us = 1000;
  return p;
}

std::map<std::uint32_t, int> made_by(DummySchedule& schedule, Time now) {
  std::map<std::uint32_t, int> out;
  schedule.run(now, [&](std::uint32_t flow) { return ++out[flow] != 0; });
  return out;
}

TEST_CASE("dummy schedule: each flow at its own rate, nothing early, and none without flows") {
  DummySchedule schedule;
  const Time start{1h};
  CHECK(!schedule.next());
  schedule.set(1, 10ms, start);
  schedule.set(2, 25ms, start);
  CHECK(schedule.next() == start + 10ms);
  CHECK(made_by(schedule, start + 9ms).empty());
  std::map<std::uint32_t, int> all;
  for (Time now = start; now <= start + 1s; now += 1ms)
    for (const auto& [flow, count] : made_by(schedule, now)) all[flow] += count;
  CHECK(all[1] == 100);
  CHECK(all[2] == 40);
  schedule.set(1, 10ms, start + 1s);  // a rekey: as it was
  CHECK(schedule.next() == start + 1010ms);
  schedule.set(1, 0ms, start + 1s);
  CHECK(schedule.next() == start + 1025ms);
  schedule.set(2, 500ms, start + 1s);
  CHECK(schedule.next() == start + 1500ms);
}

TEST_CASE("dummy schedule: what is late is made up for to a bound, and a flow that has none now is forgotten") {
  DummySchedule schedule;
  const Time start{1h};
  schedule.set(1, 1ms, start);
  CHECK(made_by(schedule, start + 5ms)[1] == 5);
  CHECK(made_by(schedule, start + 10s)[1] == static_cast<int>(DummySchedule::most_at_once));
  CHECK(schedule.next() == start + 10s + 1ms);
  int asked = 0;
  schedule.run(start + 10s + 3ms, [&](std::uint32_t) { return ++asked, false; });
  CHECK(asked == 1);
  CHECK(!schedule.next());
}

TEST_CASE(
    "dummies: of random size and content, sealed like others, counted apart, and dropped as such by the receiver") {
  for (const crypto::Transform& transform : {cbc_sha1, cbc_sha256, gcm_128, gcm_256}) {
    Node sender, receiver;
    const auto out = sender.add(with_dummies(transform));
    SaParameters in = sa_parameters(SaDirection::inbound, transform);
    in.replay_window = 64;
    const auto slot = receiver.add(in);
    for (int i = 0; i < 100; ++i) CHECK(sender.pipeline->dummy(5));
    sender.flush();
    REQUIRE(sender.egress.wire.size() == 100);
    std::set<std::size_t> sizes;
    for (const Octets& frame : sender.egress.wire) {
      sizes.insert(frame.size());
      CHECK(frame.size() <= 14 + 1500);
      receiver.inbound(outer_of(frame));
    }
    CHECK(sizes.size() > 30);
    receiver.flush();
    CHECK(receiver.egress.delivered.empty());
    CHECK(receiver.drops(Drop::dummy) == 100);
    const SaSlot &sent = sender.slots[out], &received = receiver.slots[slot];
    CHECK(sent.dummy_packets == 100);
    CHECK(sent.packets == 0);
    CHECK(sent.bytes == 0);
    CHECK(sent.last_used_ns == 0);  // they keep no SA alive
    CHECK(sent.next_sequence == 101);
    CHECK(received.dummy_packets == 100);
    CHECK(received.packets == 0);
    CHECK(received.errors == 0);
    CHECK(received.last_used_ns == 0);
    CHECK(received.highest_sequence == 100);  // authenticated first: the window moved
    CHECK(sender.counters[0].made == 100);
    CHECK(sender.balanced());
    CHECK(receiver.balanced());
    receiver.inbound(outer_of(sender.egress.wire[99]));
    receiver.flush();
    CHECK(receiver.drops(Drop::replayed) == 1);
  }
}

TEST_CASE("dummies: a flood of them keeps no packet of a user away, and is counted to the last") {
  Node sender, receiver;
  sender.add(with_dummies());
  SaParameters in = sa_parameters(SaDirection::inbound, gcm_128);
  in.replay_window = 64;
  const auto slot = receiver.add(in);
  const Octets inner = make_inner({});
  std::uint64_t users = 0;
  for (int i = 0; i < 20000; ++i) {
    if (i % 100 == 0) {
      sender.outbound(inner);
      ++users;
    } else {
      REQUIRE(sender.pipeline->dummy(5));
    }
    if (i % 64 != 63) continue;
    sender.flush();
    for (const Octets& frame : std::exchange(sender.egress.wire, {})) receiver.inbound(outer_of(frame));
    receiver.flush();
  }
  sender.flush();
  for (const Octets& frame : std::exchange(sender.egress.wire, {})) receiver.inbound(outer_of(frame));
  receiver.flush();
  CHECK(receiver.egress.delivered.size() == users);
  CHECK(receiver.drops(Drop::dummy) == 20000 - users);
  CHECK(receiver.slots[slot].dummy_packets == 20000 - users);
  CHECK(receiver.slots[slot].errors == 0);
  CHECK(sender.balanced());
  CHECK(receiver.balanced());
}

TEST_CASE("dummies: a forged one is bad_icv and no dummy") {
  Node sender, receiver;
  sender.add(with_dummies());
  receiver.add(sa_parameters(SaDirection::inbound, gcm_128));
  REQUIRE(sender.pipeline->dummy(5));
  sender.flush();
  Octets forged = outer_of(sender.egress.wire.at(0));
  forged.back() ^= 1;
  receiver.inbound(forged);
  receiver.flush();
  CHECK(receiver.drops(Drop::bad_icv) == 1);
  CHECK(receiver.drops(Drop::dummy) == 0);
  CHECK(receiver.balanced());
}

TEST_CASE("dummies: only while an SA that wants them is up; none without a next hop or a frame, and nobody is asked") {
  Node node;
  CHECK_FALSE(node.pipeline->dummy(5));
  const SaParameters p = with_dummies();
  const auto slot = *node.sad->install(p);
  REQUIRE(node.sad->bind_flow(p.flow, slot).has_value());
  CHECK(node.pipeline->dummy(5));  // no next hop: none this time
  node.flush();
  CHECK(node.egress.wire.empty());
  CHECK(node.egress.acquires.empty());
  node.resolve(p);
  CHECK(node.pipeline->dummy(5));
  node.flush();
  CHECK(node.egress.wire.size() == 1);
  node.sad->unbind_flow(5);
  CHECK_FALSE(node.pipeline->dummy(5));
  SaParameters silent = sa_parameters(SaDirection::outbound);
  silent.flow = 6;
  ++silent.spi;
  node.add(silent);
  CHECK_FALSE(node.pipeline->dummy(6));
  CHECK(node.balanced());

  std::vector<FrameAddress> taken;
  node.add(with_dummies());
  while (node.frames.available() != 0) taken.push_back(node.frames.take());
  CHECK(node.pipeline->dummy(5));
  node.flush();
  CHECK(node.egress.wire.size() == 1);
  for (const FrameAddress frame : taken) node.frames.give(frame);
  CHECK(node.balanced());
}

TEST_CASE("dummies: among user packets in one batch each counts on its side; lifetimes are the user's") {
  Node node;
  SaParameters p = with_dummies();
  p.soft_packets = 10;
  p.hard_packets = 20;
  const auto slot = node.add(p);
  for (int i = 0; i < 20; ++i) {
    node.outbound(make_inner({}));
    CHECK(node.pipeline->dummy(5));
  }
  node.flush();
  CHECK(node.egress.wire.size() == 39);  // the last dummy came behind the hard limit
  CHECK(node.drops(Drop::sa_expired) == 1);
  CHECK(node.slots[slot].packets == 20);
  CHECK(node.slots[slot].dummy_packets == 19);
  CHECK(node.slots[slot].next_sequence == 41);
  node.outbound(make_inner({}));
  CHECK(node.pipeline->dummy(5));
  node.flush();
  CHECK(node.egress.wire.size() == 39);      // an SA at its end carries nothing at all
  CHECK(node.counters[0].held.load() == 1);  // the user's packet waits for a successor, a dummy does not
  CHECK(node.slots[slot].dummy_packets == 19);
  CHECK(node.balanced());
}

// One packet sealed, opened again; the ESP packet's size.
std::size_t there_and_back(Node& sender, Node& receiver, const Octets& inner) {
  sender.egress.wire.clear();
  receiver.egress.delivered.clear();
  sender.outbound(inner);
  sender.flush();
  REQUIRE(sender.egress.wire.size() == 1);
  const Octets outer = outer_of(sender.egress.wire[0]);
  receiver.inbound(outer);
  receiver.flush();
  REQUIRE(receiver.egress.delivered.size() == 1);
  CHECK(receiver.egress.delivered[0] == inner);
  return outer.size();
}

TEST_CASE("TFC: packets below the size are all of one size, larger ones as they are, and the receiver cuts") {
  for (const crypto::Transform& transform : {cbc_sha1, cbc_sha256, gcm_128, gcm_256}) {
    Node sender, receiver;
    SaParameters out = sa_parameters(SaDirection::outbound, transform);
    out.tfc_bytes = 500;
    const auto slot = sender.add(out);
    receiver.add(sa_parameters(SaDirection::inbound, transform));
    std::set<std::size_t> sizes;
    std::uint64_t bytes = 0;
    for (std::size_t payload = 0; payload <= 472; payload += 8) {
      const Octets inner = make_inner({.payload = payload});
      bytes += inner.size();
      sizes.insert(there_and_back(sender, receiver, inner));
    }
    CHECK(sizes.size() == 1);
    CHECK(sender.slots[slot].bytes == bytes);  // the user's bytes
    CHECK(there_and_back(sender, receiver, make_inner({.payload = 900})) > *sizes.begin());
    CHECK(there_and_back(sender, receiver, make_inner({.source = "2001:db8::1", .destination = "2001:db8::2"})) ==
          *sizes.begin());
    CHECK(sender.balanced());
    CHECK(receiver.balanced());
  }
}

TEST_CASE("TFC: to the path's MTU and never above it, whatever is asked for") {
  for (const crypto::Transform& transform : {cbc_sha1, cbc_sha256, gcm_128, gcm_256})
    for (const std::uint32_t mtu : {600U, 1280U, 1499U, 1500U, 3000U}) {
      Node sender, receiver;
      SaParameters out = sa_parameters(SaDirection::outbound, transform);
      out.path_mtu = mtu;
      out.tfc_bytes = 65535;
      sender.add(out);
      receiver.add(sa_parameters(SaDirection::inbound, transform));
      const std::size_t size = there_and_back(sender, receiver, make_inner({.payload = 1}));
      CHECK(size <= mtu);
      CHECK(size + 16 > mtu);
      CHECK(there_and_back(sender, receiver, make_inner({.payload = 400})) == size);
    }
}

TEST_CASE("TFC: dummies have the size of all others") {
  Node sender;
  SaParameters out = with_dummies();
  out.tfc_bytes = 700;
  sender.add(out);
  sender.outbound(make_inner({}));
  for (int i = 0; i < 20; ++i) CHECK(sender.pipeline->dummy(5));
  sender.flush();
  REQUIRE(sender.egress.wire.size() == 21);
  for (const Octets& frame : sender.egress.wire) CHECK(frame.size() == sender.egress.wire[0].size());
}

TEST_CASE("TFC: none unless it is asked for") {
  Node sender, receiver;
  sender.add(sa_parameters(SaDirection::outbound));
  receiver.add(sa_parameters(SaDirection::inbound));
  CHECK(there_and_back(sender, receiver, make_inner({.payload = 1})) <
        there_and_back(sender, receiver, make_inner({.payload = 400})));
}

}  // namespace
}  // namespace postern::test
