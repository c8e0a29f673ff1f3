// Quick crash detection (RFC 6290): who has lost an IKE SA shows its token, and nobody else can.
#include "ike/crash_token.hpp"
#include "tests/ike/manager_lab.hpp"

using namespace postern;
using namespace postern::ike;
using namespace postern::ike::manager_lab;

namespace {

Secret secret(std::string_view text) { return Secret::copy_of(as_bytes(text)); }

// A has set up an IKE SA with B. `span` is shorter than any patience: what happens within it, a token did.
struct Crash {
  static constexpr Duration span = 300ms;
  Lab lab;

  explicit Crash(bool at_a = true, bool at_b = true, const std::function<void(Lab&)>& network = {}) {
    if (network) network(lab);
    lab.a.key = secret("of A");
    lab.b.key = secret("of B");
    policies(at_a, at_b);
    lab.a.manager->on_acquire(1, lab.now);
    lab.run(5s);
    lab.check_up();
  }
  void policies(bool at_a = true, bool at_b = true) {
    Connection of_a = Lab::of_a(), of_b = Lab::of_b();
    of_a.options.crash_detection = at_a;
    of_b.options.crash_detection = at_b;
    lab.a.policy({of_a}, lab.now);
    lab.b.policy({of_b}, lab.now);
  }
  // That end forgets everything but its document, and the other one asks it something.
  void restart(Node& node) {
    node.restart(lab.limits);
    policies();
  }
  void ask(Node& from) {
    CHECK(from.manager->rekey({}, lab.now).done == 1);
    lab.run(span);
  }
  bool knows(Node& node) { return node.established(lab.now) == 1; }
  SessionView view(Node& node) {
    const auto rows = node.manager->rows(lab.now);
    REQUIRE(rows.size() == 1);
    return rows[0].session;
  }
  // What `to` is sent; the answer goes nowhere.
  std::vector<Message> says(Node& to, const Octets& bytes) {
    to.manager->on_datagram({{ip(address_b), 500}, {ip(address_a), 500}, 0, bytes}, lab.now);
    std::vector<Message> out;
    for (const Packet& packet : lab.wire)
      if (auto message = parse_message(packet.bytes)) out.push_back(std::move(*message));
    lab.wire.clear();
    return out;
  }
};

// As somebody sends it who knows the SPIs and no key.
Octets protected_request(std::uint64_t spi_i, std::uint64_t spi_r, bool from_initiator, bool is_protected = true) {
  Octets out = encode_message({{spi_i, spi_r, ExchangeType::informational, from_initiator, false, 9}, {}});
  if (!is_protected) return out;
  out[16] = static_cast<std::byte>(PayloadType::encrypted);
  out.resize(out.size() + 36, std::byte{0});
  out[header_bytes + 3] = std::byte{36};
  store_be32(out.data() + 24, static_cast<std::uint32_t>(out.size()));
  return out;
}

std::vector<Octets> tokens_in(const Message& message) {
  std::vector<Octets> out;
  for (const Payload& p : message.payloads)
    if (const auto* const notify = std::get_if<NotifyPayload>(&p.body);
        notify != nullptr && notify->type == NotifyType::quick_crash_detection)
      out.push_back(notify->data);
  return out;
}

}  // namespace

TEST_CASE("RFC 6290 §4.5: a peer that comes back without its IKE SAs is believed at once, whoever began") {
  for (const bool responder : {true, false}) {
    CAPTURE(responder);
    Crash crash;
    Node &lost = responder ? crash.lab.b : crash.lab.a, &other = responder ? crash.lab.a : crash.lab.b;
    crash.restart(lost);
    crash.ask(other);
    CHECK_FALSE(crash.knows(other));
    CHECK(other.world.installed.empty());
    CHECK(other.world.count(EventKind::ike_down) == 1);
    CHECK(other.manager->size() == 0);
    // Traffic asks for new ones.
    other.manager->on_acquire(responder ? 1 : 2, crash.lab.now);
    crash.lab.run(5s);
    crash.lab.check_up();
  }
}

