// Peers by name (CM-04, CM-06): when they are asked for, what an answer does, and what does not wait for one.
#include "tests/ike/manager_lab.hpp"

using namespace postern;
using namespace postern::ike;
using namespace postern::ike::manager_lab;

namespace {

constexpr const char* vpn = "vpn.example.net";
const PeerName vpn4{vpn, Family::v4};

// A's connection to B, by B's name.
Connection named(bool dynamic = false, const char* name = vpn) {
  Connection out = Lab::of_a();
  out.remote = IpAddress::v4(0);
  out.remote_name = name;
  out.remote_dynamic = dynamic;
  out.peer_keys = {{*Prefix::parse("0.0.0.0/0"), out.local_key, out.remote_key, {}}};
  out.local_key = out.remote_key = Secret();
  return out;
}

resolver::Answer found(std::vector<const char*> addresses) {
  resolver::Answer out{resolver::Outcome::found, {}, {}};
  for (const char* const one : addresses) out.addresses.push_back(ip(one));
  return out;
}
const resolver::Answer nobody{resolver::Outcome::no_name, {}, {}};
const resolver::Answer silence{resolver::Outcome::unreachable, {}, {}};

Selector host_selector_of(const char* host) { return {0, 0, 65535, ip(host), ip(host)}; }

struct Names : Lab {
  explicit Names(bool dynamic = false) {
    a.policy({named(dynamic)}, now);
    b.policy({of_b()}, now);
  }
  void answer(const resolver::Answer& with, const PeerName& name = vpn4) {
    a.manager->on_name_answer(name, with, now);
    deliver();
  }
  [[nodiscard]] std::size_t asked() const { return a.world.asked.size(); }
  [[nodiscard]] Manager::NameRow row() const { return a.manager->names().at(0); }
  void drop_sessions() {
    a.manager->clear_sessions({}, now);
    deliver();
  }
};

}  // namespace

TEST_CASE("CM-04: a name is asked for when the policy comes, and traffic waits for the answer") {
  Names lab;
  CHECK(lab.a.world.asked == std::vector{vpn4});
  CHECK(lab.row().problem == "vpn.example.net is being looked up");
  lab.a.manager->on_acquire(1, lab.now);
  lab.a.manager->on_acquire(1, lab.now);
  CHECK(lab.asked() == 1);  // the question is on its way
  CHECK(lab.wire.empty());
  lab.answer(found({address_b}));
  lab.run(1s);
  lab.check_up();
  CHECK(lab.row().address == ip(address_b));
  CHECK(lab.row().problem.empty());
  CHECK(lab.a.world.count(EventKind::name_resolved) == 1);
}

TEST_CASE("CM-04: a name of nobody: the entry is down with its reason, and asked for again with longer pauses") {
  Names lab;
  lab.a.manager->on_acquire(1, lab.now);
  lab.answer(nobody);
  const Failure* const failure = lab.a.world.failure(FailureKind::unresolved);
  REQUIRE(failure != nullptr);
  CHECK(failure->summary == "nobody has the name vpn.example.net");
  CHECK(lab.a.world.events.back().remote_name == vpn);
  CHECK(lab.row().problem == "nobody has the name vpn.example.net");
  CHECK(lab.wire.empty());
  std::vector<Duration> pauses;
  for (int i = 0; i < 9; ++i) {
    const Time before = lab.now;
    while (lab.asked() < static_cast<std::size_t>(i) + 2) lab.run(100ms);
    pauses.push_back(lab.now - before);
    lab.answer(nobody);
  }
  CHECK(pauses.front() <= 1100ms);
  CHECK(pauses.back() >= 60s);
  CHECK(pauses.back() <= 61s);
  lab.run(61s);
  lab.answer(found({address_b}));  // the name server knows it at last
  lab.a.manager->on_acquire(1, lab.now);
  lab.run(1s);
  lab.check_up();
}

TEST_CASE("traffic does not hurry the questions about a name of nobody") {
  Names lab;
  lab.a.manager->on_acquire(1, lab.now);
  lab.answer(nobody);
  for (int i = 0; i < 50; ++i) {
    lab.a.manager->on_acquire(1, lab.now);
    lab.run(5ms);
  }
  CHECK(lab.asked() == 1);
}

