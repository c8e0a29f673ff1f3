// The channel's frames: what goes in comes out, and what is cut, stretched or changed is refused or stays within
// bounds.
#include <doctest/doctest.h>

#include "pki/channel.hpp"

namespace postern::pki {
namespace {

Octets some(std::size_t size) { return Octets(size, std::byte{0x2a}); }

Frame example() {
  ValidateQuestion question;
  question.identity_type = 2;
  question.identity = some(7);
  question.certificates = {{4, some(300)}, {12, some(20)}};
  question.method = 14;
  question.auth = some(80);
  question.message = some(1000);
  question.rules = {{{"TP", "OTHER"}, SignatureKind::rsa, true, {"MAP"}, false},
                    {{"TP"}, SignatureKind::any, false, {}, true}};
  question.own_hashes = {2, 5};
  question.peer_said_hashes = true;
  return {7, question};
}

}  // namespace

TEST_CASE("a question goes over the channel whole") {
  const Frame frame = example();
  const auto back = decode(encode(frame));
  REQUIRE(back);
  CHECK(back->id == 7);
  const auto& question = std::get<ValidateQuestion>(back->body);
  const auto& sent = std::get<ValidateQuestion>(frame.body);
  CHECK(question.identity == sent.identity);
  CHECK(question.certificates == sent.certificates);
  CHECK(question.message == sent.message);
  REQUIRE(question.rules.size() == 2);
  CHECK(question.rules[0].trustpoints == sent.rules[0].trustpoints);
  CHECK(question.rules[0].kind == SignatureKind::rsa);
  CHECK(question.rules[0].identity_matches);
  CHECK(question.rules[1].allow_sha1);
  CHECK(question.own_hashes == sent.own_hashes);
  CHECK(question.peer_said_hashes);
}

TEST_CASE("answers and facts go over the channel whole") {
  Validated validated;
  validated.verdicts = {std::nullopt, Refusal{RefusalKind::bad_chain, "CN=a", "b", "c", "d"}};
  validated.subject = "CN=peer";
  validated.valid_s = -5;
  const auto answer = decode(encode({1, validated}));
  REQUIRE(answer);
  const auto& back = std::get<Validated>(answer->body);
  REQUIRE(back.verdicts.size() == 2);
  CHECK_FALSE(back.verdicts[0]);
  CHECK(back.verdicts[1]->certificate == "CN=a");
  CHECK(back.valid_s == -5);
  const auto facts = decode(encode({0, Facts{{{"TP", some(40), some(9)}}}}));
  REQUIRE(facts);
  CHECK(std::get<Facts>(facts->body).trustpoints == std::vector<TrustpointFacts>{{"TP", some(40), some(9)}});
}

TEST_CASE("the steps of a TLS handshake go over the channel whole, the key too") {
  const TlsQuestion step{7, true, false, "TP", {"TP", "OTHER"}, 2, some(9), some(3000)};
  const auto question = decode(encode({3, step}));
  REQUIRE(question);
  const auto& asked = std::get<TlsQuestion>(question->body);
  CHECK(asked.conversation == 7);
  CHECK(asked.begins);
  CHECK_FALSE(asked.server);
  CHECK(asked.verify == step.verify);
  CHECK(asked.identity == step.identity);
  CHECK(asked.records == step.records);
  TlsProgress progress;
  progress.records = some(2000);
  progress.finished = true;
  progress.key = Secret::copy_of(some(64));
  progress.subject = "CN=peer";
  progress.valid_s = 300;
  const auto answer = decode(encode({3, progress}));
  REQUIRE(answer);
  const auto& back = std::get<TlsProgress>(answer->body);
  CHECK(back.records == progress.records);
  CHECK(back.finished);
  CHECK_FALSE(back.failed);
  CHECK(back.key == progress.key);
  CHECK(back.subject == "CN=peer");
  CHECK(back.valid_s == 300);
  CHECK(decode(encode({3, TlsProgress{}})));
}

TEST_CASE("a frame that is not whole is refused") {
  const Octets whole = encode(example());
  for (std::size_t size = 0; size < whole.size(); ++size) CHECK_FALSE(decode(Bytes(whole).first(size)));
  Octets longer = whole;
  longer.push_back(std::byte{0});
  CHECK_FALSE(decode(longer));
  Octets version = whole;
  version[0] = std::byte{9};
  CHECK_FALSE(decode(version));
  Octets kind = whole;
  kind[1] = std::byte{99};
  CHECK_FALSE(decode(kind));
  Octets flag = encode({1, SignQuestion{}});  // it ends with one
  flag.back() = std::byte{1};
  CHECK(decode(flag));
  flag.back() = std::byte{2};
  CHECK_FALSE(decode(flag));
}

TEST_CASE("a frame that lies about its lengths allocates nothing for it") {
  Octets frame = encode(example());
  for (std::size_t at = 10; at + 4 < frame.size(); at += 3) {
    Octets changed = frame;
    for (std::size_t i = 0; i < 4; ++i) changed[at + i] = std::byte{0xff};
    (void)decode(changed);  // whatever it says: no crash, no huge list
  }
  CHECK(decode(frame));
}

}  // namespace postern::pki
