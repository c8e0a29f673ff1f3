// The pipeline in both directions: what leaves, what arrives, and what is refused.
#include "harness.hpp"
#include "known_packets.hpp"
#include "worker/sa.hpp"

namespace postern::test {
namespace {

constexpr crypto::Transform all_transforms[] = {cbc_sha1, cbc_sha256, gcm_128, gcm_256};
constexpr crypto::EngineKind both_engines[] = {crypto::EngineKind::automatic, crypto::EngineKind::openssl};

struct Side {
  const char *sender, *receiver, *inner_source, *inner_destination;
};
constexpr Side family_pairs[] = {
    {"192.0.2.1", "192.0.2.2", "10.1.0.2", "10.2.0.2"},
    {"192.0.2.1", "192.0.2.2", "2001:db8:1::2", "2001:db8:2::2"},
    {"2001:db8:ff::1", "2001:db8:ff::2", "10.1.0.2", "10.2.0.2"},
    {"2001:db8:ff::1", "2001:db8:ff::2", "2001:db8:1::2", "2001:db8:2::2"},
};

SaParameters parameters(SaDirection direction, const crypto::Transform& transform, const Side& side, bool udp) {
  SaParameters p = sa_parameters(direction, transform, side.sender, side.receiver);
  p.udp_encapsulation = udp;
  p.local_port = p.remote_port = udp ? 4500 : 0;
  if (direction == SaDirection::inbound) p.replay_window = 64;
  return p;
}

Octets seal_one(Node& node, const Octets& inner) {
  node.egress.wire.clear();
  node.outbound(inner);
  node.flush();
  REQUIRE(node.egress.wire.size() == 1);
  return outer_of(node.egress.wire[0]);
}

TEST_CASE("ESP: opens what scapy sealed") {
  for (const auto kind : both_engines)
    for (const KnownPacket& row : known_packets) {
      Node node(16, kind);
      node.add(sa_parameters(SaDirection::inbound, row.transform));
      node.inbound(reference::from_hex(row.hex));
      node.flush();
      REQUIRE_MESSAGE(node.egress.delivered.size() == 1, row.what);
      CHECK(reference::to_hex(node.egress.delivered[0]) == (row.inner_v6 ? known_inner_v6 : known_inner_v4));
      CHECK(node.egress.deliveries[0].family == (row.inner_v6 ? Family::v6 : Family::v4));
      CHECK(node.egress.deliveries[0].ifindex == 9);
      CHECK(node.balanced());
    }
}

TEST_CASE("ESP: an SA of no interface delivers where each packet came by; placed anew, it delivers there") {
  const KnownPacket& row = known_packets[0];
  Node node(16, both_engines[0]);
  SaParameters p = sa_parameters(SaDirection::inbound, row.transform);
  p.ifindex = 0;
  p.replay_window = 0;
  const auto slot = node.add(p);
  const auto arrive = [&](std::uint32_t interface) {
    Packet packet = node.frame_of(reference::from_hex(row.hex));
    packet.interface = interface;
    ++node.given;
    node.pipeline->inbound(packet, 0);
    node.flush();
    return node.egress.deliveries.back().ifindex;
  };
  CHECK(arrive(4) == 4);
  CHECK(arrive(6) == 6);
  REQUIRE(node.sad->place(slot, 12));
  CHECK(arrive(6) == 12);
  CHECK(node.sad->row(slot)->ifindex == 12);
  REQUIRE(node.sad->place(slot, 0));
  CHECK(arrive(4) == 4);
  CHECK_FALSE(node.sad->place(99, 1));
  CHECK(node.balanced());
}

TEST_CASE("ESP: GCM seals what scapy sealed, byte for byte behind the outer header") {
  for (const auto kind : both_engines)
    for (const KnownPacket& row : known_packets) {
      if (row.transform.cipher != crypto::Cipher::aes_gcm_16) continue;
      Node node(16, kind);
      node.add(sa_parameters(SaDirection::outbound, row.transform));
      const Octets outer = seal_one(node, reference::from_hex(row.inner_v6 ? known_inner_v6 : known_inner_v4));
      const Octets known = reference::from_hex(row.hex);
      CHECK(Octets(outer.begin() + 20, outer.end()) == Octets(known.begin() + 20, known.end()));
    }
}

TEST_CASE("ESP: every transform, family pair and encapsulation, there and back") {
  for (const auto kind : both_engines)
    for (const crypto::Transform& transform : all_transforms)
      for (const Side& side : family_pairs)
        for (const bool udp : {false, true}) {
          Node sender(16, kind), receiver(16, kind);
          sender.add(parameters(SaDirection::outbound, transform, side, udp));
          receiver.add(parameters(SaDirection::inbound, transform, side, udp));
          std::vector<Octets> inner;
          for (std::size_t payload = 0; payload < 130; ++payload) {
            inner.push_back(
                make_inner({.source = side.inner_source, .destination = side.inner_destination, .payload = payload}));
            sender.outbound(inner.back());
          }
          sender.flush();
          REQUIRE(sender.egress.wire.size() == inner.size());
          for (const Octets& frame : sender.egress.wire) {
            CHECK(reference::be16(frame, 12) == (side.sender[0] == '1' ? 0x0800 : 0x86dd));
            receiver.inbound(outer_of(frame));
          }
          receiver.flush();
          CHECK(receiver.egress.delivered == inner);
          CHECK(sender.balanced());
          CHECK(receiver.balanced());
        }
}

TEST_CASE("ESP: padding counts 1, 2, 3 and fills blocks") {
  // The trailer is under the cipher: a GCM key of ours opens it with the counter mode's own symmetry, so read it at the
  // receiver.
  const EspOverhead cbc{20, 16, 16, 16}, gcm{20, 8, 16, 4};
  for (std::uint32_t size = 20; size < 120; ++size) {
    CHECK((size + cbc.trailer_bytes(size)) % 16 == 0);
    CHECK(cbc.trailer_bytes(size) >= 2);
    CHECK(cbc.trailer_bytes(size) < 18);
    CHECK((size + gcm.trailer_bytes(size)) % 4 == 0);
    CHECK(gcm.trailer_bytes(size) < 6);
  }
}

TEST_CASE("ESP: sequence numbers count from 1 and the SA's counters with them") {
  Node node;
  const std::uint32_t slot = node.add(sa_parameters(SaDirection::outbound));
  const Octets inner = make_inner({});
  for (int i = 0; i < 200; ++i) node.outbound(inner);
  node.flush();
  REQUIRE(node.egress.wire.size() == 200);
  for (std::uint32_t i = 0; i < 200; ++i) CHECK(reference::be32(node.egress.wire[i], 14 + 24) == i + 1);
  CHECK(node.slots[slot].packets == 200);
  CHECK(node.slots[slot].bytes == 200 * inner.size());
  CHECK(node.slots[slot].next_sequence == 201);
  CHECK(node.slots[slot].last_used_ns != 0);
}

// The slot outlives the worker: whoever goes on from it after a crash must be past all that may have left.
TEST_CASE("ESP: a number is taken in the slot before its packet leaves (RFC 4303 §2.2, across a crash)") {
  Node node;
  node.egress.watched = &node.slots[node.add(sa_parameters(SaDirection::outbound))];
  for (const int packets : {1, 2, static_cast<int>(packet_batch), 200}) {
    for (int i = 0; i < packets; ++i) node.outbound(make_inner({}));
    node.flush();
  }
  REQUIRE(node.egress.wire.size() == 203 + packet_batch);
  REQUIRE(node.egress.next_sequence.size() == node.egress.wire.size());
  for (std::size_t i = 0; i < node.egress.wire.size(); ++i)
    CHECK(node.egress.next_sequence[i] > reference::be32(node.egress.wire[i], 14 + 24));
}

TEST_CASE("ESP: the number does not wrap (RFC 4303 §3.3.3)") {
  Node node;
  const std::uint32_t slot = node.add(sa_parameters(SaDirection::outbound));
  node.slots[slot].next_sequence = 0xfffffffe;
  for (int i = 0; i < 5; ++i) node.outbound(make_inner({}));
  node.flush();
  REQUIRE(node.egress.wire.size() == 2);
  CHECK(reference::be32(node.egress.wire[1], 14 + 24) == 0xffffffff);
  CHECK(node.drops(Drop::sequence_exhausted) == 3);
  node.outbound(make_inner({}));
  node.flush();
  CHECK(node.drops(Drop::sequence_exhausted) == 4);
  CHECK(node.slots[slot].packets == 2);
  CHECK(node.balanced());
}

TEST_CASE("ESP: hard lifetimes stop both directions exactly") {
  const Octets inner = make_inner({});
  Node sender, receiver;
  SaParameters out = sa_parameters(SaDirection::outbound);
  out.hard_packets = 3;
  const std::uint32_t slot = sender.add(out);
  for (int i = 0; i < 5; ++i) sender.outbound(inner);
  sender.flush();
  CHECK(sender.egress.wire.size() == 3);
  sender.pipeline->poll_held(Clock::now() + std::chrono::seconds(2));  // nobody rekeyed
  CHECK(sender.drops(Drop::sa_expired) == 2);
  CHECK(sender.slots[slot].packets == 3);
  SaParameters in = sa_parameters(SaDirection::inbound);
  in.hard_bytes = 2 * inner.size();
  receiver.add(in);
  for (const Octets& frame : sender.egress.wire) receiver.inbound(outer_of(frame));
  receiver.flush();
  CHECK(receiver.egress.delivered.size() == 2);
  CHECK(receiver.drops(Drop::sa_expired) == 1);
  CHECK(sender.balanced());
  CHECK(receiver.balanced());
}

TEST_CASE("ESP in: replay, in one batch and across batches; a forged packet moves nothing") {
  Node sender, receiver;
  sender.add(sa_parameters(SaDirection::outbound));
  SaParameters in = sa_parameters(SaDirection::inbound);
  in.replay_window = 32;
  const std::uint32_t slot = receiver.add(in);
  for (int i = 0; i < 60; ++i) sender.outbound(make_inner({}));
  sender.flush();
  const auto packet = [&](std::size_t number) { return outer_of(sender.egress.wire.at(number - 1)); };

  receiver.inbound(packet(1));
  receiver.inbound(packet(1));  // same batch
  receiver.flush();
  receiver.inbound(packet(1));  // later
  receiver.flush();
  CHECK(receiver.egress.delivered.size() == 1);
  CHECK(receiver.drops(Drop::replayed) == 2);

  Octets forged = packet(60);
  forged.back() ^= 1;
  receiver.inbound(forged);
  receiver.flush();
  CHECK(receiver.drops(Drop::bad_icv) == 1);
  receiver.inbound(packet(2));  // would be too old had the forged number counted
  receiver.flush();
  CHECK(receiver.egress.delivered.size() == 2);

  receiver.inbound(packet(60));
  receiver.flush();
  receiver.inbound(packet(28));  // left edge: 60 - 32
  receiver.inbound(packet(29));
  receiver.flush();
  CHECK(receiver.drops(Drop::too_old) == 1);
  CHECK(receiver.egress.delivered.size() == 4);
  CHECK(receiver.slots[slot].highest_sequence == 60);
  CHECK(receiver.slots[slot].replay_drops == 3);
  CHECK(receiver.slots[slot].integrity_drops == 1);
  CHECK(receiver.slots[slot].errors == 4);
  CHECK(receiver.balanced());
}

TEST_CASE("ESP in: a manual SA has no window (MAN-10)") {
  Node sender, receiver;
  sender.add(sa_parameters(SaDirection::outbound));
  receiver.add(sa_parameters(SaDirection::inbound));
  const Octets packet = outer_of([&] {
    sender.outbound(make_inner({}));
    sender.flush();
    return sender.egress.wire.at(0);
  }());
  for (int i = 0; i < 3; ++i) receiver.inbound(packet);
  receiver.flush();
  CHECK(receiver.egress.delivered.size() == 3);
}

TEST_CASE("ESP in: each byte cut off, each bit flipped") {
  for (const crypto::Transform& transform : {cbc_sha1, gcm_128})
    for (const bool udp : {false, true}) {
      const Side side = family_pairs[0];
      Node sender, receiver;
      sender.add(parameters(SaDirection::outbound, transform, side, udp));
      receiver.add(parameters(SaDirection::inbound, transform, side, udp));
      const Octets good = seal_one(sender, make_inner({.payload = 20}));
      for (std::size_t size = 0; size < good.size(); ++size) {
        Octets cut(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size));
        receiver.inbound(cut);
        if (size >= 20) {  // and with lengths that say so
          reference::put16(cut, 2, static_cast<unsigned>(size));
          if (udp && size >= 28) reference::put16(cut, 24, static_cast<unsigned>(size - 20));
          receiver.inbound(cut);
        }
      }
      receiver.flush();
      CHECK(receiver.egress.delivered.empty());
      const std::size_t esp = udp ? 28 : 20;
      for (std::size_t bit = esp * 8; bit < good.size() * 8; ++bit) {
        Octets bad = good;
        bad[bit / 8] ^= static_cast<std::uint8_t>(1U << bit % 8);
        receiver.inbound(bad);
      }
      receiver.flush();
      CHECK(receiver.egress.delivered.empty());
      CHECK(receiver.drops(Drop::no_sa) >= 32);
      CHECK(receiver.drops(Drop::bad_icv) > 0);
      CHECK(receiver.drops(Drop::esp_runt) > 0);
      CHECK(receiver.drops(Drop::unparseable) > 0);
      CHECK(receiver.drops(Drop::esp_unaligned) > 0);
      receiver.inbound(good);
      receiver.flush();
      CHECK(receiver.egress.delivered.size() == 1);
      CHECK(receiver.balanced());
    }
}

TEST_CASE("ESP in: which SA a packet belongs to") {
  Node sender, receiver;
  sender.add(sa_parameters(SaDirection::outbound));
  receiver.add(sa_parameters(SaDirection::inbound));
  const Octets good = seal_one(sender, make_inner({}));
  const auto refused = [&](Octets packet, Drop reason, std::uint32_t fvrf = 0) {
    const std::uint64_t before = receiver.drops(reason);
    receiver.inbound(packet, fvrf);
    receiver.flush();
    CHECK_MESSAGE(receiver.drops(reason) == before + 1, describe(reason).name);
  };
  Octets other = good;
  reference::put32(other, 20, 0x1002);
  refused(other, Drop::no_sa);
  other = good;
  other[19] = 77;  // destination
  refused(other, Drop::no_sa);
  refused(good, Drop::no_sa, 12);  // another front-door VRF
  other = good;
  other[9] = 47;  // GRE
  refused(other, Drop::unparseable);
  other = good;
  other[6] = 0x20;  // more fragments
  refused(other, Drop::fragment_outer);
  CHECK(receiver.egress.delivered.empty());
  receiver.inbound(good);
  receiver.flush();
  CHECK(receiver.egress.delivered.size() == 1);
  CHECK(receiver.balanced());
}

TEST_CASE("ESP in: outer options, extension headers and trailing Ethernet padding do not matter") {
  for (const Side& side : {family_pairs[0], family_pairs[3]}) {
    Node sender, receiver;
    sender.add(parameters(SaDirection::outbound, gcm_128, side, false));
    receiver.add(parameters(SaDirection::inbound, gcm_128, side, false));
    Octets packet = seal_one(sender, make_inner({}));
    if (packet[0] >> 4 == 4) {
      const Octets options = {7, 4, 4, 0};
      packet.insert(packet.begin() + 20, options.begin(), options.end());
      packet[0] = 0x46;
      reference::put16(packet, 2, static_cast<unsigned>(packet.size()));
    } else {
      const Octets hop_by_hop = {packet[6], 0, 1, 4, 0, 0, 0, 0};
      packet.insert(packet.begin() + 40, hop_by_hop.begin(), hop_by_hop.end());
      packet[6] = 0;
      reference::put16(packet, 4, static_cast<unsigned>(packet.size() - 40));
    }
    packet.resize(packet.size() + 18);
    receiver.inbound(packet);
    receiver.flush();
    CHECK(receiver.egress.delivered.size() == 1);
    CHECK(receiver.balanced());
  }
}

TEST_CASE("ESP in: encapsulation must be the SA's (RFC 3948)") {
  for (const bool sa_udp : {false, true}) {
    Node plain, encapsulated, receiver;
    plain.add(parameters(SaDirection::outbound, cbc_sha256, family_pairs[0], false));
    encapsulated.add(parameters(SaDirection::outbound, cbc_sha256, family_pairs[0], true));
    receiver.add(parameters(SaDirection::inbound, cbc_sha256, family_pairs[0], sa_udp));
    const Octets a = seal_one(plain, make_inner({}));
    Octets b = seal_one(encapsulated, make_inner({}));
    CHECK(reference::be16(b, 26) == 0);  // no UDP checksum over IPv4
    receiver.inbound(sa_udp ? a : b);
    receiver.flush();
    CHECK(receiver.drops(Drop::wrong_encapsulation) == 1);
    receiver.inbound(sa_udp ? b : a);
    receiver.flush();
    CHECK(receiver.egress.delivered.size() == 1);
    if (sa_udp) {
      reference::put16(b, 22, 4501);  // another port
      receiver.inbound(b);
      receiver.flush();
      CHECK(receiver.drops(Drop::wrong_encapsulation) == 2);
    }
    CHECK(receiver.balanced());
  }
}

TEST_CASE("ESP out: UDP over IPv6 carries a checksum (RFC 8200 §8.1)") {
  Node node;
  node.add(parameters(SaDirection::outbound, gcm_128, family_pairs[3], true));
  for (std::size_t payload = 0; payload < 40; ++payload) {
    const Octets outer = seal_one(node, make_inner({.payload = payload}));
    CHECK(reference::be16(outer, 46) != 0);
    CHECK(reference::checksums_ok(outer));
  }
}

}  // namespace
}  // namespace postern::test
