// What time does to an IKE SA and its children: lifetimes, liveness, keepalives, PFS.
#include "session_lab.hpp"

namespace postern::ike {
namespace {

using lab::Datagram;
using lab::End;
using lab::Fate;
using lab::Lab;
using namespace std::chrono_literals;

TEST_CASE("session: children and IKE SA are rekeyed before they end, for as long as it takes") {
  Lab lab;
  lab.edit_both([](Connection& c) {
    c.lifetime_s = 600;
    c.children[0].lifetime_s = 120;
  });
  lab.start(0);
  lab.run(1h);
  lab.check_whole();
  CHECK(lab.a.count(EventKind::child_rekeyed) >= 29);
  CHECK(lab.a.count(EventKind::ike_rekeyed) >= 5);
  CHECK(lab.a.count(EventKind::attempt_failed) == 0);
  CHECK(lab.b.count(EventKind::attempt_failed) == 0);
}

TEST_CASE(
    "session: a rekey whose answer comes after the old IKE SA's life is over: the new one stays, with its children") {
  Lab lab;
  lab.edit_both([](Connection& c) { c.lifetime_s = 120; });
  lab.start(0);
  lab.settle();
  lab.run(90s);
  lab.network = [](const Datagram&) { return Fate{0, 0}; };
  lab.run(35s);
  REQUIRE(lab.a.count(EventKind::retransmitted) > 0);
  CHECK(lab.a.count(EventKind::ike_rekeyed) == 0);
  lab.network = [](const Datagram&) { return Fate{}; };
  lab.run(20s);
  lab.check_whole();
  CHECK(lab.a.count(EventKind::ike_rekeyed) == 1);
  CHECK(lab.a.children.size() == 1);
  CHECK(lab.b.children.size() == 1);
}

TEST_CASE("session: a child that cannot be rekeyed carries traffic to its end, and not longer") {
  Lab lab;
  lab.edit_both([](Connection& c) { c.children[0].lifetime_s = 120; });
  lab.start(0);
  lab.settle();
  Lab::edit(lab.b, [](Connection& c) {
    c.children[0].proposals = {{{crypto::Cipher::aes_cbc, 256, crypto::Integrity::hmac_sha256_128}, false}};
  });
  lab.run(100s);
  CHECK(lab.a.live().size() == 1);
  lab.run(40s);
  CHECK(lab.a.live().empty());
  CHECK(lab.b.live().empty());
  CHECK(lab.a.outbound.empty());
  // RFC 7296 §2.8: "an implementation MUST close the IKE SA and any associated Child SAs and then MAY start new ones".
  for (const auto* const at : {&lab.a, &lab.b}) CHECK(at->count(SessionPhase::established) == 0);
  const auto& first = lab.a.closed.empty() ? lab.b.closed : lab.a.closed;
  REQUIRE_FALSE(first.empty());
  CHECK(first.front().retry);
  CHECK(first.front().wanted_children == std::vector<std::string>{"one"});
}

TEST_CASE("session: of two children the one that cannot be rekeyed takes the other with it; both are wanted again") {
  Lab lab;
  lab.flow("two", 2, "10.11.0.0/16", "10.12.0.0/16");
  lab.edit_both([](Connection& c) { c.children[0].lifetime_s = 120; });
  lab.start(0);
  lab.settle();
  lab.check_whole(2);
  Lab::edit(lab.b, [](Connection& c) {
    c.children[0].proposals = {{{crypto::Cipher::aes_cbc, 256, crypto::Integrity::hmac_sha256_128}, false}};
  });
  lab.traffic = false;
  lab.run(140s);
  CHECK(lab.a.live().empty());
  CHECK(lab.b.live().empty());
  for (const auto* const at : {&lab.a, &lab.b}) CHECK(at->count(SessionPhase::established) == 0);
  const auto& first = lab.a.closed.empty() ? lab.b.closed : lab.a.closed;
  REQUIRE_FALSE(first.empty());
  CHECK(first.front().wanted_children.size() == 2);
}

TEST_CASE(
    "session: a child whose volume is over goes alone, unless the peer would not rekey it: then the IKE SA goes") {
  for (const bool refused : {false, true}) {
    CAPTURE(refused);
    Lab lab;
    lab.start(0);
    lab.settle();
    const ChildId one = lab.a.outbound.at(1);
    if (refused) {
      Lab::edit(lab.b, [](Connection& c) {
        c.children[0].proposals = {{{crypto::Cipher::aes_cbc, 256, crypto::Integrity::hmac_sha256_128}, false}};
      });
      lab.perform(0, lab.a.established().rekey_child(one, lab.now));
      lab.settle();
      REQUIRE_FALSE(lab.a.failures.empty());
    }
    lab.perform(0, lab.a.established().on_hard_expiry(one, lab.now));
    lab.run(1s);
    CHECK(lab.a.live().empty());
    CHECK(lab.b.live().empty());
    CHECK(lab.a.count(SessionPhase::established) == (refused ? 0 : 1));
    CHECK(lab.a.closed.size() == (refused ? 1 : 0));
    if (refused) CHECK(lab.a.closed.at(0).wanted_children == std::vector<std::string>{"one"});
  }
}

TEST_CASE("session: a child whose volume is over waits for the rekey that is on its way") {
  Lab lab;
  lab.start(0);
  lab.settle();
  const ChildId one = lab.a.outbound.at(1);
  lab.perform(0, lab.a.established().rekey_child(one, lab.now));
  lab.perform(0, lab.a.established().on_hard_expiry(one, lab.now));
  lab.run(30s);
  lab.check_whole();
  CHECK(lab.a.outbound.at(1) != one);
}

TEST_CASE("RFC 7296 §2.2: message ids do not wrap: the IKE SA is rekeyed before, and closed where it cannot be") {
  const auto ask = [](Lab& lab, std::size_t who, int times) {
    for (int i = 0; i < times && lab.end(who).count(SessionPhase::established) == 1; ++i) {
      Session& session = lab.end(who).established();
      if (lab.end(who).live().empty()) return;
      lab.perform(who, session.rekey_child(lab.end(who).live().back()->id, lab.now));
      lab.run(11s);
    }
  };
  for (const std::size_t who : {0, 1}) {
    CAPTURE(who);
    Lab lab;
    lab.lifetimes.message_ids = 64;
    lab.start(0);
    lab.settle();
    ask(lab, who, 60);  // two requests each
    CHECK(lab.a.count(EventKind::ike_rekeyed) >= 2);
    CHECK(lab.a.closed.size() == lab.a.sessions.size() - 1);
    lab.check_whole();
    for (const End* const at : {&lab.a, &lab.b}) CHECK(at->established().view(lab.now).next_request < 60);
  }
  // A peer that takes no new IKE SA: the old one is closed before its ids are used up, and wanted again.
  Lab lab;
  lab.lifetimes.message_ids = 64;
  lab.start(0);
  lab.settle();
  Lab::edit(lab.b, [](Connection& c) { c.proposals = {lab::ike_proposal({crypto::DhGroup::ecp384})}; });
  std::uint32_t highest = 0;
  lab.network = [&](const auto& one) {
    if (const auto header = parse_header(one.bytes)) highest = std::max(highest, header->message_id);
    return Fate{};
  };
  lab.traffic = false;
  ask(lab, 0, 60);
  CHECK(lab.a.count(SessionPhase::established) == 0);
  CHECK(lab.a.live().empty());
  CHECK(highest < 64);
  REQUIRE_FALSE(lab.a.closed.empty());
  CHECK(lab.a.closed.front().retry);
  CHECK(lab.a.closed.front().wanted_children == std::vector<std::string>{"one"});
}

TEST_CASE("session: PFS makes a key exchange of its own, and is demanded") {
  Lab lab;
  lab.edit_both([](Connection& c) { c.children[0].pfs = {crypto::DhGroup::ecp384}; });
  lab.start(0);
  lab.settle();
  lab.perform(0, lab.a.established().rekey_child(lab.a.outbound.at(1), lab.now));
  lab.run(30s);
  lab.check_whole();
  CHECK(lab.a.bound(1)->suite.group == crypto::DhGroup::ecp384);

  Lab without;
  Lab::edit(without.b, [](Connection& c) { c.children[0].pfs = {crypto::DhGroup::ecp384}; });
  without.start(0);
  without.settle();
  const ChildId before = without.a.outbound.at(1);
  without.perform(0, without.a.established().rekey_child(before, without.now));
  without.run(5s);
  CHECK(without.a.outbound.at(1) == before);
  REQUIRE_FALSE(without.a.failures.empty());
  CHECK(without.a.failures[0].kind == FailureKind::no_common_child_proposal);
}

TEST_CASE("session: PFS of another group that both have is found by INVALID_KE_PAYLOAD") {
  Lab lab;
  Lab::edit(lab.a, [](Connection& c) { c.children[0].pfs = {crypto::DhGroup::ecp384, crypto::DhGroup::ecp256}; });
  Lab::edit(lab.b, [](Connection& c) { c.children[0].pfs = {crypto::DhGroup::ecp256}; });
  lab.start(0);
  lab.settle();
  lab.perform(0, lab.a.established().rekey_child(lab.a.outbound.at(1), lab.now));
  lab.run(30s);
  lab.check_whole();
  CHECK(lab.a.bound(1)->suite.group == crypto::DhGroup::ecp256);
}

TEST_CASE("session: periodic liveness finds a dead peer within interval and retries, and leaves a living one alone") {
  Lab lab;
  lab.edit_both([](Connection& c) { c.dpd = {DpdMode::periodic, 10, 2}; });
  lab.start(0);
  lab.run(5min);
  lab.check_whole();
  lab.network = [](const auto&) { return Fate{0, 0}; };
  lab.traffic = false;
  lab.run(10s + 2s * 6 + 1s);
  CHECK(lab.a.count(EventKind::peer_silent) == 1);
  CHECK(lab.a.live().empty());
  REQUIRE(lab.a.closed.size() == 1);
  CHECK(lab.a.closed[0].retry);
  CHECK(lab.a.closed[0].wanted_children == std::vector<std::string>{"one"});
}

TEST_CASE("session: liveness on demand asks only when traffic goes out unanswered") {
  Lab lab;
  lab.edit_both([](Connection& c) { c.dpd = {DpdMode::on_demand, 10, 2}; });
  lab.start(0);
  lab.run(5min);
  const std::size_t quiet = lab.sent;
  lab.perform(0, lab.a.established().on_outbound_traffic(lab.a.outbound.at(1), lab.now));
  lab.run(5s);
  lab.perform(0, lab.a.established().on_inbound_traffic(lab.a.outbound.at(1), lab.now));
  lab.run(1min);
  CHECK(lab.sent == quiet);
  lab.perform(0, lab.a.established().on_outbound_traffic(lab.a.outbound.at(1), lab.now));
  lab.run(11s);
  CHECK(lab.sent == quiet + 2);
  lab.check_whole();
}

TEST_CASE("session: the responder of a rekey sends into the new SA once the peer does") {
  Lab lab;
  lab.start(0);
  lab.settle();
  const ChildId old = lab.b.outbound.at(1);
  // The answer arrives; the delete of the old SA that follows does not.
  lab.network = [&](const auto& d) { return Fate{d.from == 0 && lab.b.children.size() == 2 ? 0U : 1U, 0}; };
  lab.perform(0, lab.a.established().rekey_child(lab.a.outbound.at(1), lab.now));
  lab.settle();
  CHECK(lab.b.outbound.at(1) == old);
  const ChildId fresh = lab.b.children.rbegin()->first;
  CHECK(fresh != old);
  lab.perform(1, lab.b.established().on_inbound_traffic(old, lab.now));
  CHECK(lab.b.outbound.at(1) == old);
  lab.perform(1, lab.b.established().on_inbound_traffic(fresh, lab.now));
  CHECK(lab.b.outbound.at(1) == fresh);
  lab.network = [](const auto&) { return Fate{}; };
  lab.run(40s);
  lab.check_whole();
}

TEST_CASE("session: an SA that the data plane refuses is taken back") {
  Lab lab;
  lab.traffic = false;
  lab.start(0);
  lab.settle();
  lab.perform(0, lab.a.established().on_install_failed(lab.a.outbound.at(1), "no room", lab.now));
  lab.run(30s);
  CHECK(lab.a.live().empty());
  CHECK(lab.b.live().empty());
  REQUIRE(lab.a.failures.size() == 1);
  CHECK(lab.a.failures[0].kind == FailureKind::install_failed);
  CHECK(lab.a.spis.empty());
}

TEST_CASE("session: a closed session says nothing and wants no timer") {
  Lab lab;
  lab.start(0);
  lab.settle();
  lab.perform(0, lab.a.established().close(lab.now));
  lab.settle();
  for (auto* const at : {&lab.a, &lab.b})
    for (const auto& session : at->sessions) {
      CHECK(session->phase() == SessionPhase::closed);
      CHECK_FALSE(session->next_timer());
      CHECK(session->on_timer(lab.now + 1h).empty());
      CHECK(session->want_child("one", lab.now).empty());
    }
  CHECK_FALSE(lab.a.closed[0].retry);
}

}  // namespace
}  // namespace postern::ike
