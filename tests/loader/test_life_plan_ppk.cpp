// PPKs (RFC 8784) of a keyring in the plan: whose connection gets which.
#include <algorithm>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "config/load.hpp"
#include "loader/plan_ike.hpp"
#include "tests/config/pki_files.hpp"
#include "tests/pki/certificates.hpp"

using namespace postern;
using namespace postern::loader;
using nlohmann::json;

namespace {

// Both ends by certificate; the keyring has a PPK for 192.0.2.2, and one for all in 198.51.100.0/24.
constexpr const char* base = R"({
  "version": 1,
  "acls": [{"name": "101", "rules": [{"action": "permit", "protocol": "ip", "source": "10.1.0.0/16", "destination": "10.2.0.0/16"}]}],
  "ipsec": {"transform_sets": [{"name": "G", "transforms": ["esp-gcm 256"]}]},
  "ikev2": {
    "keyrings": [{"name": "PPKS", "peers": [
      {"name": "all", "address": "198.51.100.0/24", "ppk": {"id": "two", "key": "another key", "required": false}},
      {"name": "n2", "address": "192.0.2.2", "ppk": {"id": "one", "key": "a key"}}]}],
    "profiles": [{"name": "P", "match": {"identity_remote": ["any"]}, "keyring": "PPKS", "pki_trustpoints": ["TP"],
      "authentication": {"local": {"method": "signature"}, "remote": {"method": "signature"}}}]},
  "crypto_maps": [{"name": "M1", "family": "ipv4", "entries": [
    {"sequence": 10, "type": "ipsec-isakmp", "match_address": "101", "peer": "192.0.2.2", "transform_sets": ["G"]}]}],
  "interfaces": [{"name": "out0", "addresses": ["192.0.2.1/24"], "crypto_map": "M1"}]
})";

json source() {
  static const config::PkiFiles files;
  auto made = json::parse(base);
  made["pki"]["trustpoints"] = {{{"name", "TP"},
                                 {"ca_certificates", {files.put("ca.pem", pki::test::root_pem, 0644)}},
                                 {"certificate", files.put("own.pem", pki::test::ecdsa256_pem, 0644)},
                                 {"key", {{"file", files.put("own.key", pki::test::ecdsa256_key, 0600)}}}}};
  return made;
}

IkePlan plan_of(const json& text) {
  auto loaded = config::load(text);
  if (!loaded) FAIL(config::to_text(loaded.error()));
  Facts facts;
  facts.steer = "pn-N1";
  for (const char* const name : {"out0", "pn-N1"}) {
    LinkFacts& link = facts.links.emplace_back();
    link.name = name;
    link.ifindex = static_cast<std::uint32_t>(1 + facts.links.size());
    link.mtu = 1500;
  }
  FlowBook flows;
  const auto plan = make_plan(loaded->document, facts, flows);
  REQUIRE(plan);
  auto out = plan_ike(loaded->document, facts, *plan);
  REQUIRE(out);
  return std::move(*out);
}

IpAddress ip(const char* text) { return *IpAddress::parse(text); }

// Of the connection with a peer at that address; "!": it is required.
std::string ppk_at(const IkePlan& plan, const char* remote) {
  for (const auto& one : ike::connections_between(plan.policy, 0, ip("192.0.2.1"), ip(remote)))
    return one->ppk.id + (one->ppk.required ? "!" : "");
  return "no connection";
}

json by_dynamic_map(json text) {
  text["dynamic_maps"] =
      json::parse(R"([{"name": "D1", "entries": [{"sequence": 10, "transform_sets": ["G"], "ikev2_profile": "P"}]}])");
  text["crypto_maps"][0]["entries"] = json::parse(R"([{"sequence": 1000, "type": "ipsec-isakmp", "dynamic": "D1"}])");
  return text;
}

}  // namespace

TEST_CASE("RFC 8784: a peer that is known, and authenticates by a certificate") {
  CHECK(ppk_at(plan_of(source()), "192.0.2.2") == "one!");
}

