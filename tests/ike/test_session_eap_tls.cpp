// IKE_AUTH by EAP-TLS (RFC 5216) between two sessions. TLS is the test's, in flights as long as real ones: what is
// proven here is who asks postern-pki for what and when, how fragments go on the wire, and what loss, repetition,
// silence and hostile peers lead to. Real certificates and records: tests/pki/test_eap_tls.cpp.
#include "eap_session_lab.hpp"

namespace postern::ike {
using lab::TlsSessionLab;
using namespace std::chrono_literals;

TEST_CASE("EAP-TLS beside a certificate in IKE: who is asked what, and what stands in the end") {
  TlsSessionLab lab;
  lab.go();
  lab.check_whole();
  CHECK(lab.sent == 22);  // of the handshake's flights, two are three fragments each
  const SessionView at_a = lab.a.established().view(lab.now), at_b = lab.b.established().view(lab.now);
  CHECK(at_a.local_auth == "EAP-TLS");
  CHECK(at_b.remote_auth == "EAP-TLS");
  CHECK(at_a.remote_auth == "Digital Signature");
  CHECK(at_a.eap_identity == "alice");
  CHECK(at_b.eap_identity == "alice");
  CHECK(at_b.remote_subject == "CN=alice");
  REQUIRE(lab.notary[0].handshakes.size() == 3);
  REQUIRE(lab.notary[1].handshakes.size() == 2);
  for (std::size_t i = 0; i < 2; ++i)
    for (const pki::TlsQuestion& one : lab.notary[i].handshakes) {
      CHECK(one.server == (i == 1));
      CHECK(one.begins == (&one == lab.notary[i].handshakes.data()));
      CHECK(one.conversation == lab.notary[i].handshakes[0].conversation);
      CHECK(one.trustpoint == (i == 0 ? "A" : "B"));
      CHECK(one.verify == std::vector<std::string>{i == 0 ? "B" : "A"});
    }
  // The server must be whom IDr names, the user whom its EAP identity names.
  CHECK(lab.notary[0].handshakes[0].identity == Identity::of(lab.b.own).data);
  CHECK(lab.notary[0].handshakes[0].identity_type == 1);
  CHECK(lab.notary[1].handshakes[0].identity == octets_of(as_bytes("alice")));
  CHECK(lab.notary[1].handshakes[0].identity_type == 2);
}

TEST_CASE("RFC 5998: EAP-TLS alone proves both ends") {
  TlsSessionLab lab;
  lab.alone();
  lab.go();
  lab.check_whole();
  CHECK(lab.notary[0].checks.empty());
  CHECK(lab.notary[1].signs.empty());
  CHECK(lab.a.established().view(lab.now).remote_auth == "EAP-TLS");
  CHECK(lab.a.established().view(lab.now).remote_subject == "CN=gateway");
  CHECK(lab.b.established().view(lab.now).local_auth == "EAP-TLS");
}

TEST_CASE("EAP-TLS without a question: the certificate must name IDi, of whichever kind") {
  TlsSessionLab lab;
  lab::Lab::edit(lab.b, [](Connection& c) {
    c.eap_server.query_identity = false;
    c.remote_identities = {AnyIdentity{}};
  });
  SUBCASE("an address") {
    lab.go();
    CHECK(lab.notary[1].handshakes.at(0).identity_type == 1);
    CHECK(lab.notary[1].handshakes.at(0).identity == Identity::of(lab.a.own).data);
  }
  SUBCASE("a DN") {
    lab::Lab::edit(lab.a, [](Connection& c) { c.local_identity = {IdType::dn, {}}; });
    lab.go();
    CHECK(lab.notary[1].handshakes.at(0).identity_type == 9);
    CHECK(lab.notary[1].handshakes.at(0).identity == octets_of(as_bytes("subject of A")));
  }
  lab.check_whole();
  CHECK(lab.b.established().view(lab.now).eap_identity == "CN=alice");
}

TEST_CASE("EAP-TLS: either end refuses the other's certificate, with an alert or without") {
  struct Row {
    std::size_t who;
    bool with_alert;
    FailureKind at_b, at_a;
  };
  for (const Row& row : {Row{1, true, FailureKind::certificate, FailureKind::refused},
                         Row{1, false, FailureKind::certificate, FailureKind::refused},
                         Row{0, true, FailureKind::refused, FailureKind::certificate},
                         Row{0, false, FailureKind::invalid_syntax, FailureKind::certificate}}) {
    CAPTURE(row.who);
    CAPTURE(row.with_alert);
    TlsSessionLab lab;
    lab.tls[row.who].refuses = true;
    lab.tls[row.who].with_alert = row.with_alert;
    lab.go();
    lab.check_refused(row.at_b, row.at_a);
    CHECK((row.who == 1 ? lab.b : lab.a).failures[0].summary.find("CN=other: has expired") != std::string::npos);
  }
}

TEST_CASE("EAP-TLS: who sits between both ends has other keys than they: AUTH does not verify") {
  TlsSessionLab lab;
  lab.tls[0].secret = "the key of another handshake";
  lab.go();
  lab.check_refused(FailureKind::wrong_key, FailureKind::wrong_key);
}

TEST_CASE("RFC 4478: a gateway tells a user whose certificate ends when to come again, and the user does") {
  for (const bool ends : {true, false}) {
    CAPTURE(ends);
    TlsSessionLab lab;
    if (ends) lab.tls[1].valid_s = 300;  // the gateway's view of both certificates; the user knows nothing of an end
    lab.go();
    lab.check_whole();
    CHECK(lab.b.established().view(lab.now).lifetime == (ends ? 300s : 86400s));
    CHECK(lab.a.established().view(lab.now).lifetime == (ends ? 300s : 86400s));
    lab.run(290s);
    CHECK((lab.a.reauthentications > 0) == ends);
  }
}

TEST_CASE("EAP-TLS: a postern-pki that has no TLS, at either end") {
  for (const std::size_t who : {0U, 1U}) {
    CAPTURE(who);
    TlsSessionLab lab;
    lab.notary[who].tls = {};
    lab.go();
    lab.check_nothing_stands();
    REQUIRE(lab.end(who).failures.size() == 1);
    CHECK(lab.end(who).failures[0].kind == FailureKind::credential);
    CHECK(lab.end(who).failures[0].summary.find("no TLS") != std::string::npos);
  }
}

TEST_CASE("EAP-TLS: a postern-pki that falls silent in the middle; its answer comes too late") {
  TlsSessionLab lab;
  lab.start(0);
  std::optional<AskPki> unanswered;
  for (int turn = 0; turn < 20 && !unanswered; ++turn) {
    lab.settle();
    for (std::size_t i = 0; i < 2; ++i)
      for (AskPki& one : std::exchange(lab.end(i).asked, {})) {
        if (i == 1 && std::holds_alternative<pki::TlsQuestion>(one.question))
          unanswered = std::move(one);
        else
          lab.perform(
              i, lab.end(i).sessions.back()->on_pki_answer(one.ticket, lab.notary[i].answer(one.question), lab.now));
      }
  }
  REQUIRE(unanswered);
  lab.run(15s);
  CHECK(lab.b.asked.empty());  // retransmissions ask for nothing again
  CHECK(lab.b.count(SessionPhase::closed) == 0);
  lab.run(60s);
  lab.check_nothing_stands();
  REQUIRE(lab.b.failures.size() == 1);
  CHECK(lab.b.failures[0].kind == FailureKind::credential);
  const std::size_t sent = lab.sent;
  lab.perform(
      1, lab.b.sessions.back()->on_pki_answer(unanswered->ticket, lab.notary[1].answer(unanswered->question), lab.now));
  lab.check_nothing_stands();
  CHECK(lab.sent == sent);
}

TEST_CASE("EAP-TLS: each datagram lost once, doubled, or late: the outcome is the same, and nothing is asked twice") {
  for (std::size_t which = 0; which < 22; ++which)
    for (const lab::Fate fate : {lab::Fate{0, 0}, lab::Fate{2, 0}, lab::Fate{1, 2}}) {
      CAPTURE(which);
      CAPTURE(fate.copies);
      TlsSessionLab lab;
      lab.network = [&](const lab::Datagram& one) { return one.number == which ? fate : lab::Fate{}; };
      lab.start(0);
      for (int turn = 0; turn < 60 && lab.a.count(SessionPhase::established) == 0; ++turn) {
        lab.settle_all();
        lab.tick(2s);
      }
      lab.settle_all();
      lab.check_whole();
      CHECK(lab.a.failures.empty());
      CHECK(lab.b.failures.empty());
      CHECK(lab.notary[0].handshakes.size() == 3);
      CHECK(lab.notary[1].handshakes.size() == 2);
    }
}

TEST_CASE("EAP-TLS: old datagrams again at any time change nothing") {
  TlsSessionLab lab;
  std::vector<lab::Datagram> all;
  lab.network = [&](const lab::Datagram& one) {
    all.push_back(one);
    return lab::Fate{};
  };
  lab.start(0);
  for (int turn = 0; turn < 30; ++turn) {
    lab.settle_all();
    for (const lab::Datagram& one : std::exchange(all, {})) lab.deliver(one);
    lab.wire.clear();
  }
  lab.check_whole();
  CHECK(lab.notary[1].handshakes.size() == 2);
}

TEST_CASE("R43-01: an IKE SA by EAP-TLS ends with the certificates of its handshake, and is the user's when rekeyed") {
  TlsSessionLab lab;
  lab.tls[1].valid_s = 300;
  lab.go();
  CHECK(lab.b.established().view(lab.now).lifetime == 300s);
  lab.perform(0, lab.a.established().rekey(lab.now));
  lab.settle_all();
  CHECK(lab.b.established().view(lab.now).eap_identity == "alice");
  CHECK(lab.b.established().view(lab.now).remote_subject == "CN=alice");
  lab.run(305s);
  CHECK(lab.b.count(SessionPhase::established) == 0);
  CHECK(lab.b.live().empty());
}

}  // namespace postern::ike
