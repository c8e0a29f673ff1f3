// Addresses beside the ones in use (RFC 4555 §3.4, §3.6): told, kept, gone to; and a responder that has another one
// now.
#include "ike/message.hpp"
#include "ike/mobility.hpp"
#include "tests/ike/manager_lab.hpp"
#include "tests/ike/scripted_gateway.hpp"

using namespace postern;
using namespace postern::ike;
using namespace postern::ike::manager_lab;

namespace {

constexpr const char *second_a = "192.0.2.11", *second_b = "192.0.2.22", *third_b = "192.0.2.23";
constexpr Dpd liveness{DpdMode::periodic, 20, 2};

Connection between(const char* local, const char* remote, std::uint32_t flow, std::vector<const char*> others = {}) {
  Connection out = connection(std::string(local) + " " + remote, local, remote, flow);
  out.children.front().name = "M1 10 out0 1";
  out.remote_identities = {AnyIdentity{}};
  out.dpd = liveness;
  for (const char* const one : others) out.other_addresses.push_back(ip(one));
  return out;
}

struct TwoHomes : Lab {
  explicit TwoHomes(std::vector<const char*> of_b = {second_b}, bool mobike = true) {
    Connection at_a = between(address_a, address_b, 1, {second_a}), at_b = between(address_b, address_a, 2, of_b);
    at_b.options.mobike = mobike;
    at_b.local_identity = Identity::of(ip(address_b));
    b.policy({at_b}, now);
    a.policy({at_a}, now);
    a.manager->on_acquire(1, now);
    run(2s);
    check_up();
  }
  // Nothing from or to these.
  void cut(std::vector<const char*> addresses) {
    passes = [addresses](const Packet& packet) {
      return std::ranges::none_of(addresses, [&](const char* one) {
        return packet.local.address == ip(one) || packet.remote.address == ip(one);
      });
    };
  }
  // B has this one, and these beside it.
  void b_is_at(const char* local, std::vector<const char*> others = {}) {
    Connection now_at = between(local, address_a, 2, std::move(others));
    now_at.local_identity = Identity::of(ip(address_b));
    b.policy({now_at}, now);
  }
  [[nodiscard]] SessionView view_of(const Node& node) const {
    for (const auto& row : node.manager->rows(now))
      if (row.session.phase == SessionPhase::established) return row.session;
    FAIL("no IKE SA is established");
    return {};
  }
};

std::vector<IpAddress> addresses(std::vector<const char*> texts) {
  std::vector<IpAddress> out;
  for (const char* const one : texts) out.push_back(ip(one));
  return out;
}

}  // namespace

TEST_CASE("RFC 4555 §3.4: both ends tell in IKE_AUTH what they have beside, and keep what they are told") {
  TwoHomes lab;
  CHECK(lab.view_of(lab.a).others == addresses({second_b}));
  CHECK(lab.view_of(lab.b).others == addresses({second_a}));
  SUBCASE("over a rekey by either end") {
    lab.a.manager->rekey({}, lab.now);
    lab.run(2s);
    CHECK(lab.view_of(lab.a).others == addresses({second_b}));
    lab.b.manager->rekey({}, lab.now);
    lab.run(2s);
    CHECK(lab.view_of(lab.a).others == addresses({second_b}));
    CHECK(lab.view_of(lab.b).others == addresses({second_a}));
  }
  SUBCASE("who does not do MOBIKE says nothing, and keeps nothing") {
    TwoHomes other({second_b}, false);
    CHECK(other.view_of(other.a).others.empty());
    CHECK(other.view_of(other.b).others.empty());
  }
}

