// Two sessions of which A comes by EAP: by a password, or by TLS that the test plays.
#pragma once

#include "fake_tls.hpp"
#include "signed_lab.hpp"

namespace postern::ike::lab {

// B answers, by a certificate that the test's notary vouches for.
struct EapSessionLab : SignedLab {
  explicit EapSessionLab(std::vector<EapType> of_peer = {EapType::mschapv2},
                         std::vector<EapType> of_server = {EapType::mschapv2}, const char* user = "alice",
                         const char* password = "her password") {
    edit(a, [&](Connection& c) {
      c.local_auth = AuthKind::eap;
      c.sign_trustpoint.clear();
      c.eap_peer = {std::move(of_peer), user, secret(password)};
    });
    edit(b, [&](Connection& c) {
      c.remote_auth = AuthKind::eap;
      c.verify_trustpoints.clear();
      c.eap_server = {std::move(of_server), true};
    });
    b.surroundings.eap_user = [](std::string_view name) {
      return name == "alice" ? std::optional(secret("her password")) : std::nullopt;
    };
  }
  void alone() {
    edit(a, [](Connection& c) { c.remote_auth = AuthKind::eap; });
    edit(b, [](Connection& c) { c.local_auth = AuthKind::eap; });
    edit(a, [](Connection& c) { c.eap_server.methods = c.eap_peer.methods; });
    edit(b, [](Connection& c) { c.eap_peer = {c.eap_server.methods, "server", {}}; });
  }
  void go() {
    start(0);
    settle_all();
  }
  // Neither end has anything; B told `kind`.
  void check_refused(FailureKind at_b, FailureKind at_a) {
    CHECK(a.count(SessionPhase::closed) == a.sessions.size());
    CHECK(b.count(SessionPhase::closed) == b.sessions.size());
    CHECK(a.live().empty());
    CHECK(b.live().empty());
    CHECK(a.spis.empty());
    CHECK(b.spis.empty());
    REQUIRE(b.failures.size() == 1);
    CHECK(b.failures[0].kind == at_b);
    REQUIRE(a.failures.size() == 1);
    CHECK(a.failures[0].kind == at_a);
  }
};

struct TlsSessionLab : SignedLab {
  FakeTls tls[2];

  TlsSessionLab() {
    for (End* const at : {&a, &b}) edit(*at, [](Connection& c) { c.eap_peer = {{EapType::tls}, "alice", {}}; });
    edit(a, [](Connection& c) { c.local_auth = AuthKind::eap; });
    edit(b, [](Connection& c) {
      c.remote_auth = AuthKind::eap;
      c.eap_server = {{EapType::tls}, true};
    });
    for (std::size_t i = 0; i < 2; ++i)
      notary[i].tls = [this, i](const pki::TlsQuestion& question) { return tls[i].take(question); };
  }
  void alone() {
    edit(a, [](Connection& c) { c.remote_auth = AuthKind::eap; });
    edit(b, [](Connection& c) { c.local_auth = AuthKind::eap; });
    edit(a, [](Connection& c) { c.eap_server = {{EapType::tls}, true}; });
  }
  void go() {
    start(0);
    settle_all();
  }
  void check_nothing_stands() {
    CHECK(a.count(SessionPhase::closed) == a.sessions.size());
    CHECK(b.count(SessionPhase::closed) == b.sessions.size());
    CHECK(a.live().empty());
    CHECK(b.live().empty());
    CHECK(a.spis.empty());
    CHECK(b.spis.empty());
  }
  void check_refused(FailureKind at_b, FailureKind at_a) {
    check_nothing_stands();
    REQUIRE(b.failures.size() == 1);
    CHECK(b.failures[0].kind == at_b);
    REQUIRE(a.failures.size() == 1);
    CHECK(a.failures[0].kind == at_a);
  }
};

}  // namespace postern::ike::lab
