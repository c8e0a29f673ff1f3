// Moves of our own (RFC 4555 §3.5): an IKE SA that we began goes on from another address, with its children. Moves of
// the peer are in test_session_extensions.cpp.
#include "ike/message.hpp"
#include "tests/ike/manager_lab.hpp"

using namespace postern;
using namespace postern::ike;
using namespace postern::ike::manager_lab;

namespace {

constexpr const char* address_c = "192.0.2.77";

// As posternd names and compiles it: another address of ours is another connection.
Connection at(const char* local, const char* remote, std::uint32_t flow, Initiate initiate = Initiate::on_traffic) {
  Connection out = connection(std::string(local) + " " + remote, local, remote, flow, initiate);
  out.children.front().name = "M1 10 out0 1";
  return out;
}

struct Moving : Lab {
  explicit Moving(bool mobike_at_b = true, Initiate initiate = Initiate::on_traffic) {
    Connection b_side = of_b();
    b_side.options.mobike = mobike_at_b;
    b_side.remote_identities = {AnyIdentity{}};
    b.policy({b_side}, now);
    a.policy({at(address_a, address_b, 1, initiate)}, now);
    a.manager->on_acquire(1, now);
    run(2s);
    REQUIRE(a.established(now) == 1);
    REQUIRE(b.established(now) == 1);
  }
  void move_a(const char* to, Initiate initiate = Initiate::on_traffic) {
    a.policy({at(to, address_b, 1, initiate)}, now);
  }
  [[nodiscard]] SessionView view_of(const Node& node) const {
    const auto rows = node.manager->rows(now);
    for (const auto& row : rows)
      if (row.session.phase == SessionPhase::established) return row.session;
    FAIL("no IKE SA is established");
    return {};
  }
};

}  // namespace

TEST_CASE("RFC 4555 §3.3: both ends go to port 4500, also without a NAT, and the SAs stay without UDP") {
  Moving lab;
  CHECK(lab.view_of(lab.a).local.port == nat_port);
  CHECK(lab.view_of(lab.b).remote.port == nat_port);
  CHECK_FALSE(lab.view_of(lab.a).nat_local);
  SUBCASE("an initiator that never moves stays on port 500") {
    Lab other;
    Connection a = Lab::of_a();
    a.options.mobike = false;
    other.a.policy({a}, other.now);
    other.b.policy({Lab::of_b()}, other.now);
    other.a.manager->on_acquire(1, other.now);
    other.run(2s);
    CHECK(other.a.manager->rows(other.now).at(0).session.local.port == ike_port);
  }
}

TEST_CASE("RFC 4555 §3.5: another address of ours takes the IKE SA along: same SPIs, children moved at both ends") {
  Moving lab;
  const SessionView before = lab.view_of(lab.a);
  lab.move_a(address_c);
  CHECK(lab.a.world.moves.empty());  // posternd waits for the policy's answer: nothing moves meanwhile
  lab.run(2s);
  const SessionView after = lab.view_of(lab.a), of_b = lab.view_of(lab.b);
  CHECK(after.spi_i == before.spi_i);
  CHECK(after.spi_r == before.spi_r);
  CHECK(after.local == Endpoint{ip(address_c), nat_port});
  CHECK(after.connection == std::string(address_c) + " " + address_b);
  CHECK(of_b.remote == Endpoint{ip(address_c), nat_port});
  REQUIRE(lab.a.world.moves.size() == 1);
  CHECK(lab.a.world.moves[0].local_endpoint.address == ip(address_c));
  CHECK(lab.a.world.moves[0].remote_endpoint.address == ip(address_b));
  CHECK_FALSE(lab.a.world.moves[0].udp_encapsulation);
  REQUIRE(lab.b.world.moves.size() == 1);
  CHECK(lab.b.world.moves[0].remote_endpoint.address == ip(address_c));
  CHECK(lab.a.world.installed.size() == 1);
  CHECK(lab.b.world.installed.size() == 1);
  CHECK(lab.a.world.count(EventKind::we_moved) == 1);
  CHECK(lab.b.world.count(EventKind::peer_moved) == 1);
  CHECK(lab.a.world.count(EventKind::child_down) == 0);

  SUBCASE("what follows is about the connection of the new name") {
    CHECK(lab.a.manager->rekey({}, lab.now).matched == 1);
    lab.run(2s);
    CHECK(lab.view_of(lab.a).local.address == ip(address_c));
    CHECK(lab.view_of(lab.a).connection == std::string(address_c) + " " + address_b);
    lab.a.manager->on_acquire(1, lab.now);
    lab.run(2s);
    CHECK(lab.a.manager->rows(lab.now).size() == 1);
  }
  SUBCASE("and back again") {
    lab.move_a(address_a);
    lab.run(2s);
    CHECK(lab.view_of(lab.a).spi_i == before.spi_i);
    CHECK(lab.view_of(lab.b).remote.address == ip(address_a));
    CHECK(lab.a.world.moves.size() == 2);
  }
}

