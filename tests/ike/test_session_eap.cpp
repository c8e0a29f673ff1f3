// IKE_AUTH by EAP (RFC 7296 §2.16, RFC 5998) between two sessions: who proves what when, and exactly what loss,
// repetition, wrong words and hostile peers lead to. B answers, by a certificate that the test's notary vouches for.
#include "eap_session_lab.hpp"
#include "ike/eap_packet.hpp"
#include "scripted_peer.hpp"

namespace postern::ike {
using lab::EapSessionLab;
using namespace std::chrono_literals;

TEST_CASE("EAP-MSCHAPv2 and EAP-MD5: the IKE SA stands, with its child") {
  struct Row {
    EapType method;
    const char* words;
    std::size_t datagrams;
  };
  for (const Row& row : {Row{EapType::mschapv2, "EAP-MSCHAPv2", 12}, Row{EapType::md5, "EAP-MD5", 10}}) {
    CAPTURE(row.words);
    EapSessionLab lab({row.method}, {row.method});
    lab.go();
    lab.check_whole();
    CHECK(lab.sent == row.datagrams);
    const SessionView at_a = lab.a.established().view(lab.now), at_b = lab.b.established().view(lab.now);
    CHECK(at_a.local_auth == row.words);
    CHECK(at_b.remote_auth == row.words);
    CHECK(at_a.remote_auth == "Digital Signature");
    CHECK(at_b.local_auth == "test");
    CHECK(at_a.eap_identity == "alice");
    CHECK(at_b.eap_identity == "alice");
    CHECK(lab.a.failures.empty());
    CHECK(lab.b.failures.empty());
  }
}

TEST_CASE("the server proves itself before the peer says anything of its own") {
  EapSessionLab lab;
  lab.notary[1].own = "X";  // has no key
  lab.go();
  lab.check_refused(FailureKind::credential, FailureKind::wrong_key);
  EapSessionLab other;
  lab::Lab::edit(other.a, [](Connection& c) { c.verify_trustpoints = {"another CA"}; });
  other.go();
  CHECK(other.a.count(SessionPhase::closed) == 1);
  REQUIRE(other.a.failures.size() == 1);
  CHECK(other.a.failures[0].kind == FailureKind::certificate);
  CHECK(other.b.live().empty());
  CHECK(other.b.count(SessionPhase::established) == 0);
}

TEST_CASE("wrong password, unknown user, no common method") {
  struct Row {
    const char *user, *password;
    EapType peer, server;
    FailureKind at_b, at_a;
  };
  for (const Row& row :
       {Row{"alice", "another", EapType::mschapv2, EapType::mschapv2, FailureKind::wrong_password,
            FailureKind::wrong_password},
        Row{"alice", "another", EapType::md5, EapType::md5, FailureKind::wrong_password, FailureKind::wrong_password},
        Row{"mallory", "x", EapType::mschapv2, EapType::mschapv2, FailureKind::unknown_user,
            FailureKind::wrong_password},
        Row{"alice", "her password", EapType::md5, EapType::mschapv2, FailureKind::eap_method,
            FailureKind::eap_method}}) {
    CAPTURE(row.user);
    EapSessionLab lab({row.peer}, {row.server}, row.user, row.password);
    lab.go();
    lab.check_refused(row.at_b, row.at_a);
    for (const auto* const end : {&lab.a, &lab.b})
      for (const Event& event : end->events) CHECK(event.text.find("password of") == event.text.rfind("password of"));
    CHECK(lab.b.failures[0].summary.find("another") == std::string::npos);
  }
}

TEST_CASE("a Nak leads to the method that both have") {
  EapSessionLab lab({EapType::md5}, {EapType::mschapv2, EapType::md5});
  lab.go();
  lab.check_whole();
  CHECK(lab.b.established().view(lab.now).remote_auth == "EAP-MD5");
}

TEST_CASE("EAP where one side has none of it is refused by the side that wants something else") {
  SUBCASE("the responder demands a certificate") {
    EapSessionLab lab;
    lab::Lab::edit(lab.b, [](Connection& c) {
      c.remote_auth = AuthKind::signature;
      c.verify_trustpoints = {"A"};
    });
    lab.go();
    lab.check_refused(FailureKind::wrong_key, FailureKind::wrong_key);
  }
  SUBCASE("the responder demands EAP, the initiator signs") {
    EapSessionLab lab;
    lab::Lab::edit(lab.a, [](Connection& c) {
      c.local_auth = AuthKind::signature;
      c.sign_trustpoint = "A";
    });
    lab.go();
    lab.check_refused(FailureKind::wrong_key, FailureKind::wrong_key);
    CHECK(lab.notary[1].checks.empty());
  }
}

TEST_CASE("RFC 5998: EAP alone") {
  EapSessionLab lab;
  lab.alone();
  SUBCASE("both by the method's key, and no certificate") {
    lab.go();
    lab.check_whole();
    CHECK(lab.a.asked.empty());
    CHECK(lab.notary[1].signs.empty());
    const SessionView at_a = lab.a.established().view(lab.now), at_b = lab.b.established().view(lab.now);
    CHECK(at_a.remote_auth == "EAP-MSCHAPv2");
    CHECK(at_b.local_auth == "EAP-MSCHAPv2");
  }
  SUBCASE("a responder whose profile does not say so answers with its certificate, and the peer will not have it") {
    lab::Lab::edit(lab.b, [](Connection& c) {
      c.local_auth = AuthKind::signature;
      c.sign_trustpoint = "B";
    });
    lab.go();
    CHECK(lab.a.count(SessionPhase::established) == 0);
    CHECK(lab.b.count(SessionPhase::established) == 0);
    REQUIRE(lab.a.failures.size() == 1);
    CHECK(lab.a.failures[0].kind == FailureKind::wrong_key);
  }
  SUBCASE("a peer that has not said that EAP will do is not answered without a certificate") {
    lab::Lab::edit(lab.a, [](Connection& c) {
      c.remote_auth = AuthKind::signature;
      c.verify_trustpoints = {"B"};
    });
    lab.go();
    lab.check_refused(FailureKind::wrong_key, FailureKind::wrong_key);
  }
  SUBCASE("a method that proves one end does not do") {
    for (lab::End* const at : {&lab.a, &lab.b})
      lab::Lab::edit(*at, [](Connection& c) {
        c.eap_peer.methods = {EapType::md5};
        c.eap_server.methods = {EapType::md5};
      });
    lab.go();
    CHECK(lab.a.count(SessionPhase::established) == 0);
    CHECK(lab.b.count(SessionPhase::established) == 0);
    REQUIRE(lab.a.failures.size() == 1);
    CHECK(lab.a.failures[0].kind == FailureKind::eap_method);
  }
}

TEST_CASE("each datagram lost once, doubled, or late: the outcome is the same") {
  for (std::size_t which = 0; which < 12; ++which)
    for (const lab::Fate fate : {lab::Fate{0, 0}, lab::Fate{2, 0}, lab::Fate{1, 2}}) {
      CAPTURE(which);
      CAPTURE(fate.copies);
      EapSessionLab lab;
      lab.network = [&](const lab::Datagram& one) { return one.number == which ? fate : lab::Fate{}; };
      lab.start(0);
      for (int turn = 0; turn < 40 && lab.a.count(SessionPhase::established) == 0; ++turn) {
        lab.settle_all();
        lab.tick(2s);
      }
      lab.settle_all();
      lab.check_whole();
      CHECK(lab.b.failures.empty());
    }
}

TEST_CASE("old answers again at any time change nothing") {
  EapSessionLab lab;
  std::vector<lab::Datagram> all;
  lab.network = [&](const lab::Datagram& one) {
    all.push_back(one);
    return lab::Fate{};
  };
  lab.start(0);
  for (int turn = 0; turn < 20; ++turn) {
    lab.settle_all();
    for (const lab::Datagram& one : std::exchange(all, {})) lab.deliver(one);
    lab.wire.clear();
  }
  lab.check_whole();
}

TEST_CASE("a peer that falls silent in the middle is forgotten, in time that is bounded") {
  EapSessionLab lab;
  std::size_t from_a = 0;
  lab.network = [&](const lab::Datagram& one) { return lab::Fate{one.from == 0 && ++from_a > 3 ? 0U : 1U, 0}; };
  lab.go();
  CHECK(lab.b.count(SessionPhase::init_answered) == 1);
  lab.run(61s);
  CHECK(lab.b.count(SessionPhase::closed) == 1);
  CHECK(lab.b.spis.empty());
}

TEST_CASE("a rekeyed IKE SA is still alice's") {
  EapSessionLab lab;
  lab.go();
  lab.perform(0, lab.a.established().rekey(lab.now));
  lab.settle_all();
  CHECK(lab.a.established().view(lab.now).eap_identity == "alice");
  CHECK(lab.b.established().view(lab.now).eap_identity == "alice");
  CHECK(lab.b.established().view(lab.now).remote_auth == "EAP-MSCHAPv2");
}

TEST_CASE("without a question, IDi names the user; an address names nobody") {
  EapSessionLab lab;
  lab::Lab::edit(lab.b, [](Connection& c) {
    c.eap_server.query_identity = false;
    c.remote_identities = {AnyIdentity{}};
  });
  SUBCASE("an address: the method's name counts") {
    lab.go();
    lab.check_whole();
    CHECK(lab.b.established().view(lab.now).eap_identity == "alice");
  }
  SUBCASE("a name: alice is not bob") {
    lab::Lab::edit(lab.a, [](Connection& c) { c.local_identity = Identity::of(IdType::fqdn, "bob"); });
    lab.go();
    CHECK(lab.b.count(SessionPhase::established) == 0);
    REQUIRE(lab.b.failures.size() == 1);
    CHECK(lab.b.failures[0].kind == FailureKind::invalid_syntax);
  }
}

// --- a peer that knows the protocol and breaks it

namespace {

// It comes by EAP alone, so that no certificate is in the way.
struct Intruder {
  lab::ScriptedPeer peer;
  std::uint8_t identifier = 0;

