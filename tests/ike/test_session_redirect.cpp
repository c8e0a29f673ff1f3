// RFC 5685 in one IKE SA: what a client believes, and what a gateway says. Going there is the manager's
// (test_manager_redirect.cpp).
#include "ike/message.hpp"
#include "tests/ike/eap_session_lab.hpp"
#include "tests/ike/scripted_gateway.hpp"
#include "tests/ike/scripted_peer.hpp"

using namespace postern;
using namespace postern::ike;
using namespace postern::ike::lab;

namespace {

GatewayIdentity gateway(const char* text) { return *GatewayIdentity::parse(text); }

struct Client : Lab {
  std::vector<Redirected> redirected;
  explicit Client(bool follows = true) {
    edit(a, [&](Connection& c) { c.redirect.follow = follows; });
  }
  Session& session() { return *a.sessions.back(); }
  // What the first message said; B does not get it.
  Message begin() {
    start(0);
    REQUIRE(wire.size() == 1);
    Message request = *parse_message(wire.front().bytes);
    return request;
  }
  static Octets nonce_of(const Message& request) { return request.find<NoncePayload>(PayloadType::nonce)->data; }
  void takes(Actions actions) {
    for (const Action& action : actions)
      if (const auto* const one = std::get_if<Redirected>(&action)) redirected.push_back(*one);
    perform(0, std::move(actions));
  }
  void hears(const Message& message) {
    takes(session().on_datagram(encode_message(message), {a.own, 500}, {b.own, 500}, now));
  }
  static Message answer(const Message& request, Octets data) {
    Message out{{request.header.initiator_spi, 0, ExchangeType::ike_sa_init, false, true, 0}, {}};
    out.add_notify(NotifyType::redirect, std::move(data));
    return out;
  }
  [[nodiscard]] bool told(std::string_view what) const {
    return std::ranges::any_of(a.events, [&](const Event& e) { return e.text.find(what) != std::string::npos; });
  }
};

}  // namespace

TEST_CASE("RFC 5685 §3: who follows says so, and nobody else; REDIRECTED_FROM takes its place") {
  CHECK(Client().begin().notify(NotifyType::redirect_supported) != nullptr);
  CHECK(Client(false).begin().notify(NotifyType::redirect_supported) == nullptr);
  Client transport;
  Lab::edit(transport.a, [](Connection& c) { c.children.front().transport = true; });
  CHECK(transport.begin().notify(NotifyType::redirect_supported) == nullptr);
  Client sent;
  Session::Setup setup{&sent.a.surroundings, {sent.a.own, 500}, {sent.b.own, 500}, 0, false, {}, gateway("192.0.2.9")};
  const auto session = Session::initiator(setup, sent.a.connections.front(), {});
  const auto actions = session->initiate(sent.now);
  const auto* const first = std::get_if<SendDatagram>(
      &*std::ranges::find_if(actions, [](const Action& one) { return std::holds_alternative<SendDatagram>(one); }));
  const Message request = *parse_message(first->bytes);
  CHECK(request.notify(NotifyType::redirect_supported) == nullptr);
  REQUIRE(request.notify(NotifyType::redirected_from) != nullptr);
  CHECK(*decode_gateway(request.notify(NotifyType::redirected_from)->data) == gateway("192.0.2.9"));
}

TEST_CASE("RFC 5685 §3: REDIRECT with our nonce ends the attempt; nothing else in the message counts") {
  Client lab;
  const Message request = lab.begin();
  Message answer = Client::answer(request, encode_gateway(gateway("192.0.2.7"), Client::nonce_of(request)));
  answer.add_notify(NotifyType::no_proposal_chosen);
  lab.hears(answer);
  REQUIRE(lab.redirected.size() == 1);
  CHECK(lab.redirected[0].to == gateway("192.0.2.7"));
  CHECK(lab.redirected[0].during == ExchangeType::ike_sa_init);
  CHECK(lab.redirected[0].wanted_children == std::vector<std::string>{"one"});
  CHECK(lab.session().phase() == SessionPhase::closed);
  CHECK(lab.a.failures.empty());
  CHECK(lab.a.spis.empty());
}

