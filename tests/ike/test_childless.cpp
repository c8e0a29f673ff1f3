// IKE SAs without a child (RFC 6023): the IKE SA first, and each child in an exchange of its own.
#include "tests/ike/scripted_peer.hpp"

using namespace postern;
using namespace postern::ike;
using namespace postern::ike::lab;

namespace {

struct Childlings : Lab {
  std::size_t child_exchanges = 0;

  Childlings(Childless at_a, Childless at_b) {
    edit(a, [&](Connection& c) { c.childless = at_a; });
    edit(b, [&](Connection& c) { c.childless = at_b; });
    network = [this](const Datagram& one) {
      const auto header = parse_header(one.bytes);
      child_exchanges += header && header->exchange == ExchangeType::create_child_sa && !header->response ? 1 : 0;
      return Fate{};
    };
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
