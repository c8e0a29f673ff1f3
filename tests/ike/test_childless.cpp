// IKE SAs without a child (RFC 6023): the IKE SA first, and each child in an exchange of its own.
#include "tests/ike/eap_session_lab.hpp"
#include "tests/ike/scripted_peer.hpp"

using namespace postern;
using namespace postern::ike;
using namespace postern::ike::lab;

namespace {

struct CountsChildExchanges {
  std::size_t child_exchanges = 0;
  void watch(Lab& lab) {
    lab.network = [this](const Datagram& one) {
      const auto header = parse_header(one.bytes);
      child_exchanges += header && header->exchange == ExchangeType::create_child_sa && !header->response ? 1 : 0;
      return Fate{};
    };
  }
};

struct Childlings : Lab, CountsChildExchanges {
  Childlings(Childless at_a, Childless at_b) {
    edit(a, [&](Connection& c) { c.childless = at_a; });
    edit(b, [&](Connection& c) { c.childless = at_b; });
    watch(*this);
  }
  void begin() {
    start(0);
    run(std::chrono::seconds(2));
  }
};

Message without_child(Message message) {
  std::erase_if(message.payloads, [](const Payload& p) {
    return p.type == PayloadType::sa || p.type == PayloadType::ts_initiator || p.type == PayloadType::ts_responder;
  });
  return message;
}

}  // namespace

TEST_CASE("RFC 6023 §3, §4: who wants it and whose peer can, begins without a child") {
  using enum Childless;
  enum class Ends : std::uint8_t { in_auth, alone, no_child, no_ike_sa };
  struct Row {
    Childless at_a, at_b;
    Ends ends;
  };
  const Row rows[] = {
      {never, never, Ends::in_auth},  {never, allow, Ends::in_auth},  {never, prefer, Ends::in_auth},
      {never, force, Ends::no_child}, {allow, never, Ends::in_auth},  {allow, allow, Ends::in_auth},
      {allow, force, Ends::no_child}, {prefer, never, Ends::in_auth}, {prefer, allow, Ends::alone},
      {prefer, prefer, Ends::alone},  {prefer, force, Ends::alone},   {force, never, Ends::no_ike_sa},
      {force, allow, Ends::alone},    {force, prefer, Ends::alone},   {force, force, Ends::alone},
  };
  for (const Row& row : rows) {
    CAPTURE(static_cast<int>(row.at_a));
    CAPTURE(static_cast<int>(row.at_b));
    Childlings lab(row.at_a, row.at_b);
    lab.begin();
    if (row.ends == Ends::no_ike_sa) {
      CHECK(lab.a.count(SessionPhase::established) == 0);
      CHECK(lab.b.count(SessionPhase::established) == 0);
      REQUIRE(lab.a.failures.size() == 1);
      CHECK(lab.a.failures[0].summary.find("without a child") != std::string::npos);
      CHECK(lab.a.spis.empty());
    } else if (row.ends == Ends::no_child) {
      CHECK(lab.a.count(SessionPhase::established) == 1);
      CHECK(lab.a.live().empty());
      CHECK(lab.b.live().empty());
      REQUIRE_FALSE(lab.a.failures.empty());
      CHECK(lab.a.failures[0].summary.find("NO_ADDITIONAL_SAS") != std::string::npos);
      CHECK(lab.a.spis.empty());
    } else {
      lab.check_whole();
      CHECK(lab.child_exchanges == (row.ends == Ends::alone ? 1 : 0));
    }
  }
}

TEST_CASE("RFC 6023 §2: PFS counts for the first child too, and every child comes") {
  Childlings lab(Childless::force, Childless::allow);
  lab.flow("two", 2, "10.3.0.0/16", "10.4.0.0/16");
  lab.edit_both([](Connection& c) {
    for (ChildPolicy& child : c.children) child.pfs = {crypto::DhGroup::curve25519};
  });
  lab.begin();
  lab.check_whole(2);
  CHECK(lab.child_exchanges == 2);
  for (const InstallChild* const child : lab.a.live()) CHECK(child->suite.group == crypto::DhGroup::curve25519);
}

TEST_CASE("RFC 6023: each message lost, doubled and late") {
  const auto make = [] { return std::make_unique<Childlings>(Childless::force, Childless::allow); };
  with_each_message_troubled(8, 1, make, [](Lab&) {});
}

TEST_CASE("RFC 6023 §4: one who does not do it does not say that it does, and refuses it") {
  ScriptedPeer peer;
  Lab::edit(peer.lab.b, [](Connection& c) { c.childless = Childless::never; });
  peer.exchange_init();
  CHECK(peer.init_answer.notify(NotifyType::childless_ikev2_supported) == nullptr);
  const auto answers = peer.says(peer.sealed(without_child(peer.auth_request())));
  REQUIRE(answers.size() == 1);
  CHECK(peer.opened(answers[0]).notify(NotifyType::invalid_syntax) != nullptr);
  CHECK(peer.lab.b.count(SessionPhase::established) == 0);
  CHECK(peer.lab.b.count(EventKind::ike_up) == 0);
}

