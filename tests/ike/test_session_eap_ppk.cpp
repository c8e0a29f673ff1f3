// PPKs beside EAP (RFC 8784 §3): the PPK is named with the last AUTH, and counts from there on. Who has one, who
// demands one, who has the wrong one; and a peer that says other things than it may.
#include "eap_session_lab.hpp"
#include "ike/eap_peer.hpp"
#include "ike/keys.hpp"
#include "scripted_peer.hpp"

namespace postern::ike {
namespace {

using lab::EapSessionLab, lab::SignedLab, lab::TlsSessionLab;
using namespace std::chrono_literals;

constexpr const char *the_key = "0123456789abcdef0123456789abcdef", *another_key = "another key of thirty-two bytes!";
enum class Has : std::uint8_t { none, optional, required };
Ppk ppk(Has has, const char* id = "one", const char* key = the_key) {
  return has == Has::none ? Ppk{} : Ppk{id, lab::secret(key), has == Has::required};
}

struct Kind {
  const char* words;
  std::shared_ptr<SignedLab> (*make)();
};
const Kind kinds[] = {
    {"MD5",
     [] {
       return std::shared_ptr<SignedLab>(
           std::make_shared<EapSessionLab>(std::vector{EapType::md5}, std::vector{EapType::md5}));
     }},
    {"MSCHAPv2", [] { return std::shared_ptr<SignedLab>(std::make_shared<EapSessionLab>()); }},
    {"MSCHAPv2 alone",
     [] {
       auto lab = std::make_shared<EapSessionLab>();
       lab->alone();
       return std::shared_ptr<SignedLab>(lab);
     }},
    {"TLS", [] { return std::shared_ptr<SignedLab>(std::make_shared<TlsSessionLab>()); }},
    {"TLS alone",
     [] {
       auto lab = std::make_shared<TlsSessionLab>();
       lab->alone();
       return std::shared_ptr<SignedLab>(lab);
     }},
};

void give(SignedLab& lab, const Ppk& at_a, const Ppk& at_b) {
  lab.edit(lab.a, [&](Connection& c) { c.ppk = at_a; });
  lab.edit(lab.b, [&](Connection& c) { c.ppk = at_b; });
}

void go(SignedLab& lab) {
  lab.start(0);
  lab.settle_all();
}

}  // namespace

TEST_CASE("RFC 8784 §3: with EAP of every method, a PPK is used where both know it, and demanded where one does") {
  using enum Has;
  enum class Ends : std::uint8_t { with, without, refused_by_b, given_up_by_a };
  struct Row {
    const char* words;
    Ppk at_a, at_b;
    Ends ends;
  };
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
      {"another key, both may", ppk(optional, "one", another_key), ppk(optional), Ends::refused_by_b},
      {"another key, both must", ppk(required, "one", another_key), ppk(required), Ends::refused_by_b},
  };
  for (const Kind& kind : kinds)
    for (const Row& row : rows) {
      CAPTURE(kind.words);
      CAPTURE(row.words);
      const auto lab = kind.make();
      give(*lab, row.at_a, row.at_b);
      go(*lab);
      if (row.ends == Ends::with || row.ends == Ends::without) {
        lab->check_whole();
        for (lab::End* const end : {&lab->a, &lab->b}) {
          CHECK(end->established().view(lab->now).ppk == (row.ends == Ends::with));
          CHECK(end->established().view(lab->now).eap_identity == "alice");
          CHECK(end->failures.empty());
        }
        continue;
      }
      for (lab::End* const end : {&lab->a, &lab->b}) {
        CHECK(end->count(SessionPhase::established) == 0);
        CHECK(end->count(EventKind::ike_up) == 0);
        CHECK(end->live().empty());
      }
      CHECK(lab->a.spis.empty());
      REQUIRE(lab->a.failures.size() == 1);
      CHECK(lab->b.failures.size() == (row.ends == Ends::refused_by_b ? 1 : 0));
    }
}

