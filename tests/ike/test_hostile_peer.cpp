// A peer that knows the key and breaks the protocol: what it says, and exactly what that gets it.
#include "tests/ike/scripted_peer.hpp"

using namespace postern;
using namespace postern::ike;
using namespace postern::ike::lab;

namespace {

constexpr auto unknown_payload = PayloadType{200};

template <class T>
T& body(Message& message, PayloadType type) {
  const auto found = std::ranges::find(message.payloads, type, &Payload::type);
  REQUIRE(found != message.payloads.end());
  return std::get<T>(found->body);
}
void remove(Message& message, PayloadType type) {
  std::erase_if(message.payloads, [&](const Payload& p) { return p.type == type; });
}
void twice(Message& message, PayloadType type) {
  message.payloads.push_back(*std::ranges::find(message.payloads, type, &Payload::type));
}

// What B does. `says`: the one notify of its answer; an answer without one is `empty`.
struct Outcome {
  bool answers = true;
  std::optional<NotifyType> says;
  bool lives = true;
};
constexpr Outcome silent{false, std::nullopt, true};
constexpr Outcome empty{true, std::nullopt, true};
constexpr Outcome refused(NotifyType why) { return {true, why, true}; }
constexpr Outcome closed(NotifyType why) { return {true, why, false}; }

struct Row {
  const char* name;
  Octets (*make)(ScriptedPeer&);
  Outcome outcome;
};

void check(ScriptedPeer& peer, const Row& row, SessionPhase alive) {
  CAPTURE(row.name);
  const std::size_t children = peer.lab.b.live().size();
  const auto answers = peer.says(row.make(peer));
  REQUIRE(answers.size() == (row.outcome.answers ? 1 : 0));
  if (row.outcome.answers) {
    const Message answer = peer.opened(answers[0]);
    CHECK(answer.header.response);
    CHECK(answer.header.message_id == peer.next_id);
    std::optional<NotifyType> said;
    for (const Payload& p : answer.payloads)
      if (const auto* const notify = std::get_if<NotifyPayload>(&p.body)) said = notify->type;
    CHECK((said == row.outcome.says));
  }
  CHECK(peer.lab.b.count(alive) == (row.outcome.lives ? 1 : 0));
  CHECK(peer.lab.b.live().size() == (row.outcome.lives ? children : 0));
  CHECK(peer.lab.b.spis.size() == peer.lab.b.live().size());  // nothing leaks
}

Octets delete_of(ScriptedPeer& p, std::uint32_t spi) {
  Message m{p.header(ExchangeType::informational), {}};
  m.add(PayloadType::delete_, DeletePayload{ProtocolId::esp, {spi}});
  return p.sealed(m);
}

// A rekey of the IKE SA whose key exchange is of `group`.
Octets rekey_by_group(ScriptedPeer& p, std::uint16_t group) {
  Message m{p.header(ExchangeType::create_child_sa), {}};
  SaPayload offer = offer_ike(std::vector{ike_proposal()}, Octets(8, std::byte{9}));
  for (Proposal& one : offer.proposals)
    for (Transform& transform : one.transforms)
      if (transform.type == TransformType::key_exchange) transform.id = group;
  m.add(PayloadType::sa, offer);
  m.add(PayloadType::nonce, NoncePayload{Octets(32, std::byte{3})});
  m.add(PayloadType::ke, KePayload{crypto::DhGroup{group}, Octets(32, std::byte{4})});
  return p.sealed(m);
}

const Row in_auth[] = {
    {"no AUTH, which asks for EAP",
     [](ScriptedPeer& p) {
       Message m = p.auth_request();
       remove(m, PayloadType::auth);
       return p.sealed(m);
     },
     closed(NotifyType::authentication_failed)},
    {"AUTH by a signature",
     [](ScriptedPeer& p) {
       Message m = p.auth_request();
       body<AuthPayload>(m, PayloadType::auth).method = AuthMethod{1};
       return p.sealed(m);
     },
     closed(NotifyType::authentication_failed)},
    {"AUTH that is one bit wrong",
     [](ScriptedPeer& p) {
       Message m = p.auth_request();
       body<AuthPayload>(m, PayloadType::auth).data.back() ^= std::byte{1};
       return p.sealed(m);
     },
     closed(NotifyType::authentication_failed)},
    {"AUTH that is cut short",
     [](ScriptedPeer& p) {
       Message m = p.auth_request();
       body<AuthPayload>(m, PayloadType::auth).data.resize(16);
       return p.sealed(m);
     },
     closed(NotifyType::authentication_failed)},
    {"another identity by the right key",
     [](ScriptedPeer& p) {
       Message m = p.auth_request();
       body<IdPayload>(m, PayloadType::id_initiator) = Identity::of(IdType::fqdn, "somebody.example").payload();
       return p.sealed(m);
     },
     closed(NotifyType::authentication_failed)},
    {"it wants somebody else",
     [](ScriptedPeer& p) {
       Message m = p.auth_request();
       m.add(PayloadType::id_responder, Identity::of(IdType::fqdn, "somebody.example").payload());
       return p.sealed(m);
     },
     closed(NotifyType::authentication_failed)},
    {"two identities",
     [](ScriptedPeer& p) {
       Message m = p.auth_request();
       twice(m, PayloadType::id_initiator);
       return p.sealed(m);
     },
     closed(NotifyType::invalid_syntax)},
    {"two AUTH",
     [](ScriptedPeer& p) {
       Message m = p.auth_request();
       twice(m, PayloadType::auth);
       return p.sealed(m);
     },
     closed(NotifyType::invalid_syntax)},
    {"no identity",
     [](ScriptedPeer& p) {
       Message m = p.auth_request();
       remove(m, PayloadType::id_initiator);
       return p.sealed(m);
     },
     closed(NotifyType::invalid_syntax)},
    {"no selectors of the responder",
     [](ScriptedPeer& p) {
       Message m = p.auth_request();
       remove(m, PayloadType::ts_responder);
       return p.sealed(m);
     },
     closed(NotifyType::invalid_syntax)},
    {"an unknown critical payload",
     [](ScriptedPeer& p) {
       return p.sealed_raw(p.header(ExchangeType::ike_auth), unknown_payload,
                           wire_payload(PayloadType::none, Octets(3), 0x80));
     },
     refused(NotifyType::unsupported_critical_payload)},
    {"CREATE_CHILD_SA before IKE_AUTH", [](ScriptedPeer& p) { return p.sealed(p.child_request()); },
     refused(NotifyType::temporary_failure)},
    {"INFORMATIONAL before IKE_AUTH (§1.4)",
     [](ScriptedPeer& p) { return p.sealed({p.header(ExchangeType::informational), {}}); },
     closed(NotifyType::invalid_syntax)},
    {"a status notify before IKE_AUTH (§1.4)",
     [](ScriptedPeer& p) {
       Message m{p.header(ExchangeType::informational), {}};
       m.add_notify(NotifyType::initial_contact);
       return p.sealed(m);
     },
     closed(NotifyType::invalid_syntax)},
    {"a delete of a child before IKE_AUTH (§1.4)", [](ScriptedPeer& p) { return delete_of(p, 0xa0a0a0a0); },
     closed(NotifyType::invalid_syntax)},
    {"message id 2 before 1",
     [](ScriptedPeer& p) {
       p.next_id = 2;
       return p.sealed(p.auth_request());
     },
     silent},
    {"one bit of SK",
     [](ScriptedPeer& p) {
       Octets bytes = p.sealed(p.auth_request());
       bytes[60] ^= std::byte{4};
       return bytes;
     },
     silent},
    {"unprotected", [](ScriptedPeer& p) { return encode_message(p.auth_request()); }, silent},
};

// Of its only child.
Message rekey_request(ScriptedPeer& p) {
  Message request = p.child_request();
  request.add_notify(NotifyType::rekey_sa, {}, ProtocolId::esp, Octets(4, std::byte{0xa0}));
  return request;
}

const Row in_established[] = {
    {"a chain that runs past the end",
     [](ScriptedPeer& p) {
       return p.sealed_raw(p.header(ExchangeType::informational), PayloadType::notify,
                           wire_payload(PayloadType::none, Octets(4), 0, 9));
     },
     closed(NotifyType::invalid_syntax)},
    {"a payload shorter than its header",
     [](ScriptedPeer& p) {
       return p.sealed_raw(p.header(ExchangeType::informational), PayloadType::vendor_id,
                           wire_payload(PayloadType::none, {}, 0, -2));
     },
     closed(NotifyType::invalid_syntax)},
    {"bytes behind the last payload",
     [](ScriptedPeer& p) {
       Octets plain = wire_payload(PayloadType::none, Octets(8));
       plain.resize(plain.size() + 3);
       return p.sealed_raw(p.header(ExchangeType::informational), PayloadType::vendor_id, plain);
     },
     closed(NotifyType::invalid_syntax)},
    {"a chain without end",
     [](ScriptedPeer& p) {
       Octets plain;
       for (int i = 0; i < 200; ++i) {
         const Octets one = wire_payload(PayloadType::vendor_id, Octets(1));
         plain.insert(plain.end(), one.begin(), one.end());
       }
       return p.sealed_raw(p.header(ExchangeType::informational), PayloadType::vendor_id, plain);
     },
     closed(NotifyType::invalid_syntax)},
    {"an unknown critical payload",
     [](ScriptedPeer& p) {
       return p.sealed_raw(p.header(ExchangeType::informational), unknown_payload,
                           wire_payload(PayloadType::none, Octets(3), 0x80));
     },
     refused(NotifyType::unsupported_critical_payload)},
    {"an unknown payload that is not critical",
     [](ScriptedPeer& p) {
       return p.sealed_raw(p.header(ExchangeType::informational), unknown_payload,
                           wire_payload(PayloadType::none, Octets(3)));
     },
     empty},
    {"an unknown status notify",
     [](ScriptedPeer& p) {
       Message m{p.header(ExchangeType::informational), {}};
       m.add_notify(NotifyType{40000}, Octets(7));
       return p.sealed(m);
     },
     empty},
    {"CREATE_CHILD_SA without a nonce",
     [](ScriptedPeer& p) {
       Message m = p.child_request();
       remove(m, PayloadType::nonce);
       return p.sealed(m);
     },
     closed(NotifyType::invalid_syntax)},
    {"CREATE_CHILD_SA with a nonce of 15 bytes",
     [](ScriptedPeer& p) {
       Message m = p.child_request();
       body<NoncePayload>(m, PayloadType::nonce).data.resize(15);
       return p.sealed(m);
     },
     closed(NotifyType::invalid_syntax)},
    {"CREATE_CHILD_SA with two SA payloads",
     [](ScriptedPeer& p) {
       Message m = p.child_request();
       twice(m, PayloadType::sa);
       return p.sealed(m);
     },
     closed(NotifyType::invalid_syntax)},
    {"CREATE_CHILD_SA without selectors",
     [](ScriptedPeer& p) {
       Message m = p.child_request();
       remove(m, PayloadType::ts_initiator);
       return p.sealed(m);
     },
     closed(NotifyType::invalid_syntax)},
    {"CREATE_CHILD_SA with a selector that ends before it begins",
     [](ScriptedPeer& p) {
       Message m = p.child_request();
       auto& selector = body<TsPayload>(m, PayloadType::ts_initiator).selectors.front();
       std::swap(selector.first, selector.last);
       return p.sealed(m);
     },
     closed(NotifyType::invalid_syntax)},
    {"CREATE_CHILD_SA that rekeys two at once",
     [](ScriptedPeer& p) {
       Message m = p.child_request();
       for (int i = 0; i < 2; ++i) m.add_notify(NotifyType::rekey_sa, {}, ProtocolId::esp, Octets(4, std::byte{0xa0}));
       return p.sealed(m);
     },
     closed(NotifyType::invalid_syntax)},
    {"CREATE_CHILD_SA for a flow that no entry permits",
     [](ScriptedPeer& p) {
       Message m = p.child_request();
       body<TsPayload>(m, PayloadType::ts_responder).selectors = {selector_of(*Prefix::parse("10.99.0.0/16"))};
       return p.sealed(m);
     },
     refused(NotifyType::ts_unacceptable)},
    {"CREATE_CHILD_SA by an algorithm that we do not have",
     [](ScriptedPeer& p) {
       Message m = p.child_request();
       body<SaPayload>(m, PayloadType::sa).proposals.front().transforms.front().id = 3;  // 3DES
       return p.sealed(m);
     },
     refused(NotifyType::no_proposal_chosen)},
    {"a rekey of a child that is not there",
     [](ScriptedPeer& p) {
       Message m = p.child_request();
       m.add_notify(NotifyType::rekey_sa, {}, ProtocolId::esp, Octets(4, std::byte{0x77}));
       return p.sealed(m);
     },
     refused(NotifyType::child_sa_not_found)},
    {"IKE-48: a rekey of its child for other selectors",
     [](ScriptedPeer& p) {
       Message m = rekey_request(p);
       body<TsPayload>(m, PayloadType::ts_responder).selectors = {selector_of(*Prefix::parse("10.99.0.0/16"))};
       return p.sealed(m);
     },
     refused(NotifyType::ts_unacceptable)},
    {"IKE-48: a rekey of its child for a part of what that carries",
     [](ScriptedPeer& p) {
       Message m = rekey_request(p);
       body<TsPayload>(m, PayloadType::ts_responder).selectors = {selector_of(*Prefix::parse("10.2.0.0/17"))};
       return p.sealed(m);
     },
     refused(NotifyType::ts_unacceptable)},
    {"IKE-48: a rekey of its child for one of its protocols",
     [](ScriptedPeer& p) {
       Message m = rekey_request(p);
       body<TsPayload>(m, PayloadType::ts_initiator).selectors.front().protocol = 6;
       return p.sealed(m);
     },
     refused(NotifyType::ts_unacceptable)},
    {"a rekey of the IKE SA without a key exchange",
     [](ScriptedPeer& p) {
       Message m{p.header(ExchangeType::create_child_sa), {}};
       m.add(PayloadType::sa, offer_ike(std::vector{ike_proposal()}, Octets(8, std::byte{9})));
       m.add(PayloadType::nonce, NoncePayload{Octets(32)});
       return p.sealed(m);
     },
     closed(NotifyType::invalid_syntax)},
    {"a rekey of the IKE SA with a public value of zero",
     [](ScriptedPeer& p) {
       Message m{p.header(ExchangeType::create_child_sa), {}};
       m.add(PayloadType::sa, offer_ike(std::vector{ike_proposal()}, Octets(8, std::byte{9})));
       m.add(PayloadType::nonce, NoncePayload{Octets(32)});
       m.add(PayloadType::ke, KePayload{crypto::DhGroup::curve25519, Octets(32)});
       return p.sealed(m);
     },
     refused(NotifyType::invalid_syntax)},
    {"a rekey of the IKE SA with group NONE (§2.18)", [](ScriptedPeer& p) { return rekey_by_group(p, 0); },
     refused(NotifyType::no_proposal_chosen)},
    {"a delete of an SPI that is not its own", [](ScriptedPeer& p) { return delete_of(p, 0x12345678); }, empty},
    {"a delete with a count that is not its list's",
     [](ScriptedPeer& p) {
       const Octets lie = {std::byte{3},    std::byte{4},    std::byte{0},    std::byte{9},
                           std::byte{0xa0}, std::byte{0xa0}, std::byte{0xa0}, std::byte{0xa0}};
       return p.sealed_raw(p.header(ExchangeType::informational), PayloadType::delete_,
                           wire_payload(PayloadType::none, lie));
     },
     closed(NotifyType::invalid_syntax)},
    {"IKE_AUTH once more", [](ScriptedPeer& p) { return p.sealed(p.auth_request()); },
     refused(NotifyType::invalid_syntax)},
    {"an exchange that nobody knows", [](ScriptedPeer& p) { return p.sealed({p.header(ExchangeType{99}), {}}); },
     closed(NotifyType::invalid_syntax)},
    {"a message id ahead of the window",
     [](ScriptedPeer& p) {
       ++p.next_id;
       return p.sealed({p.header(ExchangeType::informational), {}});
     },
     silent},
    {"a message id that was used, with other contents",
     [](ScriptedPeer& p) {
       p.next_id = 1;
       return delete_of(p, 0xa0a0a0a0);
     },
     silent},
    {"an answer that nobody asked for",
     [](ScriptedPeer& p) { return p.sealed({p.header(ExchangeType::informational, true), {}}); }, silent},
    {"a request that claims to be of the other end",
     [](ScriptedPeer& p) {
       Message m{p.header(ExchangeType::informational), {}};
       m.header.from_initiator = false;
       std::swap(m.header.initiator_spi, m.header.responder_spi);  // so that it reaches the session at all
       return p.sealed(m);
     },
     silent},
    {"a delete without protection",
     [](ScriptedPeer& p) {
       Message m{p.header(ExchangeType::informational), {}};
       m.add(PayloadType::delete_, DeletePayload{ProtocolId::ike, {}});
       return encode_message(m);
     },
     silent},
    {"a payload in front of the Encrypted one",
     [](ScriptedPeer& p) {
       Octets bytes = p.sealed({p.header(ExchangeType::informational), {}});
       const Octets more = wire_payload(PayloadType::encrypted, Octets(4));
       bytes[16] = static_cast<std::byte>(PayloadType::vendor_id);
       bytes.insert(bytes.begin() + header_bytes, more.begin(), more.end());
       store_be32(bytes.data() + 24, static_cast<std::uint32_t>(bytes.size()));
       return bytes;
     },
     silent},
    {"major version 3",
     [](ScriptedPeer& p) {
       Octets bytes = p.sealed({p.header(ExchangeType::informational), {}});
       bytes[17] = std::byte{0x30};
       return bytes;
     },
     silent},
};

}  // namespace

