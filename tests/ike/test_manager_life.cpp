// What shall be up comes up, comes back, and goes: triggers, back-off, policy, duplicates, the data plane's word.
#include "tests/ike/manager_lab.hpp"

using namespace postern;
using namespace postern::ike;
using namespace postern::ike::manager_lab;

TEST_CASE("the first packet of a flow makes its SA; an unknown flow makes nothing") {
  Lab lab;
  lab.policies();
  lab.run(5s);
  CHECK(lab.a.manager->size() == 0);
  lab.a.manager->on_acquire(99, lab.now);
  CHECK(lab.a.manager->size() == 0);
  lab.a.manager->on_acquire(1, lab.now);
  lab.a.manager->on_acquire(1, lab.now);  // it is on its way
  CHECK(lab.a.manager->size() == 1);
  CHECK(lab.a.manager->negotiating().contains("M1 10"));
  lab.run(1s);
  lab.check_up();
  CHECK(!lab.a.manager->negotiating().contains("M1 10"));
  CHECK(lab.a.world.count(EventKind::child_up) == 1);
  // Who asks expects packets of the child before the answer; who is asked has it in the data plane before that leaves.
  CHECK(lab.a.world.expected.size() == 1);
  CHECK(lab.b.world.expected.empty());
}

TEST_CASE("initiate always: up at once, again after the peer closed it, and after the peer was away") {
  Lab lab;
  lab.policies(Initiate::always);
  lab.run(2s);
  lab.check_up();
  lab.b.manager->clear_sessions({}, lab.now);
  lab.run(3s);
  lab.check_up();
  CHECK(lab.a.world.count(EventKind::ike_up) == 2);

  bool away = true;
  lab.passes = [&](const Packet&) { return !away; };
  lab.a.manager->clear_sessions({}, lab.now);
  lab.run(200s);
  CHECK(lab.a.established(lab.now) == 0);
  CHECK(lab.a.world.failure(FailureKind::no_answer) != nullptr);
  away = false;
  lab.run(150s);
  lab.check_up();
}

TEST_CASE("on traffic: what failed waits out its back-off, then traffic may ask again") {
  Lab lab;
  auto wrong = Lab::of_a();
  wrong.local_key = wrong.remote_key = Secret::copy_of(as_bytes("another key"));
  lab.a.policy({wrong}, lab.now);
  lab.b.policy({Lab::of_b()}, lab.now);
  int attempts = 0;
  for (int second = 0; second < 600; ++second) {
    const auto before = lab.a.manager->size();
    lab.a.manager->on_acquire(1, lab.now);
    attempts += lab.a.manager->size() > before ? 1 : 0;
    lab.run(1s);
  }
  CHECK(lab.a.world.count(EventKind::attempt_failed) >= 2);
  CHECK(lab.a.established(lab.now) == 0);
  CHECK(attempts >= 5);
  CHECK(attempts < 60);
  lab.a.policy({Lab::of_a()}, lab.now);  // the operator mends it: no back-off is owed
  lab.a.manager->on_acquire(1, lab.now);
  lab.run(1s);
  lab.check_up();
}

TEST_CASE("a child that the peer refuses waits out a back-off of its own, and comes once the peer permits it") {
  for (const Initiate initiate : {Initiate::on_traffic, Initiate::always}) {
    Lab lab;
    auto ours = Lab::of_a(), theirs = Lab::of_b();
    ours.children.front().initiate = initiate;
    theirs.children.front().proposals = {{{crypto::Cipher::aes_cbc, 192, crypto::Integrity::hmac_sha1_96}, false}};
    lab.a.policy({ours}, lab.now);
    lab.b.policy({theirs}, lab.now);
    for (int second = 0; second < 300; ++second) {
      lab.a.manager->on_acquire(1, lab.now);
      lab.run(1s);
    }
    CHECK(lab.a.established(lab.now) == 1);
    CHECK(lab.a.world.count(EventKind::attempt_failed) >= 5);
    CHECK(lab.a.world.count(EventKind::attempt_failed) < 30);
    lab.b.policy({Lab::of_b()}, lab.now);
    for (int second = 0; second < 61; ++second) {
      if (initiate == Initiate::on_traffic) lab.a.manager->on_acquire(1, lab.now);
      lab.run(1s);
    }
    lab.check_up();
  }
}

