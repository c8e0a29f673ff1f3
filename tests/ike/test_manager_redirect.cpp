// RFC 5685 between nodes: A begins, and B is three gateways, each at an address of its own.
#include "ike/message.hpp"
#include "tests/ike/manager_lab.hpp"

using namespace postern;
using namespace postern::ike;
using namespace postern::ike::manager_lab;

namespace {

constexpr const char* second = "192.0.2.3";
constexpr const char* third = "192.0.2.4";

resolver::Answer found(std::vector<const char*> addresses) {
  resolver::Answer out{resolver::Outcome::found, {}, {}};
  for (const char* const one : addresses) out.addresses.push_back(ip(one));
  return out;
}

struct Gateways : Lab {
  std::vector<Connection> at_b;
  Connection at_a;
  Gateways() : at_a(of_a()) {
    at_a.redirect.follow = true;
    at_a.remote_identities = {*Prefix::parse("192.0.2.0/24")};
    for (const char* const address : {address_b, second, third})
      at_b.push_back(connection(std::string("from ") + address, address, address_a, 2));
  }
  Gateways& sends(const char* from, const char* to, RedirectWhen when, std::uint32_t above = 0) {
    for (Connection& one : at_b)
      if (one.local == ip(from)) {
        one.redirect.when = when;
        one.redirect.to = to;
        one.redirect.above = above;
      }
    return *this;
  }
  void load() {
    a.policy({at_a}, now);
    b.policy(at_b, now);
  }
  void begin() {
    load();
    go();
  }
  void go(Duration span = 2s) {
    a.manager->on_acquire(1, now);
    run(span);
  }
  // Where A's one IKE SA that stands is; empty: there is none.
  std::string where() {
    std::string out;
    for (const auto& row : a.manager->rows(now)) {
      if (row.session.phase != SessionPhase::established) continue;
      CHECK(out.empty());
      out = row.session.remote.address.text();
    }
    return out;
  }
  std::string from() {
    for (const auto& row : a.manager->rows(now))
      if (row.session.phase == SessionPhase::established) return row.session.redirected_from;
    return "nowhere";
  }
  std::string said() {
    std::string out;
    for (const Event& event : a.world.events) out += event.text + "\n";
    return out;
  }
};

}  // namespace

TEST_CASE("RFC 5685 §3, §6: sent away in IKE_SA_INIT or in IKE_AUTH, the flow comes up at the other gateway") {
  for (const RedirectWhen when : {RedirectWhen::init, RedirectWhen::auth}) {
    CAPTURE(static_cast<int>(when));
    Gateways lab;
    lab.sends(address_b, second, when).begin();
    CAPTURE(lab.said());
    CHECK(lab.where() == second);
    CHECK(lab.from() == address_b);
    lab.check_up();
    CHECK(lab.b.manager->half_open() == 0);
    CHECK(lab.b.manager->size() == 1);
    CHECK(lab.b.manager->rows(lab.now).at(0).session.redirected_from == address_b);
    CHECK(lab.a.world.count(EventKind::redirected) == 1);
    CHECK(lab.a.world.count(EventKind::attempt_failed) == 0);
    CHECK(lab.a.manager->policy()->connections.at(0)->remote == ip(second));
    CHECK(lab.a.manager->policy()->connections.at(0)->home == ip(address_b));
  }
}

TEST_CASE("RFC 5685 §5: sent away later: the new IKE SA stands before the old one goes") {
  Gateways lab;
  lab.begin();
  REQUIRE(lab.where() == address_b);
  bool always = true;
  lab.passes = [&](const Packet&) {
    always = always && lab.a.world.bound.contains(1);
    return true;
  };
  const auto count = lab.b.manager->redirect({}, *GatewayIdentity::parse(second), lab.now);
  CHECK(count.matched == 1);
  CHECK(count.done == 1);
  lab.run(3s);
  CAPTURE(lab.said());
  CHECK(lab.where() == second);
  CHECK(lab.from() == address_b);
  CHECK(always);
  lab.check_up();
  lab.run(90s);
  lab.check_up();
  // and back again: it is a place like any other
  CHECK(lab.b.manager->redirect({}, *GatewayIdentity::parse(third), lab.now).done == 1);
  lab.run(3s);
  CHECK(lab.where() == third);
  CHECK(lab.b.manager->redirect({}, *GatewayIdentity::parse(second), lab.now).done == 0);  // §7: it comes from there
  lab.a.manager->rekey({}, lab.now);
  lab.run(20s);
  CHECK(lab.from() == second);
  CHECK(lab.b.manager->redirect({}, *GatewayIdentity::parse(address_b), lab.now).done == 1);
  lab.run(3s);
  CHECK(lab.where() == address_b);
}

