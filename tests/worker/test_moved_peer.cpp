// Ends that a NAT (RFC 7296 §2.23) or MOBIKE (RFC 4555 §3.5) moves: where sealed packets go, where opened ones come to,
// what is told of those that come from elsewhere.
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

SaEnds moved(const SaParameters& p, std::string_view remote, std::uint16_t port) {
  SaEnds out = ends_of(p);
  out.remote = address(remote);
  out.remote_port = port;
  return out;
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
    const SaParameters in = encapsulated(SaDirection::inbound, ends);
    const std::uint32_t slot = node.add(in);
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

    REQUIRE(node.sad->move(slot, moved(in, elsewhere, 7000)));
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
  REQUIRE(node.sad->move(slot, moved(out, "203.0.113.7", 7000)));
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

TEST_CASE(
    "moved ends: an inbound SA is found at our new address alone, with the window that it had, also after a crash") {
  for (const auto& [elsewhere, ends] : {std::pair{"192.0.2.77", Pair{"192.0.2.1", "192.0.2.2"}},
                                        std::pair{"2001:db8:ff::77", Pair{"2001:db8:ff::1", "2001:db8:ff::2"}}}) {
    const bool v4 = address(elsewhere).family() == Family::v4;
    Node sender, node;
    const SaParameters out = encapsulated(SaDirection::outbound, ends);
    const SaParameters in = encapsulated(SaDirection::inbound, ends);
    const std::uint32_t at_sender = sender.add(out);
    const std::uint32_t slot = node.add(in);
    SaParameters there = out;
    there.remote = address(elsewhere);
    sender.resolve(there);
    const auto sealed = [&] {
      sender.outbound(make_inner({}));
      sender.flush();
      return outer_of(sender.egress.wire.back());
    };
    const auto gets = [&](const Octets& one) {
      node.inbound(one);
      node.flush();
    };
    const Octets first = sealed(), second = sealed();
    gets(second);
    CHECK(node.egress.delivered.size() == 1);

    REQUIRE(sender.sad->move(at_sender, moved(out, elsewhere, out.remote_port)));
    const Octets third = sealed();
    node.inbound(first);  // in a batch that is open while we move
    SaEnds now = ends_of(in);
    now.local = address(elsewhere);
    REQUIRE(node.sad->move(slot, now));
    node.flush();
    CHECK(node.egress.delivered.size() == 2);
    gets(third);
    CHECK(node.egress.delivered.size() == 3);
    gets(third);
    CHECK(node.drops(Drop::replayed) == 1);
    gets(first);  // to where we were
    CHECK(node.drops(Drop::no_sa) == 1);
    Octets copied = first;  // and to where we are: the window has seen it
    std::copy(there.remote.mapped().begin() + (v4 ? 12 : 0), there.remote.mapped().end(),
              copied.begin() + (v4 ? 16 : 24));
    gets(copied);
    CHECK(node.drops(Drop::replayed) == 2);
    CHECK(node.balanced());

    CHECK(node.sad->row(slot)->local == address(elsewhere));
    node.sad->quiescent(0);
    node.pipeline.reset();
    node.sad = *Sad::create(node.slot_span(), 1);
    CHECK(node.sad->inbound({in.fvrf, in.spi, address(elsewhere), in.protocol}) != nullptr);
    CHECK(node.sad->inbound({in.fvrf, in.spi, in.local, in.protocol}) == nullptr);
  }
}

TEST_CASE("moved ends: UDP encapsulation comes and goes (RFC 4555 §3.8)") {
  Node sender, node;
  SaParameters out = encapsulated(SaDirection::outbound);
  const std::uint32_t slot = sender.add(out);
  node.add(encapsulated(SaDirection::inbound));
  SaEnds without = ends_of(out);
  without.udp_encapsulation = false;
  without.local_port = without.remote_port = 0;
  REQUIRE(sender.sad->move(slot, without));
  const auto send = [&] {
    sender.outbound(make_inner({}));
    sender.flush();
    return outer_of(sender.egress.wire.back());
  };
  const Octets plain = send();
  CHECK(static_cast<IpProto>(plain[9]) == IpProto::esp);
  CHECK(reference::be32(plain, 20 + 4) == 1);
  REQUIRE(sender.sad->move(slot, ends_of(out)));
  const Octets wrapped = send();
  CHECK(static_cast<IpProto>(wrapped[9]) == IpProto::udp);
  CHECK(reference::be32(wrapped, 28 + 4) == 2);

  // RFC 7296 §2.23: what IKE has made is taken in either form, whichever we send; a manual SA's form is its own.
  for (const bool either : {false, true}) {
    for (const bool udp : {false, true}) {
      Node receiver;
      SaParameters in = encapsulated(SaDirection::inbound);
      in.either_form = either;
      in.udp_encapsulation = udp;
      if (!udp) in.local_port = in.remote_port = 0;
      in.follow_peer = udp;
      receiver.add(in);
      receiver.inbound(plain);
      receiver.inbound(wrapped);
      receiver.flush();
      CHECK(receiver.egress.delivered.size() == (either ? 2 : 1));
      CHECK(receiver.drops(Drop::wrong_encapsulation) == (either ? 0 : 1));
      CHECK(receiver.egress.moved.empty());
      Octets elsewhere = wrapped;
      reference::put16(elsewhere, 22, 4501);
      receiver.inbound(elsewhere);
      receiver.flush();
      CHECK(receiver.drops(Drop::wrong_encapsulation) == (either ? 1 : 2));
      CHECK(receiver.balanced());
    }
  }
}

TEST_CASE("moved ends: what a move must not be") {
  Node node;
  const SaParameters out = encapsulated(SaDirection::outbound);
  const std::uint32_t slot = node.add(out);
  SaParameters transport = sa_parameters(SaDirection::outbound, gcm_128);
  transport.spi = 0x1002;
  transport.flow = 6;
  transport.mode = SaMode::transport;
  transport.selector_count = 1;
  transport.selectors[0] = {
      transport.local, transport.local, transport.remote, transport.remote, 0, 0xffff, 0, 0xffff, 0};
  const std::uint32_t fixed = node.add(transport);
  SaParameters other = encapsulated(SaDirection::inbound);
  const std::uint32_t inbound = node.add(other);
  other.local = address("192.0.2.77");
  node.add(other);
  const SaEnds good = moved(out, "203.0.113.7", 7000);
  SaEnds mixed = good;
  mixed.local = address("2001:db8::1");
  CHECK(node.sad->move(slot, moved(out, "203.0.113.7", 0)).error().code == EINVAL);
  CHECK(node.sad->move(slot, moved(out, "2001:db8::7", 7000)).error().code == EINVAL);
  CHECK(node.sad->move(slot, mixed).error().code == EINVAL);
  CHECK(node.sad->move(slot, moved(out, "224.0.0.1", 7000)).error().code == EINVAL);
  CHECK(node.sad->move(slot, moved(out, "0.0.0.0", 7000)).error().code == EINVAL);
  CHECK(node.sad->move(fixed, moved(transport, "203.0.113.7", 0)).error().code == EINVAL);
  SaEnds taken = ends_of(encapsulated(SaDirection::inbound));
  taken.local = address("192.0.2.77");
  CHECK(node.sad->move(inbound, taken).error().code == EEXIST);
  CHECK(node.sad->move(9, good).error().code == ENOENT);
  CHECK(node.sad->move(99, good).error().code == ENOENT);
  CHECK(node.sad->row(slot)->remote == address("192.0.2.2"));
  CHECK(node.sad->move(slot, good));
  CHECK(node.sad->move(slot, good));  // it is there
}

}  // namespace
}  // namespace postern::test
