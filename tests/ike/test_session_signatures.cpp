// IKE_AUTH by signatures between two sessions, postern-pki played by the test: who waits for what, and what is said
// when the answer is no, late, or of the wrong kind. Real certificates are in tests/pki and tests/e2e/ikev2.
#include "signed_lab.hpp"

namespace postern::ike {
namespace {

using lab::End, lab::Lab, lab::Notary, lab::seal, lab::SignedLab, lab::year_s;
using namespace std::chrono_literals;

}  // namespace

TEST_CASE("both ends sign, and wait for it") {
  SignedLab lab;
  lab.start(0);
  lab.settle();
  CHECK(lab.a.asked.size() == 1);
  CHECK(lab.a.count(SessionPhase::established) == 0);
  lab.settle_all();
  lab.check_whole();
  // Each signed once, and what it signed is what the other checked.
  REQUIRE(lab.notary[0].signs.size() == 1);
  REQUIRE(lab.notary[1].checks.size() == 1);
  CHECK(lab.notary[0].signs[0].message == lab.notary[1].checks[0].message);
  CHECK(lab.notary[1].signs[0].message == lab.notary[0].checks[0].message);
  // RFC 7427 §4: both said what they can check; SHA-1 is not in it.
  CHECK(lab.notary[0].signs[0].peer_hashes == std::vector<std::uint16_t>{2, 3, 4, 5});
  CHECK(lab.notary[1].signs[0].peer_hashes == std::vector<std::uint16_t>{2, 3, 4, 5});
}

TEST_CASE("RFC 7427 §3: what was said about hashes goes with each question; who heard nothing signs the old way") {
  SignedLab lab;
  lab.start(0);
  lab.settle_all();
  for (const Notary& one : lab.notary) {
    REQUIRE(one.checks.size() == 1);
    CHECK(one.checks[0].own_hashes == std::vector<std::uint16_t>{2, 3, 4, 5});
    CHECK(one.checks[0].peer_said_hashes);
  }
  // A responder that says nothing, because it neither signs nor checks.
  SignedLab old;
  lab::Lab::edit(old.b, [](Connection& c) {
    c.local_auth = c.remote_auth = AuthKind::psk;
    c.local_key = c.remote_key = lab::secret("shared by both");
  });
  old.start(0);
  old.settle();
  REQUIRE(old.a.asked.size() == 1);
  CHECK(std::get<pki::SignQuestion>(old.a.asked[0].question).peer_hashes.empty());
}

TEST_CASE("one end signs, the other has a key: both say their hashes, for its method is the new one (RFC 7427 §3)") {
  SignedLab lab;
  lab::Lab::edit(lab.a, [](Connection& c) {
    c.remote_auth = AuthKind::psk;
    c.remote_key = lab::secret("shared by both");
    c.verify_trustpoints.clear();
  });
  lab::Lab::edit(lab.b, [](Connection& c) {
    c.local_auth = AuthKind::psk;
    c.local_key = lab::secret("shared by both");
    c.sign_trustpoint.clear();
  });
  lab.start(0);
  lab.settle_all();
  lab.check_whole();
  CHECK(lab.notary[0].signs.at(0).peer_hashes == std::vector<std::uint16_t>{2, 3, 4, 5});
  CHECK(lab.notary[1].checks.at(0).own_hashes == std::vector<std::uint16_t>{2, 3, 4, 5});
  CHECK(lab.notary[1].checks.at(0).peer_said_hashes);
  CHECK(lab.a.established().view(lab.now).remote_auth == "PSK");
  CHECK(lab.b.established().view(lab.now).remote_auth == "Digital Signature");
}

TEST_CASE("a method that the profile does not demand is refused") {
  SignedLab lab;
  lab::Lab::edit(lab.a, [](Connection& c) {
    c.local_auth = AuthKind::psk;
    c.local_key = lab::secret("some key");
  });
  lab.start(0);
  lab.settle_all();
  CHECK(lab.b.count(SessionPhase::established) == 0);
  REQUIRE(lab.b.failures.size() == 1);
  CHECK(lab.b.failures[0].kind == FailureKind::wrong_key);
  CHECK(lab.b.failures[0].summary.find("PSK") != std::string::npos);
  CHECK(lab.notary[1].checks.empty());
}

TEST_CASE("what postern-pki refuses is refused on the wire") {
  struct Row {
    const char* what;
    std::size_t who;  // whose postern-pki knows another trustpoint
    const char* own;
    FailureKind kind;
    std::size_t told;  // which end tells it
  };
  for (const Row& row : {Row{"the initiator has no key", 0, "X", FailureKind::credential, 0},
                         Row{"the responder has no key", 1, "X", FailureKind::credential, 1}}) {
    INFO(row.what);
    SignedLab lab;
    lab.notary[row.who].own = row.own;
    lab.start(0);
    lab.settle_all();
    CHECK(lab.a.count(SessionPhase::established) + lab.b.count(SessionPhase::established) == 0);
    REQUIRE_FALSE(lab.end(row.told).failures.empty());
    CHECK(lab.end(row.told).failures[0].kind == row.kind);
    CHECK(lab.a.live().empty());
    CHECK(lab.b.live().empty());
  }
}

TEST_CASE("a peer that is not trusted is refused by either end") {
  for (const std::size_t who : {0, 1}) {
    SignedLab lab;
    lab::Lab::edit(lab.end(who), [](Connection& c) { c.verify_trustpoints = {"another CA"}; });
    lab.start(0);
    lab.settle_all();
    CHECK(lab.end(who).count(SessionPhase::established) == 0);
    REQUIRE(lab.end(who).failures.size() == 1);
    CHECK(lab.end(who).failures[0].kind == FailureKind::certificate);
    CHECK(lab.end(who).failures[0].summary == "certificate CN=peer: is not trusted");
    CHECK(lab.end(who).live().empty());
  }
}

TEST_CASE("a silent postern-pki ends the attempt, and a late answer changes nothing") {
  SignedLab lab;
  lab.start(0);
  lab.settle();
  REQUIRE(lab.a.asked.size() == 1);
  const AskPki late = lab.a.asked.front();
  lab.run(21s);
  CHECK(lab.a.count(SessionPhase::closed) == 1);
  REQUIRE(lab.a.failures.size() == 1);
  CHECK(lab.a.failures[0].kind == FailureKind::credential);
  CHECK(lab.a.closed.front().retry);
  lab.perform(0, lab.a.sessions.back()->on_pki_answer(late.ticket, lab.notary[0].answer(late.question), lab.now));
  lab.settle();
  CHECK(lab.a.count(SessionPhase::established) == 0);
}

TEST_CASE("a request that comes again while postern-pki works is not asked about again") {
  SignedLab lab;
  lab.start(0);
  lab.settle();
  for (AskPki& one : std::exchange(lab.a.asked, {}))
    lab.perform(0, lab.a.sessions.back()->on_pki_answer(one.ticket, lab.notary[0].answer(one.question), lab.now));
  lab.settle();
  REQUIRE(lab.b.asked.size() == 1);
  lab.run(5s);  // A sends its request again, and again
  CHECK(lab.b.asked.size() == 1);
  lab.settle_all();
  lab.check_whole();
}

TEST_CASE("RFC 7296 §3.7: of several certificates the one that the peer asks for, in both roles; else the first") {
  struct Row {
    const char* asks;  // the CA that the peer asks for
    const char* shown;
    std::vector<std::string> others;
  };
  for (const std::size_t who : {0U, 1U})
    for (const Row& row : {Row{"second", "second", {"third", "second"}}, Row{"first", "first", {"second"}},
                           Row{"nobody", "first", {"second"}}, Row{"second", "first", {}}}) {
      CAPTURE(who);
      CAPTURE(std::string(row.asks));
      SignedLab lab;
      lab.traffic = false;
      Lab::edit(lab.end(who), [&](Connection& c) {
        c.sign_trustpoint = "first";
        c.other_sign_trustpoints = row.others;
      });
      Lab::edit(lab.end(1 - who), [&](Connection& c) { c.verify_trustpoints = {row.asks}; });
      for (End* const at : {&lab.a, &lab.b})
        at->surroundings.trustpoint = [](const std::string& name) -> std::optional<pki::TrustpointFacts> {
          pki::Octets authority(pki::authority_bytes, std::byte{0});
          std::ranges::transform(name, authority.begin(), [](char c) { return static_cast<std::byte>(c); });
          return pki::TrustpointFacts{name, authority, octets_of(as_bytes(name))};
        };
      lab.notary[who].own = row.shown;
      lab.start(0);
      lab.settle_all();
      REQUIRE(!lab.notary[who].signs.empty());
      CHECK(lab.notary[who].signs.back().trustpoint == row.shown);
      CHECK(lab.a.live().size() == (std::string(row.asks) == row.shown ? 1 : 0));
    }
}

TEST_CASE("R43-01: no IKE SA outlives the certificates that it rests on") {
  SignedLab lab;
  lab.notary[0].valid_s = 300;  // A's view of both certificates
  lab.start(0);
  lab.settle_all();
  lab.check_whole();
  CHECK(lab.a.established().view(lab.now).lifetime == 300s);
  CHECK(lab.b.established().view(lab.now).lifetime == 86400s);
  // Fresh keys would not help: it asks to be authenticated anew instead, more than once, and ends with the certificate.
  lab.run(290s);
  CHECK(lab.a.reauthentications >= 2);
  CHECK(lab.a.count(EventKind::ike_rekeyed) == 0);
  lab.check_whole();
  lab.run(15s);
  CHECK(lab.a.count(SessionPhase::established) == 0);
  CHECK(lab.a.live().empty());
}

TEST_CASE("an identity of type DN is the certificate's subject") {
  SignedLab lab;
  lab::Lab::edit(lab.a, [](Connection& c) { c.local_identity = Identity::of(IdType::dn, ""); });
  lab::Lab::edit(lab.b, [](Connection& c) { c.remote_identities = {AnyIdentity{}}; });
  lab.start(0);
  lab.settle_all();
  lab.check_whole();
  CHECK(lab.b.established().view(lab.now).remote_identity == Identity::of(IdType::dn, "subject of A"));
  REQUIRE(lab.notary[1].checks.size() == 1);
  CHECK(lab.notary[1].checks[0].identity_type == 9);

  // Without a certificate there is no such identity, and nothing is sent.
  SignedLab without;
  lab::Lab::edit(without.a, [](Connection& c) { c.local_identity = Identity::of(IdType::dn, ""); });
  without.a.surroundings.trustpoint = [](const std::string&) { return std::nullopt; };
  without.start(0);
  without.settle_all();
  CHECK(without.b.count(SessionPhase::established) == 0);
  REQUIRE_FALSE(without.a.failures.empty());
  CHECK(without.a.failures[0].kind == FailureKind::credential);
}

TEST_CASE("signatures: each message lost, doubled and late: each end signs once and checks once") {
  constexpr lab::Fate troubles[] = {{0, 0}, {2, 0}, {1, 2}};
  for (std::size_t victim = 0; victim < 4; ++victim)
    for (const lab::Fate& trouble : troubles) {
      CAPTURE(victim);
      CAPTURE(trouble.copies);
      SignedLab lab;
      lab.network = [&](const lab::Datagram& one) { return one.number == victim ? trouble : lab::Fate{}; };
      lab.start(0);
      for (int turn = 0; turn < 20 && lab.a.live().empty(); ++turn) {
        lab.settle_all();
        lab.tick(2s);
      }
      lab.run(5s);
      lab.check_whole();
      CHECK(lab.a.failures.size() + lab.b.failures.size() == 0);
      for (const Notary& one : lab.notary) {
        CHECK(one.signs.size() == 1);
        CHECK(one.checks.size() == 1);
      }
    }
}

TEST_CASE("signatures: each message lost, doubled and late of a peer that is not trusted: neither end has anything") {
  constexpr lab::Fate troubles[] = {{0, 0}, {2, 0}, {1, 2}};
  for (const std::size_t who : {std::size_t{0}, std::size_t{1}})
    for (std::size_t victim = 0; victim < 5; ++victim)
      for (const lab::Fate& trouble : troubles) {
        CAPTURE(who);
        CAPTURE(victim);
        CAPTURE(trouble.copies);
        SignedLab lab;
        lab::Lab::edit(lab.end(who), [](Connection& c) { c.verify_trustpoints = {"another CA"}; });
        lab.network = [&](const lab::Datagram& one) { return one.number == victim ? trouble : lab::Fate{}; };
        lab.start(0);
        for (int turn = 0; turn < 20 && lab.end(who).failures.empty(); ++turn) {
          lab.settle_all();
          lab.tick(2s);
        }
        lab.settle_all();
        CHECK(lab.end(who).count(SessionPhase::established) == 0);
        CHECK(lab.end(who).live().empty());
        CHECK(lab.a.live().empty());
        REQUIRE(lab.end(who).failures.size() == 1);
        CHECK(lab.end(who).failures[0].kind == FailureKind::certificate);
      }
}

}  // namespace postern::ike
