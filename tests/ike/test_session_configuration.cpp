// The configuration payload (RFC 7296 §2.19, §3.15): who asks is lent an address and told the rest, and is held to it.
#include "ike/address_pool.hpp"
#include "ike/session_core.hpp"
#include "tests/ike/scripted_gateway.hpp"
#include "tests/ike/scripted_peer.hpp"

using namespace postern;
using namespace postern::ike;
using namespace postern::ike::lab;

namespace {

struct Asking : ScriptedPeer {
  AddressPools pools;

  explicit Asking(std::vector<Prefix> of = {*Prefix::parse("10.1.9.0/30")}, bool required = false) {
    lab.b.surroundings.lend_address = [this](const Prefix& pool, const std::string& owner, const auto& wanted) {
      return pools.take(pool, owner, wanted);
    };
    lab.b.surroundings.take_address_back = [this](const IpAddress& one, const std::string& owner) {
      pools.give_back(one, owner);
    };
    Lab::edit(lab.b, [&](Connection& c) {
      c.configuration = {std::move(of), {address("10.2.0.53")}, {*Prefix::parse("10.2.0.0/16")}, "hello", required};
    });
    exchange_init();
  }
  Message asks(std::vector<ConfigAttribute> attributes) {
    Message request = auth_request();
    request.add(PayloadType::configuration, ConfigurationPayload{ConfigKind::request, std::move(attributes)});
    const auto answers = says(sealed(request));
    REQUIRE(answers.size() == 1);
    next_id = 2;
    return opened(answers[0]);
  }
};

const ConfigAttribute an_address{ConfigType::ip4_address, {}};

Octets bytes(std::initializer_list<int> values) {
  Octets out;
  for (const int one : values) out.push_back(static_cast<std::byte>(one));
  return out;
}

const Octets* told(const Message& message, ConfigType type) {
  const auto* const reply = message.find<ConfigurationPayload>(PayloadType::configuration);
  if (reply == nullptr) return nullptr;
  CHECK(reply->kind == ConfigKind::reply);
  const auto found = std::ranges::find(reply->attributes, type, &ConfigAttribute::type);
  return found == reply->attributes.end() ? nullptr : &found->value;
}

}  // namespace

TEST_CASE("§2.19: who asks is lent an address, told the rest, and its child is about that address alone") {
  Asking peer;
  const Message answer = peer.asks({an_address, {ConfigType::ip4_dns, {}}});
  REQUIRE(told(answer, ConfigType::ip4_address) != nullptr);
  CHECK(*told(answer, ConfigType::ip4_address) == bytes({10, 1, 9, 1}));
  CHECK(*told(answer, ConfigType::ip4_dns) == bytes({10, 2, 0, 53}));
  CHECK(*told(answer, ConfigType::ip4_subnet) == bytes({10, 2, 0, 0, 255, 255, 0, 0}));
  CHECK(*told(answer, ConfigType::unity_banner) == octets_of(as_bytes("hello")));
  CHECK(told(answer, ConfigType::ip6_address) == nullptr);
  REQUIRE(peer.lab.b.live().size() == 1);
  CHECK(peer.lab.b.live()[0]->remote == std::vector{selector_of(*Prefix::parse("10.1.9.1/32"))});
  CHECK(answer.find<TsPayload>(PayloadType::ts_initiator)->selectors == peer.lab.b.live()[0]->remote);
  CHECK(peer.lab.b.established().view(peer.lab.now).lent == std::vector{address("10.1.9.1")});
}

TEST_CASE("§2.19: the address stays over a rekey of the IKE SA, and is free when the peer is gone") {
  Asking peer;
  (void)peer.asks({an_address});
  CHECK(peer.pools.lent() == 1);
  // Another child, later, is about the same address.
  REQUIRE(peer.says(peer.sealed(peer.child_request())).size() == 1);
  CHECK(peer.lab.b.live().back()->remote == std::vector{selector_of(*Prefix::parse("10.1.9.1/32"))});
  peer.next_id = 3;
  Message bye{peer.header(ExchangeType::informational), {}};
  bye.add(PayloadType::delete_, DeletePayload{ProtocolId::ike, {}});
  (void)peer.says(peer.sealed(bye));
  CHECK(peer.pools.lent() == 0);
}