TEST_CASE("RFC 6290 §5.1: another node's token, or none, ends nothing") {
  Crash crash;
  SUBCASE("of a node with another key") { crash.lab.b.key = secret("of C"); }
  SUBCASE("of a node that has no key that outlives it") { crash.lab.b.key = {}; }
  SUBCASE("of one with another pre-shared key") {
    crash.lab.b.restart(crash.lab.limits);
    Connection other = Lab::of_b();
    other.local_key = other.remote_key = secret("another");
    crash.lab.b.policy({other}, crash.lab.now);
    crash.ask(crash.lab.a);
    CHECK(crash.knows(crash.lab.a));
    return;
  }
  crash.restart(crash.lab.b);
  crash.ask(crash.lab.a);
  CHECK(crash.knows(crash.lab.a));
  CHECK(crash.lab.a.world.installed.size() == 1);
}

TEST_CASE("RFC 6290: one end that does not want it is enough") {
  for (const bool at_a : {true, false}) {
    CAPTURE(at_a);
    Crash crash(at_a, !at_a);
    crash.lab.b.restart(crash.lab.limits);
    crash.policies(at_a, !at_a);
    crash.ask(crash.lab.a);
    CHECK(crash.knows(crash.lab.a));
  }
}

TEST_CASE("RFC 6290 §4.5: an answer without INVALID_IKE_SPI, with another token, unasked or to another request") {
  struct Row {
    const char* words;
    bool invalid_spi, right_token, asked;
    std::uint32_t id_off;
    bool ends;
  };
  const Row rows[] = {{"as it should be", true, true, true, 0, true},
                      {"without INVALID_IKE_SPI", false, true, true, 0, false},
                      {"another token", true, false, true, 0, false},
                      {"nobody asked", true, true, false, 0, false},
                      {"of another request", true, true, true, 1, false}};
  for (const Row& row : rows) {
    CAPTURE(row.words);
    Crash crash;
    const SessionView view = crash.view(crash.lab.a);
    CrashTokens tokens({});
    Policy of_b;
    of_b.node_key = secret("of B");
    of_b.connections = {std::make_shared<const Connection>(Lab::of_b())};
    REQUIRE(tokens.set_policy(of_b));
    Octets token = *tokens.token(view.spi_i, view.spi_r);
    if (!row.right_token) token[7] ^= std::byte{1};
    crash.lab.passes = [](const Packet&) { return false; };
    if (row.asked) crash.ask(crash.lab.a);
    Message answer{{view.spi_i, view.spi_r, ExchangeType::create_child_sa, false, true, view.next_request + row.id_off},
                   {}};
    if (row.invalid_spi) answer.add_notify(NotifyType::invalid_ike_spi);
    answer.add_notify(NotifyType::quick_crash_detection, Octets(32, std::byte{1}));  // of a secret that it had before
    answer.add_notify(NotifyType::quick_crash_detection, token);
    crash.lab.a.manager->on_datagram({{ip(address_a), 500}, {ip(address_b), 500}, 0, encode_message(answer)},
                                     crash.lab.now);
    CHECK(crash.knows(crash.lab.a) == !row.ends);
  }
}

TEST_CASE("RFC 6290 §4.5: the token of an IKE SA that is here is shown to nobody") {
  Crash crash;
  const SessionView view = crash.view(crash.lab.b);
  for (const bool from_initiator : {true, false})
    for (const Message& answer : crash.says(crash.lab.b, protected_request(view.spi_i, view.spi_r, from_initiator)))
      CHECK(tokens_in(answer).empty());
  // Of one that is not here it is shown to a request that is protected; an SPI of zero is no IKE SA's.
  const auto shown = [&](std::uint64_t i, std::uint64_t r, bool is_protected) {
    const auto answers = crash.says(crash.lab.b, protected_request(i, r, true, is_protected));
    REQUIRE(answers.size() <= 1);
    if (answers.empty()) return std::vector<Octets>();
    CHECK(answers[0].notify(NotifyType::invalid_ike_spi) != nullptr);
    return tokens_in(answers[0]);
  };
  CHECK(shown(1, 2, true).size() == 1);
  CHECK(shown(1, 2, false).empty());
  CHECK(shown(0, 2, true).empty());
  CHECK(shown(1, 0, true).empty());
  CHECK(shown(1, 2, true) == shown(1, 2, true));
  CHECK(shown(1, 2, true) != shown(2, 1, true));
  // One half of the SPIs is a living IKE SA's.
  CHECK(shown(view.spi_r, 2, true).empty());
}

