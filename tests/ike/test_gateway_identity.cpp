// REDIRECT's and REDIRECTED_FROM's data (RFC 5685 §9): what peers may say, and what is no gateway.
#include <doctest/doctest.h>

#include "ike/gateway_identity.hpp"
#include "ike/message.hpp"
#include "ike/payload_rules.hpp"

using namespace postern;
using namespace postern::ike;
using namespace std::string_view_literals;

namespace {

IpAddress ip(const char* text) { return *IpAddress::parse(text); }

Octets data(std::uint8_t type, std::uint8_t length, std::string_view rest) {
  OctetWriter out;
  out.u8(type);
  out.u8(length);
  out.bytes(as_bytes(rest));
  return out.take();
}

std::string error_of(const Octets& bytes, Bytes nonce = {}) {
  const auto decoded = decode_gateway(bytes, nonce);
  return decoded ? "" : decoded.error().message();
}

}  // namespace

TEST_CASE("RFC 5685 §9.2: the three kinds of identity, there and back, with a nonce and without") {
  const Octets nonce(32, std::byte{7});
  for (const char* const text : {"192.0.2.7", "2001:db8::7", "gw2.example.net"}) {
    CAPTURE(text);
    const auto gateway = GatewayIdentity::parse(text);
    REQUIRE(gateway);
    CHECK(gateway->text() == text);
    CHECK(*decode_gateway(encode_gateway(*gateway)) == *gateway);
    CHECK(*decode_gateway(encode_gateway(*gateway, nonce), nonce) == *gateway);
    CHECK_FALSE(decode_gateway(encode_gateway(*gateway), nonce));
    CHECK_FALSE(decode_gateway(encode_gateway(*gateway, nonce)));
    CHECK_FALSE(decode_gateway(encode_gateway(*gateway, nonce), Octets(32, std::byte{8})));
    CHECK_FALSE(decode_gateway(encode_gateway(*gateway, nonce), Bytes(nonce).first(31)));
  }
  CHECK(encode_gateway(*GatewayIdentity::parse("192.0.2.7")) == data(1, 4, "\xC0\x00\x02\x07"sv));
  CHECK(decode_gateway(data(3, 9, "Gw.Local."))->text() == "gw.local");
}

TEST_CASE("RFC 5685 §9.2: other types, lengths and names are none") {
  CHECK(error_of({}) == "shorter than its lengths say");
  CHECK(error_of(data(1, 5, "abcd")) == "shorter than its lengths say");
  CHECK(error_of(data(0, 4, "abcd")) == "an identity of type 0");
  CHECK(error_of(data(4, 4, "abcd")) == "an identity of type 4");
  CHECK(error_of(data(1, 3, "abc")) == "an address of 3 bytes");
  CHECK(error_of(data(1, 16, "abcdabcdabcdabcd")) == "an address of 16 bytes");
  CHECK(error_of(data(2, 4, "abcd")) == "an address of 4 bytes");
  CHECK(error_of(data(1, 0, "")) == "an address of 0 bytes");
  CHECK(error_of(data(1, 4, "abcde")) == "with something behind the gateway's identity");
  CHECK_FALSE(error_of(data(2, 16, "\0\0\0\0\0\0\0\0\0\0\xFF\xFF\xC0\0\2\7"sv)).empty());
  for (const std::string& name :
       std::vector<std::string>{"", ".", "a..b", "-a.b", "a-.b", "a b", "a\nb", std::string("a\0b", 3), "192.0.2.7",
                                "7", "a_b", "\xC3\xA4.de"})
    CHECK(error_of(data(3, static_cast<std::uint8_t>(name.size()), name)) == "a name that is none");
  CHECK_FALSE(error_of(data(3, 64, std::string(64, 'a'))).empty());
  CHECK(error_of(data(3, 63, std::string(63, 'a'))).empty());
  std::string longest;
  while (longest.size() < 254) longest += "aa.";
  CHECK_FALSE(error_of(data(3, 255, longest.substr(0, 255))).empty());
  CHECK(error_of(data(3, 253, longest.substr(0, 252) + "b")).empty());
}

TEST_CASE("where nobody is sent") {
  const IpAddress local = ip("192.0.2.1"), from = ip("192.0.2.2");
  for (const char* const none :
       {"0.0.0.0", "224.0.0.1", "127.0.0.1", "2001:db8::1", "::1", "::", "192.0.2.1", "192.0.2.2"})
    CHECK_FALSE(no_gateway(ip(none), local, from).empty());
  CHECK(no_gateway(ip("192.0.2.3"), local, from).empty());
}

TEST_CASE("RFC 5685 §3: an answer to IKE_SA_INIT may hold REDIRECT alone; a request, and other answers, may not") {
  Message message{{1, 0, ExchangeType::ike_sa_init, false, true, 0}, {}};
  CHECK(broken_rule(message));
  message.add_notify(NotifyType::redirect, encode_gateway(*GatewayIdentity::parse("192.0.2.7")));
  CHECK_FALSE(broken_rule(message));
  message.header.exchange = ExchangeType::ike_auth;
  CHECK(broken_rule(message));
  message.header = {1, 0, ExchangeType::ike_sa_init, true, false, 0};
  CHECK(broken_rule(message));
  CHECK(text(NotifyType::redirect) == "REDIRECT");
  CHECK(text(NotifyType::redirect_supported) == "REDIRECT_SUPPORTED");
  CHECK(text(NotifyType::redirected_from) == "REDIRECTED_FROM");
}