TEST_CASE("§3.15.1: an address that is asked for is lent where it is free") {
  for (const int wanted : {2, 1, 3, 77}) {
    CAPTURE(wanted);
    Asking peer;
    const Message answer = peer.asks({{ConfigType::ip4_address, bytes({10, 1, 9, wanted})}});
    CHECK(*told(answer, ConfigType::ip4_address) == bytes({10, 1, 9, wanted == 2 ? 2 : 1}));
  }
}

TEST_CASE("§2.19: no address is left: INTERNAL_ADDRESS_FAILURE, no child, and the IKE SA stands") {
  Asking peer;
  REQUIRE(peer.pools.take(*Prefix::parse("10.1.9.0/30"), "one", {}));
  REQUIRE(peer.pools.take(*Prefix::parse("10.1.9.0/30"), "two", {}));
  const Message answer = peer.asks({an_address});
  CHECK(answer.notify(NotifyType::internal_address_failure) != nullptr);
  CHECK(answer.find<SaPayload>(PayloadType::sa) == nullptr);
  CHECK(peer.lab.b.live().empty());
  CHECK(peer.lab.b.spis.empty());
  CHECK(peer.lab.b.count(SessionPhase::established) == 1);
}

TEST_CASE("§2.19: who must ask and does not: FAILED_CP_REQUIRED; where nothing is lent, asking changes nothing") {
  {
    Asking peer({*Prefix::parse("10.1.9.0/30")}, true);
    const auto answers = peer.says(peer.sealed(peer.auth_request()));
    REQUIRE(answers.size() == 1);
    CHECK(peer.opened(answers[0]).notify(NotifyType::failed_cp_required) != nullptr);
    CHECK(peer.lab.b.live().empty());
    CHECK(peer.lab.b.count(SessionPhase::established) == 1);
  }
  Asking peer(std::vector<Prefix>{});
  const Message answer = peer.asks({an_address});
  CHECK(told(answer, ConfigType::ip4_address) == nullptr);
  CHECK(answer.error() == nullptr);
  CHECK(peer.lab.b.live()[0]->remote == std::vector{selector_of(*Prefix::parse("10.1.0.0/16"))});
}

TEST_CASE("§2.19: selectors beside the lent address are TS_UNACCEPTABLE") {
  Asking peer({*Prefix::parse("10.77.0.0/30")});
  const Message answer = peer.asks({an_address});
  CHECK(*told(answer, ConfigType::ip4_address) == bytes({10, 77, 0, 1}));
  CHECK(answer.notify(NotifyType::ts_unacceptable) != nullptr);
  CHECK(peer.lab.b.live().empty());
}

TEST_CASE("§3.15: later, a set is acknowledged without being obeyed, and a question tells nothing") {
  Asking peer;
  (void)peer.asks({an_address});
  for (const ConfigKind kind : {ConfigKind::set, ConfigKind::request}) {
    Message message{peer.header(ExchangeType::informational), {}};
    message.add(PayloadType::configuration,
                ConfigurationPayload{kind, {{ConfigType::ip4_address, bytes({9, 9, 9, 9})}}});
    const auto answers = peer.says(peer.sealed(message));
    REQUIRE(answers.size() == 1);
    const Message answer = peer.opened(answers[0]);
    const auto* const reply = answer.find<ConfigurationPayload>(PayloadType::configuration);
    REQUIRE(reply != nullptr);
    CHECK(reply->kind == (kind == ConfigKind::set ? ConfigKind::ack : ConfigKind::reply));
    CHECK(reply->attributes.empty());
    ++peer.next_id;
  }
  CHECK(peer.lab.b.established().view(peer.lab.now).lent == std::vector{address("10.1.9.1")});
}

