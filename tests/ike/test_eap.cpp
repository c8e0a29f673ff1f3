// EAP (RFC 3748): packets, identity, negotiation of the method, and what neither end puts up with.
#include "eap_lab.hpp"

namespace postern::ike {
namespace {

using lab::converse, lab::EapLab;
using Kind = EapStep::Kind;

Octets bytes(std::initializer_list<int> values) {
  Octets out;
  for (const int one : values) out.push_back(static_cast<std::byte>(one));
  return out;
}

}  // namespace

TEST_CASE("RFC 3748 §4, RFC 7296 §3.16: packets") {
  const auto identity = parse_eap(bytes({2, 7, 0, 8, 1, 'a', 'b', 'c'}));
  REQUIRE(identity);
  CHECK(identity->code == EapCode::response);
  CHECK(identity->identifier == 7);
  CHECK(identity->type == EapType::identity);
  CHECK(identity->data == octets_of(as_bytes("abc")));
  CHECK(encode_eap(*identity) == bytes({2, 7, 0, 8, 1, 'a', 'b', 'c'}));
  CHECK(encode_eap(*parse_eap(bytes({3, 9, 0, 4}))) == bytes({3, 9, 0, 4}));
  struct Row {
    const char* what;
    Octets packet;
    EapParseError error;
  };
  for (const Row& row :
       {Row{"nothing", {}, EapParseError::truncated}, Row{"three bytes", bytes({1, 0, 0}), EapParseError::truncated},
        Row{"a length beyond the payload", bytes({1, 0, 0, 9, 1}), EapParseError::bad_length},
        Row{"bytes behind the length", bytes({1, 0, 0, 5, 1, 0}), EapParseError::bad_length},
        Row{"a request without a type", bytes({1, 0, 0, 4}), EapParseError::truncated},
        Row{"Success with a type", bytes({3, 0, 0, 5, 1}), EapParseError::bad_length},
        Row{"a response of type 0", bytes({2, 0, 0, 5, 0}), EapParseError::bad_type},
        Row{"code 0", bytes({0, 0, 0, 4}), EapParseError::bad_code},
        Row{"code 5", bytes({5, 0, 0, 5, 1}), EapParseError::bad_code},
        Row{"more than we take", Octets(max_eap_bytes + 1), EapParseError::too_long}}) {
    CAPTURE(row.what);
    const auto parsed = parse_eap(row.packet);
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error() == row.error);
  }
}

TEST_CASE("the method is the server's first that the peer takes, and a Nak leads to it") {
  struct Row {
    std::vector<EapType> server, peer;
    EapType method;
    std::size_t requests;  // Identity, method, ..., Success
  };
  for (const Row& row :
       {Row{{EapType::mschapv2, EapType::md5}, {EapType::md5, EapType::mschapv2}, EapType::mschapv2, 4},
        Row{{EapType::md5}, {EapType::mschapv2, EapType::md5}, EapType::md5, 3},
        Row{{EapType::mschapv2, EapType::md5}, {EapType::md5}, EapType::md5, 4}}) {
    EapLab lab(row.server, row.peer);
    const auto out = converse(lab);
    CHECK(out.server.kind == Kind::done);
    CHECK(out.peer.kind == Kind::done);
    CHECK(out.method == row.method);
    CHECK(out.requests.size() == row.requests);
    CHECK(out.user == "alice");
  }
}

TEST_CASE("no method in common") {
  EapLab lab({EapType::mschapv2}, {EapType::md5});
  const auto out = converse(lab);
  CHECK(out.server.kind == Kind::failed);
  CHECK(out.server.failure.fault == EapFault::no_common_method);
  CHECK(parse_eap(out.server.packet)->code == EapCode::failure);
  CHECK(out.peer.kind == Kind::failed);
  CHECK(out.peer.failure.fault == EapFault::no_common_method);
}

TEST_CASE("a peer that names what we do not offer, or the refused again, gets nothing else") {
  for (const Octets& nak : {bytes({26}), bytes({25, 21}), bytes({0}), Octets{}}) {
    EapLab lab({EapType::mschapv2, EapType::md5}, {});
    EapServer server(lab.server);
    const auto first = server.start();
    const auto identifier = [&](const EapStep& of) { return parse_eap(of.packet)->identifier; };
    const auto offer = server.on_packet(
        encode_eap({EapCode::response, identifier(first), EapType::identity, octets_of(as_bytes("alice"))}));
    const auto end = server.on_packet(encode_eap({EapCode::response, identifier(offer), EapType::nak, nak}));
    CHECK(end.kind == Kind::failed);
    CHECK(end.failure.fault == EapFault::no_common_method);
  }
}

TEST_CASE("without a question for the identity, the server knows it or the method says it") {
  EapLab lab({EapType::mschapv2}, {EapType::mschapv2});
  lab.server.query_identity = false;
  auto out = converse(lab);
  CHECK(out.server.kind == Kind::done);
  CHECK(out.requests.size() == 3);
  CHECK(out.user == "alice");
  lab.server.context.user = "bob";  // of IDi: then the method must not name another
  out = converse(lab);
  CHECK(out.server.kind == Kind::failed);
  CHECK(out.server.failure.fault == EapFault::malformed);
  EapLab md5({EapType::md5}, {EapType::md5});
  md5.server.query_identity = false;
  CHECK(converse(md5).server.failure.fault == EapFault::unknown_user);
  md5.server.context.user = "alice";
  CHECK(converse(md5).server.kind == Kind::done);
}

