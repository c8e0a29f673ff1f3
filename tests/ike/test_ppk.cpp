// PPKs (RFC 8784): who has one, who demands one, and who has the wrong one.
#include "ike/keys.hpp"
#include "tests/ike/scripted_peer.hpp"

using namespace postern;
using namespace postern::ike;
using namespace postern::ike::lab;

namespace {

enum class Has : std::uint8_t { none, optional, required };

Ppk ppk(Has has, const char* id = "one", const char* key = "0123456789abcdef0123456789abcdef") {
  return has == Has::none ? Ppk{} : Ppk{id, secret(key), has == Has::required};
}

struct Quantum : Lab {
  Quantum(const Ppk& at_a, const Ppk& at_b) {
    edit(a, [&](Connection& c) { c.ppk = at_a; });
    edit(b, [&](Connection& c) { c.ppk = at_b; });
    start(0);
    run(std::chrono::seconds(2));
  }
};

}  // namespace

TEST_CASE(
    "RFC 8784 §3, §4: a PPK is used where both know it, done without where both may, and demanded where one does") {
  using enum Has;
  enum class Ends : std::uint8_t { with, without, refused_by_b, given_up_by_a };
  struct Row {
    const char* words;
    Ppk at_a, at_b;
    Ends ends;
  };
  const char* const other = "another key of thirty-two bytes!";
  const Row rows[] = {
      {"nobody", {}, {}, Ends::without},
      {"the responder may", {}, ppk(optional), Ends::without},
      {"the responder must", {}, ppk(required), Ends::refused_by_b},
      {"the initiator may", ppk(optional), {}, Ends::without},
      {"the initiator must", ppk(required), {}, Ends::given_up_by_a},
      {"both may", ppk(optional), ppk(optional), Ends::with},
      {"one may, the other must", ppk(optional), ppk(required), Ends::with},
      {"one must, the other may", ppk(required), ppk(optional), Ends::with},
      {"both must", ppk(required), ppk(required), Ends::with},
      {"another id, both may", ppk(optional, "two"), ppk(optional), Ends::without},
      {"another id, the responder must", ppk(optional, "two"), ppk(required), Ends::refused_by_b},
      {"another id, the initiator must", ppk(required, "two"), ppk(optional), Ends::refused_by_b},
      {"another key, both may", ppk(optional, "one", other), ppk(optional), Ends::refused_by_b},
      {"another key, both must", ppk(required, "one", other), ppk(required), Ends::refused_by_b},
  };
  for (const Row& row : rows) {
    CAPTURE(row.words);
    Quantum lab(row.at_a, row.at_b);
    if (row.ends == Ends::with || row.ends == Ends::without) {
      lab.check_whole();
      for (End* const end : {&lab.a, &lab.b}) CHECK(end->established().view(lab.now).ppk == (row.ends == Ends::with));
      continue;
    }
    CHECK(lab.a.count(SessionPhase::established) == 0);
    CHECK(lab.b.count(SessionPhase::established) == 0);
    CHECK(lab.a.live().empty());
    CHECK(lab.b.live().empty());
    CHECK(lab.a.spis.empty());
    REQUIRE(lab.a.failures.size() == 1);
    CHECK(lab.b.failures.size() == (row.ends == Ends::refused_by_b ? 1 : 0));
  }
}

TEST_CASE("RFC 8784 §3: successors of the IKE SA and their children go on from the mixed key") {
  Quantum lab(ppk(Has::required), ppk(Has::required));
  lab.check_whole();
  for (const bool by_a : {true, false}) {
    End& end = by_a ? lab.a : lab.b;
    lab.perform(by_a ? 0 : 1, end.established().rekey(lab.now));
    lab.run(std::chrono::seconds(2));
    lab.perform(by_a ? 0 : 1, end.established().rekey_child(end.outbound.at(1), lab.now));
    lab.run(std::chrono::seconds(20));
    lab.check_whole();  // packets of either end open at the other
    CHECK(lab.a.established().view(lab.now).ppk);
    CHECK(lab.b.established().view(lab.now).ppk);
  }
}

TEST_CASE("RFC 8784: each message lost, doubled and late") {
  const auto make = [] {
    auto lab = std::make_unique<Lab>();
    lab->edit_both([](Connection& c) { c.ppk = ppk(Has::optional); });
    return lab;
  };
  with_each_message_troubled(4, 1, make, [](Lab& lab) { CHECK(lab.b.established().view(lab.now).ppk); });
}

TEST_CASE("RFC 8784 §3: the keys with a PPK are others, of the same length, and follow from all of it") {
  IkeKeys keys;
  for (Secret* const one : {&keys.d, &keys.pi, &keys.pr}) *one = secret("thirty-two bytes of some SK key.");
  keys.pi = secret("thirty-two bytes of another key.");
  const auto mixed = mix_ppk(crypto::Prf::hmac_sha256, secret("a ppk"), keys);
  REQUIRE(mixed);
  CHECK(mixed->d.size() == 32);
  CHECK_FALSE(mixed->d == keys.d);
  CHECK(mixed->d == mixed->pr);  // as SK_d and SK_pr are
  CHECK_FALSE(mixed->d == mixed->pi);
  const auto other = mix_ppk(crypto::Prf::hmac_sha256, secret("b ppk"), keys);
  REQUIRE(other);
  CHECK_FALSE(other->d == mixed->d);
}

TEST_CASE("RFC 8784 §5: notifies that are not as they should be, and those of somebody who did not say USE_PPK") {
  const Octets id{std::byte{2}, std::byte{'o'}, std::byte{'n'}, std::byte{'e'}};
  struct Row {
    const char* words;
    Has at_b;
    std::vector<Octets> ids;
    bool up;
  };
  const Row rows[] = {{"not said before: the id means nothing", Has::optional, {id}, true},
                      {"not said before, and demanded", Has::required, {id}, false},
                      {"an empty id", Has::optional, {Octets{}}, true}};
  for (const Row& row : rows) {
    CAPTURE(row.words);
    ScriptedPeer peer;
    Lab::edit(peer.lab.b, [&](Connection& c) { c.ppk = ppk(row.at_b); });
    peer.exchange_init();
    CHECK(peer.init_answer.notify(NotifyType::use_ppk) == nullptr);
    Message request = peer.auth_request();
    for (const Octets& one : row.ids) request.add_notify(NotifyType::ppk_identity, one);
    const auto answers = peer.says(peer.sealed(request));
    REQUIRE(answers.size() == 1);
    const Message answer = peer.opened(answers[0]);
    CHECK((answer.notify(NotifyType::authentication_failed) == nullptr) == row.up);
    CHECK(answer.notify(NotifyType::ppk_identity) == nullptr);
    CHECK((peer.lab.b.count(SessionPhase::established) == 1) == row.up);
  }
}