TEST_CASE("RFC 5685 §3, §9: REDIRECT that is not to be believed changes nothing, the true answer still counts") {
  Client lab;
  const Message request = lab.begin();
  const Octets nonce = Client::nonce_of(request);
  const auto hostile = [&](Octets data, std::string_view why) {
    CAPTURE(why);
    lab.hears(Client::answer(request, std::move(data)));
    CHECK(lab.session().phase() == SessionPhase::init_sent);
    CHECK(lab.told(why));
    lab.a.events.clear();
  };
  const auto with_nonce = [&](std::uint8_t type, const Octets& identity) {
    OctetWriter out;
    out.u8(type);
    out.u8(static_cast<std::uint8_t>(identity.size()));
    out.bytes(identity);
    out.bytes(nonce);
    return out.take();
  };
  hostile(encode_gateway(gateway("192.0.2.7")), "without the nonce");
  hostile(encode_gateway(gateway("192.0.2.7"), Octets(32)), "without the nonce");
  hostile(encode_gateway(gateway("192.0.2.7"), Bytes(nonce).first(31)), "without the nonce");
  hostile({}, "shorter");
  hostile({std::byte{1}, std::byte{255}}, "shorter");
  hostile(with_nonce(9, Octets(4)), "identity of type 9");
  hostile(with_nonce(1, Octets(16)), "an address of 16 bytes");
  hostile(with_nonce(3, Octets(4)), "a name that is none");
  hostile(encode_gateway(gateway("0.0.0.0"), nonce), "no address of a gateway");
  hostile(encode_gateway(gateway("239.1.1.1"), nonce), "no address of a gateway");
  hostile(encode_gateway(gateway("127.0.0.1"), nonce), "no address of a gateway");
  hostile(encode_gateway(gateway("2001:db8::7"), nonce), "of another family");
  hostile(encode_gateway(gateway("192.0.2.1"), nonce), "our own address");
  hostile(encode_gateway(gateway("192.0.2.2"), nonce), "where we are");
  CHECK(lab.redirected.empty());
  lab.run(std::chrono::seconds(2));
  lab.check_whole();
}

TEST_CASE("RFC 5685 §3: who has not said that it follows passes REDIRECT over") {
  Client lab(false);
  const Message request = lab.begin();
  lab.hears(Client::answer(request, encode_gateway(gateway("192.0.2.7"), Client::nonce_of(request))));
  CHECK(lab.redirected.empty());
  CHECK(lab.session().phase() == SessionPhase::init_sent);
  lab.run(std::chrono::seconds(2));
  lab.check_whole();
}

TEST_CASE("RFC 5685 §6: a gateway that is full sends away who has proved itself and follows, and nobody else") {
  for (const bool follows : {true, false})
    for (const bool full : {true, false}) {
      CAPTURE(follows);
      CAPTURE(full);
      Client lab(follows);
      Lab::edit(lab.b, [](Connection& c) {
        c.redirect.when = RedirectWhen::auth;
        c.redirect.to = "192.0.2.7";
        c.redirect.leave_s = 20;
      });
      lab.b.surroundings.is_full = [full](const Connection&) { return full; };
      lab.start(0);
      lab.run(std::chrono::seconds(2));
      if (!follows || !full) {
        lab.check_whole();
        CHECK_FALSE(lab.b.established().redirected_to());
        continue;
      }
      CHECK(lab.a.live().empty());
      CHECK(lab.b.live().empty());
      CHECK(lab.a.spis.empty());
      CHECK(lab.b.spis.empty());
      CHECK(lab.session().phase() == SessionPhase::closed);  // §6: it deletes what stands
      CHECK(lab.b.count(SessionPhase::established) == 0);
      CHECK(lab.a.count(EventKind::ike_up) == 1);
      CHECK(lab.b.count(EventKind::redirected) == 1);
      CHECK(lab.a.failures.empty());
    }
}

