// IF-02 as a table: where the routes lead, and what is said about it.
#include <map>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "config/load.hpp"
#include "loader/ways_past_maps.hpp"

using namespace postern;
using namespace postern::loader;
using nlohmann::json;

namespace {

constexpr const char* two_wans = R"({
  "version": 1,
  "vrfs": [{"name": "red", "table": 10}],
  "acls": [{"name": "A", "rules": [
             {"action": "deny", "protocol": "ip", "source": "10.1.0.0/16", "destination": "10.9.0.0/16"},
             {"action": "permit", "protocol": "ip", "source": "10.1.0.0/16", "destination": "10.2.0.0/16"},
             {"action": "permit", "protocol": "ip", "source": "10.1.0.0/16", "destination": "any"}]},
           {"name": "B", "rules": [{"action": "permit", "protocol": "ip", "source": "any", "destination": "host 10.3.0.7"}]}],
  "ipsec": {"transform_sets": [{"name": "G", "transforms": ["esp-gcm"]}]},
  "ikev2": {"keyrings": [{"name": "K", "peers": [{"name": "any", "address": "0.0.0.0/0", "pre_shared_key": "both"}]}],
            "profiles": [{"name": "P", "match": {"identity_remote": ["any"]}, "keyring": "K",
                          "authentication": {"local": {"method": "pre-share"}, "remote": {"method": "pre-share"}}}]},
  "crypto_maps": [
    {"name": "M", "entries": [{"sequence": 10, "type": "ipsec-isakmp", "match_address": "A", "peer": "192.0.2.2",
                               "transform_sets": ["G"], "ikev2_profile": "P"}]},
    {"name": "R", "entries": [{"sequence": 10, "type": "ipsec-isakmp", "match_address": "B", "peer": "198.18.0.2",
                               "transform_sets": ["G"], "ikev2_profile": "P"}]}],
  "interfaces": [{"name": "wan0", "addresses": ["192.0.2.1/24"], "crypto_map": "M"},
                 {"name": "wan1", "addresses": ["198.51.100.1/24"]},
                 {"name": "red0", "addresses": ["198.18.0.1/24"], "crypto_map": "R", "vrf": "red"}],
  "tunnels": [{"number": 0, "mode": "ipsec ipv4", "source": "wan1", "destination": "203.0.113.2", "protection": {"profile": "V"}}]
})";

json source() {
  json out = json::parse(two_wans);
  out["ipsec"]["profiles"] = {{{"name", "V"}, {"transform_sets", {"G"}}, {"ikev2_profile", "P"}}};
  return out;
}

using Routes = std::map<std::string, std::string>;  // "table address", with "own " in front for the node itself

config::Problems said(const json& document, const Routes& routes) {
  const auto loaded = config::load(document);
  if (!loaded) FAIL(config::to_text(loaded.error()));
  return unprotected_ways(loaded->document, [&](const WayOut& way) -> std::optional<std::string> {
    const auto found = routes.find((way.own ? "own " : "") + std::to_string(way.table) + " " + way.to.text());
    return found == routes.end() ? std::nullopt : std::optional(found->second);
  });
}

}  // namespace

TEST_CASE("IF-02: routes that keep to the map's interfaces, or lead nowhere, are not spoken of") {
  CHECK(said(source(), {}).empty());
  CHECK(
      said(
          source(),
          {{"own 0 192.0.2.2", "wan0"}, {"0 10.2.0.1", "wan0"}, {"own 10 198.18.0.2", "red0"}, {"10 10.3.0.7", "red0"}})
          .empty());
  // A deny wants nothing protected, and "any" goes everywhere.
  CHECK(said(source(), {{"0 10.9.0.1", "wan1"}, {"0 0.0.0.1", "wan1"}}).empty());
  CHECK(said(source(), {{"0 10.2.0.1", "Tunnel0"}}).empty());
}

TEST_CASE("IF-02: a peer or a destination by another interface") {
  const auto peer = said(source(), {{"own 0 192.0.2.2", "wan1"}});
  REQUIRE(peer.size() == 1);
  CHECK(peer[0].path == "/crypto_maps/0/entries/0/peer");
  CHECK(peer[0].severity == config::Severity::warning);
  CHECK(peer[0].message.find("192.0.2.2 leaves by wan1, where crypto map M") != std::string::npos);
  const auto net = said(source(), {{"0 10.2.0.1", "wan1"}, {"own 0 192.0.2.2", "wan0"}});
  REQUIRE(net.size() == 1);
  CHECK(net[0].path == "/acls/0/rules/1/destination");
  CHECK(net[0].message.find("10.2.0.0/16 leaves by wan1") != std::string::npos);
}

TEST_CASE("IF-02: the map on both interfaces, and a map of a VRF") {
  json both = source();
  both["interfaces"][1]["crypto_map"] = "M";
  CHECK(said(both, {{"own 0 192.0.2.2", "wan1"}, {"0 10.2.0.1", "wan0"}}).empty());
  const auto red = said(source(), {{"10 10.3.0.7", "blue0"}, {"0 10.3.0.7", "wan1"}});
  REQUIRE(red.size() == 1);
  CHECK(red[0].path == "/acls/1/rules/0/destination");
  CHECK(red[0].message.find("blue0") != std::string::npos);
}