TEST_CASE("what no peer has is not negotiated with: this node, loopback, nowhere, everybody, the other family") {
  for (const char* const wrong : {address_a, "127.0.0.1", "0.0.0.0", "224.0.0.1", "2001:db8::2"}) {
    CAPTURE(wrong);
    Names lab;
    lab.a.manager->on_acquire(1, lab.now);
    lab.answer(found({wrong}));
    CHECK(lab.wire.empty());
    CHECK_FALSE(lab.row().address);
    CHECK(lab.row().problem == std::string(vpn) + " is " + wrong + ", which is no address of a peer");
  }
  Names lab;
  lab.answer(found({"127.0.0.1", address_b}));
  CHECK(lab.row().address == ip(address_b));
  CHECK(lab.row().problem.empty());
}

TEST_CASE("a peer at an address that there is no key for is not negotiated with") {
  Lab lab;
  Connection one = named();
  one.peer_keys.front().remote = *Prefix::parse("198.51.100.0/24");
  lab.a.policy({one}, lab.now);
  lab.a.manager->on_acquire(1, lab.now);
  lab.a.manager->on_name_answer(vpn4, found({address_b}), lab.now);
  CHECK(lab.wire.empty());
  const Failure* const failure = lab.a.world.failure(FailureKind::unresolved);
  REQUIRE(failure != nullptr);
  CHECK(failure->summary.contains("has no key for 192.0.2.2"));
}

TEST_CASE("CM-04: after a failure the name is asked for again, before the next attempt; without an answer it stays") {
  Names lab;
  lab.answer(found({"192.0.2.66"}));  // nobody answers there
  lab.a.manager->on_acquire(1, lab.now);
  CHECK_FALSE(lab.wire.empty());
  lab.wire.clear();
  const std::size_t before = lab.asked();
  lab.passes = [](const Packet& packet) { return packet.remote.address != ip("192.0.2.66"); };
  for (int i = 0; i < 600 && lab.asked() == before; ++i) lab.run(1s);
  REQUIRE(lab.asked() == before + 1);
  SUBCASE("it has moved") { lab.answer(found({address_b})); }
  SUBCASE("it has a second address") { lab.answer(found({"192.0.2.66", address_b})); }
  lab.run(70s);
  lab.a.manager->on_acquire(1, lab.now);
  lab.run(2s);
  lab.check_up();
}

TEST_CASE("CM-04: a name server that is gone takes no peer away that was resolved before") {
  Names lab;
  lab.answer(found({address_b}));
  lab.passes = [](const Packet&) { return false; };
  lab.a.manager->on_acquire(1, lab.now);
  for (int i = 0; i < 600 && lab.asked() == 1; ++i) lab.run(1s);
  REQUIRE(lab.asked() == 2);
  lab.answer(silence);
  CHECK(lab.row().address == ip(address_b));
  CHECK(lab.row().problem == "no name server answered about vpn.example.net");
  lab.passes = [](const Packet&) { return true; };
  lab.run(70s);
  lab.a.manager->on_acquire(1, lab.now);
  lab.run(2s);
  lab.check_up();
}

TEST_CASE("CM-06: a dynamic name is asked for before each negotiation, and no answer is no negotiation") {
  Names lab(true);
  lab.answer(found({address_b}));
  lab.run(60s);
  lab.a.manager->on_acquire(1, lab.now);
  CHECK(lab.asked() == 2);
  CHECK(lab.wire.empty());
  lab.answer(found({address_b}));
  lab.run(1s);
  lab.check_up();
  lab.drop_sessions();
  lab.run(5s);
  const std::size_t before = lab.asked();
  lab.a.manager->on_acquire(1, lab.now);
  CHECK(lab.asked() == before + 1);
  lab.answer(silence);
  CHECK(lab.a.established(lab.now) == 0);
  CHECK(lab.wire.empty());
  CHECK(lab.a.world.failure(FailureKind::unresolved) != nullptr);
}

