// Clauses of RFC 7296 that no other test is about, one after the other.
#include "ike/negotiate.hpp"
#include "ike/session_core.hpp"
#include "tests/ike/scripted_gateway.hpp"
#include "tests/ike/scripted_peer.hpp"

using namespace postern;
using namespace postern::ike;
using namespace postern::ike::lab;

namespace {

// A begins; what answers its IKE_SA_INIT is the test's.
struct Begun {
  Lab lab;

  explicit Begun(std::vector<crypto::DhGroup> groups = {crypto::DhGroup::curve25519, crypto::DhGroup::ecp256}) {
    Lab::edit(lab.a, [&](Connection& c) { c.proposals = {ike_proposal(std::move(groups))}; });
    lab.start(0);
  }
  // What A has sent last.
  Message request() {
    REQUIRE(lab.wire.size() == 1);
    const auto parsed = parse_message(lab.wire[0].bytes);
    REQUIRE(parsed);
    lab.wire.clear();
    return *parsed;
  }
  void answer(const Message& to, NotifyType type, Octets data) {
    Message out{{to.header.initiator_spi, 0, ExchangeType::ike_sa_init, false, true, 0}, {}};
    out.add_notify(type, std::move(data));
    lab.deliver({1, {lab.b.own, 500}, {lab.a.own, 500}, encode_message(out), lab.sent++});
  }
};

Octets body_of(const Message& message, PayloadType type) {
  const auto found = std::ranges::find(message.payloads, type, &Payload::type);
  REQUIRE(found != message.payloads.end());
  return encode_payload(*found);
}
crypto::DhGroup group_of(const Message& message) {
  const auto* const ke = message.find<KePayload>(PayloadType::ke);
  REQUIRE(ke != nullptr);
  return ke->group;
}
bool offers(const Message& message, crypto::DhGroup group) {
  constexpr auto key_exchange = TransformType::key_exchange;
  const auto* const sa = message.find<SaPayload>(PayloadType::sa);
  REQUIRE(sa != nullptr);
  return std::ranges::any_of(sa->proposals, [&](const Proposal& proposal) {
    return std::ranges::any_of(proposal.transforms, [&](const Transform& one) {
      return one.type == key_exchange && one.id == static_cast<std::uint16_t>(group);
    });
  });
}

TsPayload& selectors_of(Message& message, PayloadType side) {
  return std::get<TsPayload>(std::ranges::find(message.payloads, side, &Payload::type)->body);
}

// What B asks the scripted peer next.
Message asked(ScriptedPeer& peer, Actions actions) {
  peer.lab.perform(1, std::move(actions));
  REQUIRE(peer.lab.wire.size() == 1);
  Message out = peer.opened(peer.lab.wire[0].bytes);
  peer.lab.wire.clear();
  return out;
}

}  // namespace

TEST_CASE("§1.2, §2.7: after INVALID_KE_PAYLOAD the whole offer is made again, with a KE of a group that it holds") {
  Begun begun;
  const Message first = begun.request();
  CHECK(group_of(first) == crypto::DhGroup::curve25519);
  begun.answer(first, NotifyType::invalid_ke_payload, group_octets(crypto::DhGroup::ecp256));
  const Message second = begun.request();
  CHECK(body_of(second, PayloadType::sa) == body_of(first, PayloadType::sa));
  CHECK(group_of(second) == crypto::DhGroup::ecp256);
  CHECK(second.header.initiator_spi == first.header.initiator_spi);
  for (const Message& one : {first, second}) CHECK(offers(one, group_of(one)));
  // A group that was not offered, and the one that was just tried, change nothing.
  for (const auto group : {crypto::DhGroup::modp2048, crypto::DhGroup::ecp256}) {
    begun.answer(second, NotifyType::invalid_ke_payload, group_octets(group));
    CHECK(begun.lab.wire.empty());
  }
}