TEST_CASE("RFC 5685 §6: nobody is sent away who has not proved itself; §7: nor to where it comes from") {
  Client wrong;
  Lab::edit(wrong.a, [](Connection& c) { c.local_key = secret("another key"); });
  Lab::edit(wrong.b, [](Connection& c) {
    c.redirect.when = RedirectWhen::auth;
    c.redirect.to = "192.0.2.7";
  });
  wrong.b.surroundings.is_full = [](const Connection&) { return true; };
  wrong.start(0);
  wrong.run(std::chrono::seconds(2));
  CHECK(wrong.b.count(EventKind::redirected) == 0);
  CHECK(wrong.b.failures.size() == 1);

  Client back;
  Lab::edit(back.b, [](Connection& c) {
    c.redirect.when = RedirectWhen::auth;
    c.redirect.to = "192.0.2.7";
  });
  back.b.surroundings.is_full = [](const Connection&) { return true; };
  Session::Setup setup{&back.a.surroundings, {back.a.own, 500}, {back.b.own, 500}, 0, false, {}, gateway("192.0.2.7")};
  back.a.sessions.push_back(Session::initiator(setup, back.a.connections.front(), {}));
  back.perform(0, back.a.sessions.back()->initiate(back.now));
  back.run(std::chrono::seconds(2));
  back.check_whole();
}

TEST_CASE("RFC 5685 §5: a gateway says it later, also after rekeys by either end; who stays is closed in time") {
  for (const int rekeyed_by : {-1, 0, 1}) {
    CAPTURE(rekeyed_by);
    Client lab;
    Lab::edit(lab.b, [](Connection& c) { c.redirect.leave_s = 20; });
    lab.start(0);
    lab.run(std::chrono::seconds(2));
    lab.check_whole();
    if (rekeyed_by >= 0) {
      End& end = lab.end(static_cast<std::size_t>(rekeyed_by));
      lab.perform(static_cast<std::size_t>(rekeyed_by), end.established().rekey(lab.now));
      lab.run(std::chrono::seconds(12));
    }
    REQUIRE(lab.b.established().can_redirect());
    CHECK_FALSE(lab.a.established().can_redirect());
    lab.perform(1, lab.b.established().redirect(gateway("gw2.example"), lab.now));
    lab.run(std::chrono::seconds(1));
    lab.check_whole();
    CHECK(lab.b.established().view(lab.now).redirected_to == "gw2.example");
    lab.run(std::chrono::seconds(30));  // nobody takes A away here
    CHECK(lab.b.count(SessionPhase::established) == 0);
    CHECK(lab.b.live().empty());
  }
}

TEST_CASE("RFC 5685 §5: a client that does not follow is not told, and one that is sends nobody away") {
  Client lab(false);
  lab.start(0);
  lab.run(std::chrono::seconds(2));
  lab.check_whole();
  CHECK_FALSE(lab.b.established().can_redirect());
  const std::size_t sent = lab.sent;
  lab.perform(1, lab.b.established().redirect(gateway("192.0.2.7"), lab.now));
  lab.run(std::chrono::seconds(1));
  CHECK(lab.sent == sent);

  ScriptedPeer peer;  // the initiator, to whom the gateway does not listen
  peer.establish();
  Message request{peer.header(ExchangeType::informational), {}};
  request.add_notify(NotifyType::redirect, encode_gateway(gateway("192.0.2.7")));
  REQUIRE(peer.says(peer.sealed(request)).size() == 1);
  CHECK(peer.lab.b.count(SessionPhase::established) == 1);
  CHECK(std::ranges::any_of(peer.lab.b.events,
                            [](const Event& e) { return e.text == "REDIRECT that nobody has asked for"; }));
}

namespace {

// A comes by EAP; the gateway answers its first IKE_AUTH request with REDIRECT.
struct EapClient : EapSessionLab {
  ScriptedGateway gateway{*this};

