// What two ends may agree on beside keys: fragments, windows, MOBIKE, an IKE SA without a child.
#include "tests/ike/scripted_peer.hpp"

using namespace postern;
using namespace postern::ike;
using namespace postern::ike::lab;

namespace {

constexpr std::size_t ip_and_udp = 28;

// More than a packet's worth of selectors.
void add_many_selectors(Lab& lab) {
  for (End* const end : {&lab.a, &lab.b})
    Lab::edit(*end, [&](Connection& c) {
      c.options.max_selectors = 32;
      for (int i = 0; i < 60; ++i) {
        const Selector more = selector_of(*Prefix::parse(("10." + std::to_string(100 + i) + ".0.0/24").c_str()));
        auto& side = end == &lab.a ? c.children[0].remote : c.children[0].local;
        side.push_back(more);
      }
    });
}

std::size_t longest(const std::vector<std::size_t>& sizes) { return *std::ranges::max_element(sizes); }

struct Seen {
  std::vector<std::size_t> sizes;
  std::size_t fragments = 0;
};

void watch(Lab& lab, Seen& seen) {
  lab.network = [&seen](const Datagram& one) {
    seen.sizes.push_back(one.bytes.size());
    if (fragment_number(one.bytes)) ++seen.fragments;
    return Fate{};
  };
}

}  // namespace

TEST_CASE("RFC 7383 §2.3, §2.5: large messages leave in fragments where both ends take them") {
  Lab lab;
  Seen seen;
  add_many_selectors(lab);
  lab.edit_both([](Connection& c) { c.options.fragment_mtu = 576; });
  watch(lab, seen);
  lab.start(0);
  lab.run(std::chrono::seconds(5));
  lab.check_whole();
  CHECK(seen.fragments >= 4);
  CHECK(longest(seen.sizes) + ip_and_udp <= 576);
  CHECK(lab.a.established().view(lab.now).fragmentation);
  CHECK(lab.b.established().view(lab.now).fragmentation);
  CHECK(lab.a.live()[0]->remote.size() == 32);
  // The agreement outlives the IKE SA (§2.3).
  lab.perform(0, lab.a.established().rekey(lab.now));
  lab.run(std::chrono::seconds(1));
  CHECK(lab.a.established().view(lab.now).fragmentation);
  const std::size_t before = seen.fragments;
  lab.perform(1, lab.b.established().rekey_child(lab.b.outbound.at(1), lab.now));
  lab.run(std::chrono::seconds(20));
  lab.check_whole();
  CHECK(seen.fragments > before);
}

TEST_CASE("RFC 7383 §2.3: one end that does not want them is enough") {
  for (const bool at_a : {true, false}) {
    Lab lab;
    Seen seen;
    add_many_selectors(lab);
    Lab::edit(at_a ? lab.a : lab.b, [](Connection& c) { c.options.fragment_mtu = 0; });
    watch(lab, seen);
    lab.start(0);
    lab.run(std::chrono::seconds(5));
    lab.check_whole();
    CHECK(seen.fragments == 0);
    CHECK(longest(seen.sizes) > 1000);
    CHECK_FALSE(lab.a.established().view(lab.now).fragmentation);
    CHECK_FALSE(lab.b.established().view(lab.now).fragmentation);
  }
}

TEST_CASE("RFC 7383 §2.6: each fragment lost, doubled and late") {
  const auto make = [] {
    auto lab = std::make_unique<Lab>();
    add_many_selectors(*lab);
    lab->edit_both([](Connection& c) { c.options.fragment_mtu = 576; });
    return lab;
  };
  with_each_message_troubled(14, 1, make, [](Lab&) {});
}

TEST_CASE("RFC 7383: a flood of fragments, and of fragments of the wrong message, costs a bounded number of bytes") {
  ScriptedPeer peer;
  Lab::edit(peer.lab.b, [](Connection& c) { c.options.fragment_mtu = 0; });
  peer.establish();
  // Not agreed on: nobody listens, and the IKE SA lives.
  Message big{peer.header(ExchangeType::informational), {}};
  for (int i = 0; i < 4; ++i) big.add(PayloadType::vendor_id, VendorIdPayload{Octets(900)});
  for (const Octets& one : peer.sealed_within(big, 500)) CHECK(peer.says(one).empty());
  CHECK(peer.lab.b.count(SessionPhase::established) == 1);
  CHECK(peer.says(peer.sealed(big)).size() == 1);
}

