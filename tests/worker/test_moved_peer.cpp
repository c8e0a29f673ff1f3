// A peer that its NAT moves (RFC 7296 §2.23): where sealed packets go, what is told of those that come from elsewhere.
#include <utility>

#include "harness.hpp"
#include "worker/sa.hpp"

namespace postern::test {
namespace {

using Pair = std::pair<std::string_view, std::string_view>;

SaParameters encapsulated(SaDirection direction, const Pair& ends = {"192.0.2.1", "192.0.2.2"}) {
  SaParameters p = sa_parameters(direction, gcm_128, ends.first, ends.second);
  p.udp_encapsulation = true;
  p.replay_window = 64;
  p.local_port = direction == SaDirection::inbound ? 4500 : 61000;
  p.remote_port = direction == SaDirection::inbound ? 61000 : 4500;
  p.follow_peer = direction == SaDirection::inbound;
  return p;
}

// The frame as it comes out of a NAT that gives it another source.
Octets from(Octets outer, std::string_view source, std::uint16_t port) {
  const IpAddress to = address(source);
  const bool v4 = to.family() == Family::v4;
  std::copy(to.mapped().begin() + (v4 ? 12 : 0), to.mapped().end(), outer.begin() + (v4 ? 12 : 8));
  reference::put16(outer, v4 ? 20 : 40, port);
  return outer;
}

TEST_CASE("moved peer: authentic packets from elsewhere are told, of the highest number alone; nothing else is") {
  for (const Pair& ends : {Pair{"192.0.2.1", "192.0.2.2"}, Pair{"2001:db8:ff::1", "2001:db8:ff::2"}}) {
    const char* const elsewhere = ends.first.find(':') == std::string_view::npos ? "203.0.113.7" : "2001:db8:aa::7";
    Node sender, node;
    sender.add(encapsulated(SaDirection::outbound, ends));
    const std::uint32_t slot = node.add(encapsulated(SaDirection::inbound, ends));
    for (int i = 0; i < 6; ++i) sender.outbound(make_inner({}));
    sender.flush();
    const auto packet = [&](std::size_t i) { return outer_of(sender.egress.wire[i]); };
    const auto gets = [&](const Octets& one) {
      node.inbound(one);
      node.flush();
    };
    gets(packet(0));
    CHECK(node.egress.moved.empty());

    gets(from(packet(0), elsewhere, 7000));  // replayed
    Octets forged = from(packet(1), elsewhere, 7000);
    forged.back() ^= 1;
    gets(forged);
    CHECK(node.egress.moved.empty());
    CHECK(node.drops(Drop::replayed) == 1);
    CHECK(node.drops(Drop::bad_icv) == 1);

    gets(from(packet(2), elsewhere, 7000));
    CHECK(node.egress.moved == std::vector{SaPeer{address(elsewhere), 7000}});
    gets(from(packet(1), elsewhere, 9999));  // authentic and new, but overtaken
    CHECK(node.egress.moved.size() == 1);

    REQUIRE(node.sad->move(slot, {address(elsewhere), 7000}));
    gets(from(packet(3), elsewhere, 7000));
    CHECK(node.egress.moved.size() == 1);
    gets(packet(4));  // and back
    CHECK(node.egress.moved.size() == 2);
    CHECK(node.egress.delivered.size() == 5);
    CHECK(node.balanced());
  }
}

TEST_CASE("moved peer: an SA that does not follow its peer says nothing") {
  Node sender, node;
  sender.add(encapsulated(SaDirection::outbound));
  SaParameters in = encapsulated(SaDirection::inbound);
  in.follow_peer = false;
  node.add(in);
  sender.outbound(make_inner({}));
  sender.flush();
  node.inbound(from(outer_of(sender.egress.wire[0]), "203.0.113.7", 7000));
  node.flush();
  CHECK(node.egress.moved.empty());
  CHECK(node.egress.delivered.size() == 1);
}

TEST_CASE("moved peer: sealed packets go there at once, numbers go on, also in the worker after a crash") {
  Node node, receiver;
  const SaParameters out = encapsulated(SaDirection::outbound);
  const std::uint32_t slot = node.add(out);
  SaParameters there = out;
  there.remote = address("203.0.113.7");
  node.resolve(there);
  receiver.add(encapsulated(SaDirection::inbound));
  const auto send = [&] {
    node.outbound(make_inner({}));
    node.flush();
    return outer_of(node.egress.wire.back());
  };
  const Octets before = send();
  node.outbound(make_inner({}));  // in a batch that is open while the peer moves
  REQUIRE(node.sad->move(slot, {there.remote, 7000}));
  node.flush();
  const Octets after = send();
  CHECK(destination_of(reinterpret_cast<const std::byte*>(before.data()), Family::v4) == out.remote);
  CHECK(destination_of(reinterpret_cast<const std::byte*>(after.data()), Family::v4) == there.remote);
  CHECK(reference::be16(after, 20) == 61000);
  CHECK(reference::be16(after, 22) == 7000);
  CHECK(reference::be32(after, 28 + 4) == 3);
  CHECK(reference::sum(after, 0, 20) == 0xffff);
  node.sad->quiescent(0);

  node.pipeline.reset();
  node.sad = *Sad::create(node.slot_span(), 1);
  REQUIRE(node.sad->row(slot));
  CHECK(node.sad->row(slot)->remote == there.remote);
  CHECK(node.sad->row(slot)->remote_port == 7000);
  OutboundSa* const again = node.sad->outbound(5);
  REQUIRE(again != nullptr);
  CHECK(again->slot->next_sequence == 4);
  CHECK(destination_of(again->header.data(), Family::v4) == there.remote);
}

TEST_CASE("moved peer: what a move must not be") {
  Node node;
  const std::uint32_t slot = node.add(encapsulated(SaDirection::outbound));
  SaParameters plain = sa_parameters(SaDirection::outbound, gcm_128);
  plain.spi = 0x1002;
  plain.flow = 6;
  const std::uint32_t bare = node.add(plain);
  const SaPeer good{address("203.0.113.7"), 7000};
  CHECK(node.sad->move(slot, {good.address, 0}).error().code == EINVAL);
  CHECK(node.sad->move(slot, {address("2001:db8::7"), 7000}).error().code == EINVAL);
  CHECK(node.sad->move(slot, {address("224.0.0.1"), 7000}).error().code == EINVAL);
  CHECK(node.sad->move(slot, {address("0.0.0.0"), 7000}).error().code == EINVAL);
  CHECK(node.sad->move(bare, good).error().code == EINVAL);  // ESP without UDP has no port to tell it by
  CHECK(node.sad->move(9, good).error().code == ENOENT);
  CHECK(node.sad->move(99, good).error().code == ENOENT);
  CHECK(node.sad->row(slot)->remote == address("192.0.2.2"));
  CHECK(node.sad->move(slot, good));
  CHECK(node.sad->move(slot, good));  // it is there
}

}  // namespace
}  // namespace postern::test
