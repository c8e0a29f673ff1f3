// Peers that move, several entries of one peer, and what the operator wants of an IKE SA.
#include "ike/message.hpp"
#include "tests/ike/manager_lab.hpp"

using namespace postern;
using namespace postern::ike;
using namespace postern::ike::manager_lab;

TEST_CASE("a NAT gives the peer another port (RFC 7296 2.23): SAs go there at once, by an IKE message or by ESP") {
  Lab lab;
  lab.nat = true;
  Connection a = Lab::of_a(), b = Lab::of_b();
  a.options.mobike = b.options.mobike = false;
  lab.a.policy({a}, lab.now);
  lab.b.policy({b}, lab.now);
  lab.a.manager->on_acquire(1, lab.now);
  lab.run(2s);
  lab.check_up();
  const ChildId child = lab.b.world.installed.begin()->first;
  const auto port_at_b = [&] { return lab.b.manager->rows(lab.now).at(0).session.remote.port; };

  lab.nat_offset = 20000;  // the mapping was lost: A's next message comes from elsewhere
  lab.a.manager->rekey({}, lab.now);
  lab.run(2s);
  CHECK(port_at_b() == 24500);
  REQUIRE(lab.b.world.moved.contains(child));
  CHECK(lab.b.world.moved.at(child).port == 24500);
  CHECK(lab.b.world.count(EventKind::peer_moved) == 1);

  lab.b.manager->on_peer_moved(child, {ip(address_a), 34500}, lab.now);  // the data plane saw it first
  CHECK(port_at_b() == 34500);
  CHECK(lab.b.world.moved.at(child).port == 34500);
  lab.b.manager->on_peer_moved(child, {ip(address_a), 34500}, lab.now);  // told once more
  CHECK(lab.b.world.count(EventKind::peer_moved) == 2);
  CHECK(lab.b.world.installed.size() == 1);  // the SA goes on, no new one was asked for
}

TEST_CASE(
    "RFC 4555 §3.8: with MOBIKE a NAT's new place is told by the initiator's liveness check, and by no other message") {
  Lab lab;
  lab.nat = true;
  Connection a = Lab::of_a(), b = Lab::of_b();
  a.dpd = {DpdMode::periodic, 30, 2};
  lab.a.policy({a}, lab.now);
  lab.b.policy({b}, lab.now);
  lab.a.manager->on_acquire(1, lab.now);
  lab.run(2s);
  lab.check_up();
  const auto port_at_b = [&] { return lab.b.manager->rows(lab.now).at(0).session.remote.port; };
  lab.nat_offset = 20000;
  lab.a.manager->rekey({}, lab.now);
  lab.run(2s);
  CHECK(port_at_b() == 14500);
  lab.run(40s);
  CHECK(port_at_b() == 24500);
  CHECK(lab.b.world.count(EventKind::peer_moved) == 1);
  CHECK(lab.b.world.installed.size() == 1);
}

TEST_CASE("a peer does not move by packets that anybody may send, nor when we are behind the NAT, nor without one") {
  Lab lab;
  SUBCASE("no NAT") { lab.nat = false; }
  SUBCASE("replayed, changed, unprotected") { lab.nat = true; }
  lab.policies();
  Octets request;
  lab.passes = [&](const Packet& packet) {
    if (packet.from == 0 && !parse_header(packet.bytes)->response) request = packet.bytes;  // the last one
    return true;
  };
  lab.a.manager->on_acquire(1, lab.now);
  lab.run(2s);
  lab.a.manager->on_soft_expiry(lab.a.world.installed.begin()->first, lab.now);
  lab.run(1s);
  REQUIRE(!request.empty());
  const auto before = lab.b.manager->rows(lab.now).at(0).session.remote;
  const Endpoint at_b = lab.b.manager->rows(lab.now).at(0).session.local;
  const Endpoint elsewhere{ip("203.0.113.66"), 4500};
  const auto replies = [&] {
    const auto count = std::ranges::count_if(
        lab.wire, [&](const Packet& packet) { return packet.from == 1 && packet.remote == elsewhere; });
    lab.wire.clear();
    return count;
  };
  lab.b.manager->on_datagram({at_b, elsewhere, 0, request}, lab.now);
  CHECK(replies() == 1);  // RFC 7296 2.11: the answer to a retransmission goes where it came from
  for (const std::size_t at : {std::size_t{20}, std::size_t{30}, request.size() - 1}) {
    Octets changed = request;
    changed[at] ^= std::byte{1};
    lab.b.manager->on_datagram({at_b, elsewhere, 0, changed}, lab.now);
    CHECK(replies() == 0);
  }
  if (!lab.nat) lab.b.manager->on_peer_moved(lab.b.world.installed.begin()->first, elsewhere, lab.now);
  // A, who is behind it, is told that B moved.
  lab.a.manager->on_peer_moved(lab.a.world.installed.begin()->first, elsewhere, lab.now);
  CHECK(lab.b.manager->rows(lab.now).at(0).session.remote == before);
  CHECK(lab.a.manager->rows(lab.now).at(0).session.remote.address == ip(address_b));
  CHECK(lab.a.world.moved.empty());
  CHECK(lab.b.world.moved.empty());
}

