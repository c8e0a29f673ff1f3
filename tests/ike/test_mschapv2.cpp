// MS-CHAPv2's arithmetic: the vectors of RFC 2759 §9.2 and RFC 3079 §3.5.3.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "ike/mschapv2.hpp"

namespace postern::ike {
namespace {

std::string hex(Bytes bytes) {
  std::string out;
  for (const std::byte one : bytes) out += fmt::format("{:02x}", std::to_integer<unsigned>(one));
  return out;
}

MschapChallenge challenge(std::string_view digits) {
  MschapChallenge out{};
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = static_cast<std::byte>(std::stoi(std::string(digits.substr(2 * i, 2)), nullptr, 16));
  return out;
}

Secret password(std::string_view text) { return Secret::copy_of(as_bytes(text)); }

const MschapExchange rfc{challenge("5b5d7c7d7b3f2f3e3c2c602132262628"), challenge("21402324255e262a28295f2b3a337c7e"),
                         "User"};

}  // namespace

TEST_CASE("RFC 2759 §9.2: from the password to both proofs") {
  const auto hash = nt_password_hash(password("clientPass"));
  REQUIRE(hash);
  CHECK(hex(hash->bytes()) == "44ebba8d5312b8d611474411f56989ae");
  const auto response = nt_response(rfc, *hash);
  REQUIRE(response);
  CHECK(hex(*response) == "82309ecd8d708b5ea08faa3981cd83544233114a3d85d6df");
  CHECK(*authenticator_response(rfc, *hash, *response) == "S=407A5589115FD0D6209F510FE9C04566932CDA56");
}

TEST_CASE("RFC 3079 §3.5.3: the key that the server sends by is the second of the MSK") {
  const auto hash = nt_password_hash(password("clientPass"));
  const auto msk = mschap_msk(*hash, *nt_response(rfc, *hash));
  REQUIRE(msk);
  REQUIRE(msk->size() == 64);
  CHECK(hex(msk->bytes().subspan(16, 16)) == "8b7cdc149b993a1ba118cb153f56dccb");
  CHECK(hex(msk->bytes().first(16)) != hex(msk->bytes().subspan(16, 16)));
  CHECK(hex(msk->bytes().last(32)) == std::string(64, '0'));
}

TEST_CASE("RFC 2759 §4: the domain in front of a name does not count") {
  const auto hash = nt_password_hash(password("clientPass"));
  MschapExchange with = rfc;
  with.user = "DOMAIN\\User";
  CHECK(*nt_response(with, *hash) == *nt_response(rfc, *hash));
  with.user = "user";
  CHECK(*nt_response(with, *hash) != *nt_response(rfc, *hash));
}

TEST_CASE("passwords are text") {
  // MD4 of UTF-16: "ä€😀" is e4 00, ac 20, 3d d8 00 de.
  CHECK(nt_password_hash(password("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80")));
  CHECK(hex(nt_password_hash(password(""))->bytes()) == "31d6cfe0d16ae931b73c59d7e0c089c0");
  struct Row {
    const char* what;
    std::string text;
  };
  for (const Row& row : {Row{"cut short", "a\xc3"}, Row{"not a beginning", "\xa4"}, Row{"overlong", "\xc0\x80"},
                         Row{"overlong of three", "\xe0\x80\x80"}, Row{"a surrogate", "\xed\xa0\x80"},
                         Row{"beyond Unicode", "\xf4\x90\x80\x80"}, Row{"a zero", std::string("a\0b", 3)},
                         Row{"257 units", std::string(257, 'x')},
                         Row{"255 units and a pair", std::string(255, 'x') + "\xf0\x9f\x98\x80"}}) {
    CAPTURE(row.what);
    CHECK_FALSE(nt_password_hash(password(row.text)));
  }
  CHECK(nt_password_hash(password(std::string(256, 'x'))));
  CHECK(nt_password_hash(password(std::string(254, 'x') + "\xf0\x9f\x98\x80")));
}

}  // namespace postern::ike