TEST_CASE("§2.20: our version is told to nobody: a question for it gets an empty reply") {
  Asking peer;
  (void)peer.asks({an_address, {ConfigType::application_version, {}}});
  Message message{peer.header(ExchangeType::informational), {}};
  message.add(PayloadType::configuration,
              ConfigurationPayload{ConfigKind::request, {{ConfigType::application_version, {}}}});
  const auto answers = peer.says(peer.sealed(message));
  REQUIRE(answers.size() == 1);
  const Message answer = peer.opened(answers[0]);
  const auto* const reply = answer.find<ConfigurationPayload>(PayloadType::configuration);
  REQUIRE(reply != nullptr);
  CHECK(reply->kind == ConfigKind::reply);
  CHECK(reply->attributes.empty());
  CHECK(peer.lab.b.count(SessionPhase::established) == 1);

  Asking first;
  const Message in_auth = first.asks({an_address, {ConfigType::application_version, {}}});
  REQUIRE(told(in_auth, ConfigType::ip4_address) != nullptr);
  CHECK(told(in_auth, ConfigType::application_version) == nullptr);
}

TEST_CASE("§3.15.1: we ask for addresses, name servers and networks, and never for a netmask") {
  SessionCore core({}, true);
  Surroundings surroundings;
  core.setup.surroundings = &surroundings;
  Connection ours = connection("192.0.2.1", "192.0.2.2");
  ours.children = {child_policy("one", 1, "0.0.0.0/0", "10.2.0.0/16")};
  ours.children[0].ask = {*Prefix::parse("10.1.0.0/16"), *Prefix::parse("2001:db8::/64")};
  core.connection = std::make_shared<const Connection>(ours);
  Message request;
  ask_for_configuration(core, request);
  const auto* const asked = request.find<ConfigurationPayload>(PayloadType::configuration);
  REQUIRE(asked != nullptr);
  CHECK(asked->kind == ConfigKind::request);
  CHECK(asked->attributes.size() == 6);
  CHECK(std::ranges::count(asked->attributes, ConfigType::ip4_netmask, &ConfigAttribute::type) == 0);
  CHECK(std::ranges::count(asked->attributes, ConfigType::ip4_address, &ConfigAttribute::type) == 1);
  // Who wants no address asks for nothing.
  ours.children[0].ask.clear();
  core.connection = std::make_shared<const Connection>(ours);
  Message none;
  ask_for_configuration(core, none);
  CHECK(none.payloads.empty());
}

TEST_CASE("§3.15.1: lengths of attributes") {
  struct Row {
    ConfigType type;
    std::size_t bytes;
    bool good;
  };
  const Row rows[] = {{ConfigType::ip4_address, 0, true},
                      {ConfigType::ip4_address, 4, true},
                      {ConfigType::ip4_address, 5, false},
                      {ConfigType::ip4_netmask, 3, false},
                      {ConfigType::ip4_dns, 4, true},
                      {ConfigType::ip4_dns, 16, false},
                      {ConfigType::ip6_address, 17, true},
                      {ConfigType::ip6_address, 16, false},
                      {ConfigType::ip6_dns, 16, true},
                      {ConfigType::ip6_dns, 17, false},
                      {ConfigType::ip4_subnet, 8, true},
                      {ConfigType::ip4_subnet, 4, false},
                      {ConfigType::ip6_subnet, 17, true},
                      {ConfigType::supported_attributes, 3, false},
                      {ConfigType::unity_banner, 300, true},
                      {ConfigType{25}, 7, true},
                      {ConfigType::application_version, 9, true}};
  for (const Row& row : rows) {
    CAPTURE(static_cast<unsigned>(row.type));
    CAPTURE(row.bytes);
    const Payload payload{PayloadType::configuration,
                          ConfigurationPayload{ConfigKind::request, {{row.type, Octets(row.bytes)}}}};
    const Octets body = encode_payload(payload);
    CHECK(parse_payload(PayloadType::configuration, body).has_value() == row.good);
    if (row.bytes > 0) CHECK_FALSE(parse_payload(PayloadType::configuration, Bytes(body).first(body.size() - 1)));
  }
  CHECK_FALSE(parse_payload(PayloadType::configuration, Octets(3)));
  ConfigurationPayload many{ConfigKind::request, std::vector<ConfigAttribute>(max_config_attributes, an_address)};
  CHECK(parse_payload(PayloadType::configuration, encode_payload({PayloadType::configuration, many})));
  many.attributes.push_back(an_address);
  CHECK_FALSE(parse_payload(PayloadType::configuration, encode_payload({PayloadType::configuration, many})));
}