TEST_CASE("RFC 8784: a peer by name has the PPK of its address, and none where there is none") {
  auto by_name = source();
  by_name["crypto_maps"][0]["entries"][0]["peer"] = "b.example.org";
  const IkePlan plan = plan_of(by_name);
  REQUIRE(plan.policy.connections.size() == 1);
  const ike::Connection& named = *plan.policy.connections.front();
  CHECK(named.is_named());
  for (const auto& [at, id] :
       {std::pair{"192.0.2.2", "one"}, std::pair{"198.51.100.7", "two"}, std::pair{"203.0.113.1", ""}}) {
    const auto found = ike::at_address(named, ip(at));
    REQUIRE(found != nullptr);
    CHECK(found->ppk.id == id);
    CHECK(found->local_key.empty());
  }
}

TEST_CASE(
    "RFC 8784: users by EAP at a dynamic map have the PPK of their address, and come without one from elsewhere") {
  auto by_eap = by_dynamic_map(source());
  by_eap["ikev2"]["profiles"][0]["authentication"]["remote"] =
      json::parse(R"({"method": "eap", "eap": {"methods": ["mschapv2"]}})");
  by_eap["ikev2"]["eap_users"] = json::parse(R"([{"name": "alice", "password": "her own password"}])");
  const IkePlan plan = plan_of(by_eap);
  CHECK(ppk_at(plan, "192.0.2.2") == "one!");
  CHECK(ppk_at(plan, "198.51.100.7") == "two");
  CHECK(ppk_at(plan, "203.0.113.1") == "");
}

TEST_CASE("RFC 8784: peers by certificate at a dynamic map have the PPK of their address, or none") {
  const IkePlan plan = plan_of(by_dynamic_map(source()));
  CHECK(plan.missing.empty());
  CHECK(ppk_at(plan, "192.0.2.2") == "one!");
  CHECK(ppk_at(plan, "198.51.100.7") == "two");
  CHECK(ppk_at(plan, "203.0.113.1") == "");
}

TEST_CASE("IKE-36: where the keyring knows the peer by no address, the connection has the key of each identity") {
  auto text = source();
  text["ikev2"]["keyrings"][0]["peers"] = json::parse(R"([
    {"name": "n2", "address": "198.51.100.2", "pre_shared_key": "key of an address"},
    {"name": "bob", "identity": {"fqdn": "bob.example.org"}, "pre_shared_key": "key of bob"},
    {"name": "eve", "identity": {"email": "eve@example.org"}, "pre_shared_key": "key of eve"}])");
  text["ikev2"]["profiles"][0]["match"]["identity_remote"] = {{{"fqdn", "bob.example.org"}},
                                                              {{"address", "0.0.0.0/0"}}};
  text["ikev2"]["profiles"][0]["authentication"] =
      json::parse(R"({"local": {"method": "pre-share"}, "remote": {"method": "pre-share"}})");
  const auto first = [](const IkePlan& plan, const char* remote) {
    const auto all = ike::connections_between(plan.policy, 0, ip("192.0.2.1"), ip(remote));
    REQUIRE(all.size() == 1);
    return all.front();
  };
  const auto key_of = [](const ike::Connection& one) {
    const Bytes key = one.remote_key.bytes();
    return std::string(reinterpret_cast<const char*>(key.data()), key.size());
  };
  for (const bool dynamic : {false, true}) {
    const IkePlan plan = plan_of(dynamic ? by_dynamic_map(text) : text);
    const auto here = first(plan, "192.0.2.2");
    REQUIRE(here->identity_keys.size() == 1);  // eve is nobody whom the profile accepts
    CHECK(ike::text(here->identity_keys.front().identity) == "bob.example.org");
    CHECK(key_of(*here) == "key of bob");
    if (dynamic) CHECK(first(plan, "198.51.100.2")->identity_keys.empty());
    if (dynamic) CHECK(key_of(*first(plan, "198.51.100.2")) == "key of an address");
  }
  text["crypto_maps"][0]["entries"][0]["peer"] = "198.51.100.2";
  CHECK(first(plan_of(text), "198.51.100.2")->identity_keys.empty());
  // A key of the profile itself is everybody's.
  text["ikev2"]["profiles"][0]["authentication"] = json::parse(
      R"({"local": {"method": "pre-share", "key": "key of all"}, "remote": {"method": "pre-share", "key": "key of all"}})");
  for (const ike::PeerKey& one : first(plan_of(by_dynamic_map(text)), "192.0.2.2")->identity_keys)
    CHECK(one.remote_key == Secret::copy_of(as_bytes("key of all")));
}