TEST_CASE("RFC 4555 §3.6: another list takes the place of the one before, at either end") {
  TwoHomes lab;
  lab.b_is_at(address_b, {second_b, third_b});
  lab.run(1s);
  CHECK(lab.view_of(lab.a).others == addresses({second_b, third_b}));
  lab.b_is_at(address_b, {});
  lab.run(1s);
  CHECK(lab.view_of(lab.a).others.empty());
  lab.a.policy({between(address_a, address_b, 1, {})}, lab.now);
  lab.run(1s);
  CHECK(lab.view_of(lab.b).others.empty());
  CHECK(lab.a.world.moves.empty());
  CHECK(lab.b.world.moves.empty());
  const std::uint32_t asked = lab.view_of(lab.a).next_request;
  SUBCASE("the same again is not told") {
    lab.a.policy({between(address_a, address_b, 1, {})}, lab.now);
    lab.run(1s);
    CHECK(lab.view_of(lab.a).next_request == asked);
  }
  SUBCASE("what nobody can go to, and what is behind the peer") {
    Connection of_hosts = between(address_a, address_b, 1, {});
    of_hosts.children.front().remote = {selector_of(*Prefix::parse("10.2.0.0/16"))};
    of_hosts.children.front().local = {selector_of(*Prefix::parse("10.1.0.0/16"))};
    Lab other;
    Connection at_b = between(address_b, address_a, 2, {"0.0.0.0", "224.0.0.1", "2001:db8::1", "10.2.0.1", "10.3.0.1"});
    other.b.policy({at_b}, other.now);
    other.a.policy({of_hosts}, other.now);
    other.a.manager->on_acquire(1, other.now);
    other.run(2s);
    REQUIRE(other.a.established(other.now) == 1);
    CHECK(other.a.manager->rows(other.now).at(0).session.others == addresses({"10.3.0.1"}));
  }
  SUBCASE("more than are kept") {
    std::vector<std::string> texts;
    for (int i = 0; i < 40; ++i) texts.push_back("192.0.2." + std::to_string(100 + i));
    std::vector<const char*> many;
    for (const std::string& one : texts) many.push_back(one.c_str());
    lab.b_is_at(address_b, many);
    lab.run(1s);
    CHECK(lab.view_of(lab.a).others.size() == max_other_addresses);
  }
}

TEST_CASE(
    "RFC 4555 §3.5: where the peer does not answer the initiator tries its others: the same IKE SA and children") {
  TwoHomes lab({second_b, third_b});
  const SessionView before = lab.view_of(lab.a);
  SUBCASE("one is dead") {
    lab.cut({address_b});
    lab.run(60s);
    CHECK(lab.view_of(lab.a).remote == Endpoint{ip(second_b), nat_port});
    CHECK(lab.view_of(lab.b).local == Endpoint{ip(second_b), nat_port});
    REQUIRE(lab.a.world.moves.size() == 1);
    CHECK(lab.a.world.moves[0].remote_endpoint.address == ip(second_b));
    REQUIRE(!lab.b.world.moves.empty());
    CHECK(lab.b.world.moves.back().local_endpoint.address == ip(second_b));
    CHECK(lab.view_of(lab.a).others == addresses({third_b, address_b}));
    // And on.
    lab.cut({second_b});
    lab.run(60s);
    CHECK(lab.view_of(lab.a).remote.address != ip(second_b));
  }
  SUBCASE("two are dead: the children go to the third alone (§3.7)") {
    lab.cut({address_b, second_b});
    lab.run(90s);
    CHECK(lab.view_of(lab.a).remote == Endpoint{ip(third_b), nat_port});
    REQUIRE(lab.a.world.moves.size() == 1);
    CHECK(lab.a.world.moves[0].remote_endpoint.address == ip(third_b));
  }
  SUBCASE("a moment of silence moves nobody") {
    lab.cut({address_b});
    lab.a.manager->rekey({}, lab.now);
    lab.run(1200ms);
    lab.cut({});
    lab.run(30s);
    CHECK(lab.view_of(lab.a).remote.address == ip(address_b));
    CHECK(lab.a.world.moves.empty());
    return;
  }
  CHECK(lab.view_of(lab.a).spi_i == before.spi_i);
  CHECK(lab.a.world.installed.size() == 1);
  CHECK(lab.b.world.installed.size() == 1);
  CHECK(lab.a.world.count(EventKind::ike_down) == 0);
  CHECK(lab.b.world.count(EventKind::ike_down) == 0);
}