TEST_CASE(
    "§2.6.1: COOKIE and INVALID_KE_PAYLOAD of one attempt, in any order: the cookie stays, a later one replaces it") {
  const Octets one(16, std::byte{1}), two(24, std::byte{2});
  const auto cookie_of = [](const Message& message) {
    const auto* const notify = message.notify(NotifyType::cookie);
    return notify == nullptr ? Octets() : notify->data;
  };
  Begun begun;
  const Message first = begun.request();
  CHECK(cookie_of(first).empty());
  begun.answer(first, NotifyType::cookie, one);
  const Message second = begun.request();
  CHECK(cookie_of(second) == one);
  CHECK(second.payloads.front().type == PayloadType::notify);
  begun.answer(second, NotifyType::invalid_ke_payload, group_octets(crypto::DhGroup::ecp256));
  const Message third = begun.request();
  CHECK(cookie_of(third) == one);
  CHECK(group_of(third) == crypto::DhGroup::ecp256);
  begun.answer(third, NotifyType::cookie, two);
  const Message fourth = begun.request();
  CHECK(cookie_of(fourth) == two);
  CHECK(group_of(fourth) == crypto::DhGroup::ecp256);
  CHECK(body_of(fourth, PayloadType::sa) == body_of(first, PayloadType::sa));
  CHECK(body_of(fourth, PayloadType::nonce) == body_of(first, PayloadType::nonce));
  // A peer that says nothing else is not asked for ever.
  std::size_t rounds = 0;
  for (Message last = fourth; rounds < 20; ++rounds) {
    begun.answer(last, NotifyType::cookie, Octets(8, static_cast<std::byte>(rounds)));
    if (begun.lab.wire.empty()) break;
    last = begun.request();
  }
  CHECK(rounds < max_init_rounds);
}

TEST_CASE("§1.3, §2.18: the offer of a rekey holds the group of its KE, and no NONE beside it") {
  ScriptedPeer peer;
  const std::vector groups{crypto::DhGroup::curve25519, crypto::DhGroup::ecp256};
  Lab::edit(peer.lab.b, [&](Connection& c) { c.children.front().pfs = groups; });
  peer.establish();
  End& b = peer.lab.b;
  const Message child = asked(peer, b.established().rekey_child(b.outbound.at(1), peer.lab.now));
  CHECK(offers(child, group_of(child)));
  CHECK_FALSE(offers(child, crypto::DhGroup::none));
  peer.next_id = child.header.message_id;
  Message refusal{peer.header(ExchangeType::create_child_sa, true), {}};
  refusal.add_notify(NotifyType::no_additional_sas);
  (void)peer.says(peer.sealed(refusal));
  const Message ike = asked(peer, b.established().rekey(peer.lab.now));
  CHECK(ike.find<SaPayload>(PayloadType::sa)->proposals.front().protocol == ProtocolId::ike);
  CHECK(offers(ike, group_of(ike)));
  CHECK_FALSE(offers(ike, crypto::DhGroup::none));
}

TEST_CASE("§1.4.1: an SA whose other half may still be there is not closed, and its SPI is not used again") {
  ScriptedPeer peer;
  peer.establish();
  End& b = peer.lab.b;
  const ChildId id = b.outbound.at(1);
  const std::uint32_t spi = b.children.at(id).sa.spi_in;
  const Message deletion = asked(peer, b.established().delete_child(id, peer.lab.now));
  CHECK(deletion.find<DeletePayload>(PayloadType::delete_)->spis == std::vector{spi});
  // The peer has not answered: it may send on.
  CHECK_FALSE(b.children.at(id).removed);
  CHECK(b.spis.contains(spi));
  peer.next_id = deletion.header.message_id;
  Message answer{peer.header(ExchangeType::informational, true), {}};
  answer.add(PayloadType::delete_, DeletePayload{ProtocolId::esp, {0xa0a0a0a0}});
  (void)peer.says(peer.sealed(answer));
  peer.lab.run(std::chrono::minutes(1));
  CHECK(b.children.at(id).removed);
  CHECK_FALSE(b.spis.contains(spi));
}

