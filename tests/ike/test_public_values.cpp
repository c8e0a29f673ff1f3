// RFC 6989 §2: public values that no peer sends who keeps to the protocol, in every exchange that has a KE payload and
// in both roles. What makes them wrong for a group is tests/crypto/test_dh.cpp's.
#include <openssl/bn.h>

#include "tests/ike/scripted_peer.hpp"

using namespace postern;
using namespace postern::ike;
using namespace postern::ike::lab;
using crypto::DhGroup;

namespace {

Octets good(DhGroup group) {
  const auto dh = crypto::DhExchange::create(group);
  REQUIRE(dh);
  return {dh->public_value().begin(), dh->public_value().end()};
}
Octets off_curve(DhGroup group) {
  Octets out = good(group);
  out.back() ^= std::byte{1};
  return out;
}
Octets number(DhGroup group, unsigned value) {
  Octets out(crypto::public_value_bytes(group));
  out.back() = static_cast<std::byte>(value);
  return out;
}
// RFC 3526 §3.
Octets prime_minus_one(DhGroup group) {
  BIGNUM* const prime = BN_get_rfc3526_prime_2048(nullptr);
  Octets out(crypto::public_value_bytes(group));
  REQUIRE(BN_sub_word(prime, 1) == 1);
  REQUIRE(BN_bn2binpad(prime, reinterpret_cast<unsigned char*>(out.data()), static_cast<int>(out.size())) > 0);
  BN_free(prime);
  return out;
}
Octets cut(Octets value) {
  value.pop_back();
  return value;
}

struct Row {
  const char* name;
  DhGroup group;
  Octets value;
};
std::vector<Row> rows() {
  std::vector<Row> out;
  for (const DhGroup group : {DhGroup::ecp256, DhGroup::ecp384, DhGroup::ecp521}) {
    out.push_back({"a point beside the curve", group, off_curve(group)});
    out.push_back({"the point 0, 0", group, number(group, 0)});
    out.push_back({"another length", group, cut(good(group))});
  }
  out.push_back({"3, which is outside the subgroup", DhGroup::modp2048s256, number(DhGroup::modp2048s256, 3)});
  out.push_back({"1", DhGroup::modp2048s256, number(DhGroup::modp2048s256, 1)});
  out.push_back({"0", DhGroup::modp2048, number(DhGroup::modp2048, 0)});
  out.push_back({"1", DhGroup::modp2048, number(DhGroup::modp2048, 1)});
  out.push_back({"p - 1", DhGroup::modp2048, prime_minus_one(DhGroup::modp2048)});
  out.push_back({"another length", DhGroup::modp2048, cut(good(DhGroup::modp2048))});
  out.push_back({"all zero", DhGroup::curve25519, number(DhGroup::curve25519, 0)});
  out.push_back({"1, of small order", DhGroup::curve25519, Octets{std::byte{1}}});
  out.back().value.resize(32);  // RFC 7748 §5: little-endian
  return out;
}
// Both with values that are wrong and, of the same groups, with one that is right.
template <class Check>
void with_each_value(Check&& check) {
  std::set<DhGroup> groups;
  for (const Row& row : rows()) {
    CAPTURE(row.name);
    CAPTURE(static_cast<unsigned>(row.group));
    check(row.group, row.value, false);
    if (groups.insert(row.group).second) check(row.group, good(row.group), true);
  }
}

bool names_the_value(const std::string& words, DhGroup group) {
  return words.find("DH group " + std::to_string(static_cast<unsigned>(group))) != std::string::npos;
}
void check_told(const End& end, DhGroup group) {
  REQUIRE(end.failures.size() == 1);
  CHECK(end.failures[0].kind == FailureKind::invalid_syntax);
  CHECK(names_the_value(end.failures[0].summary, group));
  CHECK_FALSE(end.failures[0].remedy.empty());
}

// Of a group in the same message, whose KE payload is `value`.
Message init_request(DhGroup group, Octets value) {
  Message out{{0xa1a1, 0, ExchangeType::ike_sa_init, true, false, 0}, {}};
  out.add(PayloadType::sa, offer_ike(std::vector{ike_proposal({group})}, {}));
  out.add(PayloadType::ke, KePayload{group, std::move(value)});
  out.add(PayloadType::nonce, NoncePayload{Octets(32, std::byte{7})});
  return out;
}

struct Peer : ScriptedPeer {
  explicit Peer(DhGroup group) {
    Lab::edit(lab.b, [&](Connection& c) {
      c.proposals = {ike_proposal({DhGroup::curve25519})};
      if (group != DhGroup::curve25519) c.proposals = {ike_proposal({DhGroup::curve25519, group})};
      c.children.front().pfs = {group};
    });
    establish();
  }
  // B's request that is under way.
  Message asked() {
    REQUIRE(lab.wire.size() == 1);
    const Message out = opened(lab.wire.front().bytes);
    lab.wire.clear();
    next_id = out.header.message_id;
    return out;
  }
  std::vector<Octets> answers(const Message& with) { return says(sealed(with)); }
  Message response() const { return {header(ExchangeType::create_child_sa, true), {}}; }
  Message child_answer(const Message& request, DhGroup group, Octets value) {
    const auto chosen =
        choose_esp(*request.find<SaPayload>(PayloadType::sa), lab.b.connections.front()->children.front().proposals,
                   std::vector{group}, request.find<KePayload>(PayloadType::ke)->group, 0xc0c0c0c0, false);
    REQUIRE(chosen);
    Message out = response();
    out.add(PayloadType::sa, chosen->answer);
    out.add(PayloadType::nonce, NoncePayload{nonce_i()});
    out.add(PayloadType::ke, KePayload{group, std::move(value)});
    out.add(PayloadType::ts_initiator, *request.find<TsPayload>(PayloadType::ts_initiator));
    out.add(PayloadType::ts_responder, *request.find<TsPayload>(PayloadType::ts_responder));
    return out;
  }
  Message ike_answer(const Message& request, DhGroup group, Octets value) {
    const auto chosen = choose_ike(*request.find<SaPayload>(PayloadType::sa), std::vector{ike_proposal({group})}, group,
                                   Octets(8, std::byte{9}));
    REQUIRE(chosen);
    Message out = response();
    out.add(PayloadType::sa, chosen->answer);
    out.add(PayloadType::nonce, NoncePayload{nonce_i()});
    out.add(PayloadType::ke, KePayload{group, std::move(value)});
    return out;
  }
  // What was there before is there still, and nothing else.
  void check_as_before() {
    CHECK(lab.b.count(SessionPhase::established) == 1);
    CHECK(lab.b.sessions.size() == 1);
    CHECK(lab.b.live().size() == 1);
    CHECK(lab.b.outbound.size() == 1);
    CHECK(lab.b.spis.size() == 1);
  }
};

}  // namespace