namespace {

// What `made` comes to, and in how many exchanges beside IKE_AUTH.
template <class Made>
void check_childless_by_eap(Made& made, Childless at_a, Childless at_b) {
  CountsChildExchanges counts;
  counts.watch(made);
  made.edit(made.a, [&](Connection& c) { c.childless = at_a; });
  made.edit(made.b, [&](Connection& c) { c.childless = at_b; });
  made.edit_both([](Connection& c) { c.children.front().pfs = {crypto::DhGroup::curve25519}; });
  made.start(0);
  made.settle_all();
  made.run(std::chrono::seconds(2));
  const bool wants = at_a >= Childless::prefer, can = at_b != Childless::never;
  if (at_a == Childless::force && !can) {
    CHECK(made.a.count(SessionPhase::established) + made.b.count(SessionPhase::established) == 0);
    REQUIRE(made.a.failures.size() == 1);
    CHECK(made.a.failures[0].summary.find("without a child") != std::string::npos);
    CHECK(made.a.spis.empty());
  } else if (at_b == Childless::force && !wants) {
    CHECK(made.a.count(SessionPhase::established) == 1);
    CHECK(made.a.live().empty());
    CHECK(made.b.live().empty());
    REQUIRE_FALSE(made.a.failures.empty());
    CHECK(made.a.failures[0].summary.find("NO_ADDITIONAL_SAS") != std::string::npos);
  } else {
    made.check_whole();
    CHECK(counts.child_exchanges == (wants && can ? 1 : 0));
    const auto group = wants && can ? crypto::DhGroup::curve25519 : crypto::DhGroup::none;
    for (const InstallChild* const child : made.a.live()) CHECK(child->suite.group == group);
    CHECK(made.b.established().view(made.now).eap_identity == "alice");
  }
}

}  // namespace

TEST_CASE("RFC 6023 with EAP: who wants it and whose peer can, begins without a child") {
  using enum Childless;
  for (const Childless at_a : {never, allow, prefer, force})
    for (const Childless at_b : {never, allow, prefer, force}) {
      CAPTURE(static_cast<int>(at_a));
      CAPTURE(static_cast<int>(at_b));
      EapSessionLab mschapv2, mschapv2_alone, md5({EapType::md5}, {EapType::md5});
      mschapv2_alone.alone();
      for (EapSessionLab* const one : {&mschapv2, &mschapv2_alone, &md5}) check_childless_by_eap(*one, at_a, at_b);
      TlsSessionLab tls, tls_alone;
      tls_alone.alone();
      for (TlsSessionLab* const one : {&tls, &tls_alone}) check_childless_by_eap(*one, at_a, at_b);
    }
}

TEST_CASE("RFC 6023 with EAP and a PPK (RFC 8784): the child's keys follow from the mixed ones") {
  EapSessionLab lab;
  lab.edit_both([](Connection& c) {
    c.childless = Childless::force;
    c.ppk = {"one", secret("0123456789abcdef0123456789abcdef"), true};
  });
  lab.go();
  lab.check_whole();
  CHECK(lab.b.established().view(lab.now).ppk);
}

TEST_CASE("RFC 6023 with EAP: each datagram lost once, doubled, or late") {
  for (std::size_t which = 0; which < 14; ++which)
    for (const Fate fate : {Fate{0, 0}, Fate{2, 0}, Fate{1, 2}}) {
      CAPTURE(which);
      CAPTURE(fate.copies);
      EapSessionLab lab;
      lab.edit_both([](Connection& c) { c.childless = Childless::force; });
      lab.network = [&](const Datagram& one) { return one.number == which ? fate : Fate{}; };
      lab.start(0);
      for (int turn = 0; turn < 40 && lab.b.live().empty(); ++turn) {
        lab.settle_all();
        lab.tick(std::chrono::seconds(2));
      }
      lab.settle_all();
      lab.run(std::chrono::seconds(5));
      lab.check_whole();
      CHECK(lab.b.failures.empty());
    }
}

TEST_CASE("RFC 6023 §4 with EAP: one who does not do it refuses it before EAP begins, and shows no certificate") {
  for (const Childless at_b : {Childless::never, Childless::allow}) {
    ScriptedPeer peer;
    Lab::edit(peer.lab.b, [&](Connection& c) {
      c.remote_auth = AuthKind::eap;
      c.eap_server = {{EapType::mschapv2}, true};
      c.childless = at_b;
    });
    peer.exchange_init();
    Message request = without_child(peer.auth_request());
    std::erase_if(request.payloads, [](const Payload& p) { return p.type == PayloadType::auth; });
    const auto answers = peer.says(peer.sealed(request));
    REQUIRE(answers.size() == 1);
    const Message answer = peer.opened(answers[0]);
    CHECK((answer.notify(NotifyType::invalid_syntax) != nullptr) == (at_b == Childless::never));
    CHECK((answer.find<RawPayload>(PayloadType::eap) == nullptr) == (at_b == Childless::never));
    CHECK((answer.find<AuthPayload>(PayloadType::auth) == nullptr) == (at_b == Childless::never));
    CHECK((peer.lab.b.count(SessionPhase::closed) == 1) == (at_b == Childless::never));
  }
}
