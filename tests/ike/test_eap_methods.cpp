// EAP-MD5 and EAP-MSCHAPv2 between both ends: who gets a key, and exactly what a wrong word leads to.
#include "crypto/digest.hpp"
#include "eap_lab.hpp"

namespace postern::ike {
namespace {

using lab::converse, lab::EapLab;
using Kind = EapStep::Kind;

}  // namespace

TEST_CASE("EAP-MSCHAPv2: both get the same key of 64 bytes; EAP-MD5 gives none") {
  EapLab with({EapType::mschapv2}, {EapType::mschapv2}), without({EapType::md5}, {EapType::md5});
  const auto out = converse(with);
  CHECK(out.server.kind == Kind::done);
  CHECK(out.peer.kind == Kind::done);
  CHECK(out.server_key.size() == 64);
  CHECK(out.server_key == out.peer_key);
  const auto other = converse(without);
  CHECK(other.server.kind == Kind::done);
  CHECK(other.server_key.empty());
  CHECK(other.peer_key.empty());
}

TEST_CASE("RFC 1994 §4.1: the answer is MD5 of identifier, password and challenge") {
  EapLab lab({EapType::md5}, {EapType::md5});
  const auto out = converse(lab);
  const auto request = *parse_eap(out.requests[1]);
  const auto response = *parse_eap(out.responses[1]);
  REQUIRE(request.data.size() == 17 + std::string_view("gateway").size());
  const Bytes challenge = Bytes(request.data).subspan(1, 16);
  const std::array first = {static_cast<std::byte>(request.identifier)};
  const auto expected = *crypto::md5({first, as_bytes("her password"), challenge});
  CHECK(response.data[0] == std::byte{16});
  CHECK(std::ranges::equal(Bytes(response.data).subspan(1, 16), expected));
  CHECK(std::ranges::equal(Bytes(response.data).subspan(17), as_bytes("alice")));
}

TEST_CASE("a wrong password and an unknown user: the peer cannot tell which, we can") {
  struct Row {
    EapType method;
    std::string user;
    const char* password;
    EapFault fault;
  };
  std::vector<std::size_t> sizes;
  for (const Row& row : {Row{EapType::mschapv2, "alice", "another", EapFault::wrong_password},
                         Row{EapType::mschapv2, "nobod", "another", EapFault::unknown_user},
                         Row{EapType::md5, "alice", "another", EapFault::wrong_password},
                         Row{EapType::md5, "nobod", "another", EapFault::unknown_user},
                         Row{EapType::mschapv2, "alice", "", EapFault::wrong_password}}) {
    CAPTURE(row.user);
    EapLab lab({row.method}, {row.method}, row.user, row.password);
    const auto out = converse(lab);
    CHECK(out.server.kind == Kind::failed);
    CHECK(out.server.failure.fault == row.fault);
    CHECK(out.server.failure.detail == row.user);
    CHECK(out.server_key.empty());
    CHECK(out.peer.kind == Kind::failed);
    CHECK(out.peer.failure.fault == EapFault::wrong_password);
    sizes.push_back(out.requests.size());
    for (const Octets& one : out.requests)
      CHECK(std::string(reinterpret_cast<const char*>(one.data()), one.size()).find("password") == std::string::npos);
  }
  CHECK(sizes == std::vector<std::size_t>{4, 4, 3, 3, 4});
}

TEST_CASE("a server that does not know the password is not believed") {
  EapLab lab({EapType::mschapv2}, {EapType::mschapv2});
  for (const char changed : {'0', 'X'}) {
    const auto out = converse(lab, [&](Octets& packet, std::size_t round, bool from_server) {
      if (from_server && round == 2) {
        auto& digit = packet[4 + 1 + 4 + 2 + 5];
        digit = static_cast<std::byte>(static_cast<char>(digit) == changed ? '1' : changed);
      }
    });
    CHECK(out.peer.kind == Kind::failed);
    CHECK(out.peer.failure.fault == EapFault::not_authentic);
    CHECK(out.server.kind == Kind::more);
  }
}

TEST_CASE("the peer that says it does not believe us gets no Success") {
  EapLab lab({EapType::mschapv2}, {EapType::mschapv2});
  const auto out = converse(lab, [](Octets& packet, std::size_t round, bool from_server) {
    if (!from_server && round == 2) packet[5] = std::byte{4};
  });
  CHECK(out.server.kind == Kind::failed);
  CHECK(out.server.failure.fault == EapFault::refused);
}

TEST_CASE("EAP-MSCHAPv2 packets of other shapes, at either end") {
  struct Row {
    const char* what;
    std::size_t round;
    bool from_server;
    std::size_t at;
    int value;  // -1: cut there
  };
  constexpr std::size_t op = 5, id = 6, length = 8, size = 9;
  for (const Row& row :
       {Row{"response: op code 7", 1, false, op, 7}, Row{"response: another id", 1, false, id, 0xee},
        Row{"response: another length", 1, false, length, 3}, Row{"response: another value size", 1, false, size, 48},
        Row{"response: Success at once", 1, false, op, 3}, Row{"response: nothing", 1, false, op, -1},
        Row{"response: cut", 1, false, 30, -1}, Row{"challenge: op code 2", 1, true, op, 2},
        Row{"challenge: another size", 1, true, size, 15}, Row{"challenge: cut", 1, true, 12, -1},
        Row{"success: Challenge again", 2, true, op, 1}, Row{"success: cut", 2, true, 7, -1}}) {
    CAPTURE(row.what);
    EapLab lab({EapType::mschapv2}, {EapType::mschapv2});
    const auto out = converse(lab, [&](Octets& packet, std::size_t round, bool from_server) {
      if (round != row.round || from_server != row.from_server) return;
      if (row.value >= 0)
        packet[row.at] = static_cast<std::byte>(row.value);
      else
        packet.resize(row.at), store_be16(packet.data() + 2, static_cast<std::uint16_t>(row.at));
    });
    const EapStep& who = row.from_server ? out.peer : out.server;
    CHECK(who.kind == Kind::failed);
    CHECK(who.failure.fault == EapFault::malformed);
  }
}

TEST_CASE("EAP-MD5 packets of other shapes") {
  for (const int size : {0, 15, 17, 200}) {
    CAPTURE(size);
    EapLab lab({EapType::md5}, {EapType::md5});
    const auto out = converse(lab, [&](Octets& packet, std::size_t round, bool from_server) {
      if (round == 1 && !from_server) packet[5] = static_cast<std::byte>(size);
    });
    CHECK(out.server.kind == Kind::failed);
    CHECK(out.server.failure.fault == EapFault::malformed);
  }
  EapLab lab({EapType::md5}, {EapType::md5});
  const auto out = converse(lab, [&](Octets& packet, std::size_t round, bool from_server) {
    if (round == 1 && from_server) packet[5] = std::byte{0};
  });
  CHECK(out.peer.failure.fault == EapFault::malformed);
}

TEST_CASE("a password that is no text of MS-CHAPv2 does not begin") {
  EapLab lab({EapType::mschapv2}, {EapType::mschapv2}, "alice", "\xff");
  const auto out = converse(lab);
  CHECK(out.peer.kind == Kind::failed);
  CHECK(out.peer.failure.fault == EapFault::internal);
}

}  // namespace postern::ike
