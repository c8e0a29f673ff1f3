// Which session a datagram belongs to, and what strangers get.
#include "ike/cookie.hpp"
#include "tests/ike/manager_lab.hpp"

using namespace postern;
using namespace postern::ike;
using namespace postern::ike::manager_lab;

namespace {

const Endpoint here{ip(address_b), 500};

// A tiny peer: it makes IKE_SA_INIT requests that are whole, and reads what is answered.
Octets init_request(std::uint64_t spi, Octets cookie = {}, std::optional<Octets> public_value = {}) {
  const Connection policy = Lab::of_a();
  auto dh = crypto::DhExchange::create(crypto::DhGroup::curve25519);
  REQUIRE(dh);
  Message message{{spi, 0, ExchangeType::ike_sa_init, true, false, 0}, {}};
  if (!cookie.empty()) message.add_notify(NotifyType::cookie, std::move(cookie));
  message.add(PayloadType::sa, offer_ike(policy.proposals, {}));
  if (!public_value) public_value.emplace(dh->public_value().begin(), dh->public_value().end());
  message.add(PayloadType::ke, KePayload{dh->group(), std::move(*public_value)});
  message.add(PayloadType::nonce, NoncePayload{Octets(32, std::byte{7})});
  return encode_message(message);
}

Octets informational(std::uint64_t spi_i, std::uint64_t spi_r, bool from_initiator, bool response) {
  return encode_message({{spi_i, spi_r, ExchangeType::informational, from_initiator, response, 5}, {}});
}

// As of an IKE SA: an Encrypted payload that nobody here can open.
Octets sealed_informational(std::uint64_t spi_i, std::uint64_t spi_r, bool from_initiator, bool response) {
  Octets out = informational(spi_i, spi_r, from_initiator, response);
  out[16] = static_cast<std::byte>(PayloadType::encrypted);
  const Octets body(36, std::byte{0x5a});
  OctetWriter payload;
  payload.u8(0), payload.u8(0), payload.u16(static_cast<std::uint16_t>(4 + body.size()));
  payload.bytes(body);
  const Octets bytes = payload.take();
  out.insert(out.end(), bytes.begin(), bytes.end());
  store_be32(out.data() + 24, static_cast<std::uint32_t>(out.size()));
  return out;
}

// RFC 7296 §1.5: what a node may say about an ESP packet of an SPI that it does not know, where it has no IKE SA.
Octets one_way_invalid_spi(std::uint64_t spi_i, std::uint64_t spi_r) {
  Message message{{spi_i, spi_r, ExchangeType::informational, true, false, 0}, {}};
  message.add_notify(NotifyType{11}, Octets{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}});
  return encode_message(message);
}

struct Stranger {
  Lab lab;
  explicit Stranger(ManagerLimits limits = {}) : lab(limits) { lab.policies(); }
  // What comes back to one datagram.
  std::vector<Message> say(const Octets& bytes, const char* from = address_a, std::uint16_t port = 500) {
    lab.b.manager->on_datagram({here, {ip(from), port}, 0, bytes}, lab.now);
    std::vector<Message> out;
    for (const Packet& packet : lab.wire) {
      CHECK(packet.remote == Endpoint{ip(from), port});
      auto message = parse_message(packet.bytes);
      REQUIRE(message);
      out.push_back(std::move(*message));
    }
    lab.wire.clear();
    return out;
  }
  // Gives the cookie back that is demanded of it; whether there is an IKE SA for it then.
  bool begins(std::uint64_t spi, const char* from = address_a, std::uint16_t port = 500) {
    auto answers = say(init_request(spi), from, port);
    if (answers.size() != 1) return false;
    if (const auto* const cookie = answers[0].notify(NotifyType::cookie))
      answers = say(init_request(spi, cookie->data), from, port);
    return answers.size() == 1 && answers[0].find<KePayload>(PayloadType::ke) != nullptr;
  }
  // Whether an IKE SA that has begun so is there still: its request is answered again, and makes no other.
  bool is_there(std::uint64_t spi, std::uint16_t port) {
    const auto rows = lab.b.manager->rows(lab.now);
    return std::ranges::any_of(rows, [&](const auto& row) {
      return row.session.spi_i == spi && row.session.remote == Endpoint{ip(address_a), port};
    });
  }
};

}  // namespace