TEST_CASE("CM-06: a name that moves is followed; the SA that stands goes on, and a rekey of it asks nobody") {
  Names lab(true);
  lab.answer(found({address_b}));
  lab.a.manager->on_acquire(1, lab.now);
  lab.answer(found({address_b}));
  lab.run(2s);
  lab.check_up();
  const std::size_t before = lab.asked();
  const ChildId first = lab.a.world.installed.begin()->first;
  lab.a.manager->on_soft_expiry(first, lab.now);
  lab.run(2s);
  CHECK(lab.asked() == before);
  lab.a.manager->clear_children({}, lab.now);  // the IKE SA stays, the child is gone
  lab.run(2s);
  lab.a.manager->on_acquire(1, lab.now);
  REQUIRE(lab.asked() == before + 1);
  lab.a.manager->on_name_answer(vpn4, found({"192.0.2.77"}), lab.now);  // what is sent stays on the wire
  REQUIRE_FALSE(lab.wire.empty());
  CHECK(lab.wire.back().remote.address == ip("192.0.2.77"));
  CHECK(lab.row().address == ip("192.0.2.77"));
  CHECK(lab.a.established(lab.now) == 1);  // with the old address, as long as it likes
  const auto cleared = [&](const char* peer) {
    Manager::Filter filter;
    filter.remote = ip(peer);
    return lab.a.manager->clear_sessions(filter, lab.now).matched;
  };
  CHECK(cleared(address_b) == 1);
}

TEST_CASE("a peer by name finds us too; one whose name has moved is asked about before it is refused") {
  Names lab;
  lab.answer(found({"192.0.2.66"}));
  lab.run(11s);
  lab.b.manager->connect({}, lab.now);
  lab.deliver();
  CHECK(lab.asked() == 2);
  CHECK(lab.a.world.failure(FailureKind::no_connection) == nullptr);  // not yet
  lab.answer(found({address_b}));
  lab.run(30s);  // B tries again
  lab.check_up();
}

TEST_CASE("a stranger is refused while nobody's name could have moved, and cannot make us ask more often") {
  Names lab;
  lab.answer(found({"192.0.2.66"}));
  lab.run(11s);
  lab.b.manager->connect({}, lab.now);
  lab.deliver();
  CHECK(lab.asked() == 2);
  lab.answer(found({"192.0.2.66"}));
  lab.run(8s);
  CHECK(lab.asked() == 2);
  CHECK(lab.a.world.failure(FailureKind::no_connection) != nullptr);
}

TEST_CASE("CM-05: of several peers one by a name of nobody is passed over") {
  Lab lab;
  Connection first = named(false, "gone.example.net"), second = Lab::of_a();
  first.name = "first";
  second.name = "second";
  second.children.front().rank = 1;
  lab.a.policy({first, second}, lab.now);
  lab.b.policy({Lab::of_b()}, lab.now);
  lab.a.manager->on_acquire(1, lab.now);
  CHECK(lab.wire.empty());
  lab.a.manager->on_name_answer({"gone.example.net", Family::v4}, nobody, lab.now);
  lab.run(2s);
  lab.check_up();
  CHECK(lab.a.manager->current_peers().at(1) == ip(address_b));
}

TEST_CASE("a question that is never answered is given up, and a policy without the name forgets it") {
  Names lab;
  lab.a.manager->on_acquire(1, lab.now);
  lab.run(PeerNames::patience + 1s);
  CHECK(lab.a.world.failure(FailureKind::unresolved) != nullptr);
  lab.a.policy({Lab::of_a()}, lab.now);
  const std::size_t before = lab.asked();
  lab.answer(found({address_b}));  // too late: nobody's
  lab.run(120s);
  CHECK(lab.asked() == before);
  CHECK(lab.a.manager->names().empty());
}

TEST_CASE("transport mode with a peer by name: where the flow is between the ends once they are known") {
  Connection one = named();
  ChildPolicy& child = one.children.front();
  child.local = {host_selector_of(address_a)};
  child.remote = {host_selector_of(address_b)};
  child.transport_between_ends = true;
  const auto there = at_address(one, ip(address_b));
  REQUIRE(there);
  CHECK(there->children.front().transport);
  const auto elsewhere = at_address(*there, ip("192.0.2.77"));
  REQUIRE(elsewhere);
  CHECK_FALSE(elsewhere->children.front().transport);
}