TEST_CASE("RFC 7383 §2.6: whole and in fragments, what comes whole first counts, and both get one answer") {
  ScriptedPeer peer;
  peer.fragments = true;
  peer.establish();
  Message probe{peer.header(ExchangeType::informational), {}};
  for (int i = 0; i < 4; ++i) probe.add(PayloadType::vendor_id, VendorIdPayload{Octets(900)});
  const auto pieces = peer.sealed_within(probe, 500);
  REQUIRE(pieces.size() > 3);
  CHECK(peer.says(pieces[0]).empty());
  CHECK(peer.says(pieces[1]).empty());
  const auto answer = peer.says(peer.sealed(probe));
  REQUIRE(answer.size() == 1);
  // What is left of the fragments: the first asks for the answer again (§2.6.1), the others for nothing.
  for (std::size_t i = 1; i < pieces.size(); ++i) CHECK(peer.says(pieces[i]).empty());
  CHECK(peer.says(pieces[0]) == answer);
  Octets forged = pieces[0];
  forged.back() ^= std::byte{1};
  CHECK(peer.says(forged).empty());
  peer.next_id = 3;
  probe.header = peer.header(ExchangeType::informational);
  const auto next = peer.sealed_within(probe, 500);
  for (std::size_t i = 0; i < next.size(); ++i) CHECK(peer.says(next[i]).size() == (i + 1 == next.size() ? 1 : 0));
  CHECK(peer.says(next[0]).size() == 1);
  CHECK(peer.says(next[2]).empty());
}

TEST_CASE("RFC 7383: before a peer has proved who it is, it has us keep little") {
  ScriptedPeer peer;
  peer.fragments = true;
  peer.exchange_init();
  Message big{peer.header(ExchangeType::ike_auth), {}};
  for (int i = 0; i < 45; ++i) big.add(PayloadType::vendor_id, VendorIdPayload{Octets(900)});
  for (const Octets& one : peer.sealed_within(big, 1200)) CHECK(peer.says(one).empty());  // more than it may
  CHECK(peer.lab.b.count(SessionPhase::init_answered) == 1);
  // A true one is taken all the same.
  CHECK(peer.says(peer.sealed(peer.auth_request())).size() == 1);
  CHECK(peer.lab.b.count(SessionPhase::established) == 1);
}

TEST_CASE("RFC 7296 §2.3: requests within our window may overtake each other; they are answered in order") {
  ScriptedPeer peer;
  Lab::edit(peer.lab.b, [](Connection& c) { c.options.window = 3; });
  peer.establish();
  const auto probe = [&](std::uint32_t id) {
    peer.next_id = id;
    return peer.sealed({peer.header(ExchangeType::informational), {}});
  };
  const auto ids = [&](const std::vector<Octets>& answers) {
    std::vector<std::uint32_t> out;
    for (const Octets& one : answers) out.push_back(peer.opened(one).header.message_id);
    return out;
  };
  const Octets two = probe(2), three = probe(3), four = probe(4), five = probe(5);
  CHECK(peer.says(five).empty());  // outside: 2, 3, 4
  CHECK(peer.says(four).empty());
  CHECK(peer.says(three).empty());
  Octets forged = three;
  forged.back() ^= std::byte{1};
  CHECK(peer.says(forged).empty());
  CHECK(ids(peer.says(two)) == std::vector<std::uint32_t>{2, 3, 4});
  // Each is answered again as long as it may still be asked for.
  for (const auto& [bytes, id] : {std::pair(two, 2U), std::pair(three, 3U), std::pair(four, 4U)})
    CHECK(ids(peer.says(bytes)) == std::vector<std::uint32_t>{id});
  CHECK(ids(peer.says(five)) == std::vector<std::uint32_t>{5});
  CHECK(peer.says(two).empty());
  CHECK(peer.lab.b.established().view(peer.lab.now).next_expected == 6);
}