TEST_CASE(
    "§2.19, §3.15.1: our question holds an address attribute of each family that is wanted, of this length or none") {
  Surroundings surroundings;
  const auto question = [&](std::vector<Prefix> wanted) {
    auto connection = std::make_shared<Connection>();
    connection->children.emplace_back();
    connection->children.front().ask = std::move(wanted);
    SessionCore core({&surroundings, {address("192.0.2.1"), 500}, {address("192.0.2.2"), 500}, 0, false, {}}, true);
    core.connection = connection;
    Message out;
    ask_for_configuration(core, out);
    return out;
  };
  CHECK(question({}).payloads.empty());
  const auto asks = [](const Message& message, ConfigType type) {
    const auto* const payload = message.find<ConfigurationPayload>(PayloadType::configuration);
    REQUIRE(payload != nullptr);
    CHECK(payload->kind == ConfigKind::request);
    return std::ranges::count(payload->attributes, type, &ConfigAttribute::type) == 1;
  };
  const Message four = question({*Prefix::parse("10.1.0.0/16"), *Prefix::parse("10.3.0.0/16")});
  CHECK(asks(four, ConfigType::ip4_address));
  CHECK_FALSE(asks(four, ConfigType::ip6_address));
  CHECK_FALSE(asks(four, ConfigType::ip4_netmask));
  const Message both = question({*Prefix::parse("10.1.0.0/16"), *Prefix::parse("2001:db8::/32")});
  CHECK(asks(both, ConfigType::ip4_address));
  CHECK(asks(both, ConfigType::ip6_address));
  surroundings.held_address = [](const std::string&, Family family) -> std::optional<IpAddress> {
    return *IpAddress::parse(family == Family::v4 ? "10.1.9.1" : "2001:db8:9::1");
  };
  const Message again = question({*Prefix::parse("10.1.0.0/16"), *Prefix::parse("2001:db8::/32")});
  CHECK(parse_payload(PayloadType::configuration, body_of(again, PayloadType::configuration)));
}

TEST_CASE("§2.20: who asks for our version is told none, in IKE_AUTH and later") {
  ScriptedPeer peer;
  peer.exchange_init();
  const ConfigurationPayload question{ConfigKind::request, {{ConfigType::application_version, {}}}};
  Message first = peer.auth_request();
  first.add(PayloadType::configuration, question);
  auto answers = peer.says(peer.sealed(first));
  REQUIRE(answers.size() == 1);
  CHECK(peer.opened(answers[0]).find<ConfigurationPayload>(PayloadType::configuration) == nullptr);
  peer.next_id = 2;
  Message later{peer.header(ExchangeType::informational), {}};
  later.add(PayloadType::configuration, question);
  answers = peer.says(peer.sealed(later));
  REQUIRE(answers.size() == 1);
  const Message answer = peer.opened(answers[0]);
  const auto* const reply = answer.find<ConfigurationPayload>(PayloadType::configuration);
  REQUIRE(reply != nullptr);
  CHECK(reply->attributes.empty());
}

TEST_CASE("§3.11: SAs of several protocols are deleted by a payload for each, and answered so") {
  ScriptedPeer peer;
  peer.establish();
  Message request{peer.header(ExchangeType::informational), {}};
  request.add(PayloadType::delete_, DeletePayload{ProtocolId::ah, {0xa0a0a0a0}});
  request.add(PayloadType::delete_, DeletePayload{ProtocolId::esp, {0xa0a0a0a0}});
  const std::uint32_t own = peer.lab.b.live().front()->spi_in;
  const auto answers = peer.says(peer.sealed(request));
  REQUIRE(answers.size() == 1);
  std::size_t deletes = 0;
  const Message answer = peer.opened(answers[0]);
  for (const Payload& one : answer.payloads)
    if (const auto* const gone = std::get_if<DeletePayload>(&one.body)) {
      ++deletes;
      CHECK(gone->protocol == ProtocolId::esp);
      CHECK(gone->spis == std::vector{own});
    }
  CHECK(deletes == 1);
}