TEST_CASE("IKE_SA_INIT, asked: INVALID_SYNTAX without protection, a diagnosis in words, and nothing is kept") {
  with_each_value([](DhGroup group, const Octets& value, bool right) {
    Lab lab;
    lab.edit_both([&](Connection& c) { c.proposals = {ike_proposal({group})}; });
    lab.deliver({0, {lab.a.own, 500}, {lab.b.own, 500}, encode_message(init_request(group, value)), 0});
    REQUIRE(lab.wire.size() == 1);
    const auto answer = parse_message(lab.wire.front().bytes);
    REQUIRE(answer);
    if (right) {
      CHECK(answer->find<KePayload>(PayloadType::ke) != nullptr);
      CHECK(lab.b.failures.empty());
      CHECK(lab.b.count(SessionPhase::init_answered) == 1);
      return;
    }
    CHECK(answer->header == Header{0xa1a1, 0, ExchangeType::ike_sa_init, false, true, 0});
    REQUIRE(answer->payloads.size() == 1);
    CHECK(answer->notify(NotifyType::invalid_syntax) != nullptr);
    CHECK(lab.b.count(SessionPhase::closed) == lab.b.sessions.size());
    check_told(lab.b, group);
  });
}

TEST_CASE("IKE_SA_INIT, answered: such an answer is passed over, told of, and the true one still counts") {
  with_each_value([](DhGroup group, const Octets& value, bool right) {
    if (right) return;  // a value of nobody's key makes an IKE SA with nobody
    Lab lab;
    lab.edit_both([&](Connection& c) { c.proposals = {ike_proposal({group})}; });
    lab.start(0);
    REQUIRE(lab.wire.size() == 1);
    const Message request = *parse_message(lab.wire.front().bytes);
    const auto chosen =
        choose_ike(*request.find<SaPayload>(PayloadType::sa), std::vector{ike_proposal({group})}, group, {});
    REQUIRE(chosen);
    Message answer{{request.header.initiator_spi, 0x77, ExchangeType::ike_sa_init, false, true, 0}, {}};
    answer.add(PayloadType::sa, chosen->answer);
    answer.add(PayloadType::ke, KePayload{group, value});
    answer.add(PayloadType::nonce, NoncePayload{Octets(32, std::byte{3})});
    lab.perform(
        0, lab.a.sessions.back()->on_datagram(encode_message(answer), {lab.a.own, 500}, {lab.b.own, 500}, lab.now));
    CHECK(lab.a.sessions.back()->phase() == SessionPhase::init_sent);
    CHECK(lab.wire.size() == 1);
    CHECK(lab.a.failures.empty());
    CHECK(std::ranges::any_of(lab.a.events, [&](const Event& e) {
      return e.kind == EventKind::message_ignored && names_the_value(e.text, group);
    }));
    lab.run(std::chrono::seconds(2));
    lab.check_whole();
  });
}