TEST_CASE("RFC 7296 §2.3: with a window of one nothing is kept, and both ends tell their windows") {
  ScriptedPeer peer;
  Lab::edit(peer.lab.b, [](Connection& c) { c.options.window = 1; });
  peer.establish();
  peer.next_id = 3;
  CHECK(peer.says(peer.sealed({peer.header(ExchangeType::informational), {}})).empty());
  peer.next_id = 2;
  CHECK(peer.says(peer.sealed({peer.header(ExchangeType::informational), {}})).size() == 1);
  Lab lab;
  Lab::edit(lab.a, [](Connection& c) { c.options.window = 7; });
  lab.start(0);
  lab.run(std::chrono::seconds(2));
  CHECK(lab.a.established().view(lab.now).window == 5);
  CHECK(lab.a.established().view(lab.now).window_in == 7);
  CHECK(lab.b.established().view(lab.now).window == 7);
  CHECK(lab.b.established().view(lab.now).window_in == 5);
}

TEST_CASE("RFC 6023: an IKE SA without a child, which comes later") {
  ScriptedPeer peer;
  peer.exchange_init();
  CHECK(peer.init_answer.notify(NotifyType::childless_ikev2_supported) != nullptr);
  Message request = peer.auth_request();
  std::erase_if(request.payloads, [](const Payload& p) {
    return p.type == PayloadType::sa || p.type == PayloadType::ts_initiator || p.type == PayloadType::ts_responder;
  });
  const auto answers = peer.says(peer.sealed(request));
  REQUIRE(answers.size() == 1);
  const Message answer = peer.opened(answers[0]);
  CHECK(answer.find<AuthPayload>(PayloadType::auth) != nullptr);
  CHECK(answer.find<SaPayload>(PayloadType::sa) == nullptr);
  CHECK(answer.error() == nullptr);
  CHECK(peer.lab.b.count(SessionPhase::established) == 1);
  CHECK(peer.lab.b.live().empty());
  peer.next_id = 2;
  REQUIRE(peer.says(peer.sealed(peer.child_request())).size() == 1);
  CHECK(peer.lab.b.live().size() == 1);
}

TEST_CASE("RFC 7296 §2.9: more selectors than we take are cut, and the peer is told") {
  for (const std::size_t most : {std::size_t{16}, std::size_t{2}}) {
    Lab lab;
    add_many_selectors(lab);
    Lab::edit(lab.b, [&](Connection& c) { c.options.max_selectors = static_cast<std::uint16_t>(most); });
    lab.start(0);
    lab.run(std::chrono::seconds(2));
    lab.check_whole();
    CHECK(lab.a.live()[0]->remote.size() == most);
    CHECK(lab.b.live()[0]->local.size() == most);
    CHECK(lab.b.live()[0]->local[0] == selector_of(*Prefix::parse("10.2.0.0/16")));
  }
}

namespace {

// "10.1.0.0/24", "10.1.1.0/24" and so on.
std::vector<Selector> networks(const char* of, std::size_t count) {
  std::vector<Selector> out;
  for (std::size_t i = 0; i < count; ++i)
    out.push_back(selector_of(*Prefix::parse((of + std::to_string(i) + ".0/24").c_str())));
  return out;
}

void ask_for(Message& request, const std::vector<Selector>& ours, const std::vector<Selector>& theirs) {
  for (Payload& one : request.payloads) {
    if (one.type == PayloadType::ts_initiator) one.body = TsPayload{ours};
    if (one.type == PayloadType::ts_responder) one.body = TsPayload{theirs};
  }
}

// The peer's side and ours, as an answer has them.
struct Taken {
  std::vector<Selector> theirs, ours;
  bool more = false;
  explicit Taken(const Message& answer)
      : theirs(answer.find<TsPayload>(PayloadType::ts_initiator)->selectors),
        ours(answer.find<TsPayload>(PayloadType::ts_responder)->selectors),
        more(answer.notify(NotifyType::additional_ts_possible) != nullptr) {}
};

}  // namespace