namespace {

// Flows of two entries of one map: "M1 10 1" and "M1 20 1" under the same peer.
Connection two_entries(Connection one, std::uint32_t flow, Initiate second = Initiate::on_traffic) {
  ChildPolicy child = one.children.front();
  child.name = "M1 20 1";
  child.sequence = 20;
  child.initiate = second;
  child.local = child.remote = {any_selector(Family::v6)};
  child.proposals = {{{crypto::Cipher::aes_cbc, 256, crypto::Integrity::hmac_sha256_128}, false}};
  child.place.flow = flow;
  one.children.push_back(child);
  return one;
}

}  // namespace

TEST_CASE("TS-58: entries with the same peer share one IKE SA; each lives, is cleared and comes back by itself") {
  Lab lab;
  lab.a.policy({two_entries(Lab::of_a(), 11)}, lab.now);
  lab.b.policy({two_entries(Lab::of_b(), 12)}, lab.now);
  lab.a.manager->on_acquire(1, lab.now);
  lab.run(1s);
  lab.b.manager->on_acquire(12, lab.now);  // by the other end, in the same IKE SA
  lab.run(1s);
  const auto both_up = [&] {
    for (Node* const node : {&lab.a, &lab.b}) {
      CHECK(node->established(lab.now) == 1);
      CHECK(node->world.installed.size() == 2);
      CHECK(node->world.bound.size() == 2);
    }
  };
  both_up();
  const auto children = lab.a.manager->rows(lab.now).at(0).session.children;
  REQUIRE(children.size() == 2);
  CHECK(children[0].suite.transform.cipher == crypto::Cipher::aes_gcm_16);
  CHECK(children[1].suite.transform.cipher == crypto::Cipher::aes_cbc);

  Manager::Filter second;
  second.map = "M1";
  second.sequence = 20;
  CHECK(lab.a.manager->clear_sessions(second, lab.now).done == 1);
  lab.run(1s);
  CHECK(lab.a.established(lab.now) == 1);  // the other entry's flow goes on
  CHECK(lab.a.world.bound.contains(1));
  CHECK(!lab.a.world.bound.contains(11));
  CHECK(lab.a.manager->connect(second, lab.now).done == 1);
  lab.run(1s);
  both_up();
  CHECK(lab.a.manager->clear_children(second, lab.now).done == 1);
  lab.run(1s);
  lab.a.manager->on_acquire(11, lab.now);
  lab.run(1s);
  both_up();

  lab.a.policy({Lab::of_a()}, lab.now);  // the second entry is taken out
  lab.run(1s);
  CHECK(lab.a.established(lab.now) == 1);
  CHECK(lab.a.world.installed.size() == 1);
  CHECK(lab.a.world.bound.contains(1));
}

TEST_CASE("TS-58: `initiate always` is of an entry: it comes up and is never idle, the other waits for traffic") {
  Lab lab;
  lab.a.policy({two_entries(Lab::of_a(), 11, Initiate::always)}, lab.now);
  lab.b.policy({two_entries(Lab::of_b(), 12)}, lab.now);
  lab.run(2s);
  REQUIRE(lab.a.world.installed.size() == 1);
  CHECK(lab.a.world.bound.contains(11));
  lab.a.manager->on_idle(lab.a.world.bound.at(11), lab.now);
  lab.run(1s);
  CHECK(lab.a.world.bound.contains(11));
  lab.a.manager->on_acquire(1, lab.now);
  lab.run(1s);
  CHECK(lab.a.world.installed.size() == 2);
  lab.a.manager->on_idle(lab.a.world.bound.at(1), lab.now);
  lab.run(5s);
  CHECK(!lab.a.world.bound.contains(1));
  CHECK(lab.a.established(lab.now) == 1);
}

TEST_CASE("the operator rekeys IKE SAs; their children go on") {
  Lab lab;
  lab.policies();
  lab.a.manager->on_acquire(1, lab.now);
  lab.run(1s);
  const auto before = lab.a.manager->rows(lab.now).at(0).session;
  Manager::Filter nobody;
  nobody.remote = ip("203.0.113.1");
  CHECK(lab.a.manager->rekey(nobody, lab.now).done == 0);
  CHECK(lab.a.manager->rekey({}, lab.now).done == 1);
  lab.run(15s);
  lab.check_up();
  const auto after = lab.a.manager->rows(lab.now).at(0).session;
  CHECK(after.spi_i != before.spi_i);
  CHECK(after.children.at(0).spi_in == before.children.at(0).spi_in);
}