TEST_CASE("RFC 5685 §3, §6: each packet lost, doubled and late: sent away once, and up at the other gateway alone") {
  for (const RedirectWhen when : {RedirectWhen::init, RedirectWhen::auth}) {
    CAPTURE(static_cast<int>(when));
    const auto make = [&] {
      auto lab = std::make_unique<Gateways>();
      lab->sends(address_b, second, when);
      return lab;
    };
    with_each_packet_troubled(12, make, [](Gateways& lab) {
      lab.begin();
      lab.run(60s);  // also what a packet that came late has begun is over
      CAPTURE(lab.said());
      CHECK(lab.where() == second);
      CHECK(lab.from() == address_b);
      lab.check_up();
      CHECK(lab.b.manager->size() == 1);
      CHECK(lab.a.world.count(EventKind::redirected) == 1);
    });
  }
}

TEST_CASE("RFC 5685 §5: each packet lost, doubled and late of who is sent away later: traffic never lacks an SA") {
  const auto make = [] {
    auto lab = std::make_unique<Gateways>();
    lab->begin();
    REQUIRE(lab->where() == address_b);
    return lab;
  };
  with_each_packet_troubled(10, make, [](Gateways& lab) {
    bool always = true;
    lab.passes = [&, passes = lab.passes](const Packet& packet) {
      always = always && lab.a.world.bound.contains(1);
      return passes(packet);
    };
    CHECK(lab.b.manager->redirect({}, *GatewayIdentity::parse(second), lab.now).done == 1);
    lab.run(100s);
    CAPTURE(lab.said());
    CHECK(lab.where() == second);
    CHECK(lab.from() == address_b);
    CHECK(always);
    lab.check_up();
    CHECK(lab.b.manager->size() == 1);
    CHECK(lab.a.world.count(EventKind::redirected) == 1);
  });
}

TEST_CASE("who does not follow is served, and not asked") {
  for (const RedirectWhen when : {RedirectWhen::init, RedirectWhen::auth}) {
    Gateways lab;
    lab.at_a.redirect.follow = false;
    lab.sends(address_b, second, when).begin();
    CHECK(lab.where() == address_b);
    CHECK(lab.from().empty());
    const auto count = lab.b.manager->redirect({}, *GatewayIdentity::parse(second), lab.now);
    CHECK(count.matched == 1);
    CHECK(count.done == 0);
    lab.run(120s);
    CHECK(lab.where() == address_b);
  }
}

TEST_CASE("RFC 5685 §7: two gateways that name each other serve who comes from the other one") {
  for (const RedirectWhen when : {RedirectWhen::init, RedirectWhen::auth}) {
    Gateways lab;
    lab.sends(address_b, second, when).sends(second, address_b, when).begin();
    CAPTURE(lab.said());
    CHECK(lab.where() == second);
    lab.check_up();
  }
}

TEST_CASE("RFC 5685 §7: a loop ends after as many redirects as are allowed, and begins again at its own gateway") {
  for (const RedirectWhen when : {RedirectWhen::init, RedirectWhen::auth}) {
    CAPTURE(static_cast<int>(when));
    Gateways lab;
    lab.sends(address_b, second, when).sends(second, third, when).sends(third, address_b, when).begin();
    CHECK(lab.where().empty());
    CHECK(lab.a.world.count(EventKind::redirected) == 5);
    const Failure* const failure = lab.a.world.failure(FailureKind::redirect_loop);
    REQUIRE(failure != nullptr);
    CHECK(failure->summary == "sent to 192.0.2.2: more than 5 redirects within 300 s");
    CHECK(lab.a.world.installed.empty());
    CHECK(lab.a.manager->policy()->connections.at(0)->remote == ip(address_b));
    CHECK(lab.a.manager->size() == 0);
    lab.go(5s);  // the next time as well
    CHECK(lab.a.world.count(EventKind::redirected) == 5);
    lab.sends(third, "", RedirectWhen::never);
    lab.b.policy(lab.at_b, lab.now);
    lab.run(300s);  // the period is over
    lab.go();
    CHECK(lab.where() == third);
  }
}