TEST_CASE("RFC 7296 §2.9: what is agreed on is what an SA holds: whole selectors, the first ones of both sides") {
  struct Row {
    std::size_t permitted, theirs, ours, theirs_taken, ours_taken;
  };
  for (const Row& row : {Row{16, 1, 1, 1, 1}, Row{16, 16, 2, 16, 2}, Row{16, 17, 1, 16, 1}, Row{32, 17, 1, 17, 1},
                         Row{32, 1, 32, 1, 32}, Row{32, 33, 1, 32, 1}, Row{32, 17, 2, 16, 2}, Row{16, 2, 16, 2, 16},
                         Row{16, 16, 16, 5, 6}, Row{3, 16, 16, 3, 3}}) {
    CAPTURE(row.theirs);
    CAPTURE(row.ours);
    ScriptedPeer peer;
    Lab::edit(peer.lab.b, [&](Connection& c) { c.options.max_selectors = static_cast<std::uint16_t>(row.permitted); });
    peer.exchange_init();
    const auto theirs = networks("10.1.", row.theirs), ours = networks("10.2.", row.ours);
    Message request = peer.auth_request();
    ask_for(request, theirs, ours);
    const auto answers = peer.says(peer.sealed(request));
    REQUIRE(answers.size() == 1);
    const Taken taken(peer.opened(answers[0]));
    CHECK(
        (taken.theirs == std::vector(theirs.begin(), theirs.begin() + static_cast<std::ptrdiff_t>(row.theirs_taken))));
    CHECK((taken.ours == std::vector(ours.begin(), ours.begin() + static_cast<std::ptrdiff_t>(row.ours_taken))));
    CHECK(taken.more == (row.theirs_taken < row.theirs || row.ours_taken < row.ours));
    REQUIRE(peer.lab.b.live().size() == 1);
    const InstallChild& sa = *peer.lab.b.live().front();
    CHECK(sa.local == taken.ours);
    CHECK(sa.remote == taken.theirs);
    CHECK(pair_count(sa.local, sa.remote) <= max_selectors);
  }
}

TEST_CASE(
    "RFC 7296 §2.9.2: a rekey of an SA that was cut to fit is for what it holds, in whatever order it is asked for") {
  for (const bool all : {true, false}) {
    ScriptedPeer peer;
    peer.exchange_init();
    auto theirs = networks("10.1.", 16), ours = networks("10.2.", 16);
    Message request = peer.auth_request();
    ask_for(request, theirs, ours);
    REQUIRE(peer.says(peer.sealed(request)).size() == 1);
    REQUIRE(peer.lab.b.live().size() == 1);
    const std::vector<Selector> held = peer.lab.b.live().front()->remote;
    peer.next_id = 2;
    request = peer.child_request();
    request.add_notify(NotifyType::rekey_sa, {}, ProtocolId::esp, Octets(4, std::byte{0xa0}));
    std::ranges::reverse(theirs);
    std::ranges::reverse(ours);
    if (!all) theirs.pop_back();  // which the SA holds
    ask_for(request, theirs, ours);
    const auto answers = peer.says(peer.sealed(request));
    REQUIRE(answers.size() == 1);
    const Message answer = peer.opened(answers[0]);
    if (all)
      CHECK(Taken(answer).theirs == held);
    else
      CHECK(answer.notify(NotifyType::ts_unacceptable) != nullptr);
    CHECK(peer.lab.b.count(EventKind::child_rekeyed) == (all ? 1 : 0));
  }
}

TEST_CASE("RFC 7296 §2.9: selectors that make no pair are no agreement: TS_UNACCEPTABLE, and not an SA of nothing") {
  ScriptedPeer peer;
  peer.exchange_init();
  Message request = peer.auth_request();
  Selector tcp = selector_of(*Prefix::parse("10.1.0.0/24"), 6), udp = selector_of(*Prefix::parse("10.2.0.0/24"), 17);
  ask_for(request, {tcp}, {udp});
  const auto answers = peer.says(peer.sealed(request));
  REQUIRE(answers.size() == 1);
  CHECK(peer.opened(answers[0]).notify(NotifyType::ts_unacceptable) != nullptr);
  CHECK(peer.lab.b.live().empty());
}