TEST_CASE("RFC 4555 §3.5: nothing answers anywhere: the IKE SA ends as it does without MOBIKE") {
  TwoHomes lab({second_b});
  lab.cut({address_b, second_b});
  lab.run(180s);
  CHECK(lab.a.established(lab.now) == 0);
  CHECK(lab.a.world.count(EventKind::peer_silent) == 1);
  CHECK(lab.a.world.moves.empty());
  CHECK(lab.a.world.installed.empty());
}

TEST_CASE("RFC 4555 §3.5: the responder tries no other address: it is the initiator who moves") {
  TwoHomes lab;
  lab.cut({address_a});
  lab.run(180s);
  CHECK(lab.b.established(lab.now) == 0);
  CHECK(lab.b.world.moves.empty());
}

TEST_CASE("RFC 4555 §3.5, §3.6: a responder whose address is another one now: it says so, and the initiator follows") {
  TwoHomes lab;
  const SessionView before = lab.view_of(lab.a);
  lab.cut({address_b});
  SUBCASE("one that the initiator knew of") { lab.b_is_at(second_b); }
  SUBCASE("one that it hears of now, with another one beside it") { lab.b_is_at(third_b, {second_b}); }
  SUBCASE("after a rekey by the responder") {
    lab.cut({});
    lab.b.manager->rekey({}, lab.now);
    lab.run(2s);
    lab.cut({address_b});
    lab.b_is_at(second_b);
  }
  lab.run(3s);
  const SessionView at_a = lab.view_of(lab.a), at_b = lab.view_of(lab.b);
  CHECK(at_a.remote == at_b.local);
  CHECK(at_a.remote.address != ip(address_b));
  CHECK(lab.a.established(lab.now) == 1);
  CHECK(at_a.children.size() == 1);
  CHECK(at_a.children[0].spi_in == before.children[0].spi_in);
  REQUIRE(!lab.a.world.moves.empty());
  CHECK(lab.a.world.moves.back().remote_endpoint == at_b.local);
  REQUIRE(!lab.b.world.moves.empty());
  CHECK(lab.b.world.moves.front().local_endpoint == at_b.local);
  CHECK(lab.b.world.count(EventKind::we_moved) == 1);
  CHECK(lab.a.world.count(EventKind::peer_moved) == 1);
}

TEST_CASE("RFC 4555 §3.6: a responder that is not heard says it to the peer's other addresses, too") {
  TwoHomes lab;
  std::size_t to_second = 0;
  lab.passes = [&](const Packet& packet) {
    to_second += packet.from == 1 && packet.remote.address == ip(second_a) ? 1 : 0;
    return packet.from == 0 || packet.remote.address != ip(address_a);
  };
  lab.b_is_at(third_b);
  lab.run(10s);
  CHECK(to_second > 0);
  CHECK(lab.view_of(lab.a).remote == Endpoint{ip(third_b), nat_port});
}

TEST_CASE("RFC 4555 §3.5: without MOBIKE a responder's other address is another IKE SA") {
  TwoHomes lab({second_b}, false);
  lab.b_is_at(second_b);
  lab.run(2s);
  CHECK(lab.b.established(lab.now) == 0);
  CHECK(lab.b.world.moves.empty());
}

TEST_CASE("RFC 4555 §3.5: a request that is under way in a move has the patience of a new one, whatever it was") {
  TwoHomes lab(std::vector<const char*>{});
  bool cut = true;
  lab.passes = [&](const Packet&) { return !cut; };
  lab.run(21s);  // a liveness check has begun
  Connection other = between(second_a, address_b, 1, {});
  lab.a.policy({other}, lab.now);
  lab.run(6s);  // longer than seven tries in a row take
  CHECK(lab.a.established(lab.now) == 1);
  cut = false;
  lab.run(30s);
  CHECK(lab.view_of(lab.b).remote.address == ip(second_a));
}

namespace {

// A real initiator, and a gateway that says and answers what a test wants, from anywhere.
struct OddGateway {
  lab::Lab net;
  lab::ScriptedGateway gateway{net};
  std::vector<MoveChild> moves;
  std::vector<std::pair<Octets, Endpoint>> heard;
  const Endpoint home{net.b.own, nat_port}, away{ip("192.0.2.22"), nat_port};