TEST_CASE("a connection that leaves the policy ends, and the peer is told; an edited one stays") {
  Lab lab;
  lab.policies();
  lab.a.manager->on_acquire(1, lab.now);
  lab.run(1s);
  lab.check_up();
  auto edited = Lab::of_a();
  edited.lifetime_s = 7200;
  edited.children.push_back(edited.children[0]);
  edited.children[1].name = "M1 20";
  edited.children[1].place.flow = 9;
  lab.a.policy({edited}, lab.now);
  lab.run(1s);
  lab.check_up();
  CHECK(lab.a.world.count(EventKind::ike_down) == 0);
  lab.a.policy({}, lab.now);
  lab.run(1s);
  CHECK(lab.a.established(lab.now) == 0);
  CHECK(lab.b.established(lab.now) == 0);
  CHECK(lab.a.world.installed.empty());
  CHECK(lab.b.world.installed.empty());
}

TEST_CASE("a flow that leaves a connection loses its SA; the IKE SA stays") {
  Lab lab;
  const auto with_two = [](Connection one, std::uint32_t flow) {
    ChildPolicy second = one.children.front();
    second.name = "M1 10 2";
    second.local = second.remote = {any_selector(Family::v6)};
    second.place.flow = flow;
    one.children.push_back(second);
    return one;
  };
  lab.a.policy({with_two(Lab::of_a(), 11)}, lab.now);
  lab.b.policy({with_two(Lab::of_b(), 12)}, lab.now);
  lab.a.manager->on_acquire(1, lab.now);
  lab.a.manager->on_acquire(11, lab.now);
  lab.run(1s);
  CHECK(lab.a.world.installed.size() == 2);
  CHECK(lab.a.established(lab.now) == 1);
  lab.a.policy({Lab::of_a()}, lab.now);
  lab.run(1s);
  lab.check_up();
  CHECK(lab.a.world.bound.contains(1));
  CHECK(lab.a.world.count(EventKind::ike_up) == 1);
}

TEST_CASE("both begin at once: both IKE SAs come up, one of them goes, traffic never lacks an SA") {
  Lab lab;
  lab.policies();
  lab.a.manager->on_acquire(1, lab.now);
  lab.b.manager->on_acquire(2, lab.now);
  lab.run(1s);
  CHECK(lab.a.established(lab.now) == 2);
  CHECK(lab.a.world.bound.size() == 1);
  lab.run(60s);
  lab.check_up();
  const auto rows = lab.a.manager->rows(lab.now);
  const auto others = lab.b.manager->rows(lab.now);
  REQUIRE(rows.size() == 1);
  REQUIRE(others.size() == 1);
  CHECK(rows[0].session.spi_i == others[0].session.spi_i);
  lab.run(300s);
  lab.check_up();
}

TEST_CASE("INITIAL_CONTACT: a peer that comes back replaces what it had, without a delete on the wire") {
  Lab lab;
  lab.policies();
  lab.a.manager->on_acquire(1, lab.now);
  lab.run(1s);
  lab.check_up();
  const auto old = lab.b.world.installed.begin()->first;
  lab.a.restart(lab.limits);
  lab.a.policy({Lab::of_a()}, lab.now);
  lab.run(1s);
  lab.a.manager->on_acquire(1, lab.now);
  lab.run(1s);
  lab.check_up();
  CHECK(!lab.b.world.installed.contains(old));
}

TEST_CASE("INITIAL_CONTACT: not said while SAs of an earlier life carry traffic, which the peer would end") {
  Lab lab;
  lab.policies();
  lab.a.manager->on_acquire(1, lab.now);
  lab.run(1s);
  const auto old = lab.b.world.installed.begin()->first;
  lab.a.restart(lab.limits);
  lab.a.policy({Lab::of_a()}, lab.now);
  const std::uint32_t spis[] = {0x1234};
  lab.a.manager->on_survivors({1}, spis, lab.now);
  lab.run(2s);
  CHECK(lab.a.established(lab.now) == 1);
  CHECK(lab.b.established(lab.now) == 2);
  CHECK(lab.b.world.installed.contains(old));
  lab.a.restart(lab.limits);  // and without survivors it is said again
  lab.a.policy({Lab::of_a()}, lab.now);
  lab.a.manager->on_acquire(1, lab.now);
  lab.run(1s);
  CHECK(!lab.b.world.installed.contains(old));
}

TEST_CASE("INITIAL_CONTACT: an attempt that was long on its way does not say that it is the first") {
  Lab lab;
  lab.policies();
  bool away = true;
  lab.passes = [&](const Packet& packet) { return !away || packet.from == 1; };
  lab.a.manager->on_acquire(1, lab.now);
  lab.run(400ms);  // nothing of A arrives yet
  away = false;
  lab.b.manager->on_acquire(2, lab.now);
  lab.run(50ms);
  CHECK(lab.b.established(lab.now) == 1);
  const auto first = lab.b.world.installed.begin()->first;
  lab.run(1s);  // A's retransmission: a second IKE SA, which does not end the first
  CHECK(lab.b.established(lab.now) == 2);
  CHECK(lab.b.world.installed.contains(first));
}