TEST_CASE("RFC 7296 §2.5: a critical payload that nobody knows in IKE_SA_INIT is named, and nothing is kept") {
  ScriptedPeer peer;
  const SaPayload offer = offer_ike(std::vector{ike_proposal()}, {});
  Message request{peer.header(ExchangeType::ike_sa_init), {}};
  request.header.message_id = 0;
  request.add(PayloadType::sa, offer);
  Octets bytes = encode_message(request);
  bytes[header_bytes] = std::byte{200};
  const Octets critical = wire_payload(PayloadType::none, Octets(2), 0x80);
  bytes.insert(bytes.end(), critical.begin(), critical.end());
  store_be32(bytes.data() + 24, static_cast<std::uint32_t>(bytes.size()));
  const auto answers = peer.says(bytes);
  REQUIRE(answers.size() == 1);
  const auto answer = parse_message(answers[0]);
  REQUIRE(answer);
  const auto* const notify = answer->notify(NotifyType::unsupported_critical_payload);
  REQUIRE(notify != nullptr);
  CHECK(notify->data == Octets{std::byte{200}});
  CHECK(peer.lab.b.count(SessionPhase::closed) == 1);
}

namespace {

const Endpoint home{address("192.0.2.1"), 500}, away{address("192.0.2.77"), 500}, b_end{address("192.0.2.2"), 500};

struct Moving : ScriptedPeer {
  std::vector<MoveChild> moves;
  std::optional<Message> question;  // of B's: whether the peer is there (RFC 4555 §3.7)

  explicit Moving(bool wants = true) {
    mobike = wants;
    establish();
  }
  // A request that comes from `from`; B's answer.
  Message asks(const Message& request, const Endpoint& from, bool answered = true) {
    const auto answer = takes(lab.b.established().on_datagram(sealed(request), b_end, from, lab.now), from);
    REQUIRE(answer.has_value() == answered);
    ++next_id;
    return answer.value_or(Message{});
  }
  // From its new place, with what B wants to see again, or something else.
  void answers_from(const Endpoint& from, const std::optional<Octets>& cookie = {}) {
    REQUIRE(question);
    const auto* const asked = question->notify(NotifyType::cookie2);
    REQUIRE(asked != nullptr);
    CHECK(asked->data.size() >= 8);
    CHECK(asked->data.size() <= 64);
    Message m{header(ExchangeType::informational, true), {}};
    m.header.message_id = question->header.message_id;
    m.add_notify(NotifyType::cookie2, cookie.value_or(asked->data));
    question.reset();
    (void)takes(lab.b.established().on_datagram(sealed(m), b_end, from, lab.now), from);
  }
  Message update() {
    Message m{header(ExchangeType::informational), {}};
    m.add_notify(NotifyType::update_sa_addresses);
    return m;
  }

 private:
  // What B does; its answer, if there is one.
  std::optional<Message> takes(const Actions& actions, const Endpoint& from) {
    std::optional<Message> answer;
    for (const Action& one : actions) {
      if (const auto* const moved = std::get_if<MoveChild>(&one)) moves.push_back(*moved);
      if (const auto* const failed = std::get_if<Event>(&one); failed != nullptr && failed->failure)
        lab.b.failures.push_back(*failed->failure);
      const auto* const sent = std::get_if<SendDatagram>(&one);
      if (sent == nullptr) continue;
      CHECK(sent->remote == from);
      const auto header = parse_header(sent->bytes);
      if (header) (header->response ? answer : question) = opened(sent->bytes);
    }
    return answer;
  }
};

}  // namespace

TEST_CASE("RFC 4555 §3.5: the original initiator moves, and its SAs with it") {
  Moving peer;
  CHECK(peer.lab.b.established().view(peer.lab.now).mobike);
  Message update = peer.update();
  update.add_notify(NotifyType::cookie2, Octets(16, std::byte{5}));
  const Message answer = peer.asks(update, away);
  CHECK(answer.error() == nullptr);
  REQUIRE(answer.notify(NotifyType::cookie2) != nullptr);
  CHECK(answer.notify(NotifyType::cookie2)->data == Octets(16, std::byte{5}));
  CHECK(peer.lab.b.established().view(peer.lab.now).remote == away);
  CHECK(peer.moves.empty());  // §3.7: not before it has answered from there
  peer.answers_from(away);
  REQUIRE(peer.moves.size() == 1);
  CHECK(peer.moves[0].remote_endpoint == away);
  // And back; a request alone moves nobody.
  peer.asks({peer.header(ExchangeType::informational), {}}, home);
  CHECK(peer.moves.size() == 1);
  peer.asks(peer.update(), home);
  CHECK(peer.moves.size() == 1);
  peer.answers_from(home);
  CHECK(peer.moves.size() == 2);
}