  OddGateway() {
    lab::Lab::edit(net.a, [](Connection& c) { c.dpd = liveness; });
    net.start(0);
    gateway.answer_init();
    Message answer = gateway.auth_answer(gateway.heard());
    answer.add_notify(NotifyType::mobike_supported);
    Octets second;
    for (const int byte : {192, 0, 2, 22}) second.push_back(static_cast<std::byte>(byte));
    answer.add_notify(NotifyType::additional_ip4_address, second);
    Octets sixth(16);
    answer.add_notify(NotifyType::additional_ip6_address, sixth);
    gateway.says(answer);
    REQUIRE(net.a.count(SessionPhase::established) == 1);
  }
  void take(const Actions& actions) {
    for (const Action& one : actions) {
      if (const auto* const moved = std::get_if<MoveChild>(&one)) moves.push_back(*moved);
      if (const auto* const sent = std::get_if<SendDatagram>(&one)) heard.emplace_back(sent->bytes, sent->remote);
    }
  }
  void until_it_asks_at(const Endpoint& where) {
    for (int i = 0; i < 50 && (heard.empty() || heard.back().second != where); ++i) {
      const auto next = net.a.established().next_timer();
      REQUIRE(next);
      net.now = std::max(net.now, *next);
      take(net.a.established().on_timer(net.now));
    }
    REQUIRE(heard.back().second == where);
  }
  void hears(const Octets& bytes, const Endpoint& from) {
    heard.clear();
    take(net.a.sessions.back()->on_datagram(bytes, {net.a.own, nat_port}, from, net.now));
  }
};

}  // namespace

TEST_CASE(
    "RFC 4555 §3.7: the initiator's children go to another address of the peer's when COOKIE2 came back from it") {
  OddGateway odd;
  CHECK(odd.net.a.established().view(odd.net.now).others == addresses({"192.0.2.22"}));  // of the family in use
  odd.until_it_asks_at(odd.away);
  // The liveness check, which the gateway answers; then what we have to say.
  Message answer = odd.gateway.answer_to(odd.gateway.opened(odd.heard.back().first));
  odd.hears(odd.gateway.sealed(answer), odd.away);
  CHECK(odd.moves.empty());
  REQUIRE(odd.heard.size() == 1);
  const Message update = odd.gateway.opened(odd.heard[0].first);
  CHECK(update.notify(NotifyType::update_sa_addresses) != nullptr);
  const auto* const cookie = update.notify(NotifyType::cookie2);
  REQUIRE(cookie != nullptr);
  answer = odd.gateway.answer_to(update);
  SUBCASE("as it was") {
    answer.add_notify(NotifyType::cookie2, cookie->data);
    odd.hears(odd.gateway.sealed(answer), odd.away);
    REQUIRE(odd.moves.size() == 1);
    CHECK(odd.moves[0].remote_endpoint == odd.away);
    CHECK(odd.net.a.count(SessionPhase::established) == 1);
    return;
  }
  SUBCASE("another one") { answer.add_notify(NotifyType::cookie2, Octets(cookie->data.size(), std::byte{7})); }
  SUBCASE("none") {}
  odd.hears(odd.gateway.sealed(answer), odd.away);
  CHECK(odd.moves.empty());
  CHECK(odd.net.a.count(SessionPhase::established) == 0);
}

TEST_CASE("RFC 4555 §4.2.2: an address of another length is none, and ends the IKE SA as any broken message") {
  for (const auto& [type, bytes] : {std::pair{NotifyType::additional_ip4_address, 3},
                                    {NotifyType::additional_ip4_address, 16},
                                    {NotifyType::additional_ip6_address, 4},
                                    {NotifyType::additional_ip6_address, 17}}) {
    CAPTURE(bytes);
    NotifyPayload notify;
    notify.type = type;
    notify.data = Octets(static_cast<std::size_t>(bytes));
    Message message{{1, 2, ExchangeType::informational, true, false, 0}, {}};
    message.add(PayloadType::notify, notify);
    CHECK_FALSE(parse_message(encode_message(message)));
  }
}