TEST_CASE("RFC 5685 §9.2: the name of a gateway is asked for; one of nobody fails, with its reason and a pause") {
  Gateways lab;
  lab.sends(address_b, "Gw2.example.", RedirectWhen::init).begin();
  const PeerName name{"gw2.example", Family::v4};
  REQUIRE(lab.a.world.asked == std::vector{name});
  CHECK(lab.where().empty());
  lab.go();
  CHECK(lab.a.world.asked.size() == 1);
  SUBCASE("found") {
    lab.a.manager->on_name_answer(name, found({second}), lab.now);
    lab.run(2s);
    CHECK(lab.where() == second);
    lab.check_up();
  }
  SUBCASE("nobody, or nobody that could be") {
    for (const resolver::Answer& answer :
         {resolver::Answer{resolver::Outcome::no_name, {}, {}}, found({"127.0.0.1", address_a})}) {
      lab.a.world.events.clear();
      lab.a.manager->on_name_answer(name, answer, lab.now);
      CHECK(lab.a.world.failure(FailureKind::unresolved) != nullptr);
      CHECK(lab.where().empty());
      CHECK(lab.a.manager->policy()->connections.at(0)->remote == ip(address_b));
      lab.run(3s);
      lab.go();  // at its own gateway again, which says the same
    }
    CHECK(lab.a.world.asked.size() == 3);
  }
  SUBCASE("silence") {
    lab.run(PeerNames::patience);
    CHECK(lab.a.world.failure(FailureKind::unresolved) != nullptr);
  }
  SUBCASE("a policy without it") {
    lab.at_a.redirect.follow = false;
    lab.a.policy({lab.at_a}, lab.now);
    lab.a.manager->on_name_answer(name, found({second}), lab.now);
    lab.run(30s);
    CHECK(lab.where().empty());
  }
}

TEST_CASE("what has no IKE SA any more where it was sent begins at its own gateway again") {
  Gateways lab;
  lab.sends(address_b, second, RedirectWhen::init).begin();
  REQUIRE(lab.where() == second);
  lab.sends(address_b, "", RedirectWhen::never);
  lab.b.policy(lab.at_b, lab.now);
  SUBCASE("the gateway closes it") { lab.b.manager->clear_sessions({}, lab.now); }
  SUBCASE("the operator clears it") {
    Manager::Filter filter;
    filter.remote = ip(second);
    CHECK(lab.a.manager->clear_sessions(filter, lab.now).done == 1);
  }
  SUBCASE("the operator clears it by the peer that the document has") {
    Manager::Filter filter;
    filter.remote = ip(address_b);
    CHECK(lab.a.manager->clear_sessions(filter, lab.now).done == 1);
  }
  SUBCASE("the document forbids it") {
    lab.at_a.redirect.follow = false;
    lab.a.policy({lab.at_a}, lab.now);
  }
  SUBCASE("an edit of something else does not") {
    lab.at_a.lifetime_s = 7200;
    lab.a.policy({lab.at_a}, lab.now);
    lab.run(1s);
    CHECK(lab.where() == second);
    lab.b.manager->clear_sessions({}, lab.now);
  }
  lab.run(1s);
  CHECK(lab.where().empty());
  lab.go();
  CAPTURE(lab.said());
  CHECK(lab.where() == address_b);
  CHECK(lab.from().empty());
}

TEST_CASE("a gateway that does not answer, or has another key: its attempt fails, with a pause, and then home") {
  for (const bool silent : {true, false}) {
    CAPTURE(silent);
    Gateways lab;
    lab.sends(address_b, second, RedirectWhen::init);
    lab.at_b[1].local_key = lab.at_b[1].remote_key = Secret::copy_of(as_bytes("a key of somebody else"));
    lab.passes = [&](const Packet& packet) { return !silent || packet.remote.address != ip(second); };
    lab.begin();
    lab.run(silent ? 70s : 1s);
    CHECK(lab.a.world.failure(silent ? FailureKind::no_answer : FailureKind::wrong_key) != nullptr);
    CHECK(lab.where().empty());
    CHECK(lab.a.world.installed.empty());
    CHECK(lab.a.manager->policy()->connections.at(0)->remote == ip(address_b));
    lab.sends(address_b, "", RedirectWhen::never);
    lab.b.policy(lab.at_b, lab.now);
    lab.run(5s);
    lab.go();
    CHECK(lab.where() == address_b);
  }
}

