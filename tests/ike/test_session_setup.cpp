// IKE_SA_INIT and IKE_AUTH between two sessions: what comes up, and what is refused for which reason.
#include "session_lab.hpp"

namespace postern::ike {
namespace {

using lab::End;
using lab::Lab;

TEST_CASE("session: one flow comes up, keys and selectors agree") {
  Lab lab;
  lab.start(0);
  lab.settle();
  lab.check_whole();
  const InstallChild& at_a = *lab.a.bound(1);
  CHECK(at_a.local == std::vector{selector_of(*Prefix::parse("10.1.0.0/16"))});
  CHECK(at_a.remote == std::vector{selector_of(*Prefix::parse("10.2.0.0/16"))});
  CHECK(lab.b.bound(1)->local == at_a.remote);
  CHECK(lab.a.count(EventKind::ike_up) == 1);
  CHECK(lab.b.count(EventKind::ike_up) == 1);
  CHECK_FALSE(at_a.udp_encapsulation);
  CHECK(lab.sent == 4);
}

TEST_CASE("session: of two connections between two addresses the one that the selectors fit answers") {
  // A map entry and a tunnel, both known by the same identities.
  for (const bool tunnel : {true, false}) {
    Lab lab;
    for (const std::size_t index : {std::size_t{0}, std::size_t{1}}) {
      auto& end = lab.end(index);
      Connection other = *end.connections.front();
      other.name = "Tunnel0";
      other.children = {lab::child_policy("Tunnel0", 7, "0.0.0.0/0", "0.0.0.0/0")};
      end.connections.push_back(std::make_shared<const Connection>(std::move(other)));
    }
    if (tunnel) std::swap(lab.a.connections[0], lab.a.connections[1]);  // A begins with its first
    lab.start(0);
    lab.settle();
    lab.check_whole();
    CHECK(lab.a.established().connection()->name == (tunnel ? "Tunnel0" : "M1 10"));
    CHECK(lab.b.established().connection()->name == (tunnel ? "Tunnel0" : "M1 10"));
    CHECK(lab.b.bound(tunnel ? 7 : 1) != nullptr);
  }
}

TEST_CASE("session: several flows make several children of one IKE SA") {
  Lab lab;
  lab.flow("two", 2, "10.3.0.0/16", "10.4.0.0/16");
  lab.flow("three", 3, "2001:db8:1::/64", "2001:db8:2::/64");
  lab.start(0);
  lab.settle();
  lab.check_whole(3);
  CHECK(lab.sent == 8);
}

TEST_CASE("session: a tunnel beside a map entry of one peer: each offer finds its own flow, whoever comes first") {
  for (const bool tunnel_first : {false, true}) {
    Lab lab;
    lab.flow("tunnel", 2, "0.0.0.0/0", "0.0.0.0/0");
    if (tunnel_first) Lab::edit(lab.a, [](Connection& c) { std::ranges::reverse(c.children); });
    lab.start(0);
    lab.settle();
    lab.check_whole(2);
    for (const std::uint32_t flow : {1U, 2U}) CHECK(lab.a.bound(flow)->remote == lab.a.bound(flow)->policy.remote);
  }
}

TEST_CASE("session: extended sequence numbers where both ends want them, else those of 32 bits") {
  const auto want = [](End& end) {
    Lab::edit(end, [](Connection& c) {
      for (EspProposal& proposal : c.children.front().proposals) proposal.extended_sequence = true;
    });
  };
  for (const bool at_b : {true, false}) {
    Lab lab;
    want(lab.a);
    if (at_b) want(lab.b);
    lab.start(0);
    lab.settle();
    lab.check_whole();
    for (const End* const end : {&lab.a, &lab.b}) {
      CHECK(end->bound(1)->suite.extended_sequence == at_b);
      CHECK(end->bound(1)->tfc_padding);
    }
  }
}

TEST_CASE("session: the initiator guesses the wrong group") {
  Lab lab;
  Lab::edit(lab.b, [](Connection& c) { c.proposals = {lab::ike_proposal({crypto::DhGroup::ecp256})}; });
  lab.start(0);
  lab.settle();
  lab.check_whole();
  CHECK(lab.sent == 6);
  CHECK(lab.a.established().view(lab.now).suite->group == crypto::DhGroup::ecp256);
}

TEST_CASE("session: the responder has no such group") {
  Lab lab;
  Lab::edit(lab.b, [](Connection& c) { c.proposals = {lab::ike_proposal({crypto::DhGroup::ecp384})}; });
  lab.start(0);
  lab.settle();
  REQUIRE(lab.a.failures.size() == 1);
  REQUIRE(lab.b.failures.size() == 1);
  CHECK(lab.a.failures[0].kind == FailureKind::no_common_ike_proposal);
  CHECK(lab.a.failures[0].by_peer);
  CHECK(lab.b.failures[0].kind == FailureKind::no_common_ike_proposal);
  CHECK(lab.b.failures[0].differs.find("roup") != std::string::npos);
  CHECK(lab.a.live().empty());
  CHECK(lab.b.live().empty());
  REQUIRE(lab.a.closed.size() == 1);
  CHECK(lab.a.closed[0].retry);
  CHECK(lab.a.closed[0].wanted_children == std::vector<std::string>{"one"});
}

TEST_CASE("session: nobody is configured for this peer") {
  Lab lab;
  lab.b.connections.clear();
  lab.start(0);
  lab.settle();
  REQUIRE(lab.b.failures.size() == 1);
  CHECK(lab.b.failures[0].kind == FailureKind::no_connection);
  CHECK(lab.b.count(SessionPhase::closed) == 1);
}

struct Refusal {
  const char* name;
  void (*spoil)(Lab&);
  FailureKind at_a, at_b;
  bool a_by_peer;
};
const Refusal refusals[] = {
    {"B holds another key", [](Lab& l) { Lab::edit(l.b, [](Connection& c) { c.remote_key = lab::secret("wrong"); }); },
     FailureKind::wrong_key, FailureKind::wrong_key, true},
    {"B signs with another key",
     [](Lab& l) { Lab::edit(l.b, [](Connection& c) { c.local_key = lab::secret("wrong"); }); }, FailureKind::wrong_key,
     FailureKind::wrong_key, false},
    {"A is somebody that B does not know",
     [](Lab& l) { Lab::edit(l.a, [](Connection& c) { c.local_identity = Identity::of(IdType::fqdn, "a.example"); }); },
     FailureKind::wrong_key, FailureKind::wrong_identity, true},
    {"B is somebody that A does not know",
     [](Lab& l) { Lab::edit(l.b, [](Connection& c) { c.local_identity = Identity::of(IdType::fqdn, "b.example"); }); },
     FailureKind::wrong_identity, FailureKind::wrong_key, false},
    {"A asks for somebody that B is not",
     [](Lab& l) {
       Lab::edit(l.a, [](Connection& c) { c.remote_identities = {Identity::of(IdType::fqdn, "c.example")}; });
     },
     FailureKind::wrong_key, FailureKind::wrong_identity, true},
    {"B has an empty key", [](Lab& l) { Lab::edit(l.b, [](Connection& c) { c.remote_key = Secret(); }); },
     FailureKind::wrong_key, FailureKind::wrong_key, true},
};

TEST_CASE("session: who does not authenticate gets nothing") {
  for (const Refusal& row : refusals) {
    CAPTURE(std::string(row.name));
    Lab lab;
    lab.traffic = false;  // a responder that believed us has its SA until it hears that we do not believe it
    row.spoil(lab);
    lab.start(0);
    lab.settle();
    REQUIRE(lab.a.failures.size() == 1);
    REQUIRE(lab.b.failures.size() == 1);
    CHECK(lab.a.failures[0].kind == row.at_a);
    CHECK(lab.a.failures[0].by_peer == row.a_by_peer);
    CHECK(lab.b.failures[0].kind == row.at_b);
    CHECK_FALSE(lab.a.failures[0].remedy.empty());
    CHECK(lab.a.live().empty());
    CHECK(lab.b.live().empty());
    CHECK(lab.a.count(SessionPhase::established) + lab.b.count(SessionPhase::established) == 0);
    CHECK(lab.a.spis.empty());
    CHECK(lab.b.spis.empty());
  }
}

TEST_CASE("session: a responder narrows to what it permits, and no further") {
  Lab lab;
  Lab::edit(lab.a, [](Connection& c) { c.children = {lab::child_policy("one", 1, "10.0.0.0/8", "10.2.0.0/16")}; });
  lab.start(0);
  lab.settle();
  lab.check_whole();
  CHECK(lab.a.bound(1)->local == std::vector{selector_of(*Prefix::parse("10.1.0.0/16"))});
}

// A child for port 5000 and one for what has no ports, of the same hosts; seen from A.
ChildPolicy ports_child(std::uint32_t flow, bool later, bool swap) {
  ChildPolicy out = lab::child_policy(later ? "ports fragments" : "ports", flow, swap ? "10.4.0.0/16" : "10.3.0.0/16",
                                      swap ? "10.3.0.0/16" : "10.4.0.0/16");
  for (auto* const side : {&out.local, &out.remote}) {
    side->front().protocol = 17;
    side->front().first_port = later ? 65535 : 5000;
    side->front().last_port = later ? 0 : 5000;
  }
  out.later_fragments = later;
  return out;
}

TEST_CASE(
    "session: OPAQUE selectors make an SA of their own (R43-07), and are skipped where nothing is OPAQUE (R43-02)") {
  Lab lab;
  const auto children = [](bool swap, bool with_later) {
    std::vector<ChildPolicy> out{ports_child(1, false, swap)};
    if (with_later) out.push_back(ports_child(2, true, swap));
    return out;
  };
  SUBCASE("both ends have them") {
    Lab::edit(lab.a, [&](Connection& c) { c.children = children(false, true); });
    Lab::edit(lab.b, [&](Connection& c) { c.children = children(true, true); });
    lab.start(0);
    lab.settle();
    lab.check_whole(2);
    CHECK(is_opaque(lab.a.bound(2)->local.at(0)));
    CHECK(is_opaque(lab.b.bound(2)->remote.at(0)));
    CHECK(lab.a.bound(1)->local.at(0).first_port == 5000);
  }
  SUBCASE("the peer has none: that child alone is refused") {
    Lab::edit(lab.a, [&](Connection& c) { c.children = children(false, true); });
    Lab::edit(lab.b, [&](Connection& c) { c.children = children(true, false); });
    lab.start(0);
    lab.settle();
    lab.check_whole(1);
    REQUIRE(lab.a.failures.size() == 1);
    CHECK(lab.a.failures[0].kind == FailureKind::selectors);
  }
  SUBCASE("OPAQUE and then ports, in one offer: the second counts") {
    Lab::edit(lab.a, [&](Connection& c) {
      c.children = children(false, false);
      for (auto* const side : {&c.children[0].local, &c.children[0].remote}) {
        Selector opaque = side->front();
        opaque.first_port = 65535;
        opaque.last_port = 0;
        side->insert(side->begin(), opaque);
      }
    });
    Lab::edit(lab.b, [&](Connection& c) { c.children = children(true, false); });
    lab.start(0);
    lab.settle();
    lab.check_whole(1);
    REQUIRE(lab.b.bound(1)->local.size() == 1);
    CHECK(lab.b.bound(1)->local[0].first_port == 5000);
  }
  SUBCASE("OPAQUE alone is no SA for a flow of all ports: it would carry nothing else") {
    Lab::edit(lab.a, [&](Connection& c) { c.children = {ports_child(2, true, false)}; });
    Lab::edit(lab.b, [&](Connection& c) { c.children = {lab::child_policy("any", 1, "10.4.0.0/16", "10.3.0.0/16")}; });
    lab.start(0);
    lab.settle();
    CHECK(lab.b.live().empty());
    REQUIRE(lab.b.failures.size() == 1);
    CHECK(lab.b.failures[0].kind == FailureKind::selectors);
  }
  SUBCASE("an offer of ports never lands in the flow of the fragments") {
    Lab::edit(lab.a, [&](Connection& c) {
      c.children = {ports_child(1, false, false)};
      for (auto* const side : {&c.children[0].local, &c.children[0].remote}) {
        side->front().first_port = 0;
        side->front().last_port = 65535;
      }
    });
    Lab::edit(lab.b, [&](Connection& c) { c.children = {ports_child(2, true, true)}; });
    lab.start(0);
    lab.settle();
    CHECK(lab.b.live().empty());
  }
}

TEST_CASE("session: a flow that no entry permits is refused, the IKE SA stays") {
  Lab lab;
  Lab::edit(lab.a, [](Connection& c) { c.children = {lab::child_policy("one", 1, "172.16.0.0/16", "10.2.0.0/16")}; });
  lab.start(0);
  lab.settle();
  REQUIRE(lab.a.failures.size() == 1);
  CHECK(lab.a.failures[0].kind == FailureKind::selectors);
  REQUIRE(lab.b.failures.size() == 1);
  CHECK(lab.b.failures[0].kind == FailureKind::selectors);
  CHECK(lab.b.failures[0].offered.find("172.16") != std::string::npos);
  CHECK(lab.b.failures[0].accepted.find("10.1.0.0") != std::string::npos);
  CHECK(lab.a.count(SessionPhase::established) == 1);
  CHECK(lab.a.live().empty());
  CHECK(lab.a.spis.empty());
}

TEST_CASE("session: no common transform set for the child") {
  Lab lab;
  Lab::edit(lab.b, [](Connection& c) {
    c.children[0].proposals = {{{crypto::Cipher::aes_cbc, 256, crypto::Integrity::hmac_sha256_128}, false}};
  });
  lab.start(0);
  lab.settle();
  REQUIRE(lab.b.failures.size() == 1);
  CHECK(lab.b.failures[0].kind == FailureKind::no_common_child_proposal);
  CHECK_FALSE(lab.b.failures[0].differs.empty());
  CHECK(lab.a.live().empty());
}

TEST_CASE("session: a silent peer is told from one that falls silent after the float") {
  Lab silent;
  silent.network = [](const auto&) { return lab::Fate{0, 0}; };
  silent.start(0);
  silent.run(std::chrono::minutes(3));
  REQUIRE(silent.a.failures.size() == 1);
  CHECK(silent.a.failures[0].kind == FailureKind::no_answer);
  CHECK(silent.a.closed.at(0).retry);
  CHECK(silent.sent == 7);

  Lab floats;
  floats.edit_both([](Connection& c) { c.force_encapsulation = true; });
  Lab::edit(floats.a, [](Connection& c) { c.force_encapsulation = false; });
  floats.network = [](const auto& d) { return lab::Fate{d.remote.port == 4500 ? 0U : 1U, 0}; };
  floats.start(0);
  floats.run(std::chrono::minutes(3));
  REQUIRE(floats.a.failures.size() == 1);
  CHECK(floats.a.failures[0].kind == FailureKind::no_answer_after_float);
  CHECK(floats.b.count(SessionPhase::closed) == 1);  // half-open for 30 s
}

TEST_CASE("session: with encapsulation forced everything is on port 4500, from the first message") {
  Lab lab;
  Lab::edit(lab.a, [](Connection& c) { c.force_encapsulation = true; });
  std::set<std::uint16_t> ports;
  lab.network = [&](const auto& d) {
    ports.insert(d.local.port);
    ports.insert(d.remote.port);
    return lab::Fate{};
  };
  lab.start(0);
  lab.settle();
  lab.check_whole();
  CHECK(ports == std::set<std::uint16_t>{4500});
  CHECK(lab.a.bound(1)->udp_encapsulation);
  CHECK(lab.b.bound(1)->udp_encapsulation);
}

TEST_CASE("session: INITIAL_CONTACT is said when it is so, and only then") {
  for (const bool said : {true, false}) {
    Lab lab;
    lab.start(0);
    lab.a.sessions.clear();
    lab.wire.clear();
    lab.a.sessions.push_back(Session::initiator({&lab.a.surroundings, {lab.a.own, 500}, {lab.b.own, 500}, 0, said, {}},
                                                lab.a.connections.front(), {}));
    bool heard = false;
    lab.perform(0, lab.a.sessions[0]->initiate(lab.now));
    while (!lab.wire.empty()) {
      const auto one = lab.wire.front();
      lab.wire.erase(lab.wire.begin());
      if (one.from == 0 && !lab.b.sessions.empty()) {
        Actions actions = lab.b.sessions[0]->on_datagram(one.bytes, one.remote, one.local, lab.now);
        for (const Action& action : actions) heard = heard || std::holds_alternative<InitialContact>(action);
        lab.perform(1, std::move(actions));
      } else {
        lab.deliver(one);
      }
    }
    CHECK(heard == said);
  }
}

TEST_CASE("session: a forged or changed datagram changes nothing") {
  Lab lab;
  lab.start(0);
  lab.settle();
  Actions probe = lab.a.established().rekey(lab.now);
  const auto& datagram = std::get<SendDatagram>(
      *std::ranges::find_if(probe, [](const Action& one) { return std::holds_alternative<SendDatagram>(one); }));
  for (std::size_t at = 0; at < datagram.bytes.size(); ++at) {
    Octets changed = datagram.bytes;
    changed[at] ^= std::byte{0x40};
    for (const Action& action : lab.b.established().on_datagram(changed, {lab.b.own, 500}, {lab.a.own, 500}, lab.now))
      CHECK_MESSAGE(std::holds_alternative<Event>(action), "byte " << at);
  }
  lab.perform(0, std::move(probe));
  lab.settle();
  lab.run(std::chrono::seconds(30));
  lab.check_whole();
}

}  // namespace
}  // namespace postern::ike
