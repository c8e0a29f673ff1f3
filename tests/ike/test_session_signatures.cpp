// IKE_AUTH by signatures between two sessions, postern-pki played by the test: who waits for what, and what is said
// when the answer is no, late, or of the wrong kind. Real certificates are in tests/pki and tests/e2e/ikev2.
#include "session_lab.hpp"

namespace postern::ike {
namespace {

using lab::Lab;
using namespace std::chrono_literals;

constexpr std::int64_t year_s = 365 * 86400;

// "Signs" by putting the trustpoint's name behind the message.
pki::Octets seal(const pki::Octets& message, std::string_view trustpoint) {
  pki::Octets out = message;
  const Bytes name = as_bytes(trustpoint);
  out.insert(out.end(), name.begin(), name.end());
  return out;
}

struct Notary {
  std::string own;                // the trustpoint whose key it has
  std::int64_t valid_s = year_s;  // of own and the peer's certificate
  std::vector<pki::SignQuestion> signs;
  std::vector<pki::ValidateQuestion> checks;

  pki::Answer answer(const pki::Question& question) {
    if (const auto* const sign = std::get_if<pki::SignQuestion>(&question)) {
      signs.push_back(*sign);
      if (sign->trustpoint != own) return pki::Refusal{pki::RefusalKind::no_credential, {}, "no key", {}, {}};
      return pki::Signed{14, seal(sign->message, own), {{4, octets_of(as_bytes(own))}}, valid_s, "test"};
    }
    const auto& check = std::get<pki::ValidateQuestion>(question);
    checks.push_back(check);
    pki::Validated out;
    out.subject = "CN=peer";
    out.valid_s = valid_s;
    for (const pki::TrustRule& rule : check.rules) {
      const bool good = !check.certificates.empty() && check.auth == seal(check.message, rule.trustpoints.front());
      out.verdicts.push_back(
          good ? std::nullopt
               : std::optional(pki::Refusal{pki::RefusalKind::bad_chain, "CN=peer", "is not trusted", {}, {}}));
    }
    return out;
  }
};

struct SignedLab : Lab {
  Notary notary[2] = {{"A", year_s, {}, {}}, {"B", year_s, {}, {}}};

  SignedLab() {
    by_signature(a, "A", "B");
    by_signature(b, "B", "A");
    for (lab::End* const at : {&a, &b})
      at->surroundings.trustpoint = [](const std::string& name) -> std::optional<pki::TrustpointFacts> {
        return pki::TrustpointFacts{name, pki::Octets(20, std::byte{0x55}), octets_of(as_bytes("subject of " + name))};
      };
  }
  static void by_signature(lab::End& at, const char* own, const char* peer) {
    edit(at, [&](Connection& c) {
      c.local_auth = c.remote_auth = AuthKind::signature;
      c.local_key = c.remote_key = Secret();
      c.sign_trustpoint = own;
      c.verify_trustpoints = {peer};
    });
  }
  // Answers everything that was asked, until nothing is asked or under way any more.
  void settle_all() {
    for (std::size_t rounds = 0;; ++rounds) {
      REQUIRE(rounds < 20);
      settle();
      bool any = false;
      for (std::size_t i = 0; i < 2; ++i)
        for (AskPki& one : std::exchange(end(i).asked, {})) {
          any = true;
          perform(i, end(i).sessions.back()->on_pki_answer(one.ticket, notary[i].answer(one.question), now));
        }
      if (!any) return;
    }
  }
};

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

TEST_CASE("one end signs, the other has a key") {
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

}  // namespace postern::ike