TEST_CASE("IKE_SA_INIT: one session for a request and its retransmissions, another for another SPI or port") {
  Stranger peer;
  const auto request = init_request(0xa1);
  const auto first = peer.say(request);
  REQUIRE(first.size() == 1);
  CHECK(first[0].find<KePayload>(PayloadType::ke) != nullptr);
  CHECK(peer.lab.b.manager->size() == 1);
  const auto again = peer.say(request);
  REQUIRE(again.size() == 1);
  CHECK(again[0].header.responder_spi == first[0].header.responder_spi);
  CHECK(peer.lab.b.manager->size() == 1);
  CHECK(peer.say(init_request(0xa2)).size() == 1);
  CHECK(peer.say(request, address_a, 501).size() == 1);
  CHECK(peer.lab.b.manager->size() == 3);
}

TEST_CASE("an unknown SPI: a request is answered INVALID_IKE_SPI with its own numbers, a response never") {
  Stranger peer;
  const auto answers = peer.say(sealed_informational(0x11, 0x22, true, false));
  REQUIRE(answers.size() == 1);
  CHECK(answers[0].header == Header{0x11, 0x22, ExchangeType::informational, false, true, 5});
  CHECK(answers[0].notify(NotifyType::invalid_ike_spi) != nullptr);
  const auto other_side = peer.say(sealed_informational(0x11, 0x22, false, false));
  REQUIRE(other_side.size() == 1);
  CHECK(other_side[0].header.from_initiator);
  CHECK(peer.say(sealed_informational(0x11, 0x22, true, true)).empty());
  CHECK(peer.say(sealed_informational(0x11, 0x22, false, true)).empty());
  std::size_t answered = 0;
  for (int i = 0; i < 200; ++i) answered += peer.say(sealed_informational(0x11, 0x22, true, false)).size();
  CHECK(answered < 25);
  CHECK(answered > 0);
}

TEST_CASE("RFC 7296 §1.5: what comes without protection and begins no IKE SA is never answered") {
  Stranger peer;
  for (const auto& [i, r] : {std::pair<std::uint64_t, std::uint64_t>{0, 0}, {0x1234, 0x5678}, {0x1234, 0}, {0, 0x5678}})
    for (int times = 0; times < 3; ++times) CHECK(peer.say(one_way_invalid_spi(i, r)).empty());
  // Nor what looks like a request of an IKE SA, and is not encrypted.
  for (const auto exchange : {ExchangeType::ike_sa_init, ExchangeType::ike_auth, ExchangeType::create_child_sa,
                              ExchangeType::informational, ExchangeType{99}})
    for (const bool from_initiator : {true, false})
      CHECK(peer.say(encode_message({{0x11, 0x22, exchange, from_initiator, false, 1}, {}})).empty());
  // An SPI of zero is no IKE SA's, encrypted or not.
  CHECK(peer.say(sealed_informational(0, 0, true, false)).empty());
  CHECK(peer.say(sealed_informational(0, 0x22, true, false)).empty());
  CHECK(peer.say(sealed_informational(0x11, 0, true, false)).empty());
  CHECK(peer.lab.b.manager->size() == 0);
  CHECK(peer.say(sealed_informational(0x11, 0x22, true, false)).size() == 1);
}

TEST_CASE(
    "a higher major version: a request is answered INVALID_MAJOR_VERSION, a response and version 1 nothing more") {
  Stranger peer;
  auto bytes = informational(0x11, 0x22, true, false);
  bytes[17] = std::byte{0x30};
  const auto answers = peer.say(bytes);
  REQUIRE(answers.size() == 1);
  CHECK(answers[0].notify(NotifyType::invalid_major_version) != nullptr);
  CHECK(answers[0].header.message_id == 5);
  bytes = informational(0x11, 0x22, true, true);
  bytes[17] = std::byte{0x30};
  CHECK(peer.say(bytes).empty());
  CHECK(peer.say(Octets(27, std::byte{0})).empty());
  CHECK(peer.say(Octets{}).empty());
}

TEST_CASE("an address without a connection: NO_PROPOSAL_CHOSEN, a diagnosis, no state") {
  Stranger peer;
  const auto answers = peer.say(init_request(0xa1), "203.0.113.9");
  REQUIRE(answers.size() == 1);
  CHECK(answers[0].notify(NotifyType::no_proposal_chosen) != nullptr);
  CHECK(answers[0].header.initiator_spi == 0xa1);
  CHECK(peer.lab.b.manager->size() == 0);
  const Failure* const failure = peer.lab.b.world.failure(FailureKind::no_connection);
  REQUIRE(failure != nullptr);
  CHECK(failure->remedy.find("203.0.113.9") != std::string::npos);
  std::size_t answered = 0;
  for (std::uint64_t spi = 1; spi < 200; ++spi) answered += peer.say(init_request(spi), "203.0.113.9").size();
  CHECK(answered < 25);
}