TEST_CASE("survivors of an earlier life are negotiated anew without traffic, and their SPIs are not used") {
  Lab lab;
  lab.policies();
  const std::uint32_t spis[] = {0x1234};
  lab.a.manager->on_survivors({1}, spis, lab.now);
  lab.run(2s);
  lab.check_up();
  lab.b.manager->on_survivors({77}, {}, lab.now);  // of no flow that we know
  lab.run(2s);
  lab.check_up();
}

TEST_CASE("SPIs: never a manual or foreign one, never one twice, reserved ones never") {
  std::uint32_t next = 0;
  const std::uint32_t sequence[] = {5, 0, 255, 300, 301, 302, 302, 303};
  SpiPool pool([&](MutableBytes out) -> Result<void> {
    store_be32(out.data(), sequence[next++ % 8]);
    return {};
  });
  const std::uint32_t manual[] = {300}, foreign[] = {301};
  pool.set_manual(manual);
  pool.set_foreign(foreign);
  CHECK(*pool.allocate() == 302);
  CHECK(*pool.allocate() == 303);
  CHECK(!pool.allocate());
  pool.free(302);
  CHECK(*pool.allocate() == 302);
}

TEST_CASE("the data plane's word: soft expiry rekeys, hard expiry and idleness delete, a lost SA comes again") {
  Lab lab;
  lab.policies();
  lab.a.manager->on_acquire(1, lab.now);
  lab.run(1s);
  const auto id = [&] { return lab.a.world.bound.at(1); };
  const auto first = id();
  lab.a.manager->on_soft_expiry(first, lab.now);
  lab.a.manager->on_soft_expiry(first, lab.now);
  lab.run(30s);
  CHECK(id() != first);
  lab.check_up();
  CHECK(lab.a.world.count(EventKind::child_rekeyed) == 1);

  const auto second = id();
  lab.a.manager->on_child_lost(second, lab.now);
  lab.run(3s);
  REQUIRE(lab.a.world.bound.contains(1));
  CHECK(id() != second);
  lab.check_up();

  lab.a.manager->on_idle(id(), lab.now);
  lab.run(3s);
  CHECK(lab.a.world.installed.empty());
  CHECK(lab.b.world.installed.empty());
  CHECK(lab.a.established(lab.now) == 1);
  lab.a.manager->on_acquire(1, lab.now);
  lab.run(1s);
  lab.check_up();

  lab.a.manager->on_hard_expiry(id(), lab.now);
  lab.run(3s);
  CHECK(lab.a.world.installed.empty());
  lab.a.manager->on_hard_expiry(first, lab.now);  // long gone
}

TEST_CASE("what shall always be up is never idle") {
  Lab lab;
  lab.policies(Initiate::always);
  lab.run(2s);
  const auto id = lab.a.world.bound.at(1);
  lab.a.manager->on_idle(id, lab.now);
  lab.run(5s);
  CHECK(lab.a.world.bound.at(1) == id);
}

TEST_CASE("an SA that the data plane refuses is taken back from the peer and told as a failure") {
  Lab lab;
  lab.policies();
  lab.a.world.refuse = "no slot is free";
  lab.a.manager->on_acquire(1, lab.now);
  lab.run(2s);
  CHECK(lab.a.world.installed.empty());
  CHECK(lab.b.world.installed.empty());
  const Failure* const failure = lab.a.world.failure(FailureKind::install_failed);
  REQUIRE(failure != nullptr);
  CHECK((failure->summary + failure->offered + failure->differs).find("no slot") != std::string::npos);
}

TEST_CASE("clear and connect: by peer, map, sequence; what matches nothing does nothing") {
  Lab lab;
  lab.policies();
  Manager::Filter filter;
  filter.map = "M1";
  filter.sequence = 20;
  CHECK(lab.a.manager->connect(filter, lab.now).matched == 0);
  filter.sequence = 10;
  auto count = lab.a.manager->connect(filter, lab.now);
  CHECK(count.matched == 1);
  CHECK(count.done == 1);
  lab.run(1s);
  lab.check_up();
  CHECK(lab.a.manager->connect(filter, lab.now).done == 0);

  Manager::Filter other;
  other.remote = ip("203.0.113.1");
  CHECK(lab.a.manager->clear_sessions(other, lab.now).done == 0);
  CHECK(lab.a.manager->clear_children(other, lab.now).done == 0);
  filter = {};
  filter.spi = lab.a.manager->rows(lab.now).at(0).session.children.at(0).spi_in;
  CHECK(lab.a.manager->clear_children(filter, lab.now).done == 1);
  lab.run(3s);
  CHECK(lab.a.world.installed.empty());
  CHECK(lab.b.world.installed.empty());
  CHECK(lab.a.established(lab.now) == 1);
  CHECK(lab.a.manager->clear_sessions({}, lab.now).done == 1);
  lab.run(3s);
  CHECK(lab.a.manager->size() == 0);
  CHECK(lab.b.manager->size() == 0);
}