TEST_CASE("RFC 4555 §2: the initiator is who began the first IKE SA, whoever rekeyed it since") {
  Moving lab;
  const bool by_a = [] {
    bool out = false;
    SUBCASE("rekeyed by the initiator") { out = true; }
    SUBCASE("rekeyed by the responder") { out = false; }
    return out;
  }();
  (by_a ? lab.a : lab.b).manager->rekey({}, lab.now);
  lab.run(2s);
  const SessionView before = lab.view_of(lab.a);
  CHECK(before.initiator == by_a);
  lab.move_a(address_c);
  lab.run(2s);
  CHECK(lab.view_of(lab.a).spi_i == before.spi_i);
  CHECK(lab.view_of(lab.b).remote.address == ip(address_c));
}

TEST_CASE("RFC 4555 §3.5: a lost UPDATE_SA_ADDRESSES is sent again; a second move before the answer counts alone") {
  Moving lab;
  const SessionView before = lab.view_of(lab.a);
  bool lose = true;
  lab.passes = [&](const Packet& packet) { return packet.from != 0 || !std::exchange(lose, false); };
  lab.move_a(address_c);
  SUBCASE("lost") { lab.run(3s); }
  SUBCASE("elsewhere meanwhile") {
    lab.run(100ms);
    lab.move_a("192.0.2.78");
    lab.run(3s);
  }
  CHECK_FALSE(lose);
  const SessionView after = lab.view_of(lab.a);
  CHECK(after.spi_i == before.spi_i);
  CHECK(lab.view_of(lab.b).remote == after.local);
  CHECK(lab.a.world.moves.back().local_endpoint.address == after.local.address);
  CHECK(lab.b.world.moves.back().remote_endpoint.address == after.local.address);
}

TEST_CASE("RFC 4555 §3.5: a request under way goes on from the new address, before the update") {
  Moving lab;
  bool cut = true;
  lab.passes = [&](const Packet& packet) { return !(cut && packet.from == 0); };
  lab.a.manager->rekey({}, lab.now);
  lab.run(100ms);
  cut = false;
  lab.move_a(address_c);
  lab.run(100ms);  // long before the retransmission would have come by itself
  CHECK(lab.view_of(lab.a).local.address == ip(address_c));
  CHECK(lab.view_of(lab.b).remote.address == ip(address_c));
  CHECK(lab.a.world.installed.size() == 1);
  CHECK(lab.a.established(lab.now) == 1);
}

TEST_CASE("RFC 4555 §3.8: a NAT on the new path turns UDP encapsulation on, its end turns it off") {
  Moving lab;
  lab.nat = true;
  lab.move_a(address_c);
  lab.run(2s);
  CHECK(lab.view_of(lab.a).nat_local);
  CHECK(lab.view_of(lab.b).nat_remote);
  CHECK(lab.a.world.moves.back().udp_encapsulation);
  CHECK(lab.b.world.moves.back().udp_encapsulation);
  CHECK(lab.b.world.moves.back().remote_endpoint.port == nat_port + lab.nat_offset);
  lab.nat = false;
  lab.move_a(address_a);
  lab.run(2s);
  CHECK_FALSE(lab.view_of(lab.a).nat_local);
  CHECK_FALSE(lab.a.world.moves.back().udp_encapsulation);
  CHECK_FALSE(lab.b.world.moves.back().udp_encapsulation);
  CHECK(lab.a.world.installed.size() == 1);
}