TEST_CASE("hostile peer: what it may break in IKE_AUTH, and what that gets it") {
  for (const Row& row : in_auth) {
    ScriptedPeer peer;
    peer.exchange_init();
    check(peer, row, SessionPhase::init_answered);
    if (row.outcome.lives || row.outcome.says != NotifyType::invalid_syntax) continue;
    REQUIRE_FALSE(peer.lab.b.failures.empty());  // the diagnosis tells it
    CHECK((peer.lab.b.failures.back().kind == FailureKind::invalid_syntax));
  }
}

TEST_CASE("hostile peer: what it may break once it is let in, and what that gets it") {
  for (const Row& row : in_established) {
    ScriptedPeer peer;
    Lab::edit(peer.lab.b, [](Connection& c) { c.options.window = 1; });
    peer.establish();
    check(peer, row, SessionPhase::established);
    if (!row.outcome.lives) continue;
    // What came before did no harm: the next request that is right is answered.
    peer.next_id = row.outcome.answers ? 3 : 2;
    CHECK(peer.says(peer.sealed({peer.header(ExchangeType::informational), {}})).size() == 1);
  }
}

TEST_CASE(
    "hostile peer: every bit of a sealed request changed changes nothing; the request itself, and again, is answered "
    "once") {
  ScriptedPeer peer;
  peer.establish();
  const Octets request = delete_of(peer, 0xa0a0a0a0);
  for (std::size_t at = 0; at < request.size(); ++at)
    for (int bit = 0; bit < 8; ++bit) {
      Octets changed = request;
      changed[at] ^= static_cast<std::byte>(1 << bit);
      if (parse_header(changed)) CHECK(peer.says(changed).empty());
    }
  CHECK(peer.lab.b.live().size() == 1);
  const auto answer = peer.says(request);
  REQUIRE(answer.size() == 1);
  CHECK(peer.lab.b.live().empty());
  for (int i = 0; i < 3; ++i) CHECK(peer.says(request) == answer);  // RFC 7296 2.1
  CHECK(peer.lab.b.count(SessionPhase::established) == 1);
}

TEST_CASE("hostile peer: children without end are refused with NO_ADDITIONAL_SAS, and all go with the IKE SA") {
  ScriptedPeer peer;
  peer.establish();
  std::size_t made = 1;
  for (int i = 0; i < 300; ++i) {
    Message request = peer.child_request();
    body<SaPayload>(request, PayloadType::sa).proposals.front().spi = Octets(4, static_cast<std::byte>(i + 1));
    const auto answers = peer.says(peer.sealed(request));
    REQUIRE(answers.size() == 1);
    const Message answer = peer.opened(answers[0]);
    made += answer.find<SaPayload>(PayloadType::sa) != nullptr ? 1 : 0;
    CHECK((answer.find<SaPayload>(PayloadType::sa) != nullptr ||
           answer.notify(NotifyType::no_additional_sas) != nullptr));
    ++peer.next_id;
  }
  CHECK(peer.lab.b.live().size() == made);
  CHECK(made == 8);
  Message end{peer.header(ExchangeType::informational), {}};
  end.add(PayloadType::delete_, DeletePayload{ProtocolId::ike, {}});
  CHECK(peer.says(peer.sealed(end)).size() == 1);
  CHECK(peer.lab.b.live().empty());
  CHECK(peer.lab.b.spis.empty());
}