TEST_CASE("RFC 4555 §3.7: return routability: who does not show that it is there is sent nothing but the question") {
  Moving peer;
  peer.asks(peer.update(), away);
  REQUIRE(peer.question);
  SUBCASE("another COOKIE2: the IKE SA is closed") {
    peer.answers_from(away, Octets(16, std::byte{9}));
    CHECK(peer.moves.empty());
    CHECK(peer.lab.b.count(SessionPhase::established) == 0);
    REQUIRE(peer.lab.b.failures.size() == 1);
    CHECK(peer.lab.b.failures[0].kind == FailureKind::refused);
  }
  SUBCASE("a child that is made meanwhile does not go there either") {
    const auto before = peer.lab.b.live().size();
    Message request = peer.child_request();
    request.header.message_id = peer.next_id++;
    peer.lab.perform(1, peer.lab.b.established().on_datagram(peer.sealed(request), b_end, away, peer.lab.now));
    REQUIRE(peer.lab.b.live().size() == before + 1);
    CHECK(peer.lab.b.live().back()->remote_endpoint == home);
  }
  SUBCASE("no answer at all: the IKE SA ends, and its SAs have gone nowhere") {
    for (int i = 0; i < 200 && peer.lab.b.count(SessionPhase::established) == 1; ++i) {
      const auto next = peer.lab.b.established().next_timer();
      REQUIRE(next);
      peer.lab.now = *next;
      for (const Action& one : peer.lab.b.established().on_timer(peer.lab.now))
        CHECK_FALSE(std::holds_alternative<MoveChild>(one));
    }
    CHECK(peer.lab.b.count(SessionPhase::established) == 0);
  }
  SUBCASE("elsewhere again: the first question has been to several places, and another one tells") {
    const Endpoint third{address("192.0.2.99"), 500};
    const Message first = *peer.question;
    peer.asks(peer.update(), third);
    peer.question = first;
    peer.answers_from(third);
    CHECK(peer.moves.empty());
    REQUIRE(peer.question);
    CHECK(peer.question->notify(NotifyType::cookie2)->data != first.notify(NotifyType::cookie2)->data);
    peer.answers_from(third);
    REQUIRE(peer.moves.size() == 1);
    CHECK(peer.moves[0].remote_endpoint == third);
  }
  SUBCASE("back where it was: nothing has to be shown") {
    peer.asks(peer.update(), home);
    REQUIRE(peer.moves.size() == 1);
    CHECK(peer.moves[0].remote_endpoint == home);
  }
}

TEST_CASE("RFC 4555: what is refused, and moves nothing") {
  SUBCASE("MOBIKE that was not agreed on") {
    Moving peer(false);
    CHECK_FALSE(peer.lab.b.established().view(peer.lab.now).mobike);
    peer.asks(peer.update(), away);
    CHECK(peer.moves.empty());
  }
  SUBCASE("another family: no policy knows of it") {
    Moving peer;
    const Message answer = peer.asks(peer.update(), {address("2001:db8::77"), 500});
    CHECK(answer.notify(NotifyType::unacceptable_addresses) != nullptr);
    CHECK(peer.moves.empty());
  }
  SUBCASE("NO_NATS_ALLOWED, and there is one") {
    Moving peer;
    Message update = peer.update();
    Octets seen;
    for (const int byte : {192, 0, 2, 1, 192, 0, 2, 2, 1, 244, 1, 244}) seen.push_back(static_cast<std::byte>(byte));
    update.add_notify(NotifyType::no_nats_allowed, seen);
    const Message answer = peer.asks(update, away);
    CHECK(answer.notify(NotifyType::unexpected_nat_detected) != nullptr);
    CHECK(peer.moves.empty());
    update = peer.update();
    seen[3] = std::byte{77};
    update.add_notify(NotifyType::no_nats_allowed, seen);
    CHECK(peer.asks(update, away).error() == nullptr);
    peer.answers_from(away);
    CHECK(peer.moves.size() == 1);
  }
  SUBCASE("§4.2.5: a COOKIE2 that is too short or too long is none") {
    for (const std::size_t bytes : {7, 65}) {
      Moving peer;
      Message update = peer.update();
      update.add_notify(NotifyType::cookie2, Octets(bytes, std::byte{5}));
      const Message answer = peer.asks(update, away);
      CHECK(answer.notify(NotifyType::invalid_syntax) != nullptr);
      CHECK(peer.moves.empty());
      CHECK(peer.lab.b.count(SessionPhase::established) == 0);
    }
  }
  SUBCASE("a datagram that is not authentic") {
    Moving peer;
    Octets forged = peer.sealed(peer.update());
    forged.back() ^= std::byte{1};
    CHECK(peer.lab.b.established().on_datagram(forged, b_end, away, peer.lab.now).empty());
    CHECK(peer.lab.b.established().view(peer.lab.now).remote == home);
  }
}