  explicit EapClient(bool follows = true) {
    edit(a, [&](Connection& c) { c.redirect.follow = follows; });
    start(0);
    gateway.answer_init();
  }
  // `signer`: whose AUTH the gateway has; nobody's: none. postern-pki answers then.
  void sent_away(const char* to, const char* signer, bool begins_eap = false) {
    const Message request = gateway.heard();
    REQUIRE(request.find<IdPayload>(PayloadType::id_initiator) != nullptr);
    REQUIRE(request.find<AuthPayload>(PayloadType::auth) == nullptr);
    const IdPayload id = Identity::of(b.own).payload();
    Message answer = gateway.answer_to(request);
    answer.add(PayloadType::id_responder, id);
    if (signer != nullptr) {
      answer.add(PayloadType::certificate, CertPayload{4, octets_of(as_bytes(std::string_view(signer)))});
      answer.add(PayloadType::auth, AuthPayload{AuthMethod::signature, lab::seal(gateway.to_be_signed(id), signer)});
    }
    answer.add_notify(NotifyType::redirect, encode_gateway(::gateway(to)));
    if (begins_eap)
      answer.add(PayloadType::eap, RawPayload{{std::byte{1}, std::byte{7}, {}, std::byte{5}, std::byte{1}}});
    gateway.says(answer);
    for (AskPki& one : std::exchange(a.asked, {}))
      gateway.take(a.sessions.back()->on_pki_answer(one.ticket, notary[0].answer(one.question), now));
  }
  void check_stays(FailureKind why) {
    CHECK(gateway.redirected.empty());
    REQUIRE(a.failures.size() == 1);
    CHECK(a.failures[0].kind == why);
    CHECK(a.sessions.back()->phase() == SessionPhase::closed);
    CHECK(a.spis.empty());
    CHECK(a.live().empty());
  }
};

}  // namespace

TEST_CASE("RFC 5685 §6 with EAP: REDIRECT in the first answer is followed once the gateway has proved itself") {
  for (const bool begins_eap : {false, true}) {  // what is said beside it does not count
    CAPTURE(begins_eap);
    EapClient lab;
    lab.sent_away("192.0.2.7", "B", begins_eap);
    REQUIRE(lab.gateway.redirected.size() == 1);
    CHECK(lab.gateway.redirected[0].to == gateway("192.0.2.7"));
    CHECK(lab.gateway.redirected[0].during == ExchangeType::ike_auth);
    CHECK(lab.gateway.redirected[0].wanted_children == std::vector<std::string>{"one"});
    CHECK(lab.notary[0].checks.size() == 1);
    CHECK(lab.a.sessions.back()->phase() == SessionPhase::closed);
    CHECK(lab.a.failures.empty());
    CHECK(lab.a.spis.empty());
    CHECK(lab.wire.empty());  // no word of EAP is said to it
  }
}

TEST_CASE("RFC 5685 §6 with EAP: a gateway that does not prove itself sends nobody away") {
  EapClient forged;
  forged.sent_away("192.0.2.7", "somebody else");
  forged.check_stays(FailureKind::certificate);
  for (const bool begins_eap : {false, true}) {
    EapClient silent;  // RFC 7296 §2.16: it proves itself before EAP
    silent.sent_away("192.0.2.7", nullptr, begins_eap);
    silent.check_stays(begins_eap ? FailureKind::wrong_key : FailureKind::invalid_syntax);
    CHECK(silent.notary[0].checks.empty());
  }
}

TEST_CASE("RFC 5685 §3, §6 with EAP: who does not follow, and to where no gateway is, nobody goes, and EAP goes on") {
  for (const bool follows : {true, false}) {
    CAPTURE(follows);
    EapClient lab(follows);
    lab.sent_away(follows ? "192.0.2.1" : "192.0.2.7", "B", true);
    CHECK(lab.gateway.redirected.empty());
    CHECK(lab.a.failures.empty());
    CHECK(lab.a.sessions.back()->phase() == SessionPhase::auth_sent);
    const Message next = lab.gateway.heard();
    CHECK(next.find<RawPayload>(PayloadType::eap) != nullptr);
  }
}