TEST_CASE("identities of no size, and of too many bytes") {
  for (const std::size_t size : {std::size_t{0}, max_eap_identity_bytes + 1}) {
    EapLab lab({EapType::mschapv2}, {EapType::mschapv2}, std::string(size, 'a'));
    const auto out = converse(lab);
    CHECK(out.server.kind == Kind::failed);
    CHECK(out.server.failure.fault == EapFault::unknown_user);
  }
}

TEST_CASE("the server takes an answer to its last request and nothing else") {
  struct Row {
    const char* what;
    void (*change)(Octets&, const EapLab&);
  };
  for (const Row& row :
       {Row{"another identifier", [](Octets& p, const EapLab&) { p[1] ^= std::byte{1}; }},
        Row{"a request", [](Octets& p, const EapLab&) { p[0] = std::byte{1}; }},
        Row{"a Success of the peer's",
            [](Octets& p, const EapLab&) {
              p = encode_eap({EapCode::success, std::to_integer<std::uint8_t>(p[1]), EapType::none, {}});
            }},
        Row{"another method", [](Octets& p, const EapLab&) { p[4] = std::byte{4}; }},
        Row{"an identity", [](Octets& p, const EapLab&) { p[4] = std::byte{1}; }},
        Row{"one byte less", [](Octets& p, const EapLab&) { p.pop_back(); }}}) {
    CAPTURE(row.what);
    EapLab lab({EapType::mschapv2}, {EapType::mschapv2});
    const auto out = converse(lab, [&](Octets& packet, std::size_t round, bool from_server) {
      if (round == 1 && !from_server) row.change(packet, lab);
    });
    CHECK(out.server.kind == Kind::failed);
    CHECK(out.server.failure.fault == EapFault::malformed);
    CHECK(parse_eap(out.server.packet)->code == EapCode::failure);
  }
}

TEST_CASE("an old answer is not taken for a new one") {
  EapLab lab({EapType::mschapv2}, {EapType::mschapv2});
  Octets first;
  const auto out = converse(lab, [&](Octets& packet, std::size_t round, bool from_server) {
    if (from_server) return;
    if (round == 1) first = packet;
    if (round == 2) packet = first;
  });
  CHECK(out.server.kind == Kind::failed);
  CHECK(out.server.failure.fault == EapFault::malformed);
}

TEST_CASE("the peer: a Success out of turn, the same request twice, requests of another method, no end") {
  struct Row {
    const char* what;
    std::size_t round;
    Octets packet;  // empty: the one before
    EapFault fault;
  };
  for (const Row& row :
       {Row{"Success instead of a method", 1, bytes({3, 0, 0, 4}), EapFault::not_authentic},
        Row{"Success before the server has proved itself", 2, bytes({3, 0, 0, 4}), EapFault::not_authentic},
        Row{"Failure at once", 0, bytes({4, 0, 0, 4}), EapFault::refused},
        Row{"a response", 1, bytes({2, 0, 0, 5, 1}), EapFault::malformed},
        Row{"another method in the middle", 2, bytes({1, 9, 0, 6, 4, 1}), EapFault::malformed},
        Row{"the same again", 2, {}, EapFault::malformed}}) {
    CAPTURE(row.what);
    EapLab lab({EapType::mschapv2}, {EapType::mschapv2, EapType::md5});
    Octets before;
    const auto out = converse(lab, [&](Octets& packet, std::size_t round, bool from_server) {
      if (!from_server) return;
      const Octets own = packet;
      if (round == row.round) packet = row.packet.empty() ? before : row.packet;
      before = own;
    });
    CHECK(out.peer.kind == Kind::failed);
    CHECK(out.peer.failure.fault == row.fault);
  }
  EapLab lab({}, {EapType::md5});
  EapPeer peer(lab.peer);
  EapStep step;
  std::size_t rounds = 0;
  for (; rounds < 10 * max_eap_rounds && step.kind == Kind::more; ++rounds)
    step = peer.on_packet(encode_eap({EapCode::request, static_cast<std::uint8_t>(rounds), EapType::notification, {}}));
  CHECK(rounds == max_eap_rounds + 1);
  CHECK(step.failure.fault == EapFault::too_long);
}

TEST_CASE("nothing goes on after the end") {
  EapLab lab({EapType::md5}, {EapType::md5});
  EapServer server(lab.server);
  (void)server.start();
  CHECK(server.on_packet({}).kind == Kind::failed);
  const auto again = server.on_packet(bytes({2, 0, 0, 5, 1}));
  CHECK(again.kind == Kind::failed);
  EapPeer peer(lab.peer);
  CHECK(peer.on_packet(bytes({4, 0, 0, 4})).kind == Kind::failed);
  CHECK(peer.on_packet(bytes({1, 0, 0, 5, 1})).kind == Kind::failed);
}

}  // namespace postern::ike