TEST_CASE("RFC 7296 §2.9.2: a rekey for more than the child carries is narrowed to what it carries") {
  ScriptedPeer peer;
  peer.establish();
  Message request = peer.child_request();
  request.add_notify(NotifyType::rekey_sa, {}, ProtocolId::esp, Octets(4, std::byte{0xa0}));
  selectors_of(request, PayloadType::ts_responder).selectors = {selector_of(*Prefix::parse("10.0.0.0/8"))};
  const auto answers = peer.says(peer.sealed(request));
  REQUIRE(answers.size() == 1);
  const Message answer = peer.opened(answers[0]);
  const auto* const taken = answer.find<TsPayload>(PayloadType::ts_responder);
  REQUIRE(taken != nullptr);
  CHECK((taken->selectors == std::vector{selector_of(*Prefix::parse("10.2.0.0/16"))}));
  CHECK(peer.lab.b.count(EventKind::child_rekeyed) == 1);
}

TEST_CASE("IKE-48: of a rekey of ours, an answer that holds less than the SA does is given back, and the SA stays") {
  for (const bool less : {true, false}) {
    ScriptedPeer peer;
    peer.establish();
    Lab& lab = peer.lab;
    const ChildId old = lab.b.outbound.at(1);
    lab.perform(1, lab.b.established().rekey_child(old, lab.now));
    REQUIRE(lab.wire.size() == 1);
    const Message request = peer.opened(lab.wire[0].bytes);
    lab.wire.clear();
    CHECK((request.find<TsPayload>(PayloadType::ts_initiator)->selectors ==
           std::vector{selector_of(*Prefix::parse("10.2.0.0/16"))}));
    Message answer = peer.child_request();
    answer.header.response = true;
    answer.header.message_id = request.header.message_id;
    selectors_of(answer, PayloadType::ts_initiator).selectors = {
        selector_of(*Prefix::parse(less ? "10.2.0.0/17" : "10.2.0.0/16"))};
    selectors_of(answer, PayloadType::ts_responder).selectors = {selector_of(*Prefix::parse("10.1.0.0/16"))};
    const auto then = peer.says(peer.sealed(answer));
    REQUIRE(then.size() == 1);  // a DELETE: of what was made, or of what it takes the place of
    const Message deletion = peer.opened(then[0]);
    const auto* const gone = deletion.find<DeletePayload>(PayloadType::delete_);
    REQUIRE(gone != nullptr);
    const std::uint32_t old_spi = lab.b.children.at(old).sa.spi_in;
    CHECK((gone->spis == std::vector{old_spi}) == !less);
    CHECK((lab.b.outbound.at(1) == old) == less);
    CHECK(lab.b.failures.size() == (less ? 1 : 0));
    if (less) CHECK((lab.b.failures.back().kind == FailureKind::selectors));
  }
}

namespace {

std::vector<Payload> vendor_ids(std::size_t count) {
  std::vector<Payload> out;
  for (std::size_t i = 0; i < count; ++i)
    out.push_back({PayloadType::vendor_id, VendorIdPayload{Octets(16 + i, static_cast<std::byte>(i))}});
  return out;
}
Message with_vendor_ids(Message message, std::size_t count) {
  for (Payload& one : vendor_ids(count)) message.payloads.push_back(std::move(one));
  return message;
}

}  // namespace

TEST_CASE("§3.12: twenty vendor ids in each message of a responder change nothing") {
  Lab lab;
  ScriptedGateway gateway(lab);
  lab.start(0);
  gateway.answer_init(vendor_ids(20));
  const Message request = gateway.heard();
  gateway.says(with_vendor_ids(gateway.auth_answer(request), 20));
  CHECK(lab.a.established().phase() == SessionPhase::established);
  CHECK(lab.a.live().size() == 1);
  CHECK(lab.a.failures.empty());
}