TEST_CASE("RFC 6290 §4.3: a rekeyed IKE SA has tokens of its own, of both ends") {
  for (const bool by_a : {true, false})
    for (const bool b_is_lost : {true, false}) {
      CAPTURE(by_a);
      CAPTURE(b_is_lost);
      Crash crash;
      const auto before = crash.view(crash.lab.a).spi_i;
      CHECK((by_a ? crash.lab.a : crash.lab.b).manager->rekey({}, crash.lab.now).done == 1);
      crash.lab.run(15s);
      CHECK(crash.view(crash.lab.a).spi_i != before);
      Node &lost = b_is_lost ? crash.lab.b : crash.lab.a, &other = b_is_lost ? crash.lab.a : crash.lab.b;
      crash.restart(lost);
      crash.ask(other);
      CHECK_FALSE(crash.knows(other));
    }
}

TEST_CASE("RFC 6290 §4.2, §4.3: each message with a token lost, doubled and late, of IKE_AUTH and of a rekey") {
  enum class Trouble { lost, doubled, late };
  const auto troubled = [](std::size_t victim, Trouble how) {
    return [=](Lab& lab) {
      lab.passes = [&lab, victim, how, seen = std::size_t{0},
                    held = std::optional<Packet>()](const Packet& one) mutable {
        if (held) lab.wire.push_back(std::exchange(held, std::nullopt).value());
        if (seen++ != victim) return true;
        if (how == Trouble::doubled) lab.wire.push_front(one);
        if (how == Trouble::late) held = one;  // behind the next one
        return how == Trouble::doubled;
      };
    };
  };
  for (const bool rekeyed : {false, true})
    for (const bool b_is_lost : {true, false})
      for (std::size_t victim = 0; victim < (rekeyed ? 6 : 4); ++victim)
        for (const Trouble how : {Trouble::lost, Trouble::doubled, Trouble::late}) {
          CAPTURE(rekeyed);
          CAPTURE(b_is_lost);
          CAPTURE(victim);
          CAPTURE(static_cast<int>(how));
          const auto network = troubled(victim, how);
          Crash crash(true, true, rekeyed ? std::function<void(Lab&)>() : network);
          if (rekeyed) {
            network(crash.lab);
            CHECK(crash.lab.a.manager->rekey({}, crash.lab.now).done == 1);
            crash.lab.run(15s);
          }
          crash.lab.passes = [](const Packet&) { return true; };
          crash.lab.check_up();
          Node &lost = b_is_lost ? crash.lab.b : crash.lab.a, &other = b_is_lost ? crash.lab.a : crash.lab.b;
          crash.restart(lost);
          crash.ask(other);
          CHECK_FALSE(crash.knows(other));
        }
}

TEST_CASE("tokens: of keys and SPIs alone, and those of the policy before this one are still known") {
  CrashTokens tokens({});
  CHECK_FALSE(tokens.token(1, 2));
  CHECK(tokens.tokens(1, 2).empty());
  const auto policy = [](std::vector<std::string_view> keys, std::string_view node) {
    Policy out;
    out.node_key = secret(node);
    for (const std::string_view one : keys) {
      Connection c = Lab::of_b();
      c.local_key = c.remote_key = secret(one);
      out.connections.push_back(std::make_shared<const Connection>(std::move(c)));
    }
    return out;
  };
  REQUIRE(tokens.set_policy(policy({"one", "two"}, "N")));
  const Octets first = *tokens.token(1, 2);
  CHECK(first.size() == 32);
  REQUIRE(tokens.set_policy(policy({"two", "one", "two"}, "N")));  // the same keys
  CHECK(tokens.tokens(1, 2) == std::vector<Octets>{first});
  REQUIRE(tokens.set_policy(policy({"one"}, "N")));
  CHECK(*tokens.token(1, 2) != first);
  CHECK(tokens.tokens(1, 2).size() == 2);
  CHECK(tokens.tokens(1, 2)[1] == first);
  for (const char* const node : {"M", "O", "P"}) REQUIRE(tokens.set_policy(policy({"one"}, node)));
  const auto known = tokens.tokens(1, 2);
  CHECK(known.size() == 2);
  CHECK(std::ranges::find(known, first) == known.end());
}