TEST_CASE("half-open sessions are bounded for each address and in all, and end by themselves") {
  ManagerLimits limits;
  limits.half_open_per_address = 3;
  Stranger peer(limits);
  for (std::uint64_t spi = 1; spi <= 3; ++spi) CHECK(peer.say(init_request(spi)).size() == 1);
  CHECK_FALSE(peer.begins(4));
  CHECK(peer.lab.b.manager->half_open() == 3);
  peer.lab.run(60s);
  peer.lab.wire.clear();
  CHECK(peer.lab.b.manager->half_open() == 0);
  CHECK(peer.lab.b.manager->size() == 0);
  CHECK(peer.say(init_request(5)).size() == 1);

  limits = {};
  limits.half_open = 2;
  Stranger other(limits);
  CHECK(other.say(init_request(1)).size() == 1);
  CHECK(other.say(init_request(2)).size() == 1);
  CHECK_FALSE(other.begins(3));
  CHECK(other.lab.b.manager->half_open() == 2);
}

TEST_CASE(
    "RFC 7296 §2.6: one address asks much: of it a COOKIE is demanded, of others none; who gives it back goes on") {
  ManagerLimits limits;
  limits.cookie_from_per_address = 2;
  limits.half_open_per_address = 4;
  Stranger peer(limits);
  CHECK(peer.say(init_request(1)).at(0).notify(NotifyType::cookie) == nullptr);
  CHECK(peer.say(init_request(2), address_a, 501).at(0).notify(NotifyType::cookie) == nullptr);
  CHECK(peer.lab.b.manager->half_open() == 2);
  for (std::uint64_t spi = 3; spi <= 5; ++spi) {
    const auto demand = peer.say(init_request(spi));
    REQUIRE(demand.size() == 1);
    const NotifyPayload* const notify = demand[0].notify(NotifyType::cookie);
    REQUIRE(notify != nullptr);
    // Behind one address there may be many, but not any number.
    const auto answers = peer.say(init_request(spi, notify->data));
    REQUIRE(answers.size() == (spi == 5 ? 0 : 1));
    if (spi != 5) CHECK(answers[0].find<KePayload>(PayloadType::ke) != nullptr);
  }
  CHECK(peer.lab.b.manager->half_open() == 4);
}

TEST_CASE("RFC 7296 §2.6: behind a NAT a flood from one port takes from itself alone, and who is honest gets in") {
  ManagerLimits limits;
  limits.cookie_from_per_address = 2;
  limits.half_open_per_address = 8;
  Stranger peer(limits);
  for (std::uint64_t spi = 1; spi <= 8; ++spi) REQUIRE(peer.begins(spi, address_a, 1000));
  for (std::uint64_t spi = 9; spi <= 50; ++spi) CHECK_FALSE(peer.begins(spi, address_a, 1000));
  CHECK(peer.lab.b.manager->half_open() == 8);
  CHECK(peer.begins(100, address_a, 2000));
  CHECK(peer.lab.b.manager->half_open() == 8);
  CHECK(peer.lab.b.manager->size() == 8);
  CHECK_FALSE(peer.is_there(1, 1000));  // the flood's oldest went
  CHECK(peer.is_there(2, 1000));
  for (std::uint64_t spi = 51; spi <= 90; ++spi) CHECK_FALSE(peer.begins(spi, address_a, 1000));
  CHECK(peer.is_there(100, 2000));
}

