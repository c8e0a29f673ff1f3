// RFC 7296 §3.6, §3.10.1: certificates by hash and URL between two sessions; what is under the URLs is the test's word.
// A real fetch is in tests/resolver, with real certificates in tests/e2e/ikev2/test_ike_cert_lookup.py.
#include "crypto/digest.hpp"
#include "signed_lab.hpp"

namespace postern::ike {
namespace {

using lab::SignedLab;
using namespace std::chrono_literals;

constexpr const char* pki_site = "http://pki.example.org/";
constexpr std::uint8_t by_certificate = pki::certificate_url_encoding, by_bundle = pki::bundle_url_encoding;

Octets certificate(std::string_view text) { return octets_of(as_bytes(text)); }

pki::CertificatePayload at_url(std::uint8_t encoding, const Octets& what, std::string_view url) {
  const auto hash = crypto::sha1({what});
  REQUIRE(hash);
  pki::CertificatePayload out{encoding, {hash->begin(), hash->end()}};
  const Bytes text = as_bytes(url);
  out.data.insert(out.data.end(), text.begin(), text.end());
  return out;
}

// A's certificate is at a URL, and B fetches.
struct UrlLab : SignedLab {
  std::size_t fetches = 0;
  UrlLab() {
    fetches_from(b, {pki_site});
    notary[0].urls = {at_url(by_certificate, certificate("A"), "http://pki.example.org/a.der")};
    web = [this](const CertificateUrl&) -> Result<Octets> {
      ++fetches;
      return certificate("A");
    };
  }
  static void fetches_from(lab::End& end, std::vector<std::string> prefixes) {
    edit(end, [&](Connection& c) { c.options.cert_lookup = prefixes; });
  }
  // A has signed, and B wants the certificate.
  void until_b_fetches() {
    start(0);
    settle();
    for (AskPki& one : std::exchange(a.asked, {}))
      perform(0, a.sessions.back()->on_pki_answer(one.ticket, notary[0].answer(one.question), now));
    settle();
    REQUIRE(b.to_fetch.size() == 1);
  }
  void refused_by_b(std::string_view summary) {
    CHECK(a.count(SessionPhase::established) + b.count(SessionPhase::established) == 0);
    REQUIRE(b.failures.size() == 1);
    CHECK(b.failures[0].kind == FailureKind::certificate);
    CHECK_MESSAGE(b.failures[0].summary.find(summary) != std::string::npos, b.failures[0].summary);
    CHECK_FALSE(b.failures[0].remedy.empty());
    CHECK(a.failures.at(0).by_peer);  // AUTHENTICATION_FAILED
    CHECK(notary[1].checks.empty());
  }
};

}  // namespace

TEST_CASE("the certificate of either end may be at a URL, for a peer that fetches") {
  for (const std::size_t begins : {0, 1}) {
    CAPTURE(begins);
    UrlLab lab;
    lab.start(begins);
    lab.settle_all();
    lab.check_whole();
    CHECK(lab.fetches == 1);
    REQUIRE(lab.notary[1].checks.size() == 1);
    CHECK(lab.notary[1].checks[0].certificates == std::vector<pki::CertificatePayload>{{4, certificate("A")}});
    // B's own went whole: A has not said that it fetches.
    CHECK(lab.notary[0].signs[0].peer_fetches);
    CHECK_FALSE(lab.notary[1].signs[0].peer_fetches);
  }
}

TEST_CASE("a bundle goes to postern-pki as it is, beside certificates that came themselves") {
  UrlLab lab;
  lab.notary[0].urls = {at_url(by_bundle, certificate("bundle"), "http://pki.example.org/a.bundle"),
                        {4, certificate("another")}};
  lab.web = [](const CertificateUrl& url) -> Result<Octets> {
    CHECK(url.max_bytes == pki::max_chain_bytes);
    return certificate("bundle");
  };
  lab.start(0);
  lab.settle_all();
  lab.check_whole();
  CHECK(lab.notary[1].checks[0].certificates ==
        std::vector<pki::CertificatePayload>{{by_bundle, certificate("bundle")}, {4, certificate("another")}});
}

TEST_CASE("without http_cert_lookup nobody is told that we fetch, and who sends a URL all the same is refused") {
  UrlLab lab;
  UrlLab::fetches_from(lab.b, {});
  lab.start(0);
  lab.settle_all();
  lab.check_whole();  // whole certificates
  CHECK(lab.fetches == 0);
  CHECK_FALSE(lab.notary[0].signs[0].peer_fetches);

  UrlLab rude;
  UrlLab::fetches_from(rude.b, {});
  rude.a.asked.clear();
  rude.start(0);
  rude.settle();
  REQUIRE(rude.a.asked.size() == 1);
  const AskPki sign = std::exchange(rude.a.asked, {}).front();
  auto answer = std::get<pki::Signed>(rude.notary[0].answer(sign.question));
  answer.certificates = rude.notary[0].urls;
  rude.perform(0, rude.a.sessions.back()->on_pki_answer(sign.ticket, answer, rude.now));
  rude.settle_all();
  rude.refused_by_b("this node fetches none");
  CHECK(rude.b.failures[0].remedy.find("ikev2.http_cert_lookup") != std::string::npos);
  CHECK(rude.fetches == 0);
}

TEST_CASE("a profile that checks no certificates says nothing of fetching") {
  UrlLab lab;
  lab::Lab::edit(lab.a, [](Connection& c) {
    c.local_auth = AuthKind::psk;
    c.local_key = lab::secret("shared by both");
    c.sign_trustpoint.clear();
  });
  lab::Lab::edit(lab.b, [](Connection& c) {
    c.remote_auth = AuthKind::psk;
    c.remote_key = lab::secret("shared by both");
    c.verify_trustpoints.clear();
  });
  lab.notary[1].urls = {at_url(by_certificate, certificate("B"), "http://pki.example.org/b.der")};
  lab.start(0);
  lab.settle_all();
  lab.check_whole();
  CHECK_FALSE(lab.notary[1].signs[0].peer_fetches);
}

TEST_CASE("what is not fetched from: other places, other schemes, no URL at all, a hash that is cut") {
  const Octets real = certificate("A");
  for (const char* const url :
       {"http://evil.example/a.der", "http://pki.example.org.evil.example/a.der", "https://pki.example.org/a.der",
        "http://pki.example.org/../a.der", "http://user@pki.example.org/", "http://pki.example.org", "", "a.der",
        "file:///etc/shadow", "http://pki.example.org/\x1b[2J"}) {
    CAPTURE(url);
    UrlLab lab;
    lab.notary[0].urls = {at_url(by_certificate, real, url)};
    lab.start(0);
    lab.settle_all();
    lab.refused_by_b("the peer");
    CHECK(lab.fetches == 0);
    for (const char c : lab.b.failures[0].summary + lab.b.failures[0].differs) CHECK((c >= 0x20 && c < 0x7f));
  }
  UrlLab lab;
  lab.notary[0].urls = {{by_certificate, Octets(19, std::byte{1})}};
  lab.start(0);
  lab.settle_all();
  lab.refused_by_b("none that we fetch");
}

TEST_CASE("what is there has another hash, is not there, or is too much altogether") {
  UrlLab other;
  other.web = [](const CertificateUrl&) -> Result<Octets> { return certificate("another's"); };
  other.start(0);
  other.settle_all();
  other.refused_by_b("is not the certificate that the peer means");
  CHECK(other.b.failures[0].differs.find("SHA-1") != std::string::npos);

  UrlLab missing;
  missing.web = [](const CertificateUrl&) -> Result<Octets> { return fail("the server answers 404"); };
  missing.start(0);
  missing.settle_all();
  missing.refused_by_b("http://pki.example.org/a.der cannot be fetched: the server answers 404");

  UrlLab much;
  const Octets large(16U << 10, std::byte{7});
  const auto one = at_url(by_certificate, large, "http://pki.example.org/large");
  much.notary[0].urls = {one, one, one, one};
  much.web = [&](const CertificateUrl&) -> Result<Octets> { return large; };
  much.start(0);
  much.settle_all();
  much.refused_by_b("all together");
}

TEST_CASE("as the initiator we refuse what the responder's URL does not hold") {
  UrlLab lab;
  lab.web = [](const CertificateUrl&) -> Result<Octets> { return certificate("another's"); };
  lab.start(1);
  lab.settle_all();
  CHECK(lab.b.count(SessionPhase::established) == 0);
  REQUIRE(lab.b.failures.size() == 1);
  CHECK(lab.b.failures[0].summary.find("is not the certificate that the peer means") != std::string::npos);
}

TEST_CASE(
    "a request that comes again is not fetched for again; a late answer and one of another ticket change nothing") {
  UrlLab lab;
  lab.until_b_fetches();
  const FetchCertificates wanted = lab.b.to_fetch.front();
  REQUIRE(wanted.urls.size() == 1);
  CHECK(wanted.urls[0].max_bytes == pki::max_certificate_bytes);
  lab.run(5s);  // A sends its request again, and again
  CHECK(lab.b.to_fetch.size() == 1);
  Session& at = *lab.b.sessions.back();
  lab.perform(1, at.on_certificates(wanted.ticket + 1, {certificate("A")}, lab.now));
  lab.perform(1, at.on_pki_answer(wanted.ticket, pki::Validated{}, lab.now));  // not what was asked
  CHECK(lab.b.asked.empty());
  lab.run(11s);  // its time is over
  lab.refused_by_b("no answer in time");
  lab.perform(1, at.on_certificates(wanted.ticket, {certificate("A")}, lab.now));
  lab.settle_all();
  CHECK(lab.b.count(SessionPhase::established) == 0);
  CHECK(lab.b.asked.empty());
}

TEST_CASE("a session that is closed while its peer's certificate is fetched is closed") {
  UrlLab lab;
  lab.until_b_fetches();
  Session& at = *lab.b.sessions.back();
  lab.perform(1, at.close(lab.now));
  lab.perform(1, at.on_certificates(lab.b.to_fetch[0].ticket, {certificate("A")}, lab.now));
  CHECK(at.phase() == SessionPhase::closed);
  CHECK(lab.b.asked.empty());
}

TEST_CASE("§3.6: each message lost, doubled and late: what is at the URL is fetched once, and checked once") {
  constexpr lab::Fate troubles[] = {{0, 0}, {2, 0}, {1, 2}};
  for (std::size_t victim = 0; victim < 4; ++victim)
    for (const lab::Fate& trouble : troubles) {
      CAPTURE(victim);
      CAPTURE(trouble.copies);
      UrlLab lab;
      lab.network = [&](const lab::Datagram& one) { return one.number == victim ? trouble : lab::Fate{}; };
      lab.start(0);
      for (int turn = 0; turn < 20 && lab.a.live().empty(); ++turn) {
        lab.settle_all();
        lab.tick(std::chrono::seconds(2));
      }
      lab.run(std::chrono::seconds(5));
      lab.check_whole();
      CHECK(lab.a.failures.size() + lab.b.failures.size() == 0);
      CHECK(lab.fetches == 1);
      CHECK(lab.notary[1].checks.size() == 1);
    }
}

}  // namespace postern::ike