TEST_CASE("address pools: each to one, the same again, what was wanted, and no more than there are") {
  AddressPools pools;
  const Prefix four = *Prefix::parse("10.9.0.0/30"), six = *Prefix::parse("2001:db8::/126");
  CHECK(pools.take(four, "a", {}) == address("10.9.0.1"));
  CHECK(pools.take(four, "b", {}) == address("10.9.0.2"));
  CHECK_FALSE(pools.take(four, "c", {}));  // neither the network nor its broadcast address
  CHECK(pools.take(four, "a", {}) == address("10.9.0.1"));
  CHECK(pools.take(six, "a", {}) == address("2001:db8::1"));
  pools.give_back(address("10.9.0.1"), "a");
  CHECK_FALSE(pools.take(four, "c", {}));     // a still holds it
  pools.give_back(address("10.9.0.1"), "b");  // it is not b's
  CHECK_FALSE(pools.take(four, "c", {}));
  pools.give_back(address("10.9.0.1"), "a");
  CHECK(pools.take(four, "c", {}) == address("10.9.0.1"));
  pools.give_back(address("10.9.0.2"), "b");
  CHECK(pools.take(four, "d", address("10.9.0.3")) == address("10.9.0.2"));  // not the one that cannot be
  pools.give_back(address("10.9.0.2"), "d");
  pools.give_back(address("10.9.0.1"), "c");
  CHECK(pools.take(four, "d", {}) == address("10.9.0.2"));  // the one that it had
  CHECK(pools.take(*Prefix::parse("10.9.1.0/31"), "e", {}) == address("10.9.1.0"));
}

// --- the initiator's half

namespace {

// A's flow wants an address of `accepted`; B lends of `pool`.
struct Lending : Lab {
  AddressPools pools;

  explicit Lending(const char* accepted = "10.1.0.0/16", std::vector<Prefix> pool = {*Prefix::parse("10.1.9.0/30")}) {
    b.surroundings.lend_address = [this](const Prefix& of, const std::string& owner, const auto& wanted) {
      return pools.take(of, owner, wanted);
    };
    b.surroundings.take_address_back = [this](const IpAddress& one, const std::string& owner) {
      pools.give_back(one, owner);
    };
    edit(a, [&](Connection& c) {
      c.children.front().ask = {*Prefix::parse(accepted)};
      c.children.front().interface = "Tunnel0";
    });
    edit(b, [&](Connection& c) {
      c.configuration = {std::move(pool), {address("10.2.0.53")}, {*Prefix::parse("10.2.0.0/16")}, "hi\n", false};
    });
  }
};

}  // namespace

TEST_CASE("§2.19: what we ask for, we take, and keep over a rekey of the IKE SA") {
  Lending lab;
  lab.start(0);
  lab.settle();
  lab.check_whole();
  const AssignedConfiguration& told = lab.a.established().assigned();
  CHECK(told.interface == "Tunnel0");
  CHECK(told.addresses == std::vector{address("10.1.9.1")});
  CHECK(told.dns == std::vector{address("10.2.0.53")});
  CHECK(told.subnets == std::vector{*Prefix::parse("10.2.0.0/16")});
  CHECK(told.banner == "hi?");
  CHECK(lab.a.live()[0]->local == std::vector{selector_of(*Prefix::parse("10.1.9.1/32"))});
  lab.perform(0, lab.a.established().rekey(lab.now));
  lab.settle();
  CHECK(lab.a.established().assigned().addresses == std::vector{address("10.1.9.1")});
  lab.perform(0, lab.a.established().close(lab.now));
  lab.settle();
  CHECK(lab.pools.lent() == 0);
  CHECK(lab.a.live().empty());
}