TEST_CASE("RFC 8784: who cannot do what is demanded is refused before EAP, and nothing is asked of anybody") {
  EapSessionLab lab;
  give(lab, {}, ppk(Has::required));
  lab.go();
  CHECK(lab.sent == 4);
  CHECK(lab.notary[1].signs.empty());
  REQUIRE(lab.b.failures.size() == 1);
  CHECK(lab.b.failures[0].summary.find("PPK") != std::string::npos);
}

TEST_CASE("RFC 8784 §3: what the responder signs before EAP is without the PPK") {
  EapSessionLab with, without;
  for (EapSessionLab* const lab : {&with, &without}) lab->edit_both([](Connection& c) { c.ppk = {}; });
  give(with, ppk(Has::required), ppk(Has::required));
  for (EapSessionLab* const lab : {&with, &without}) {
    lab->go();
    lab->check_whole();
    REQUIRE(lab->notary[1].signs.size() == 1);
    REQUIRE(lab->notary[0].checks.size() == 1);
    CHECK(lab->notary[0].checks[0].message == lab->notary[1].signs[0].message);
  }
}

TEST_CASE("RFC 8784 §3: successors of an IKE SA by EAP and a PPK, and their children") {
  for (const Kind& kind : kinds) {
    CAPTURE(kind.words);
    const auto lab = kind.make();
    give(*lab, ppk(Has::required), ppk(Has::optional));
    go(*lab);
    lab->check_whole();
    for (const bool by_a : {true, false}) {
      lab::End& end = by_a ? lab->a : lab->b;
      lab->perform(by_a ? 0 : 1, end.established().rekey(lab->now));
      lab->run(2s);
      lab->perform(by_a ? 0 : 1, end.established().rekey_child(end.outbound.at(1), lab->now));
      lab->run(20s);
      lab->check_whole();  // packets of either end open at the other
      CHECK(lab->a.established().view(lab->now).ppk);
      CHECK(lab->b.established().view(lab->now).ppk);
    }
  }
}

TEST_CASE("PPKs with EAP: each datagram lost once, doubled, or late") {
  for (const Has at_b : {Has::optional, Has::none})
    for (std::size_t which = 0; which < 12; ++which)
      for (const lab::Fate fate : {lab::Fate{0, 0}, lab::Fate{2, 0}, lab::Fate{1, 2}}) {
        CAPTURE(which);
        CAPTURE(fate.copies);
        EapSessionLab lab;
        give(lab, ppk(Has::optional), ppk(at_b));
        lab.network = [&](const lab::Datagram& one) { return one.number == which ? fate : lab::Fate{}; };
        lab.start(0);
        for (int turn = 0; turn < 40 && lab.a.count(SessionPhase::established) == 0; ++turn) {
          lab.settle_all();
          lab.tick(2s);
        }
        lab.settle_all();
        lab.check_whole();
        CHECK(lab.b.established().view(lab.now).ppk == (at_b != Has::none));
      }
}

// --- a user that knows the password, and says what a test wants about the PPK

namespace {

enum class Auth : std::uint8_t { absent, mixed, plain, forged };

struct User {
  lab::ScriptedPeer peer;
  EapPeer eap;
  Message first_answer;