TEST_CASE("RFC 5685 §5: where the other gateway does not answer the old IKE SA goes on until its gateway ends it") {
  Gateways lab;
  lab.at_a.children[0].initiate = Initiate::always;
  for (Connection& one : lab.at_b) one.redirect.leave_s = 90;
  lab.begin();
  REQUIRE(lab.where() == address_b);
  lab.passes = [&](const Packet& packet) { return packet.remote.address != ip(second); };
  CHECK(lab.b.manager->redirect({}, *GatewayIdentity::parse(second), lab.now).done == 1);
  lab.run(80s);
  CHECK(lab.where() == address_b);
  CHECK(lab.a.world.failure(FailureKind::no_answer) != nullptr);
  CHECK(lab.a.manager->policy()->connections.at(0)->remote == ip(address_b));
  CHECK(lab.a.world.bound.size() == 1);
  lab.run(20s);
  CHECK(lab.b.world.count(EventKind::ike_down) == 1);
  lab.run(10s);
  CHECK(lab.where() == address_b);  // a new one, since it shall be up
  lab.check_up();
}

TEST_CASE("a gateway sends away from so many IKE SAs of the profile on") {
  for (const RedirectWhen when : {RedirectWhen::init, RedirectWhen::auth}) {
    Gateways lab;
    lab.sends(address_b, second, when, 1);
    lab.load();
    lab.go();
    CHECK(lab.where() == address_b);  // the first one stays
    Connection other = lab.at_a;
    other.name = "M1 20";
    other.local = ip("192.0.2.9");
    other.local_identity = Identity::of(other.local);
    other.children[0].name = "M1 20 1";
    other.children[0].place.flow = 9;
    lab.a.policy({lab.at_a, other}, lab.now);
    for (const char* const address : {address_b, second}) {
      Connection one = connection(std::string("other from ") + address, address, "192.0.2.9", 3);
      one.redirect = address == std::string(address_b) ? lab.at_b[0].redirect : RedirectPolicy{};
      lab.at_b.push_back(one);
    }
    lab.b.policy(lab.at_b, lab.now);
    lab.a.manager->on_acquire(9, lab.now);
    lab.run(2s);
    std::set<std::string> where;
    for (const auto& row : lab.a.manager->rows(lab.now)) where.insert(row.session.remote.address.text());
    CHECK(where == std::set<std::string>{address_b, second});
  }
}

TEST_CASE("IKE_SA_INIT that is broken, or of an address whose profiles disagree, is not sent away") {
  Gateways lab;
  lab.sends(address_b, second, RedirectWhen::init);
  lab.at_b.push_back(lab.at_b[0]);
  lab.at_b.back().name = "another profile";
  lab.at_b.back().redirect = {};
  lab.begin();
  CHECK(lab.where() == address_b);

  Gateways broken;
  broken.sends(address_b, second, RedirectWhen::init).load();
  Message message{{0x1234, 0, ExchangeType::ike_sa_init, true, false, 0}, {}};
  message.add_notify(NotifyType::redirect_supported);
  broken.b.manager->on_datagram({{ip(address_b), 500}, {ip(address_a), 500}, 0, encode_message(message)}, broken.now);
  REQUIRE(broken.wire.size() == 1);
  CHECK(parse_message(broken.wire.front().bytes)->notify(NotifyType::redirect) == nullptr);
}

TEST_CASE("a flood: so many are answered, the others are passed over, and nothing is kept of any") {
  Gateways lab;
  lab.sends(address_b, second, RedirectWhen::init);
  lab.load();
  lab.a.manager->on_acquire(1, lab.now);
  REQUIRE(lab.wire.size() == 1);
  Octets request = lab.wire.front().bytes;
  lab.wire.clear();
  std::size_t answered = 0;
  for (std::uint8_t i = 0; i < 250; ++i) {
    request[0] = std::byte{i};
    lab.b.manager->on_datagram({{ip(address_b), 500}, {ip(address_a), 500}, 0, request}, lab.now);
    for (const Packet& packet : lab.wire) {
      CHECK(packet.bytes.size() < request.size());
      ++answered;
    }
    lab.wire.clear();
  }
  CHECK(answered == 200);
  CHECK(lab.b.manager->size() == 0);
}
