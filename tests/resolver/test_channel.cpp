// The channel's frames: what goes in comes out; what postern-resolver should not say is refused.
#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.hpp"
#include "resolver/channel.hpp"

namespace postern::resolver {
namespace {

IpAddress ip(const char* text) { return *IpAddress::parse(text); }

}  // namespace

TEST_CASE("a question and its answer go over the channel whole") {
  const auto question = decode(encode({7, Question{"vpn.example.net", Family::v6}}));
  REQUIRE(question);
  CHECK(question->id == 7);
  CHECK(std::get<Question>(question->body).name == "vpn.example.net");
  CHECK(std::get<Question>(question->body).family == Family::v6);
  const auto answer = decode(encode({9, Answer{Outcome::found, "", {ip("192.0.2.7"), ip("2001:db8::1")}}}));
  REQUIRE(answer);
  CHECK(std::get<Answer>(answer->body).addresses == std::vector{ip("192.0.2.7"), ip("2001:db8::1")});
  const auto refusal = decode(encode({9, Answer{Outcome::no_name, "", {}}}));
  REQUIRE(refusal);
  CHECK(std::get<Answer>(refusal->body).outcome == Outcome::no_name);
}

TEST_CASE("what nobody says is refused: names, families, outcomes, texts, counts") {
  const auto refused = [](const Frame& frame) { return !decode(encode(frame)); };
  CHECK(refused({1, Question{"", Family::v4}}));
  CHECK(refused({1, Question{std::string(max_name_bytes + 1, 'a'), Family::v4}}));
  CHECK_FALSE(refused({1, Question{std::string(max_name_bytes, 'a'), Family::v4}}));
  CHECK(refused({1, Question{std::string("a\0b", 3), Family::v4}}));
  CHECK(refused({1, Question{"a", Family{5}}}));
  CHECK(refused({1, Answer{Outcome::found, "", {}}}));
  CHECK(refused({1, Answer{Outcome::no_name, "", {ip("192.0.2.7")}}}));
  CHECK(refused({1, Answer{Outcome{6}, "", {}}}));
  CHECK(refused({1, Answer{Outcome::failed, "\x1b[2J", {}}}));
  CHECK(refused({1, Answer{Outcome::failed, std::string(max_detail_bytes + 1, 'a'), {}}}));
  CHECK(refused({1, Answer{Outcome::found, "", std::vector(max_addresses + 1, ip("192.0.2.7"))}}));
  CHECK_FALSE(refused({1, Answer{Outcome::found, "", std::vector(max_addresses, ip("192.0.2.7"))}}));
}

TEST_CASE("URLs and what is there go over the channel whole; what nobody says of them is refused") {
  const auto question = decode(encode({7, UrlQuestion{"http://pki.example.org/gw.der", 16384}}));
  REQUIRE(question);
  CHECK(std::get<UrlQuestion>(question->body).url == "http://pki.example.org/gw.der");
  CHECK(std::get<UrlQuestion>(question->body).max_bytes == 16384);
  const std::vector<std::byte> body(max_body_bytes, std::byte{5});
  const auto answer = decode(encode({8, UrlAnswer{UrlOutcome::found, "", body}}));
  REQUIRE(answer);
  CHECK(std::get<UrlAnswer>(answer->body).body == body);
  const auto refused = [](const Frame& frame) { return !decode(encode(frame)); };
  CHECK(refused({1, UrlQuestion{"https://pki.example.org/", 1}}));
  CHECK(refused({1, UrlQuestion{"http://pki.example.org/", 0}}));
  CHECK(refused({1, UrlQuestion{"http://pki.example.org/", max_body_bytes + 1}}));
  CHECK(refused({1, UrlAnswer{UrlOutcome::refused, "", {std::byte{1}}}}));
  CHECK(refused({1, UrlAnswer{UrlOutcome{6}, "", {}}}));
  CHECK(refused({1, UrlAnswer{UrlOutcome::failed, "\x1b[2J", {}}}));
  CHECK(refused({1, UrlAnswer{UrlOutcome::found, "", std::vector<std::byte>(max_body_bytes + 1)}}));
  CHECK_FALSE(refused({1, UrlAnswer{UrlOutcome::found, "", {}}}));
}

TEST_CASE("a frame that is cut or stretched anywhere is refused") {
  const auto whole = encode({7, Answer{Outcome::found, "", {ip("192.0.2.7")}}});
  REQUIRE(decode(whole));
  for (std::size_t size = 0; size < whole.size(); ++size) CHECK_FALSE(decode(Bytes(whole).first(size)));
  auto longer = whole;
  longer.push_back(std::byte{0});
  CHECK_FALSE(decode(longer));
  auto other = whole;
  other[0] = std::byte{1};
  CHECK_FALSE(decode(other));
}

TEST_CASE("the socket: nothing there, one frame, one that is too long, the end") {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0);
  const Fd here(ends[0]);
  Fd there(ends[1]);
  std::vector<std::byte> buffer;
  const auto nothing = receive_frame(here.get(), buffer);
  REQUIRE(nothing);
  CHECK_FALSE(*nothing);
  REQUIRE(send_frame(there.get(), {3, Question{"a.example", Family::v4}}));
  const auto frame = receive_frame(here.get(), buffer);
  REQUIRE(frame);
  REQUIRE(*frame);
  CHECK((*frame)->id == 3);
  const std::vector<std::byte> much(60000);
  REQUIRE(::send(there.get(), much.data(), much.size(), 0) == 60000);
  CHECK_FALSE(receive_frame(here.get(), buffer));
  there.reset();
  CHECK_FALSE(receive_frame(here.get(), buffer));
}

}  // namespace postern::resolver