  User(EapType method, const Ppk& at_b, bool can)
      : eap({{method},
             {[](MutableBytes out) -> Result<void> {
                std::ranges::fill(out, std::byte{5});
                return {};
              },
              "alice", lab::secret("a password")}}) {
    lab::Lab::edit(peer.lab.b, [&](Connection& c) {
      c.remote_auth = AuthKind::eap;
      c.eap_server = {{method}, true};
      c.ppk = at_b;
    });
    peer.lab.b.surroundings.eap_user = [](std::string_view) { return std::optional(lab::secret("a password")); };
    peer.use_ppk = can;
    peer.exchange_init();
  }
  Message say(const Message& m) {
    const auto answers = peer.says(peer.sealed(m));
    REQUIRE(answers.size() == 1);
    ++peer.next_id;
    return peer.opened(answers[0]);
  }
  // Up to the server's Success; the error that it says instead.
  std::optional<NotifyType> come(const std::optional<Octets>& id_too_early = {}) {
    Message m = peer.auth_request();
    std::erase_if(m.payloads, [](const Payload& p) { return p.type == PayloadType::auth; });
    if (id_too_early) m.add_notify(NotifyType::ppk_identity, *id_too_early);
    Message answer = first_answer = say(m);
    for (int round = 0; round < 10; ++round) {
      if (const auto* const error = answer.error()) return error->type;
      const auto* const packet = answer.find<RawPayload>(PayloadType::eap);
      REQUIRE(packet != nullptr);
      EapStep step = eap.on_packet(packet->data);
      if (step.kind == EapStep::Kind::done) return std::nullopt;
      REQUIRE(step.kind == EapStep::Kind::more);
      m = {peer.header(ExchangeType::ike_auth), {}};
      m.add(PayloadType::eap, RawPayload{std::move(step.packet)});
      answer = say(m);
    }
    FAIL("EAP does not end");
    return std::nullopt;
  }
  Octets auth(Auth how, bool ours) const {
    if (how == Auth::forged) return Octets(32, std::byte{7});
    const auto mixed = mix_ppk(peer.suite().prf, lab::secret(the_key), peer.keys());
    REQUIRE(mixed);
    const Secret& plain = ours ? peer.keys().pi : peer.keys().pr;
    const Secret& sk_p = how == Auth::plain ? plain : ours ? mixed->pi : mixed->pr;
    const Secret msk = eap.key();
    const IdPayload id =
        ours ? Identity::of(peer.lab.a.own).payload() : *first_answer.find<IdPayload>(PayloadType::id_responder);
    const auto made = psk_auth(peer.suite().prf, msk.empty() ? sk_p : msk, ours ? peer.init : peer.init_response,
                               ours ? peer.nonce_r : peer.nonce_i(), sk_p, id_octets(id));
    REQUIRE(made);
    return {made->bytes().begin(), made->bytes().end()};
  }
  Message last(Auth how, const std::optional<Octets>& id, Auth without) {
    Message m{peer.header(ExchangeType::ike_auth), {}};
    m.add(PayloadType::auth, AuthPayload{AuthMethod::psk, auth(how, true)});
    if (id) m.add_notify(NotifyType::ppk_identity, *id);
    if (without != Auth::absent) m.add_notify(NotifyType::no_ppk_auth, auth(without, true));
    return say(m);
  }
};

Octets id_of(std::string_view name, std::byte type = std::byte{2}) {
  Octets out{type};
  for (const char c : name) out.push_back(static_cast<std::byte>(c));
  return out;
}

}  // namespace