TEST_CASE("RFC 4555 §3.9: NO_NATS_ALLOWED in IKE_AUTH: no IKE SA where there is one, nor where it cannot be read") {
  struct Row {
    const char* what;
    std::vector<int> seen;
    bool mobike, both, made;
  };
  const std::vector<int> right = {192, 0, 2, 1, 192, 0, 2, 2, 1, 244, 1, 244};
  const Row rows[] = {
      {"there is none", right, true, true, true},
      {"another source", {192, 0, 2, 9, 192, 0, 2, 2, 1, 244, 1, 244}, true, true, false},
      {"another destination", {192, 0, 2, 1, 192, 0, 2, 9, 1, 244, 1, 244}, true, true, false},
      {"another port", {192, 0, 2, 1, 192, 0, 2, 2, 1, 245, 1, 244}, true, true, false},
      {"in another order", {192, 0, 2, 2, 192, 0, 2, 1, 1, 244, 1, 244}, true, true, false},
      {"cut short", {192, 0, 2, 1}, true, true, false},
      {"empty", {}, true, true, false},
      {"of who does not do MOBIKE", {}, false, true, true},
      {"to who does not do MOBIKE", {}, true, false, true},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    ScriptedPeer peer;
    peer.mobike = row.mobike;
    Lab::edit(peer.lab.b, [&](Connection& c) { c.options.mobike = row.both; });
    peer.exchange_init();
    Message request = peer.auth_request();
    Octets seen;
    for (const int byte : row.seen) seen.push_back(static_cast<std::byte>(byte));
    request.add_notify(NotifyType::no_nats_allowed, seen);
    const auto answers = peer.says(peer.sealed(request));
    REQUIRE(answers.size() == 1);
    const Message answer = peer.opened(answers[0]);
    CHECK((answer.notify(NotifyType::unexpected_nat_detected) != nullptr) == !row.made);
    CHECK(peer.lab.b.count(SessionPhase::established) == (row.made ? 1 : 0));
    CHECK(peer.lab.b.live().size() == (row.made ? 1 : 0));
    CHECK(peer.lab.b.failures.size() == (row.made ? 0 : 1));
  }
}

TEST_CASE("RFC 4555 §3.8: a NAT that appears on the way is seen, and the children go on in UDP") {
  Moving peer;
  Message update = peer.update();
  update.add_notify(NotifyType::nat_detection_source_ip, Octets(20, std::byte{1}));
  update.add_notify(NotifyType::nat_detection_destination_ip,
                    nat_detection_hash(peer.spi_i, peer.spi_r, b_end.address, b_end.port));
  const Message answer = peer.asks(update, away);
  CHECK(answer.notify(NotifyType::nat_detection_source_ip) != nullptr);
  CHECK(peer.lab.b.established().view(peer.lab.now).nat_remote);
  peer.answers_from(away);
  REQUIRE(peer.moves.size() == 1);
  CHECK(peer.moves[0].udp_encapsulation);
  CHECK(peer.moves[0].local_endpoint == b_end);
  CHECK(peer.lab.b.established().view(peer.lab.now).next_request == 1);  // and nothing is negotiated
}
