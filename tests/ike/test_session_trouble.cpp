// Extensions on a network that loses, doubles and delays: configuration payloads (RFC 7296 §2.19), moves (RFC 4555),
// and floods of fragments (RFC 7383).
#include "ike/address_pool.hpp"
#include "tests/ike/scripted_peer.hpp"

using namespace postern;
using namespace postern::ike;
using namespace postern::ike::lab;

namespace {

// A's flow wants an address of each family, and B lends them.
struct Lending : Lab {
  AddressPools pools;

  Lending() {
    b.surroundings.lend_address = [this](const Prefix& of, const std::string& owner, const auto& wanted) {
      return pools.take(of, owner, wanted);
    };
    b.surroundings.take_address_back = [this](const IpAddress& one, const std::string& owner) {
      pools.give_back(one, owner);
    };
    edit(a, [](Connection& c) {
      c.children.front().ask = {*Prefix::parse("10.1.0.0/16"), *Prefix::parse("2001:db8:9::/48")};
      c.children.front().interface = "Tunnel0";
    });
    edit(b, [](Connection& c) {
      c.configuration = {{*Prefix::parse("10.1.9.0/30"), *Prefix::parse("2001:db8:9::/126")}, {}, {}, "", false};
    });
  }
  void check_lent() {
    const std::vector both{address("10.1.9.1"), address("2001:db8:9::1")};
    CHECK(a.established().assigned().addresses == both);
    CHECK(b.established().view(now).lent == both);
    CHECK(pools.lent() == 2);
  }
};

// A peer that moves, and what B does about each of its datagrams.
struct Moving : ScriptedPeer {
  struct Outcome {
    std::size_t moves = 0;
    std::vector<std::pair<Octets, Endpoint>> answers;  // and where they went
    std::vector<Octets> questions;                     // of B's own (RFC 4555 §3.7)
  };

  Moving() {
    mobike = true;
    establish();
  }
  Octets update(std::uint32_t id) {
    next_id = id;
    Message m{header(ExchangeType::informational), {}};
    m.add_notify(NotifyType::update_sa_addresses);
    return sealed(m);
  }
  Outcome says_from(const Octets& bytes, const Endpoint& from) {
    Outcome out;
    Actions actions = lab.b.established().on_datagram(bytes, {lab.b.own, 500}, from, lab.now);
    for (Action& one : actions) {
      out.moves += std::holds_alternative<MoveChild>(one) ? 1 : 0;
      auto* const sent = std::get_if<SendDatagram>(&one);
      if (sent == nullptr) continue;
      if (parse_header(sent->bytes)->response)
        out.answers.emplace_back(sent->bytes, sent->remote);
      else
        out.questions.push_back(sent->bytes);
    }
    return out;
  }
  // As the peer answers whether it is there.
  Octets answer_to(const Octets& question) {
    const Message asked = opened(question);
    Message m{header(ExchangeType::informational, true), {}};
    m.header.message_id = asked.header.message_id;
    m.add_notify(NotifyType::cookie2, asked.notify(NotifyType::cookie2)->data);
    return sealed(m);
  }
  Endpoint place() { return lab.b.established().view(lab.now).remote; }
};

const Endpoint first{address("192.0.2.77"), 500}, second{address("192.0.2.78"), 500};

}  // namespace

TEST_CASE("§2.19: each message lost, doubled and late: what is lent is lent once, and given back once") {
  with_each_message_troubled(
      8, 1, [] { return std::make_unique<Lending>(); },
      [](Lending& lab) {
        lab.check_lent();
        lab.network = [](const Datagram&) { return Fate{}; };
        lab.perform(0, lab.a.established().close(lab.now));
        lab.settle();
        CHECK(lab.pools.lent() == 0);
      });
}

TEST_CASE("§2.19: the addresses outlive a rekey of either end, each message of which is lost, doubled and late") {
  constexpr Fate troubles[] = {{0, 0}, {2, 0}, {1, 3}};
  for (const std::size_t by : {std::size_t{0}, std::size_t{1}})
    for (std::size_t victim = 0; victim < 5; ++victim)
      for (const Fate& trouble : troubles) {
        CAPTURE(by);
        CAPTURE(victim);
        CAPTURE(trouble.copies);
        Lending lab;
        lab.start(0);
        lab.run(std::chrono::seconds(2));
        const std::size_t begun = lab.sent;
        lab.network = [&](const Datagram& one) { return one.number == begun + victim ? trouble : Fate{}; };
        lab.perform(by, lab.end(by).established().rekey(lab.now));
        lab.run(std::chrono::seconds(20));
        lab.check_whole();
        lab.check_lent();
      }
}

