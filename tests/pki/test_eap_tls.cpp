// EAP-TLS (RFC 5216, RFC 9190) between both ends, each with a table of handshakes as postern-pki has it: real
// certificates, real records, and each thing that must not be believed.
#include <doctest/doctest.h>

#include "certificates.hpp"
#include "pki/tls_table.hpp"
#include "tests/ike/eap_lab.hpp"

namespace postern::ike {
namespace {

using namespace pki::test;

constexpr std::int64_t day = 86400, start = 1780272000;  // 2026-06-01T00:00:00Z
constexpr std::string_view user = "admin@example.org", server_name = "gw.example.org";

pki::Trustpoint trustpoint(const char* name, std::vector<std::string> own, const char* key,
                           std::vector<std::string> authorities = {root_pem}) {
  return pki::make_trustpoint(
      {name, std::move(authorities), std::move(own)},
      key == nullptr ? std::nullopt : std::optional(crypto::PrivateKey::from_pem(as_bytes(key))));
}

pki::Store store() {
  pki::Store out;
  out.set({trustpoint("RSA", {rsa_pem}, rsa_key), trustpoint("EC256", {ecdsa256_pem}, ecdsa256_key),
           trustpoint("ED", {ed25519_pem}, ed25519_key),
           trustpoint("BELOW", {below_between_pem, between_pem}, below_between_key),
           trustpoint("CODE", {code_signing_pem}, code_signing_key), trustpoint("OTHER", {}, nullptr, {other_root_pem}),
           trustpoint("SHORT", {short_pem}, short_key, {short_root_pem})},
          {});
  return out;
}

using Newest = crypto::TlsEnd::Newest;

struct TlsLab {
  pki::Store certificates = store();
  pki::TlsTable at_server, at_peer;
  std::string server_own = "EC256", peer_own = "RSA", server_trusts = "EC256", peer_trusts = "RSA", who{user};
  std::string wanted{server_name};
  std::int64_t wall = start + 10 * day, server_ahead = 0, peer_ahead = 0;
  Time now{std::chrono::hours(1)};
  std::function<void(Octets&, std::size_t, bool from_server)> change;
  EapStep server_end, peer_end;
  Secret server_key, peer_key;
  std::size_t rounds = 0;