TEST_CASE("RFC 8784 §3, §4: what a user may say with the last AUTH, and what comes of it") {
  using enum Has;
  enum class Ends : std::uint8_t { with, without, refused };
  struct Row {
    const char* words;
    Auth auth;
    std::optional<Octets> id;
    Auth without;
    Ends where_one_may, where_one_must;
  };
  const auto one = id_of("one"), opaque = id_of("one", std::byte{1}), two = id_of("two");
  const Row rows[] = {
      {"the PPK, and without", Auth::mixed, one, Auth::plain, Ends::with, Ends::with},
      {"the PPK alone", Auth::mixed, one, Auth::absent, Ends::with, Ends::with},
      {"an id without structure", Auth::mixed, opaque, Auth::absent, Ends::with, Ends::with},
      {"what is without is forged, and nobody looks", Auth::mixed, one, Auth::forged, Ends::with, Ends::with},
      {"no PPK", Auth::plain, std::nullopt, Auth::absent, Ends::without, Ends::refused},
      {"the PPK's AUTH, whose name was taken away", Auth::mixed, std::nullopt, Auth::plain, Ends::refused,
       Ends::refused},
      {"an id that is not known, and without", Auth::mixed, two, Auth::plain, Ends::without, Ends::refused},
      {"an id that is not known, without was taken away", Auth::mixed, two, Auth::absent, Ends::refused, Ends::refused},
      {"an id that is not known, without is forged", Auth::mixed, two, Auth::forged, Ends::refused, Ends::refused},
      {"an id that is not known, without is with", Auth::plain, two, Auth::mixed, Ends::refused, Ends::refused},
      {"the id, but not the key", Auth::plain, one, Auth::plain, Ends::refused, Ends::refused},
      {"the id, and a forgery", Auth::forged, one, Auth::plain, Ends::refused, Ends::refused},
      {"an id of nothing", Auth::plain, Octets{}, Auth::plain, Ends::without, Ends::refused},
      {"an id of no known type", Auth::mixed, id_of("one", std::byte{3}), Auth::plain, Ends::without, Ends::refused},
  };
  for (const EapType method : {EapType::md5, EapType::mschapv2})
    for (const Has at_b : {optional, required})
      for (const Row& row : rows) {
        CAPTURE(eap_name(method));
        CAPTURE(row.words);
        User user(method, ppk(at_b), true);
        CHECK(user.peer.init_answer.notify(NotifyType::use_ppk) != nullptr);
        REQUIRE_FALSE(user.come());
        CHECK(user.first_answer.notify(NotifyType::ppk_identity) == nullptr);
        const Message answer = user.last(row.auth, row.id, row.without);
        const Ends ends = at_b == optional ? row.where_one_may : row.where_one_must;
        if (ends == Ends::refused) {
          REQUIRE(answer.error() != nullptr);
          CHECK(answer.error()->type == NotifyType::authentication_failed);
          CHECK(user.peer.lab.b.count(EventKind::ike_up) == 0);
          CHECK(user.peer.lab.b.live().empty());
          CHECK(user.peer.lab.b.spis.empty());
          CHECK(user.peer.lab.b.failures.size() == 1);
          continue;
        }
        const auto* const auth = answer.find<AuthPayload>(PayloadType::auth);
        REQUIRE(auth != nullptr);
        CHECK(auth->data == user.auth(ends == Ends::with ? Auth::mixed : Auth::plain, false));
        const auto* const used = answer.notify(NotifyType::ppk_identity);
        CHECK((used != nullptr) == (ends == Ends::with));
        if (used != nullptr) CHECK(used->data.empty());
        REQUIRE(user.peer.lab.b.count(SessionPhase::established) == 1);
        CHECK(user.peer.lab.b.established().view(user.peer.lab.now).ppk == (ends == Ends::with));
        CHECK(user.peer.lab.b.live().size() == 1);
      }
}

TEST_CASE("RFC 8784 §3: an id beside EAP's first request means nothing, nor does one of who did not say USE_PPK") {
  for (const Has at_b : {Has::optional, Has::required}) {
    User early(EapType::mschapv2, ppk(at_b), true);
    REQUIRE_FALSE(early.come(id_of("one")));
    CHECK((early.last(Auth::plain, std::nullopt, Auth::absent).error() == nullptr) == (at_b == Has::optional));
    User mixed(EapType::mschapv2, ppk(at_b), true);
    REQUIRE_FALSE(mixed.come(id_of("one")));
    CHECK(mixed.last(Auth::mixed, std::nullopt, Auth::absent).error() != nullptr);
    User silent(EapType::mschapv2, ppk(at_b), false);
    CHECK(silent.peer.init_answer.notify(NotifyType::use_ppk) == nullptr);
    const auto refused = silent.come(id_of("one"));
    CHECK(refused.has_value() == (at_b == Has::required));
    if (refused) continue;
    const Message answer = silent.last(Auth::plain, id_of("one"), Auth::absent);
    CHECK(answer.error() == nullptr);
    CHECK(answer.notify(NotifyType::ppk_identity) == nullptr);
  }
}

}  // namespace postern::ike