TEST_CASE("RFC 4555 §4.2.1: data of MOBIKE_SUPPORTED is ignored") {
  ScriptedPeer peer;
  peer.exchange_init();
  Message request = peer.auth_request();
  request.add_notify(NotifyType::mobike_supported, Octets(5));
  CHECK(peer.says(peer.sealed(request)).size() == 1);
  CHECK(peer.lab.b.established().view(peer.lab.now).mobike);
}

TEST_CASE("RFC 4555 §3.5: an update whose answer was lost comes again: the same answer, and nobody moves twice") {
  Moving peer;
  const Octets update = peer.update(2);
  const auto once = peer.says_from(update, first);
  REQUIRE(once.answers.size() == 1);
  REQUIRE(once.questions.size() == 1);
  CHECK(once.moves == 0);
  CHECK(peer.says_from(peer.answer_to(once.questions[0]), first).moves == 1);
  CHECK(peer.place() == first);
  for (int i = 0; i < 3; ++i) {
    const auto again = peer.says_from(update, first);
    CHECK(again.answers == once.answers);
    CHECK(again.questions.empty());
    CHECK(again.moves == 0);
  }
}

TEST_CASE("RFC 4555 §3.5: an update that comes behind a later one moves nobody") {
  Moving peer;
  const Octets before = peer.update(2);
  const auto one = peer.says_from(before, first);
  REQUIRE(one.questions.size() == 1);
  CHECK(peer.says_from(peer.answer_to(one.questions[0]), first).moves == 1);
  const auto two = peer.says_from(peer.update(3), second);
  REQUIRE(two.questions.size() == 1);
  CHECK(peer.says_from(peer.answer_to(two.questions[0]), second).moves == 1);
  const auto late = peer.says_from(before, first);
  CHECK(late.moves == 0);
  CHECK(peer.place() == second);
  for (const auto& [answer, where] : late.answers) CHECK(where == first);  // §2.11: to where it came from
}

TEST_CASE("RFC 4555 §3.5, RFC 7296 §2.3: updates that overtake each other within the window count in their order") {
  Moving peer;
  const Octets one = peer.update(2), two = peer.update(3);
  const auto early = peer.says_from(two, second);
  CHECK(early.answers.empty());
  CHECK(early.moves == 0);
  CHECK(peer.place().address == peer.lab.a.own);
  const auto both = peer.says_from(one, first);
  CHECK(both.moves == 0);
  CHECK(both.answers.size() == 2);
  CHECK(peer.place() == second);
  REQUIRE(both.questions.size() == 1);  // about the last place, which both have led to before it was asked
  CHECK(peer.says_from(peer.answer_to(both.questions[0]), second).moves == 1);
}

TEST_CASE(
    "RFC 7383 §5: a flood of fragments where fragments were agreed on: bounded, answered by nothing, and forgotten") {
  ScriptedPeer peer;
  peer.fragments = true;
  peer.establish();
  const auto request = [&](std::size_t kilobytes) {
    Message m{peer.header(ExchangeType::informational), {}};
    for (std::size_t i = 0; i < kilobytes; ++i) m.add(PayloadType::vendor_id, VendorIdPayload{Octets(1020)});
    return m;
  };
  const auto flood = [&](std::size_t kilobytes, std::size_t most, std::size_t but) {
    const auto pieces = peer.sealed_within(request(kilobytes), most);
    REQUIRE(pieces.size() > but);
    for (std::size_t i = 0; i + but < pieces.size(); ++i) CHECK(peer.says(pieces[i]).empty());
  };
  flood(63, 2000, 1);                                                           // all but the last
  for (const std::size_t most : {900, 800, 700, 600, 500}) flood(30, most, 1);  // each total larger than the one before
  for (std::uint32_t id = 3; id < 300; ++id) {                                  // of messages whose turn it is not
    peer.next_id = id;
    flood(3, 500, 1);
  }
  CHECK(peer.lab.b.count(SessionPhase::established) == 1);
  CHECK(peer.lab.b.live().size() == 1);
  peer.next_id = 2;
  const auto whole = peer.sealed_within(request(60), 400);
  for (std::size_t i = 0; i < whole.size(); ++i) CHECK(peer.says(whole[i]).size() == (i + 1 == whole.size() ? 1 : 0));
}