TEST_CASE("what does not move is negotiated anew, from the new address") {
  const auto anew = [](Moving& lab) {
    const std::uint64_t before = lab.view_of(lab.a).spi_i;
    lab.move_a(address_c, Initiate::always);
    lab.run(5s);
    CHECK(lab.a.world.moves.empty());
    CHECK(lab.a.world.count(EventKind::we_moved) == 0);
    CHECK(lab.a.world.count(EventKind::ike_down) == 1);
    // B knows nobody at that address.
    CHECK(lab.a.established(lab.now) == 0);
    CHECK(lab.a.manager->negotiating().contains(std::string(address_c) + " " + address_b));
    CHECK(before != 0);
  };
  SUBCASE("the peer knows no MOBIKE") {
    Moving lab(false, Initiate::always);
    anew(lab);
  }
  SUBCASE("another profile") {
    Moving lab;
    Connection other = at(address_c, address_b, 1);
    other.profile_name = "P2";
    lab.a.policy({other}, lab.now);
    lab.run(2s);
    CHECK(lab.a.world.moves.empty());
    CHECK(lab.a.established(lab.now) == 0);
  }
  SUBCASE("another peer") {
    Moving lab;
    lab.a.policy({at(address_c, "192.0.2.3", 1)}, lab.now);
    lab.run(2s);
    CHECK(lab.a.world.moves.empty());
    CHECK(lab.a.established(lab.now) == 0);
  }
  SUBCASE("the old address stays beside the new one: each is a connection of its own") {
    Moving lab;
    lab.a.policy({at(address_a, address_b, 1), at(address_c, address_b, 3)}, lab.now);
    lab.run(2s);
    CHECK(lab.a.world.moves.empty());
    CHECK(lab.view_of(lab.a).local.address == ip(address_a));
  }
}

TEST_CASE("a data plane that does not take the move has the child made anew, by the same IKE SA") {
  Moving lab;
  const SessionView before = lab.view_of(lab.a);
  lab.a.world.immovable = true;
  lab.move_a(address_c);
  lab.run(5s);
  const SessionView after = lab.view_of(lab.a);
  CHECK(after.spi_i == before.spi_i);
  REQUIRE(after.children.size() == 1);
  CHECK(after.children[0].spi_in != before.children[0].spi_in);
  CHECK(lab.a.world.installed.size() == 1);
}

TEST_CASE("RFC 4555 §3.8: behind a NAT the answer to each liveness check tells whether it is there still") {
  Lab lab;
  Connection a = at(address_a, address_b, 1), b = Lab::of_b();
  a.dpd = {DpdMode::periodic, 20, 2};
  b.remote_identities = {AnyIdentity{}};
  lab.nat = true;
  lab.b.policy({b}, lab.now);
  lab.a.policy({a}, lab.now);
  lab.a.manager->on_acquire(1, lab.now);
  lab.run(2s);
  REQUIRE(lab.a.established(lab.now) == 1);
  CHECK(lab.a.manager->rows(lab.now).at(0).session.nat_local);
  CHECK(lab.a.world.moves.empty());
  SUBCASE("it is") {
    lab.run(90s);
    CHECK(lab.a.manager->rows(lab.now).at(0).session.nat_local);
    CHECK(lab.a.world.moves.empty());
  }
  SUBCASE("it is gone") {
    lab.nat = false;
    lab.run(45s);
    CHECK_FALSE(lab.a.manager->rows(lab.now).at(0).session.nat_local);
    REQUIRE_FALSE(lab.a.world.moves.empty());
    CHECK_FALSE(lab.a.world.moves.back().udp_encapsulation);
    REQUIRE_FALSE(lab.b.world.moves.empty());
    CHECK_FALSE(lab.b.world.moves.back().udp_encapsulation);
  }
  CHECK(lab.a.established(lab.now) == 1);
}
