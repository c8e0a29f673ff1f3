// A lab whose ends prove themselves by signatures, postern-pki played by the test.
#pragma once

#include "session_lab.hpp"

namespace postern::ike::lab {

inline constexpr std::int64_t year_s = 365 * 86400;

// "Signs" by putting the trustpoint's name behind the message.
inline pki::Octets seal(const pki::Octets& message, std::string_view trustpoint) {
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
  std::vector<pki::TlsQuestion> handshakes = {};
  std::function<pki::Answer(const pki::TlsQuestion&)> tls = {};
  std::vector<pki::CertificatePayload> urls = {};  // for a peer that fetches, instead of the certificate

  pki::Answer answer(const pki::Question& question) {
    if (const auto* const sign = std::get_if<pki::SignQuestion>(&question)) {
      signs.push_back(*sign);
      if (sign->trustpoint != own) return pki::Refusal{pki::RefusalKind::no_credential, {}, "no key", {}, {}};
      std::vector<pki::CertificatePayload> certificates = {{4, octets_of(as_bytes(own))}};
      if (sign->peer_fetches && !urls.empty()) certificates = urls;
      return pki::Signed{14, seal(sign->message, own), std::move(certificates), valid_s, "test"};
    }
    if (const auto* const step = std::get_if<pki::TlsQuestion>(&question)) {
      handshakes.push_back(*step);
      return tls ? pki::Answer(tls(*step)) : pki::Refusal{pki::RefusalKind::unavailable, {}, "no TLS", {}, {}};
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
    for (End* const at : {&a, &b})
      at->surroundings.trustpoint = [](const std::string& name) -> std::optional<pki::TrustpointFacts> {
        return pki::TrustpointFacts{name, pki::Octets(20, std::byte{0x55}), octets_of(as_bytes("subject of " + name))};
      };
  }
  static void by_signature(End& at, const char* own, const char* peer) {
    edit(at, [&](Connection& c) {
      c.local_auth = c.remote_auth = AuthKind::signature;
      c.local_key = c.remote_key = Secret();
      c.sign_trustpoint = own;
      c.verify_trustpoints = {peer};
    });
  }
  std::function<Result<Octets>(const CertificateUrl&)> web = [](const CertificateUrl&) { return fail("nobody there"); };
  // Answers everything that was asked, until nothing is asked or under way any more.
  void settle_all() {
    for (std::size_t rounds = 0;; ++rounds) {
      REQUIRE(rounds < 20);
      settle();
      bool any = false;
      for (std::size_t i = 0; i < 2; ++i)
        for (const FetchCertificates& one : std::exchange(end(i).to_fetch, {})) {
          any = true;
          FetchedCertificates fetched;
          for (const CertificateUrl& url : one.urls) fetched.push_back(web(url));
          perform(i, end(i).sessions.back()->on_certificates(one.ticket, std::move(fetched), now));
        }
      for (std::size_t i = 0; i < 2; ++i)
        for (AskPki& one : std::exchange(end(i).asked, {})) {
          any = true;
          perform(i, end(i).sessions.back()->on_pki_answer(one.ticket, notary[i].answer(one.question), now));
        }
      if (!any) return;
    }
  }
};

}  // namespace postern::ike::lab
