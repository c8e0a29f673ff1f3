// EAP-TLS's fragments (RFC 5216 section 2.1.5) of a peer that knows the protocol and breaks it: lengths that lie,
// floods, replays, silence. TLS hears nothing of them.
#include "fake_tls.hpp"
#include "ike/eap_server.hpp"
#include "scripted_peer.hpp"

namespace postern::ike {
namespace {

using lab::FakeTls;
using namespace std::chrono_literals;

// It comes by EAP alone, so that no certificate is in the way.
struct Fragmenter {
  lab::ScriptedPeer peer;
  FakeTls tls;
  std::size_t asked = 0;
  std::uint8_t identifier = 0;

  Fragmenter() {
    lab::Lab::edit(peer.lab.b, [](Connection& c) {
      c.local_auth = c.remote_auth = AuthKind::eap;
      c.eap_server = {{EapType::tls}, true};
      c.eap_peer = {{EapType::tls}, "server", {}};
      c.sign_trustpoint = "B";
      c.verify_trustpoints = {"A"};
    });
    peer.exchange_init();
    Message first = peer.auth_request();
    std::erase_if(first.payloads, [](const Payload& p) { return p.type == PayloadType::auth; });
    first.add_notify(NotifyType::eap_only_authentication);
    CHECK(says(first).code == EapCode::request);
    const EapPacket start = eap(EapType::identity, octets_of(as_bytes("alice")));
    CHECK(start.type == EapType::tls);
    CHECK(start.data == Octets{std::byte{0x20}});
  }
  // What is answered, after postern-pki where it is asked.
  EapPacket says(const Message& message) {
    auto answers = peer.says(peer.sealed(message));
    for (AskPki& one : std::exchange(peer.lab.b.asked, {})) {
      ++asked;
      peer.lab.perform(1, peer.lab.b.sessions.back()->on_pki_answer(
                              one.ticket, tls.take(std::get<pki::TlsQuestion>(one.question)), peer.lab.now));
    }
    for (lab::Datagram& one : std::exchange(peer.lab.wire, {})) answers.push_back(std::move(one.bytes));
    REQUIRE(answers.size() == 1);
    const Message answer = peer.opened(answers[0]);
    ++peer.next_id;
    const auto* const raw = answer.find<RawPayload>(PayloadType::eap);
    REQUIRE(raw != nullptr);
    const EapPacket packet = *parse_eap(raw->data);
    identifier = packet.identifier;
    return packet;
  }
  EapPacket eap(EapType type, Octets data) { return eap_of(identifier, type, std::move(data)); }
  EapPacket eap_of(std::uint8_t id, EapType type, Octets data) {
    Message m{peer.header(ExchangeType::ike_auth), {}};
    m.add(PayloadType::eap, RawPayload{encode_eap({EapCode::response, id, type, std::move(data)})});
    return says(m);
  }
  static Octets fragment(std::uint8_t flags, std::optional<std::uint32_t> length, std::size_t bytes) {
    OctetWriter out;
    out.u8(flags);
    if (length) out.u32(*length);
    out.bytes(Octets(bytes, std::byte{1}));
    return out.take();
  }
  EapPacket sends(std::uint8_t flags, std::optional<std::uint32_t> length, std::size_t bytes) {
    return eap(EapType::tls, fragment(flags, length, bytes));
  }
  // The Failure has come, and with it the end; TLS has heard nothing.
  void check_ended() const {
    CHECK(asked == 0);
    CHECK(peer.lab.b.count(SessionPhase::closed) == 1);
    CHECK(peer.lab.b.live().empty());
    CHECK(peer.lab.b.spis.empty());
    REQUIRE(peer.lab.b.failures.size() == 1);
    CHECK(peer.lab.b.failures[0].kind == FailureKind::invalid_syntax);
  }
};

}  // namespace

TEST_CASE("EAP-TLS: fragments that are no message") {
  struct Row {
    const char* what;
    EapPacket (*last)(Fragmenter&);
  };
  for (const Row& row : {
           Row{"no flags", [](Fragmenter& f) { return f.eap(EapType::tls, {}); }},
           Row{"a length that is cut", [](Fragmenter& f) { return f.eap(EapType::tls, {std::byte{0x80}, {}, {}}); }},
           Row{"a gigabyte is to come", [](Fragmenter& f) { return f.sends(0xc0, 1U << 30, 100); }},
           Row{"one byte more than the most", [](Fragmenter& f) { return f.sends(0xc0, max_eap_tls_bytes + 1, 100); }},
           Row{"an acknowledgement of nothing", [](Fragmenter& f) { return f.sends(0, {}, 0); }},
           Row{"a start", [](Fragmenter& f) { return f.sends(0x20, {}, 0); }},
           Row{"a start in the middle",
               [](Fragmenter& f) {
                 CHECK(f.sends(0xc0, 200, 100).code == EapCode::request);
                 return f.sends(0x20, {}, 0);
               }},
           Row{"more fragments, of which this one has nothing", [](Fragmenter& f) { return f.sends(0x40, {}, 0); }},
           Row{"a length that changes",
               [](Fragmenter& f) {
                 CHECK(f.sends(0xc0, 200, 50).code == EapCode::request);
                 return f.sends(0xc0, 201, 50);
               }},
           Row{"the end before the length is there",
               [](Fragmenter& f) {
                 CHECK(f.sends(0xc0, 200, 50).code == EapCode::request);
                 return f.sends(0, {}, 50);
               }},
           Row{"a fragment that is replayed, so that there is more than the length says",
               [](Fragmenter& f) {
                 CHECK(f.sends(0xc0, 200, 150).code == EapCode::request);
                 return f.sends(0xc0, 200, 150);
               }},
           Row{"a fragment that is replayed with the identifier that it had",
               [](Fragmenter& f) {
                 const std::uint8_t before = f.identifier;
                 CHECK(f.sends(0xc0, 200, 50).code == EapCode::request);
                 return f.eap_of(before, EapType::tls, Fragmenter::fragment(0xc0, 200, 50));
               }},
           Row{"a Nak in the middle",
               [](Fragmenter& f) {
                 CHECK(f.sends(0xc0, 200, 50).code == EapCode::request);
                 return f.eap(EapType::nak, {std::byte{4}});
               }},
       }) {
    CAPTURE(row.what);
    Fragmenter fragmenter;
    CHECK(row.last(fragmenter).code == EapCode::failure);
    fragmenter.check_ended();
  }
}

TEST_CASE("EAP-TLS: a flood of fragments ends by its bytes, and one of tiny fragments by its rounds") {
  for (const std::size_t size : {3000U, 1U}) {
    CAPTURE(size);
    Fragmenter fragmenter;
    std::size_t rounds = 0;
    while (fragmenter.sends(0x40, {}, size).code == EapCode::request) REQUIRE(++rounds <= max_eap_rounds);
    CHECK(rounds == (size == 1 ? max_eap_rounds - 1 : max_eap_tls_bytes / size));
    fragmenter.check_ended();
  }
}

TEST_CASE("EAP-TLS: a second message while the first is on its way to the peer") {
  Fragmenter fragmenter;
  const EapPacket flight = fragmenter.sends(0, {}, 200);
  REQUIRE(flight.code == EapCode::request);
  CHECK(fragmenter.asked == 1);
  CHECK(flight.data[0] == std::byte{0xc0});
  CHECK(fragmenter.sends(0, {}, 200).code == EapCode::failure);
  CHECK(fragmenter.asked == 1);
  CHECK(fragmenter.peer.lab.b.count(SessionPhase::closed) == 1);
}

TEST_CASE("EAP-TLS: a peer that falls silent between two fragments is forgotten, in time that is bounded") {
  Fragmenter fragmenter;
  CHECK(fragmenter.sends(0xc0, 200, 100).code == EapCode::request);
  fragmenter.peer.lab.run(61s);
  CHECK(fragmenter.peer.lab.b.count(SessionPhase::closed) == 1);
  CHECK(fragmenter.peer.lab.b.spis.empty());
}

}  // namespace postern::ike