TEST_CASE("RFC 7296 §2.6: who does not give the cookie back makes nobody give way") {
  ManagerLimits limits;
  limits.cookie_from_per_address = 2;
  limits.half_open_per_address = 4;
  Stranger peer(limits);
  for (std::uint64_t spi = 1; spi <= 4; ++spi) REQUIRE(peer.begins(spi, address_a, 1000));
  for (std::uint16_t port = 2000; port < 2050; ++port) {
    const auto answers = peer.say(init_request(port), address_a, port);
    REQUIRE(answers.size() == 1);
    CHECK(answers[0].notify(NotifyType::cookie) != nullptr);
    CHECK(peer.say(init_request(port, Octets(33, std::byte{1})), address_a, port).size() == 1);
  }
  for (std::uint64_t spi = 1; spi <= 4; ++spi) CHECK(peer.is_there(spi, 1000));
  // Nor one whose request is refused then, though it has given the cookie back.
  const auto demand = peer.say(init_request(7), address_a, 3000);
  const auto refused =
      peer.say(init_request(7, demand.at(0).notify(NotifyType::cookie)->data, Octets(32)), address_a, 3000);
  REQUIRE(refused.size() == 1);
  CHECK(refused[0].notify(NotifyType::invalid_syntax) != nullptr);
  for (std::uint64_t spi = 1; spi <= 4; ++spi) CHECK(peer.is_there(spi, 1000));
}

TEST_CASE(
    "RFC 6989 §2: public values that are none are answered and told of so often; then COOKIE is demanded of all") {
  Stranger peer;
  std::size_t refused = 0, demanded = 0, told = 0;
  for (std::uint16_t port = 1; port <= 500; ++port) {
    for (const Message& answer : peer.say(init_request(port, {}, Octets(32)), address_a, port)) {
      refused += answer.notify(NotifyType::invalid_syntax) != nullptr ? 1 : 0;
      demanded += answer.notify(NotifyType::cookie) != nullptr ? 1 : 0;
    }
  }
  for (const Event& event : peer.lab.b.world.events)
    told += event.failure && event.failure->kind == FailureKind::invalid_syntax ? 1 : 0;
  CHECK(refused == 20);
  CHECK(told == 20);
  CHECK(demanded == 479);  // the 21st is passed over
  CHECK(peer.lab.b.manager->size() == 0);
  CHECK(peer.begins(1000));  // who receives what is sent to it goes on
  peer.lab.now += 11s;
  CHECK(peer.say(init_request(1001)).at(0).find<KePayload>(PayloadType::ke) != nullptr);
}

TEST_CASE("COOKIE is demanded above the threshold; only its own cookie opens the door") {
  ManagerLimits limits;
  limits.cookie_from = 1;
  Stranger peer(limits);
  CHECK(peer.say(init_request(1)).at(0).notify(NotifyType::cookie) == nullptr);
  const auto demand = peer.say(init_request(2));
  REQUIRE(demand.size() == 1);
  CHECK(demand[0].header.responder_spi == 0);
  const NotifyPayload* const notify = demand[0].notify(NotifyType::cookie);
  REQUIRE(notify != nullptr);
  CHECK(peer.lab.b.manager->size() == 1);
  auto wrong = notify->data;
  wrong.back() ^= std::byte{1};
  CHECK(peer.say(init_request(2, wrong)).at(0).notify(NotifyType::cookie) != nullptr);
  CHECK(peer.say(init_request(3, notify->data)).at(0).notify(NotifyType::cookie) != nullptr);
  CHECK(peer.lab.b.manager->size() == 1);
  const auto accepted = peer.say(init_request(2, notify->data));
  REQUIRE(accepted.size() == 1);
  CHECK(accepted[0].find<KePayload>(PayloadType::ke) != nullptr);
  CHECK(peer.lab.b.manager->size() == 2);
}

TEST_CASE("cookies: a secret rolls; the one before is good for one more life") {
  std::mt19937 numbers(5);
  CookieJar jar([&](MutableBytes out) -> Result<void> {
    for (std::byte& b : out) b = static_cast<std::byte>(numbers());
    return {};
  });
  const Octets nonce(16, std::byte{1});
  const Endpoint from{ip(address_a), 500};
  const Time start{1h};
  const auto cookie = jar.make(nonce, from, 9, start);
  REQUIRE(cookie);
  CHECK(cookie->size() <= 64);  // RFC 7296 §2.6
  CHECK(jar.valid(*cookie, nonce, from, 9, start + 59s));
  CHECK(jar.valid(*cookie, nonce, from, 9, start + 61s));
  CHECK(!jar.valid(*cookie, nonce, from, 9, start + 121s));
  CHECK(!jar.valid(*cookie, nonce, {ip(address_b), 500}, 9, start));
  CHECK(!jar.valid(*cookie, nonce, from, 10, start));
  CHECK(!jar.valid(*cookie, Octets(16, std::byte{2}), from, 9, start));
  CHECK(!jar.valid({}, nonce, from, 9, start));
}