TEST_CASE("a NAT between: both float to port 4500, and the SA goes to the translated port") {
  Lab lab;
  lab.nat = true;
  lab.policies();
  lab.a.manager->on_acquire(1, lab.now);
  lab.run(2s);
  lab.check_up();
  const auto at_b = lab.b.manager->rows(lab.now).at(0).session;
  CHECK(at_b.local.port == 4500);
  CHECK(at_b.remote.port == 14500);
  CHECK(at_b.nat_remote);
  CHECK(lab.a.manager->rows(lab.now).at(0).session.nat_local);
}

TEST_CASE("goodbye tells every peer") {
  Lab lab;
  lab.policies(Initiate::always);
  lab.run(2s);
  lab.check_up();
  lab.a.manager->shut_down(lab.now);
  lab.run(3s);
  CHECK(lab.b.manager->size() == 0);
  CHECK(lab.b.world.installed.empty());
  CHECK(lab.a.manager->size() == 0);
}

TEST_CASE("wrong key, wrong identity, silence and silence after the float are four different failures") {
  const auto failure_of = [](const std::function<void(Lab&)>& set) {
    Lab lab;
    set(lab);
    lab.a.manager->on_acquire(1, lab.now);
    lab.run(300s);
    std::set<FailureKind> kinds;
    for (const Event& event : lab.a.world.events)
      if (event.failure) kinds.insert(event.failure->kind);
    return kinds;
  };
  using Kinds = std::set<FailureKind>;
  CHECK(failure_of([](Lab& lab) {
          lab.policies();
          lab.passes = [](const Packet&) { return false; };
        }) == Kinds{FailureKind::no_answer});
  CHECK(failure_of([](Lab& lab) {
          lab.policies();
          lab.nat = true;
          lab.passes = [](const Packet& p) {
            const auto header = parse_header(p.bytes);
            return header && header->exchange == ExchangeType::ike_sa_init;
          };
        }) == Kinds{FailureKind::no_answer_after_float});
  CHECK(failure_of([](Lab& lab) {
          auto wrong = Lab::of_b();
          wrong.local_key = Secret::copy_of(as_bytes("another key"));
          lab.a.policy({Lab::of_a()}, lab.now);
          lab.b.policy({wrong}, lab.now);
        }) == Kinds{FailureKind::wrong_key});
  CHECK(failure_of([](Lab& lab) {
          auto wrong = Lab::of_b();
          wrong.local_identity = Identity::of(IdType::fqdn, "someone.else");
          lab.a.policy({Lab::of_a()}, lab.now);
          lab.b.policy({wrong}, lab.now);
        }) == Kinds{FailureKind::wrong_identity});
}

TEST_CASE("an edit of what a tunnel asks its peer for ends the IKE SA that has not asked so") {
  Lab lab;
  lab.policies();
  lab.a.manager->on_acquire(1, lab.now);
  lab.run(5s);
  lab.check_up();
  Connection edited = Lab::of_a();
  edited.lifetime_s = 7200;
  lab.a.policy({edited}, lab.now);
  lab.run(1s);
  lab.check_up();  // anything else counts from the next negotiation on
  edited.children[0].ask = {*Prefix::parse("10.9.0.0/16")};
  lab.a.policy({edited}, lab.now);
  lab.run(1s);
  CHECK(lab.a.established(lab.now) == 0);
  CHECK(lab.a.world.installed.empty());
}

TEST_CASE("RFC 3948 §4: keepalives of who is behind a NAT, every so often, or never") {
  for (const std::uint32_t interval : {0U, 5U}) {
    CAPTURE(interval);
    Lab lab;
    lab.nat = true;
    Connection a = Lab::of_a();
    a.nat_keepalive_s = interval;
    lab.a.policy({a}, lab.now);
    Connection b = Lab::of_b();
    b.remote_identities = {AnyIdentity{}};
    lab.b.policy({b}, lab.now);
    lab.a.manager->on_acquire(1, lab.now);
    lab.run(61s);
    lab.check_up();
    CHECK(lab.b.world.keepalives == 0);
    if (interval == 0) CHECK(lab.a.world.keepalives == 0);
    if (interval == 5) CHECK(lab.a.world.keepalives >= 11);
    if (interval == 5) CHECK(lab.a.world.keepalives <= 12);
  }
}
