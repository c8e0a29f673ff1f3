// The plan of AH, of AH around ESP, and of transport mode: which SAs, in which order, for which flows.
#include <algorithm>

#include <doctest/doctest.h>

#include "crypto/ah.hpp"
#include "loader/plan.hpp"
#include "loader/plan_sa.hpp"

namespace postern::loader {
namespace {

using crypto::Cipher, crypto::Integrity;

constexpr crypto::Transform cbc_sha256{Cipher::aes_cbc, 128, Integrity::hmac_sha256_128};

Secret key_of(std::size_t bytes, std::uint8_t first) {
  Secret out(bytes);
  std::ranges::fill(out.mutable_bytes(), std::byte{first});
  return out;
}

Prefix prefix(const char* text) { return *Prefix::parse(text); }
IpAddress address(const char* text) { return *IpAddress::parse(text); }

struct Wish {
  crypto::Transform esp = cbc_sha256;
  Integrity ah = Integrity::hmac_sha256_128;
  bool transport = false, required = false;
  const char *source = "192.0.2.1/32", *destination = "192.0.2.2/32";
};

config::Document document(const Wish& wish) {
  config::Document d;
  config::TransformSet& set = d.transform_sets.emplace_back();
  set.name = "T1";
  set.transform = wish.esp;
  set.ah = wish.ah;
  set.transport_mode = wish.transport;
  set.mode_required = wish.required;
  config::Ace ace;
  ace.source = prefix(wish.source);
  ace.destination = prefix(wish.destination);
  d.acls = {{"101", Family::v4, {ace}}};
  config::MapEntry entry;
  entry.sequence = 10;
  entry.acl = "101";
  entry.peer = address("192.0.2.2");
  entry.peers = {{entry.peer, {}, false}};
  entry.transform_sets = {"T1"};
  if (set.has_esp()) {
    entry.keys.inbound = {4097, key_of(16, 1), key_of(32, 2)};
    entry.keys.outbound = {4098, key_of(16, 3), key_of(32, 4)};
  }
  if (set.has_ah()) {
    entry.keys.ah_inbound = {4097, {}, key_of(32, 5)};  // the same SPIs (TS-57)
    entry.keys.ah_outbound = {4098, {}, key_of(32, 6)};
  }
  d.crypto_maps = {{"M1", Family::v4, {}, {entry}}};
  d.interfaces.resize(1);
  d.interfaces[0].name = "out0";
  d.interfaces[0].crypto_map = "M1";
  return d;
}

Facts facts() {
  Facts f;
  f.steer = "pn-N1";
  f.links.resize(2);
  f.links[0].name = "out0";
  f.links[0].ifindex = 2;
  f.links[0].addresses = {prefix("192.0.2.1/24")};
  f.links[1].name = "pn-N1";
  f.links[1].ifindex = 4;
  return f;
}

Plan plan_of(const Wish& wish) {
  FlowBook flows;
  auto plan = make_plan(document(wish), facts(), flows);
  REQUIRE_MESSAGE(plan.has_value(), (plan ? "" : plan.error().message()));
  return std::move(*plan);
}

}  // namespace

TEST_CASE("AH alone is one pair, of the authenticator's key") {
  const Plan plan = plan_of({.esp = {}});
  REQUIRE(plan.sas.size() == 1);
  const SaParameters& out = plan.sas[0].outbound.parameters;
  CHECK(plan.sas[0].key == "M1 10 out0");
  CHECK(out.protocol == IpProto::ah);
  CHECK(out.mode == SaMode::tunnel);
  CHECK(out.transform == crypto::Transform{Cipher::none, 0, Integrity::hmac_sha256_128});
  CHECK(out.spi == 4098);
  CHECK(out.cipher_key_bytes == 0);
  CHECK(out.integrity_key_bytes == 32);
  CHECK(plan.sas[0].outbound.integrity_key == key_of(32, 6));
  CHECK(out.bundle == 0);
  CHECK(plan.sas[0].flows.size() == 1);
}

TEST_CASE("AH around ESP: AH is there first, of transport mode, and each names the other's flow") {
  for (const bool transport : {false, true}) {
    const Plan plan = plan_of({.transport = transport});
    REQUIRE(plan.sas.size() == 2);
    const PlannedSaPair &ah = plan.sas[0], &esp = plan.sas[1];
    CHECK(ah.key == ah_key(esp.key));
    CHECK(owner_of(ah) == "M1 10 out0");
    CHECK(owner_of(esp) == "M1 10 out0");
    CHECK(plan.flows.size() == 1);  // AH's is nobody's but ESP's
    CHECK(esp.flows == std::vector<std::uint32_t>{plan.flows[0].id});
    REQUIRE(ah.flows.size() == 1);
    CHECK(ah.flows[0] != plan.flows[0].id);
    for (const PlannedSa* const sa : {&esp.inbound, &esp.outbound}) {
      CHECK(sa->parameters.protocol == IpProto::esp);
      CHECK(sa->parameters.mode == (transport ? SaMode::transport : SaMode::tunnel));
      CHECK(sa->parameters.flow == plan.flows[0].id);
      CHECK(sa->parameters.bundle == ah.flows[0]);
    }
    for (const PlannedSa* const sa : {&ah.inbound, &ah.outbound}) {
      CHECK(sa->parameters.protocol == IpProto::ah);
      CHECK(sa->parameters.mode == SaMode::transport);
      CHECK(sa->parameters.flow == ah.flows[0]);
      CHECK(sa->parameters.bundle == plan.flows[0].id);
      REQUIRE(sa->parameters.selector_count == 1);
      CHECK(sa->parameters.selectors[0].protocol == static_cast<std::uint8_t>(IpProto::esp));
    }
    CHECK(ah.outbound.parameters.selectors[0].source_first == address("192.0.2.1"));
    CHECK(ah.inbound.parameters.selectors[0].source_last == address("192.0.2.2"));
  }
}

TEST_CASE("TS-34: transport mode is for traffic whose ends are the peers, and is tunnel otherwise") {
  struct Row {
    const char *source, *destination;
    bool transport;
  };
  const Row rows[] = {{"192.0.2.1/32", "192.0.2.2/32", true},  {"192.0.2.1/32", "192.0.2.3/32", false},
                      {"192.0.2.0/31", "192.0.2.2/32", false}, {"192.0.2.1/32", "192.0.2.2/31", false},
                      {"10.1.0.0/16", "10.2.0.0/16", false},   {"192.0.2.3/32", "192.0.2.2/32", false},
                      {"0.0.0.0/0", "0.0.0.0/0", false}};
  for (const Row& row : rows) {
    CAPTURE(row.source);
    CAPTURE(row.destination);
    const Wish wish{.ah = Integrity::none, .transport = true, .source = row.source, .destination = row.destination};
    CHECK((plan_of(wish).sas[0].inbound.parameters.mode == SaMode::transport) == row.transport);
    Wish required = wish;
    required.required = true;
    FlowBook flows;
    CHECK(make_plan(document(required), facts(), flows).has_value() == row.transport);
  }
  CHECK(plan_of({.transport = false}).sas[1].inbound.parameters.mode == SaMode::tunnel);
}

}  // namespace postern::loader