  explicit TlsLab(Newest of_server = Newest::tls13, Newest of_peer = Newest::tls13)
      : at_server(of_server), at_peer(of_peer) {}
  template <class End>
  EapStep settled(End& end, EapStep step, pki::TlsTable& table) {
    if (step.kind != EapStep::Kind::ask) return step;
    const std::int64_t ahead = step.question->server ? server_ahead : peer_ahead;
    const pki::Answer answer = table.answer(*step.question, certificates, wall + ahead, now);
    if (const auto* const progress = std::get_if<pki::TlsProgress>(&answer)) return end.on_tls(*progress);
    return end.fail(EapFault::internal, std::get<pki::Refusal>(answer).summary);
  }
  void run() {
    lab::EapLab setup({EapType::tls}, {EapType::tls}, who, "");
    setup.server.context.tls.trustpoint = server_own;
    setup.server.context.tls.verify = {server_trusts};
    setup.peer.context.tls.trustpoint = peer_own;
    setup.peer.context.tls.verify = {peer_trusts};
    EapServer server(setup.server);
    EapPeer peer(setup.peer);
    peer.expect_server(2, octets_of(as_bytes(wanted)));
    server_end = server.start();
    for (rounds = 0; rounds < 200; ++rounds) {
      Octets packet = server_end.packet;
      CHECK(packet.size() <= 5 + 5 + eap_tls_fragment_bytes);
      if (change) change(packet, rounds, true);
      peer_end = settled(peer, peer.on_packet(packet), at_peer);
      if (server_end.kind != EapStep::Kind::more || peer_end.kind != EapStep::Kind::more) break;
      packet = peer_end.packet;
      if (change) change(packet, rounds, false);
      server_end = settled(server, server.on_packet(packet), at_server);
    }
    server_key = server.key();
    peer_key = peer.key();
  }
};

}  // namespace

TEST_CASE("EAP-TLS: both ends get the same 64 bytes, by keys of every kind and over an intermediate CA") {
  for (const auto& [at_server, at_peer] :
       {std::pair{Newest::tls13, Newest::tls13}, std::pair{Newest::tls12, Newest::tls13},
        std::pair{Newest::tls13, Newest::tls12}})
    for (const char* const of_server : {"EC256", "RSA", "ED", "BELOW"})
      for (const char* const of_peer : {"RSA", "EC256", "BELOW"}) {
        CAPTURE(of_server);
        CAPTURE(of_peer);
        TlsLab lab(at_server, at_peer);
        lab.server_own = of_server;
        lab.peer_own = of_peer;
        lab.run();
        CHECK(lab.server_end.kind == EapStep::Kind::done);
        CHECK(lab.peer_end.kind == EapStep::Kind::done);
        CHECK(lab.server_key.size() == 64);
        CHECK(lab.server_key == lab.peer_key);
        CHECK(lab.at_server.size() == 0);
        CHECK(lab.at_peer.size() == 0);
      }
}

TEST_CASE("EAP-TLS: what the server does not believe") {
  struct Row {
    const char *what, *own, *trusts, *who, *says;
  };
  for (const Row& row : {Row{"another CA", "RSA", "OTHER", "admin@example.org", "certificate"},
                         Row{"a certificate for something else", "CODE", "EC256", "admin@example.org", "TLS"},
                         Row{"another's certificate", "RSA", "EC256", "bob@example.org", "name"}}) {
    CAPTURE(row.what);
    for (const Newest newest : {Newest::tls12, Newest::tls13}) {
      TlsLab lab(newest);
      lab.peer_own = row.own;
      lab.server_trusts = row.trusts;
      lab.who = row.who;
      lab.run();
      CHECK(lab.server_end.kind == EapStep::Kind::failed);
      CHECK(lab.server_end.failure.fault == EapFault::not_authentic);
      CHECK(lab.server_end.failure.detail.find(row.says) != std::string::npos);
      CHECK(lab.peer_end.kind == EapStep::Kind::failed);
      CHECK(lab.server_key.empty());
      CHECK(lab.peer_key.empty());
      CHECK(lab.at_server.size() == 0);
    }
  }
}

TEST_CASE("EAP-TLS: what the peer does not believe") {
  struct Row {
    const char *what, *own, *trusts, *wanted;
  };
  for (const Row& row : {Row{"another CA", "EC256", "OTHER", "gw.example.org"},
                         Row{"a certificate for something else", "CODE", "RSA", "gw.example.org"},
                         Row{"another's certificate", "EC256", "RSA", "other.example.org"}}) {
    CAPTURE(row.what);
    for (const Newest newest : {Newest::tls12, Newest::tls13}) {
      TlsLab lab(newest);
      lab.server_own = row.own;
      lab.peer_trusts = row.trusts;
      lab.wanted = row.wanted;
      lab.run();
      CHECK(lab.peer_end.kind == EapStep::Kind::failed);
      CHECK(lab.peer_end.failure.fault == EapFault::not_authentic);
      CHECK(lab.server_end.kind == EapStep::Kind::failed);
      CHECK(lab.peer_key.empty());
      CHECK(lab.server_key.empty());
    }
  }
}

TEST_CASE("EAP-TLS: an own certificate that has expired, or is not valid yet, begins nothing") {
  for (const std::int64_t wall : {start - 2 * day, start + 91 * day}) {
    TlsLab lab;
    lab.wall = wall;
    lab.run();
    CHECK(lab.peer_end.kind == EapStep::Kind::failed);
    CHECK(lab.peer_end.failure.fault == EapFault::internal);
    CHECK(lab.peer_end.failure.detail.find("valid from") != std::string::npos);
    CHECK(lab.at_peer.size() == 0);
  }
}

TEST_CASE("EAP-TLS: the other end's certificate has expired by our clock") {
  for (const Newest newest : {Newest::tls12, Newest::tls13})
    for (const bool server_is_ahead : {true, false}) {
      TlsLab lab(newest);
      (server_is_ahead ? lab.server_ahead : lab.peer_ahead) = 5 * day;
      (server_is_ahead ? lab.peer_own : lab.server_own) = "SHORT";
      (server_is_ahead ? lab.server_trusts : lab.peer_trusts) = "SHORT";
      lab.run();
      CHECK(lab.server_end.kind == EapStep::Kind::failed);
      CHECK(lab.peer_end.kind == EapStep::Kind::failed);
      const EapStep& who = server_is_ahead ? lab.server_end : lab.peer_end;
      CHECK(who.failure.fault == EapFault::not_authentic);
      CHECK(who.failure.detail.find("expired") != std::string::npos);
    }
}

TEST_CASE("EAP-TLS: no trustpoint, a table that is full, a handshake that took too long") {
  TlsLab lab;
  lab.server_own = "OTHER";
  lab.run();
  CHECK(lab.server_end.kind == EapStep::Kind::failed);
  CHECK(lab.server_end.failure.fault == EapFault::internal);

  pki::TlsTable table;
  const pki::Store certificates = store();
  pki::TlsQuestion question{0, true, false, "RSA", {"RSA"}, 2, octets_of(as_bytes(server_name)), {}};
  const Time begun{std::chrono::hours(1)};
  for (std::uint64_t i = 0; i < pki::TlsTable::most; ++i) {
    question.conversation = i;
    REQUIRE(std::holds_alternative<pki::TlsProgress>(table.answer(question, certificates, start + day, begun)));
  }
  // One more: the one that has been there longest goes.
  question.conversation = pki::TlsTable::most;
  const Time later = begun + std::chrono::seconds(1);
  CHECK(std::holds_alternative<pki::TlsProgress>(table.answer(question, certificates, start + day, later)));
  CHECK(table.size() == pki::TlsTable::most);
  question.begins = false;
  CHECK(std::holds_alternative<pki::TlsProgress>(table.answer(question, certificates, start + day, later)));
  question.conversation = 0;
  CHECK(std::holds_alternative<pki::Refusal>(table.answer(question, certificates, start + day, later)));
  question.conversation = 1;
  CHECK(std::holds_alternative<pki::Refusal>(
      table.answer(question, certificates, start + day, begun + pki::TlsTable::patience)));
  CHECK(table.size() == 1);
}

TEST_CASE("EAP-TLS packets of other shapes, at either end") {
  struct Row {
    const char* what;
    std::size_t round;
    bool from_server;
    void (*change)(Octets&);
  };
  const auto length = [](Octets& p) { store_be16(p.data() + 2, static_cast<std::uint16_t>(p.size())); };
  static const auto fit = length;
  for (const Row& row :
       {Row{"no flags", 1, false, [](Octets& p) { p.resize(5), fit(p); }},
        Row{"an answer of nothing", 1, false, [](Octets& p) { p.resize(6), p[5] = std::byte{0}, fit(p); }},
        Row{"a start of the peer's", 1, false, [](Octets& p) { p.resize(6), p[5] = std::byte{0x20}, fit(p); }},
        Row{"a length of a gigabyte", 1, false,
            [](Octets& p) { p.resize(11), p[5] = std::byte{0xc0}, store_be32(p.data() + 6, 1U << 30), fit(p); }},
        Row{"a start twice", 2, true, [](Octets& p) { p.resize(6), p[5] = std::byte{0x20}, fit(p); }},
        Row{"no start", 1, true, [](Octets& p) { p.resize(6), p[5] = std::byte{0}, fit(p); }}}) {
    CAPTURE(row.what);
    TlsLab lab;
    lab.change = [&](Octets& packet, std::size_t round, bool from_server) {
      if (round == row.round && from_server == row.from_server) row.change(packet);
    };
    lab.run();
    const EapStep& who = row.from_server ? lab.peer_end : lab.server_end;
    CHECK(who.kind == EapStep::Kind::failed);
    CHECK((who.failure.fault == EapFault::malformed || who.failure.fault == EapFault::too_long));
  }
}

TEST_CASE("EAP-TLS: a record that is changed on its way ends it at both ends") {
  for (std::size_t round = 1; round < 4; ++round) {
    TlsLab lab;
    lab.change = [&](Octets& packet, std::size_t at, bool from_server) {
      if (at == round && !from_server && packet.size() > 60) packet.back() ^= std::byte{1};
    };
    lab.run();
    const bool whole = lab.server_end.kind == EapStep::Kind::done && lab.peer_end.kind == EapStep::Kind::done;
    CHECK((!whole || lab.server_key == lab.peer_key));
  }
  TlsLab lab;
  bool changed = false;
  lab.change = [&](Octets& packet, std::size_t, bool from_server) {
    if (!changed && from_server && packet.size() > 500) packet[200] ^= std::byte{1}, changed = true;
  };
  lab.run();
  CHECK(changed);
  CHECK(lab.peer_end.kind == EapStep::Kind::failed);
}

}  // namespace postern::ike
