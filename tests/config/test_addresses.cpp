// Interfaces, VRFs, tunnels: IF-11, CM-12, SV-13 and the addresses of both.
#include "tests/config/good_document.hpp"

namespace postern::config {
namespace {

using nlohmann::json;

struct Row {
  const char* pointer;
  json value;
  const char* path;
  const char* words;
};

}  // namespace

TEST_CASE("IF-11: no map on a loopback interface") {
  for (const char* const name : {"lo", "lo0", "Loopback7", "loopback1"}) {
    auto document = good_with("/interfaces/0/name", name);
    document["tunnels"][0]["source"] = name;
    check_refused(document, "/interfaces/0/crypto_map", "loopback interface");
    document["interfaces"][0].erase("crypto_map");
    document["interfaces"][0].erase("ipv6_crypto_map");
    check_accepted(document);  // as a tunnel's source it may be one (SV-05)
  }
  auto document = good_with("/interfaces/0/name", "long0");
  document["tunnels"][0]["source"] = "long0";
  check_accepted(document);
}

TEST_CASE("IF-03: a map's local address is an interface's of the document, of its family and VRF") {
  const auto shared = [](const char* address) {
    auto document = good_with("/crypto_maps/0/local_address", "lo");
    document["interfaces"].push_back({{"name", "lo"}, {"addresses", {address}}});
    document["interfaces"].push_back({{"name", "out1"}, {"addresses", {"198.51.100.1/24"}}, {"crypto_map", "M1"}});
    return document;
  };
  check_accepted(shared("203.0.113.1/32"));
  auto left_to_the_system = shared("203.0.113.1/32");
  left_to_the_system["interfaces"][2].erase("addresses");
  check_accepted(left_to_the_system);
  check_refused(good_with("/crypto_maps/0/local_address", "lo"), "/crypto_maps/0/local_address", "out0, in0");
  check_refused(good_with("/crypto_maps/0/local_address", "Tunnel0"), "/crypto_maps/0/local_address", "no interface");
  check_refused(shared("2001:db8::1/128"), "/crypto_maps/0/local_address", "lo has no IPv4 address");
  auto apart = shared("203.0.113.1/32");
  apart["vrfs"] = {{{"name", "red"}, {"table", 77}}};
  apart["interfaces"][3]["vrf"] = "red";
  check_refused(apart, "/interfaces/3/crypto_map", "in another VRF");
  // The interfaces themselves need no address of the family then, and of two maps with one end no SPI may be the same.
  auto without = shared("203.0.113.1/32");
  without["interfaces"][3]["addresses"] = {"2001:db8:7::1/64"};
  check_accepted(without);
  auto twice = shared("203.0.113.1/32");
  twice["crypto_maps"].push_back(twice["crypto_maps"][0]);
  twice["crypto_maps"][2]["name"] = "M2";
  twice["crypto_maps"][2]["entries"][0]["peer"] = "192.0.2.3";
  twice["interfaces"][3]["crypto_map"] = "M2";
  check_refused(twice, "/crypto_maps/2/entries/0/session_key/inbound/esp/spi", "SPI 4097 is used twice at 203.0.113.1");
}

TEST_CASE("families must agree (CM-12)") {
  const Row rows[] = {
      {"/crypto_maps/0/entries/0/peer", "2001:db8:ff::2", "/crypto_maps/0/entries/0/match_address",
       "IPv4, the crypto map is IPv6"},
      {"/crypto_maps/0/entries/0/match_address", "SIX", "/crypto_maps/0/entries/0/match_address",
       "IPv6, the crypto map is IPv4"},
      {"/crypto_maps/0/family", "ipv6", "/crypto_maps/0/entries/0/peer", "an IPv6 address"},
      {"/interfaces/0/crypto_map", "M6", "/interfaces/0/crypto_map", "ipv6_crypto_map"},
      {"/interfaces/0/ipv6_crypto_map", "M1", "/interfaces/0/ipv6_crypto_map", "crypto_map for an IPv4 map"},
      {"/interfaces/0/addresses", json::array({"192.0.2.1/24"}), "/interfaces/0/ipv6_crypto_map", "no IPv6 address"},
      {"/acls/0/family", "ipv6", "/acls/0/rules/0/source", "IPv4 address in an IPv6"},
      {"/acls/0/rules/0/destination", "2001:db8::/32", "/acls/0/rules/0/source", "IPv4 address in an IPv6"},
      {"/acls/0/rules/0/protocol", "icmpv6", "/acls/0/rules/0/source", "IPv4 address in an IPv6"},
      {"/acls/1/rules/0/protocol", "icmp", "/acls/1/rules/0/protocol", "other family"},
      {"/tunnels/0/destination", "2001:db8:ff::2", "/tunnels/0/destination", "outer family"},
      {"/tunnels/0/mode", "ipsec ipv6", "/tunnels/0/destination", "outer family"},
      {"/tunnels/0/source", "2001:db8:ff::1", "/tunnels/0/source", "not an IPv4 address"},
      {"/tunnels/0/source", "in1", "/tunnels/0/source", "out0, in0"},
      {"/tunnels/0/source", "203.0.113.9", "/tunnels/0/source", "address of no interface"},
      {"/tunnels/0/addresses", json::array({"2001:db8:5::1/64"}), "/tunnels/0/addresses/0", "does not carry"},
      {"/tunnels/0/routes", json::array({"10.4.0.0/16", "::/0"}), "/tunnels/0/routes/1", "does not carry"},
  };
  for (const Row& row : rows) check_refused(good_with(row.pointer, row.value), row.path, row.words);
  check_accepted(good_with("/tunnels/0/source", "192.0.2.1"));
  check_accepted(good_with("/acls/0/family", "ipv4"));
  auto dual = good_with("/tunnels/0/mode", "ipsec dual-overlay");
  dual["tunnels"][0]["routes"] = {"10.4.0.0/16", "2001:db8:4::/64"};
  check_accepted(dual);
}

TEST_CASE("addresses that cannot be") {
  const Row rows[] = {
      {"/crypto_maps/0/entries/0/peer", "192.0.2.1", "/crypto_maps/0/entries/0/peer", "own address on out0"},
      {"/crypto_maps/0/entries/0/peer", "0.0.0.0", "/crypto_maps/0/entries/0/peer", "not a host's address"},
      {"/crypto_maps/0/entries/0/peer", "224.0.0.1", "/crypto_maps/0/entries/0/peer", "not a host's address"},
      {"/crypto_maps/1/entries/0/peer", "::", "/crypto_maps/1/entries/0/peer", "not a host's address"},
      {"/crypto_maps/0/entries/0/peer", "192.0.2.256", "/crypto_maps/0/entries/0/peer", "not an IP address"},
      {"/crypto_maps/0/entries/0/peer", "::ffff:192.0.2.2", "/crypto_maps/0/entries/0/peer", "not an IP address"},
      {"/tunnels/0/destination", "192.0.2.1", "/tunnels/0/destination", "own address on out0"},
      {"/tunnels/0/destination", "172.16.0.1", "/tunnels/0/destination", "own address on Tunnel0"},
      {"/tunnels/0/destination", "239.1.1.1", "/tunnels/0/destination", "not a host's address"},
      {"/interfaces/0/addresses/0", "192.0.2.0/24", "/interfaces/0/addresses/0", "network's own"},
      {"/interfaces/0/addresses/0", "192.0.2.255/24", "/interfaces/0/addresses/0", "broadcast"},
      {"/interfaces/0/addresses/0", "192.0.2.1", "/interfaces/0/addresses/0", "no prefix length"},
      {"/interfaces/0/addresses/0", "192.0.2.1/33", "/interfaces/0/addresses/0", "not an address"},
      {"/interfaces/1/addresses/0", "192.0.2.1/24", "/interfaces/1/addresses/0", "also an address of out0"},
      {"/tunnels/0/addresses/0", "10.1.0.1/30", "/tunnels/0/addresses/0", "also an address of in0"},
      {"/tunnels/0/routes/0", "10.4.0.1/16", "/tunnels/0/routes/0", "10.4.0.0/16"},
      {"/tunnels/0/routes/0", "10.4.0.0", "/tunnels/0/routes/0", "no prefix length"},
      {"/interfaces/1/name", "Tunnel0", "/interfaces/1/name", "tunnels"},
      {"/interfaces/1/name", "pn-N1", "/interfaces/1/name", "own devices"},
      {"/interfaces/1/name", "..", "/interfaces/1/name", "not a device name"},
  };
  for (const Row& row : rows) check_refused(good_with(row.pointer, row.value), row.path, row.words);
  check_accepted(good_with("/interfaces/0/addresses/0", "192.0.2.1/31"));
  check_accepted(good_with("/tunnels/0/routes/0", "0.0.0.0/0"));
}

TEST_CASE("two devices in one subnet are warned of, in two VRFs not") {
  auto document = good_with("/interfaces/1/addresses/0", "192.0.2.77/24");
  auto loaded = load(document);
  if (!loaded) FAIL(to_text(loaded.error()));
  CHECK(at_path(loaded->warnings, "/interfaces/1/addresses/0", Severity::warning) != nullptr);
  document["vrfs"] = {{{"name", "blue"}, {"table", 100}}};
  document["interfaces"][1]["vrf"] = "blue";
  document["interfaces"][1]["addresses"][0] = "192.0.2.1/24";  // VR-08: the same address in another VRF
  loaded = load(document);
  if (!loaded) FAIL(to_text(loaded.error()));
  CHECK(loaded->warnings.empty());
}

TEST_CASE("VRFs: names and tables") {
  auto document = good();
  document["vrfs"] = {{{"name", "blue"}, {"table", 100}}, {{"name", "red"}, {"table", 100}}};
  check_refused(document, "/vrfs/1/table", "twice");
  document["vrfs"][1] = {{"name", "blue"}, {"table", 101}};
  check_refused(document, "/vrfs/1/name", "twice");
  document["vrfs"][1] = {{"name", "red"}, {"table", 254}};
  check_refused(document, "/vrfs/1/table", "kernel's own");
  document["vrfs"][1] = {{"name", "red"}, {"table", 256}};
  check_accepted(document);
}

TEST_CASE("tunnels: an MTU that IPv6 can live with") {
  auto document = good_with("/tunnels/0/mode", "ipsec dual-overlay");
  document["tunnels"][0]["mtu"] = 1279;
  check_refused(document, "/tunnels/0/mtu", "least MTU of IPv6");
  document["tunnels"][0]["mtu"] = 1280;
  check_accepted(document);
  check_accepted(good_with("/tunnels/0/mtu", 600));
}

TEST_CASE("a map that is applied nowhere is warned of") {
  auto document = good();
  document["interfaces"][0].erase("ipv6_crypto_map");
  const auto loaded = load(document);
  if (!loaded) FAIL(to_text(loaded.error()));
  CHECK(at_path(loaded->warnings, "/crypto_maps/1", Severity::warning) != nullptr);
}

}  // namespace postern::config