TEST_CASE("CREATE_CHILD_SA for a child, asked: refused and told of; the IKE SA and its child go on") {
  with_each_value([](DhGroup group, const Octets& value, bool right) {
    Peer peer(group);
    Message request{peer.header(ExchangeType::create_child_sa), {}};
    const auto& proposals = peer.lab.b.connections.front()->children.front().proposals;
    request.add(PayloadType::sa, offer_esp(proposals, 0xb0b0b0b0, std::vector{group}));
    request.add(PayloadType::nonce, NoncePayload{peer.nonce_i()});
    request.add(PayloadType::ke, KePayload{group, value});
    request.add(PayloadType::ts_initiator, TsPayload{{selector_of(*Prefix::parse("10.1.0.0/16"))}});
    request.add(PayloadType::ts_responder, TsPayload{{selector_of(*Prefix::parse("10.2.0.0/16"))}});
    const auto answers = peer.answers(request);
    REQUIRE(answers.size() == 1);
    const Message answer = peer.opened(answers[0]);
    CHECK((answer.error() == nullptr) == right);
    if (right) {
      CHECK(peer.lab.b.live().size() == 2);
      return;
    }
    CHECK(answer.payloads.size() == 1);
    REQUIRE(peer.lab.b.failures.size() == 1);
    CHECK(names_the_value(peer.lab.b.failures[0].summary, group));
    peer.check_as_before();
  });
}

TEST_CASE("CREATE_CHILD_SA for a child, answered: the rekey has failed, in words, and the old child goes on") {
  with_each_value([](DhGroup group, const Octets& value, bool right) {
    Peer peer(group);
    peer.lab.perform(1, peer.lab.b.established().rekey_child(peer.lab.b.outbound.at(1), peer.lab.now));
    const Message request = peer.asked();
    (void)peer.answers(peer.child_answer(request, group, value));
    if (right) {
      CHECK(peer.lab.b.count(EventKind::child_rekeyed) == 1);
      CHECK(peer.lab.b.failures.empty());
      return;
    }
    REQUIRE(peer.lab.b.failures.size() == 1);
    CHECK(peer.lab.b.failures[0].kind == FailureKind::invalid_syntax);
    CHECK(peer.lab.b.failures[0].by_peer);
    CHECK(names_the_value(peer.lab.b.failures[0].summary, group));
    peer.check_as_before();
  });
}

TEST_CASE("CREATE_CHILD_SA for the IKE SA, asked: INVALID_SYNTAX inside, told of, and the old IKE SA goes on") {
  with_each_value([](DhGroup group, const Octets& value, bool right) {
    Peer peer(group);
    Message request{peer.header(ExchangeType::create_child_sa), {}};
    request.add(PayloadType::sa, offer_ike(std::vector{ike_proposal({group})}, Octets(8, std::byte{5})));
    request.add(PayloadType::nonce, NoncePayload{peer.nonce_i()});
    request.add(PayloadType::ke, KePayload{group, value});
    const auto answers = peer.answers(request);
    REQUIRE(answers.size() == 1);
    const Message answer = peer.opened(answers[0]);
    if (right) {
      CHECK(answer.error() == nullptr);
      CHECK(peer.lab.b.sessions.size() == 2);
      return;
    }
    REQUIRE(answer.payloads.size() == 1);
    CHECK(answer.notify(NotifyType::invalid_syntax) != nullptr);
    check_told(peer.lab.b, group);
    peer.check_as_before();
  });
}

TEST_CASE("CREATE_CHILD_SA for the IKE SA, answered: the rekey has failed, in words, and the old IKE SA goes on") {
  with_each_value([](DhGroup group, const Octets& value, bool right) {
    Peer peer(group);
    peer.lab.perform(1, peer.lab.b.established().rekey(peer.lab.now));
    Message request = peer.asked();
    if (group != DhGroup::curve25519) {  // it begins with the group that the IKE SA has
      Message other = peer.response();
      const auto wanted = static_cast<std::uint16_t>(group);
      other.add_notify(NotifyType::invalid_ke_payload,
                       {static_cast<std::byte>(wanted >> 8), static_cast<std::byte>(wanted)});
      for (Octets& one : peer.answers(other)) peer.lab.wire.push_back({1, {}, {}, std::move(one), 0});
      request = peer.asked();
    }
    REQUIRE(request.find<KePayload>(PayloadType::ke)->group == group);
    (void)peer.answers(peer.ike_answer(request, group, value));
    if (right) {
      CHECK(peer.lab.b.count(EventKind::ike_rekeyed) == 1);
      CHECK(peer.lab.b.failures.empty());
      return;
    }
    check_told(peer.lab.b, group);
    CHECK(peer.lab.b.failures[0].by_peer);
    peer.check_as_before();
  });
}
