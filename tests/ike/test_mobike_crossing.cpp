// Moves of our own (RFC 4555 §3.5) on a network that loses, doubles and delays, and what both ends began meanwhile:
// rekeys, deletes. What is sent to the address that was left arrives, or does not.
#include "ike/message.hpp"
#include "tests/ike/manager_lab.hpp"

using namespace postern;
using namespace postern::ike;
using namespace postern::ike::manager_lab;

namespace {

constexpr const char* address_c = "192.0.2.77";

constexpr Dpd liveness{DpdMode::periodic, 20, 2};

Connection at(const char* local) {
  Connection out = connection(std::string(local) + " " + address_b, local, address_b, 1);
  out.dpd = liveness;
  out.children.front().name = "M1 10 out0 1";
  return out;
}

struct Crossing : Lab {
  SessionView before;

  Crossing() {
    Connection at_b = of_b();
    at_b.remote_identities = {AnyIdentity{}};
    at_b.dpd = liveness;
    b.policy({at_b}, now);
    a.policy({at(address_a)}, now);
    a.manager->on_acquire(1, now);
    run(2s);
    check_up();
    before = view_of(a);
  }
  void move() { a.policy({at(address_c)}, now); }
  [[nodiscard]] SessionView view_of(const Node& node) const {
    for (const auto& row : node.manager->rows(now))
      if (row.session.phase == SessionPhase::established) return row.session;
    FAIL("no IKE SA is established");
    return {};
  }
  static ChildId child_of(const Node& node) { return node.world.installed.begin()->first; }
  // One IKE SA, its children where A is now, of the same keys at both ends.
  void check_moved(bool other_ike_sa, bool other_child) {
    check_up();
    CHECK(a.manager->size() == 1);
    CHECK(b.manager->size() == 1);
    const SessionView of_a = view_of(a), of_b = view_of(b);
    CHECK(of_a.local == Endpoint{ip(address_c), nat_port});
    CHECK(of_b.remote == of_a.local);
    CHECK(of_a.spi_i == of_b.spi_i);
    CHECK((of_a.spi_i != before.spi_i) == other_ike_sa);
    REQUIRE(of_a.children.size() == 1);
    REQUIRE(of_b.children.size() == 1);
    CHECK(of_a.children[0].spi_in == of_b.children[0].spi_out);
    CHECK(of_a.children[0].spi_out == of_b.children[0].spi_in);
    CHECK((of_a.children[0].spi_in != before.children[0].spi_in) == other_child);
    CHECK(a.world.count(EventKind::we_moved) == 1);
    CHECK(a.world.count(EventKind::attempt_failed) == 0);
    CHECK(b.world.count(EventKind::attempt_failed) == 0);
  }
};

// Each of the first packets, with and without a way to the address that A has left.
template <class Act, class Check>
void crossing(std::size_t packets, Act&& act, Check&& check) {
  for (const bool reaches : {true, false})
    for (std::size_t victim = 0; victim < packets; ++victim)
      for (const Trouble how : troubles) {
        CAPTURE(reaches);
        CAPTURE(victim);
        CAPTURE(static_cast<int>(how));
        Crossing lab;
        trouble(lab, victim, how, [&](const Packet& one) {
          return reaches || (one.local.address != ip(address_a) && one.remote.address != ip(address_a));
        });
        act(lab);
        lab.move();
        lab.run(90s);
        check(lab);
      }
}

}  // namespace

TEST_CASE("RFC 4555 §3.5: each packet of a move lost, doubled and late: one move, and the same SAs") {
  crossing(
      4, [](Crossing&) {},
      [](Crossing& lab) {
        lab.check_moved(false, false);
        CHECK(lab.a.world.moves.size() == 1);
        CHECK(lab.b.world.moves.size() == 1);
        CHECK(lab.b.world.count(EventKind::peer_moved) == 1);
      });
}

TEST_CASE("RFC 4555 §3.5: a move crosses a rekey of the IKE SA: its successor is where we are") {
  for (const bool by_a : {true, false}) {
    CAPTURE(by_a);
    crossing(
        10, [&](Crossing& lab) { CHECK((by_a ? lab.a : lab.b).manager->rekey({}, lab.now).done == 1); },
        [](Crossing& lab) { lab.check_moved(true, false); });
  }
}

TEST_CASE("RFC 4555 §3.5: a move crosses a rekey of the child: its successor is where we are") {
  for (const bool by_a : {true, false}) {
    CAPTURE(by_a);
    crossing(
        10,
        [&](Crossing& lab) {
          Node& node = by_a ? lab.a : lab.b;
          node.manager->on_soft_expiry(Crossing::child_of(node), lab.now);
        },
        [](Crossing& lab) { lab.check_moved(false, true); });
  }
}

TEST_CASE("RFC 4555 §3.5: a move crosses the delete of the child: it is gone at both ends, the IKE SA has moved") {
  for (const bool by_a : {true, false}) {
    CAPTURE(by_a);
    crossing(
        8, [&](Crossing& lab) { CHECK((by_a ? lab.a : lab.b).manager->clear_children({}, lab.now).done == 1); },
        [](Crossing& lab) {
          CHECK(lab.a.world.installed.empty());
          CHECK(lab.b.world.installed.empty());
          CHECK(lab.view_of(lab.a).spi_i == lab.before.spi_i);
          CHECK(lab.view_of(lab.b).remote == Endpoint{ip(address_c), nat_port});
          lab.passes = [](const Packet&) { return true; };
          lab.a.manager->on_acquire(1, lab.now);
          lab.run(3s);
          lab.check_moved(false, true);
        });
  }
}

TEST_CASE("RFC 4555 §3.5: a move crosses the delete of the IKE SA: neither end keeps anything of it") {
  for (const bool by_a : {true, false}) {
    CAPTURE(by_a);
    crossing(
        6, [&](Crossing& lab) { CHECK((by_a ? lab.a : lab.b).manager->clear_sessions({}, lab.now).done == 1); },
        [](Crossing& lab) {
          lab.run(90s);  // who does not hear of it finds out by itself (§2.4)
          CHECK(lab.a.world.installed.empty());
          CHECK(lab.b.world.installed.empty());
          CHECK(lab.a.established(lab.now) == 0);
          CHECK(lab.b.established(lab.now) == 0);
          CHECK(lab.b.manager->size() == 0);
        });
  }
}