  Intruder() {
    lab::Lab::edit(peer.lab.b, [](Connection& c) {
      c.local_auth = c.remote_auth = AuthKind::eap;
      c.eap_server = {{EapType::md5, EapType::mschapv2}, true};
      c.eap_peer = {{EapType::mschapv2}, "server", {}};
    });
    peer.lab.b.surroundings.eap_user = [](std::string_view) { return std::optional(lab::secret("a password")); };
    peer.exchange_init();
  }
  Message message() const { return {peer.header(ExchangeType::ike_auth), {}}; }
  Message first() {
    Message m = peer.auth_request();
    std::erase_if(m.payloads, [](const Payload& p) { return p.type == PayloadType::auth; });
    m.add_notify(NotifyType::eap_only_authentication);
    return m;
  }
  Message eap(EapType type, std::string_view data) const {
    Message m = message();
    m.add(PayloadType::eap, RawPayload{encode_eap({EapCode::response, identifier, type, octets_of(as_bytes(data))})});
    return m;
  }
  Message say(const Message& m) {
    const auto answers = peer.says(peer.sealed(m));
    REQUIRE(answers.size() == 1);
    const Message answer = peer.opened(answers[0]);
    ++peer.next_id;
    if (const auto* const raw = answer.find<RawPayload>(PayloadType::eap))
      identifier = parse_eap(raw->data)->identifier;
    return answer;
  }
  bool lives() const { return peer.lab.b.count(SessionPhase::closed) == 0; }
};

}  // namespace

TEST_CASE("what a peer may say in the middle of EAP") {
  struct Row {
    const char* what;
    std::size_t after;  // so many good messages
    Message (*make)(Intruder&);
    std::optional<NotifyType> says;  // none: an EAP Failure
  };
  const Row rows[] = {
      {"EAP before anything", 0, [](Intruder& i) { return i.eap(EapType::identity, "alice"); },
       NotifyType::authentication_failed},
      {"AUTH before anything", 0,
       [](Intruder& i) {
         Message m = i.message();
         m.add(PayloadType::auth, AuthPayload{AuthMethod::psk, Octets(32)});
         return m;
       },
       NotifyType::authentication_failed},
      {"the first request again, as a new one", 1, [](Intruder& i) { return i.first(); },
       NotifyType::authentication_failed},
      {"AUTH before EAP is through", 1,
       [](Intruder& i) {
         Message m = i.message();
         m.add(PayloadType::auth, AuthPayload{AuthMethod::psk, Octets(32)});
         return m;
       },
       NotifyType::authentication_failed},
      {"an EAP packet of no size", 1,
       [](Intruder& i) {
         Message m = i.message();
         m.add(PayloadType::eap, RawPayload{});
         return m;
       },
       std::nullopt},
      {"two EAP payloads", 1,
       [](Intruder& i) {
         Message m = i.eap(EapType::identity, "alice");
         m.add(PayloadType::eap, RawPayload{});
         return m;
       },
       NotifyType::invalid_syntax},
      {"a method that was not asked for", 1, [](Intruder& i) { return i.eap(EapType{52}, "x"); }, std::nullopt},
      {"a digest of zeros", 2,
       [](Intruder& i) { return i.eap(EapType::md5, std::string("\x10") + std::string(16, '\0')); }, std::nullopt},
      {"a Nak for a method that is not there", 2, [](Intruder& i) { return i.eap(EapType::nak, "\x34"); },
       std::nullopt},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    Intruder intruder;
    if (row.after > 0) CHECK(intruder.say(intruder.first()).find<RawPayload>(PayloadType::eap) != nullptr);
    if (row.after > 1)
      CHECK(intruder.say(intruder.eap(EapType::identity, "alice")).find<RawPayload>(PayloadType::eap) != nullptr);
    const Message answer = intruder.say(row.make(intruder));
    const auto* const raw = answer.find<RawPayload>(PayloadType::eap);
    const auto* const error = answer.error();
    if (row.says) {
      REQUIRE(error != nullptr);
      CHECK(error->type == *row.says);
    } else {
      REQUIRE(raw != nullptr);
      CHECK(parse_eap(raw->data)->code == EapCode::failure);
    }
    CHECK_FALSE(intruder.lives());
    CHECK(intruder.peer.lab.b.live().empty());
    CHECK(intruder.peer.lab.b.spis.empty());
  }
}

TEST_CASE("a peer that leaves when it has heard that its password is wrong: that is why") {
  Intruder i;
  CHECK(i.say(i.first()).error() == nullptr);
  CHECK(i.say(i.eap(EapType::identity, "alice")).error() == nullptr);
  CHECK(i.say(i.eap(EapType::nak, "\x1a")).error() == nullptr);
  const std::string id(1, static_cast<char>(i.identifier));
  const Message told =
      i.say(i.eap(EapType::mschapv2, "\x02" + id + std::string("\0\x3b\x31", 3) + std::string(49, '\0') + "alice"));
  CHECK(parse_eap(told.find<RawPayload>(PayloadType::eap)->data)->code == EapCode::request);
  CHECK(i.lives());
  Message leaves{i.peer.header(ExchangeType::informational), {}};
  leaves.add_notify(NotifyType::authentication_failed);
  (void)i.say(leaves);
  CHECK_FALSE(i.lives());
  REQUIRE(i.peer.lab.b.failures.size() == 1);
  CHECK(i.peer.lab.b.failures[0].kind == FailureKind::wrong_password);
}

TEST_CASE("who has not said that EAP will do is not answered by EAP alone") {
  Intruder intruder;
  Message m = intruder.first();
  std::erase_if(m.payloads, [](const Payload& p) {
    const auto* const notify = std::get_if<NotifyPayload>(&p.body);
    return notify != nullptr && notify->type == NotifyType::eap_only_authentication;
  });
  const Message answer = intruder.say(m);
  REQUIRE(answer.error() != nullptr);
  CHECK(answer.error()->type == NotifyType::authentication_failed);
  CHECK_FALSE(intruder.lives());
}

TEST_CASE("RFC 5685 §6: a peer that comes by EAP is sent away in the last answer, and not before") {
  for (const bool right : {true, false}) {
    CAPTURE(right);
    EapSessionLab lab({EapType::mschapv2}, {EapType::mschapv2}, "alice", right ? "her password" : "a guess");
    lab.edit(lab.a, [](Connection& c) { c.redirect.follow = true; });
    lab.edit(lab.b, [](Connection& c) {
      c.redirect.when = RedirectWhen::auth;
      c.redirect.to = "192.0.2.7";
    });
    lab.b.surroundings.is_full = [](const Connection&) { return true; };
    lab.go();
    CHECK(lab.b.count(EventKind::redirected) == (right ? 1 : 0));
    CHECK(lab.a.count(EventKind::ike_up) == (right ? 1 : 0));
    CHECK(lab.a.failures.empty() == right);
    CHECK(lab.a.live().empty());
    CHECK(lab.b.live().empty());
    CHECK(lab.a.spis.empty());
    CHECK(lab.a.count(SessionPhase::closed) == lab.a.sessions.size());
  }
}

}  // namespace postern::ike