TEST_CASE("§3.12: twenty vendor ids in each message of an initiator change nothing") {
  Lab lab;
  const auto arrives = [&](const Octets& bytes) {
    lab.deliver({0, {lab.a.own, 500}, {lab.b.own, 500}, bytes, lab.sent++});
    REQUIRE(lab.wire.size() == 1);
    Octets out = std::move(lab.wire.front().bytes);
    lab.wire.clear();
    return out;
  };
  const auto dh = *crypto::DhExchange::create(crypto::DhGroup::curve25519);
  const SaPayload offer = offer_ike(std::vector{ike_proposal()}, {});
  const Octets nonce_i(32, std::byte{0x17});
  Message begins{{0x1234, 0, ExchangeType::ike_sa_init, true, false, 0}, {}};
  begins.add(PayloadType::sa, offer);
  begins.add(PayloadType::ke, KePayload{dh.group(), {dh.public_value().begin(), dh.public_value().end()}});
  begins.add(PayloadType::nonce, NoncePayload{nonce_i});
  const Octets init = encode_message(with_vendor_ids(begins, 20));
  const Message answer = *parse_message(arrives(init));
  REQUIRE(answer.find<KePayload>(PayloadType::ke) != nullptr);
  const IkeSuite suite = accept_ike(*answer.find<SaPayload>(PayloadType::sa), offer)->suite;
  const auto shared = dh.shared(answer.find<KePayload>(PayloadType::ke)->data);
  const Octets nonce_r = answer.find<NoncePayload>(PayloadType::nonce)->data;
  const std::uint64_t spi_r = answer.header.responder_spi;
  const IkeKeys keys = *derive_ike_keys(suite, {nonce_i, nonce_r, 0x1234, spi_r, &*shared});
  auto cipher = *crypto::IkeCipher::create(suite.cipher, keys.ei.bytes(), keys.ai.bytes());

  const IdPayload id = Identity::of(lab.a.own).payload();
  const auto auth = psk_auth(suite.prf, secret("correct horse battery staple"), init, nonce_r, keys.pi, id_octets(id));
  Message proves{{0x1234, spi_r, ExchangeType::ike_auth, true, false, 1}, {}};
  proves.add(PayloadType::id_initiator, id);
  proves.add(PayloadType::auth, AuthPayload{AuthMethod::psk, Octets(auth->bytes().begin(), auth->bytes().end())});
  proves.add(PayloadType::sa, offer_esp(lab.b.connections.front()->children.front().proposals, 0xa0a0a0a0, {}));
  proves.add(PayloadType::ts_initiator, TsPayload{{selector_of(*Prefix::parse("10.1.0.0/16"))}});
  proves.add(PayloadType::ts_responder, TsPayload{{selector_of(*Prefix::parse("10.2.0.0/16"))}});
  (void)arrives(*seal_message(with_vendor_ids(proves, 20), cipher));
  CHECK(lab.b.count(SessionPhase::established) == 1);
  CHECK(lab.b.live().size() == 1);
  CHECK(lab.b.failures.empty());
}

TEST_CASE("§3.12: a message has 64 payloads at most, vendor ids with the others: more cannot be read (§2.21.3)") {
  ScriptedPeer peer;
  peer.establish();
  const Message probe{peer.header(ExchangeType::informational), {}};
  REQUIRE(peer.says(peer.sealed(with_vendor_ids(probe, 64))).size() == 1);
  CHECK(peer.lab.b.count(SessionPhase::established) == 1);
  peer.next_id = 3;
  const Message another{peer.header(ExchangeType::informational), {}};
  const auto answers = peer.says(peer.sealed(with_vendor_ids(another, 65)));
  REQUIRE(answers.size() == 1);
  CHECK(peer.opened(answers[0]).notify(NotifyType::invalid_syntax) != nullptr);
  CHECK(peer.lab.b.count(SessionPhase::established) == 0);
}