TEST_CASE("§2.19: who lends nothing, or what we do not take, gets no child SA and no IKE SA") {
  struct Row {
    const char* accepted;
    std::vector<Prefix> pool;
    const char* words;
  };
  for (const Row& row : {Row{"10.1.0.0/16", {}, "lends no address"},
                         Row{"10.99.0.0/16", {*Prefix::parse("10.1.9.0/30")}, "that we do not take"}}) {
    INFO(row.words);
    Lending lab(row.accepted, row.pool);
    lab.start(0);
    lab.settle();
    REQUIRE(lab.a.failures.size() == 1);
    CHECK(lab.a.failures[0].summary.find(row.words) != std::string::npos);
    CHECK(lab.a.live().empty());
    CHECK(lab.b.live().empty());
    CHECK(lab.a.count(SessionPhase::established) == 0);
    CHECK(lab.b.count(SessionPhase::established) == 0);
    CHECK(lab.a.spis.empty());
  }
}

// --- both

namespace {

std::ptrdiff_t place_of(const Message& message, PayloadType type) {
  const auto found = std::ranges::find(message.payloads, type, &Payload::type);
  REQUIRE(found != message.payloads.end());
  return found - message.payloads.begin();
}

}  // namespace

TEST_CASE("§2.19: CP stands before SA, in what we ask and in what we answer") {
  Asking peer;
  const Message answer = peer.asks({an_address});
  CHECK(place_of(answer, PayloadType::configuration) < place_of(answer, PayloadType::sa));
  Lending lab;
  ScriptedGateway gateway(lab);
  lab.start(0);
  gateway.answer_init();
  const Message request = gateway.heard();
  CHECK(place_of(request, PayloadType::configuration) < place_of(request, PayloadType::sa));
}

TEST_CASE("§2.19: a CFG_REPLY comes for a CFG_REQUEST alone") {
  Asking nothing;
  const auto answers = nothing.says(nothing.sealed(nothing.auth_request()));
  REQUIRE(answers.size() == 1);
  const Message answer = nothing.opened(answers[0]);
  CHECK(answer.find<ConfigurationPayload>(PayloadType::configuration) == nullptr);
  CHECK(nothing.lab.b.live().size() == 1);
  for (const ConfigKind kind : {ConfigKind::reply, ConfigKind::set, ConfigKind::ack}) {
    CAPTURE(static_cast<int>(kind));
    Asking peer;
    Message request = peer.auth_request();
    request.add(PayloadType::configuration, ConfigurationPayload{kind, {an_address}});
    const auto said = peer.says(peer.sealed(request));
    REQUIRE(said.size() == 1);
    CHECK(peer.opened(said[0]).find<ConfigurationPayload>(PayloadType::configuration) == nullptr);
    CHECK(peer.pools.lent() == 0);
  }
}

TEST_CASE("§2.19: a CFG_REPLY that we have not asked for lends us nothing") {
  Lab lab;
  ScriptedGateway gateway(lab);
  lab.start(0);
  gateway.answer_init();
  Message answer = gateway.auth_answer(gateway.heard());
  answer.add(PayloadType::configuration,
             ConfigurationPayload{ConfigKind::reply, {{ConfigType::ip4_address, bytes({10, 1, 9, 1})}}});
  gateway.says(answer);
  CHECK(lab.a.established().assigned().addresses.empty());
  REQUIRE(lab.a.live().size() == 1);
  CHECK(lab.a.live()[0]->local == std::vector{selector_of(*Prefix::parse("10.1.0.0/16"))});
}
