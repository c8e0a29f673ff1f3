// Who the peers are and how they prove it: profiles (IKE-37..43), names, and the section as it is shown again.
#include "config/render.hpp"
#include "tests/config/ikev2_document.hpp"

namespace postern::config {

TEST_CASE("ikev2: where URLs of certificates may lead") {
  const std::string first = "/ikev2/http_cert_lookup/0";
  for (const char* const bad :
       {"http://pki.example.org", "http://pki.example.org/certs", "https://pki.example.org/", "http://PKI.example.org/",
        "http://user@pki.example.org/", "http://h/../", "pki.example.org/"})
    check_refused(ike_with("/ikev2/http_cert_lookup", json::array({bad})), first, "http://host[:port]/path/");
  check_refused(ike_with("/ikev2/http_cert_lookup", "http://h/"), "/ikev2/http_cert_lookup", "array");
  check_warned(ike_with("/ikev2/http_cert_lookup", json::array({"http://"})), first, "any web server");
}

TEST_CASE("IKE-37 to IKE-43: profiles") {
  check_refused(ike_with(profile + "/match/identity_remote", json::array()), profile + "/match/identity_remote",
                "1 to 64");
  check_refused(ike_with(profile + "/match/identity_remote", {"all"}), profile + "/match/identity_remote/0", "any");
  check_refused(ike_with(profile + "/match/identity_remote", {7}), profile + "/match/identity_remote/0",
                "string or object");
  check_refused(ike_with(profile + "/match/fvrf", "green"), profile + "/match/fvrf", "green");
  check_refused(ike_with(profile + "/keyring", "NO"), profile + "/keyring", "KR");
  check_refused(ike_without(profile, "keyring"), profile + "/authentication/local", "has no key");
  check_refused(ike_with(profile + "/authentication/remote/method", "psk"), profile + "/authentication/remote/method",
                "pre-share");
  check_refused(ike_with(profile + "/lifetime", 60), profile + "/lifetime", "120 to 86400");
  check_refused(ike_with(profile + "/pki", "trust"), profile + "/pki", "unknown key");
  check_warned(ike_with(profile + "/authentication/local/key", "short"), profile + "/authentication/local/key",
               "guessed");

  auto rich = ike_without(profile, "keyring");
  rich["ikev2"]["dpd"] = {{"interval", 30}};
  rich["ikev2"]["profiles"][0]["authentication"] = json::parse(
      R"({"local": {"method": "pre-share", "key": "our own key"}, "remote": {"method": "pre-share", "key": "the peer's key"}})");
  rich["ikev2"]["profiles"][0]["identity_local"] = {{"fqdn", "n1.example"}};
  rich["ikev2"]["profiles"][0]["nat_force_encap"] = true;
  rich["ikev2"]["profiles"][0]["lifetime"] = 120;
  const Ikev2Profile one = loaded(rich).ikev2.profiles[0];
  CHECK(one.dpd == Dpd{DpdMode::on_demand, 30, 2});
  CHECK(one.local_identity == IdentityRule{IdentityKind::fqdn, {}, "n1.example"});
  CHECK(one.force_encapsulation);
  CHECK(one.lifetime_s == 120);
  CHECK(text_of(one.remote_key) == "the peer's key");
  rich["ikev2"]["profiles"][0]["dpd"] = {{"mode", "periodic"}, {"interval", 10}, {"retry", 6}};
  CHECK(loaded(rich).ikev2.profiles[0].dpd == Dpd{DpdMode::periodic, 10, 6});
  rich["ikev2"]["profiles"][0]["dpd"] = {{"mode", "off"}};
  CHECK(loaded(rich).ikev2.profiles[0].dpd.mode == DpdMode::off);
  rich["ikev2"]["profiles"][0]["dpd"] = {{"interval", 9}};
  check_refused(rich, profile + "/dpd/interval", "10 to 3600");

  auto twins = ike();
  twins["ikev2"]["profiles"].push_back(json(twins["ikev2"]["profiles"][0]));
  twins["ikev2"]["profiles"][1]["name"] = "P2";
  check_warned(twins, "/ikev2/profiles/1/match", "profile PR, which is taken");
  twins["ikev2"]["profiles"][1]["match"]["address_local"] = "192.0.2.1";
  CHECK(load(twins)->warnings.empty());
}

TEST_CASE("ikev2 names: each once, and what is referred to exists") {
  for (const char* const list : {"proposals", "policies", "keyrings", "profiles"}) {
    auto document = ike();
    document["ikev2"][list].push_back(json(document["ikev2"][list][0]));
    check_refused(document, std::string("/ikev2/") + list + "/1/name", "given twice");
  }
  check_refused(ike_with(entry + "/ikev2_profile", "NO"), entry + "/ikev2_profile", "PR");
  check_refused(ike_with("/tunnels/0/protection/ikev2_profile", "NO"), "/tunnels/0/protection/ikev2_profile", "PR");
  check_refused(ike_with("/ipsec/profiles/0/ikev2_profile", "NO"), "/ipsec/profiles/0/ikev2_profile", "PR");
  check_accepted(ike_with("/tunnels/0/protection/ikev2_profile", "PR"));
  check_refused(ike_with("/ikev2/nat_keepalive", 3), "/ikev2/nat_keepalive", "5 to 3600");
  check_accepted(ike_with("/ikev2/nat_keepalive", 0));
  check_refused(ike_with("/ikev2/fragmentation_mtu", 500), "/ikev2/fragmentation_mtu", "576 to 9000");
  check_refused(ike_with("/ikev2/fragmentation_mtu", 9001), "/ikev2/fragmentation_mtu", "9000");
  check_accepted(ike_with("/ikev2/fragmentation_mtu", 0));
  const std::string configuration = "/ikev2/profiles/0/configuration";
  const auto told = [](const char* text) { return ike_with("/ikev2/profiles/0/configuration", json::parse(text)); };
  check_accepted(
      told(R"({"pools": ["10.9.0.0/24", "2001:db8:9::/64"], "dns": ["10.2.0.53"], "subnets": ["10.2.0.0/16"]})"));
  check_refused(told(R"({"pools": ["10.9.0.7/24"]})"), configuration + "/pools/0", "10.9.0.0/24");
  check_refused(told(R"({"dns": ["names.example"]})"), configuration + "/dns/0", "not an IP address");
  check_refused(told(R"({"netmask": "255.255.0.0"})"), configuration + "/netmask", "unknown key");
  const auto lent = [](const char* network) {
    return ike_with("/tunnels/0/negotiated_addresses", json::array({network}));
  };
  check_accepted(lent("10.9.0.0/16"));
  CHECK(may_be_lent(loaded(lent("10.9.0.0/16")).tunnels[0], *IpAddress::parse("10.9.255.255")));
  CHECK(!may_be_lent(loaded(lent("10.9.0.0/16")).tunnels[0], *IpAddress::parse("10.10.0.0")));
  CHECK(!may_be_lent(loaded(ike()).tunnels[0], *IpAddress::parse("10.9.0.1")));
  check_refused(lent("10.9.0.1/16"), "/tunnels/0/negotiated_addresses/0", "10.9.0.0/16");
  check_refused(lent("2001:db8::/32"), "/tunnels/0/negotiated_addresses/0", "does not carry");
  check_refused(good_with("/tunnels/0/negotiated_addresses", json::array({"10.9.0.0/16"})),
                "/tunnels/0/negotiated_addresses", "manual");
  check_accepted(ike_with("/ikev2/quick_crash_detection", false));
  check_accepted(
      ike_with("/ikev2/http_cert_lookup", json::array({"http://pki.example.org/", "http://192.0.2.80:8080/certs/"})));
  for (const char* const one : {"never", "allow", "prefer", "force"})
    CHECK(word(loaded(ike_with("/ikev2/profiles/0/childless", one)).ikev2.profiles[0].childless) == std::string(one));
  check_refused(ike_with("/ikev2/profiles/0/childless", "always"), "/ikev2/profiles/0/childless", "prefer");
  check_refused(ike_with("/ikev2/window", 0), "/ikev2/window", "1");
  check_accepted(ike_with("/ikev2/max_selectors", 32));
  check_refused(ike_with("/ikev2/max_selectors", 33), "/ikev2/max_selectors", "32");
}

TEST_CASE("RFC 5685: redirects of a profile, off unless it says so, and their limits") {
  const std::string place = "/ikev2/profiles/0/redirect";
  const auto with = [&](const char* text) { return ike_with(place.c_str(), json::parse(text)); };
  CHECK(loaded(ike()).ikev2.profiles[0].redirect == RedirectProfile{});
  CHECK_FALSE(loaded(ike()).ikev2.profiles[0].redirect.follow);
  const Document made =
      loaded(with(R"({"follow": true, "gateway": {"to": "Gw2.Example.", "when": "auth", "above": 500}})"));
  CHECK(made.ikev2.profiles[0].redirect.follow);
  CHECK(made.ikev2.profiles[0].redirect.gateway == RedirectGateway{"gw2.example", RedirectWhen::auth, 500});
  const auto plain = loaded(with(R"({"gateway": {"to": "203.0.113.77"}})")).ikev2.profiles[0].redirect.gateway;
  CHECK(plain == RedirectGateway{"203.0.113.77", RedirectWhen::init, 0});
  check_refused(with(R"({"gateway": {}})"), place + "/gateway/to", "is missing");
  check_refused(with(R"({"gateway": {"to": "not a host"}})"), place + "/gateway/to", "host name");
  check_refused(with(R"({"gateway": {"to": "0.0.0.0"}})"), place + "/gateway/to", "no address of a gateway");
  check_refused(with(R"({"gateway": {"to": "224.0.0.5"}})"), place + "/gateway/to", "no address of a gateway");
  check_refused(with(R"({"gateway": {"to": "203.0.113.77", "when": "later"}})"), place + "/gateway/when", "init");
  check_refused(with(R"({"follow": "yes"})"), place + "/follow", "boolean");
  const Document own = loaded(ike());
  const std::string ours = own.interfaces.at(0).addresses.at(0).address.text();
  check_refused(with((R"({"gateway": {"to": ")" + ours + R"("}})").c_str()), place + "/gateway/to",
                "an address of this node");
  const auto limits = [](const char* text) { return ike_with("/ikev2/redirect", json::parse(text)); };
  CHECK(loaded(limits("{}")).ikev2.options.redirect == RedirectLimits{5, 300, 60});
  CHECK(loaded(limits(R"({"max_redirects": 2, "loop_period": 60, "leave_within": 10})")).ikev2.options.redirect ==
        RedirectLimits{2, 60, 10});
  check_refused(limits(R"({"max_redirects": 0})"), "/ikev2/redirect/max_redirects", "1");
  check_refused(limits(R"({"loop_period": 9})"), "/ikev2/redirect/loop_period", "10");
  check_refused(limits(R"({"leave_within": 4})"), "/ikev2/redirect/leave_within", "5");
}

TEST_CASE("RFC 8784: a PPK has an id and a key, and is shown without it") {
  const std::string place = "/ikev2/keyrings/0/peers/0/ppk";
  const auto with = [&](const char* text) { return ike_with(place.c_str(), json::parse(text)); };
  const Document made = loaded(with(R"({"id": "one", "key": "0x00112233445566778899aabbccddeeff"})"));
  const auto& ppk = made.ikev2.keyrings[0].peers[0].ppk;
  REQUIRE(ppk);
  CHECK(ppk->id == "one");
  CHECK(ppk->key.size() == 16);
  CHECK(ppk->required);
  CHECK_FALSE(
      loaded(with(R"({"id": "one", "key": "text", "required": false})")).ikev2.keyrings[0].peers[0].ppk->required);
  CHECK_FALSE(loaded(ike()).ikev2.keyrings[0].peers[0].ppk);
  check_refused(with(R"({"key": "text"})"), place + "/id", "missing");
  check_refused(with(R"({"id": "one"})"), place + "/key", "missing");
  check_refused(with(R"({"id": "", "key": "text"})"), place + "/id", "1");
  check_refused(with(R"({"id": "one", "key": ""})"), place + "/key", "");
}

TEST_CASE("RFC 8784: a peer of a keyring may have a PPK alone, for who authenticates otherwise") {
  const std::string peer = "/ikev2/keyrings/0/peers/0";
  auto alone = ike_without(peer, "pre_shared_key");
  check_refused(alone, peer, "neither pre_shared_key nor ppk");
  alone["ikev2"]["keyrings"][0]["peers"][0]["ppk"] = {{"id", "one"}, {"key", "a key"}};
  // Both sides of PR need a key, and it has none.
  check_refused(alone, "/crypto_maps/0/entries/0/ikev2_profile", "has no key for peer 192.0.2.2");
  for (const char* const side : {"local", "remote"})
    alone["ikev2"]["profiles"][0]["authentication"][side]["key"] = "a key of the profile's";
  const Document made = loaded(alone);
  CHECK(made.ikev2.keyrings[0].peers[0].local_key.empty());
  CHECK(made.ikev2.keyrings[0].peers[0].ppk->id == "one");
  const json shown = render(made)["ikev2"]["keyrings"][0]["peers"][0];
  CHECK_FALSE(shown.contains("pre_shared_key"));
  CHECK(shown["ppk"]["key"] == masked_secret);
  const KeyPair keys = keys_for(made.ikev2, made.ikev2.profiles[0], *IpAddress::parse("192.0.2.2"));
  REQUIRE(keys.ppk != nullptr);
  CHECK(text_of(*keys.local) == "a key of the profile's");
}

TEST_CASE("render and diff: the section comes back, keys masked, and changes have their names") {
  auto rich = ike();
  rich["ikev2"]["dpd"] = {{"mode", "periodic"}, {"interval", 20}, {"retry", 3}};
  rich["ikev2"]["policies"][0]["match"] = {{"address_local", "192.0.2.1"}, {"fvrf", "any"}};
  rich["ikev2"]["keyrings"][0]["peers"].push_back(json::parse(
      R"({"name": "K", "identity": {"key_id": "0x00ff"}, "pre_shared_key": {"local": "our own key", "remote": "the peer's key"}})"));
  rich["ikev2"]["profiles"][0]["match"]["identity_remote"] =
      json::parse(R"(["any", {"address": "192.0.2.0/24"}, {"fqdn": "a.b"}, {"email": "a@b"}, {"key_id": "text"}])");
  rich["ikev2"]["profiles"][0]["identity_local"] = {{"address", "192.0.2.1"}};
  rich["crypto_maps"][0]["entries"][0]["pfs"] = "group20";
  rich["crypto_maps"][0]["entries"][0]["initiate"] = "always";
  rich["crypto_maps"][0]["entries"][0]["security_association"] = {
      {"lifetime_kilobytes", "disable"}, {"lifetime_packets", 5000}, {"extended_sequence_numbers", false},
      {"dummy", {{"seconds", 15}}},      {"tfc_padding", "disable"}, {"idle_time", 90}};
  rich["ipsec"]["profiles"][0]["initiate"] = "on_traffic";
  rich["tunnels"][0]["protection"]["ikev2_profile"] = "PR";
  const Document first = loaded(rich);
  json again = render(first);
  CHECK(again["ikev2"]["keyrings"][0]["peers"][0]["pre_shared_key"] == masked_secret);
  CHECK(again["ikev2"]["keyrings"][0]["peers"][1]["pre_shared_key"]["remote"] == masked_secret);
  again["ikev2"]["keyrings"] = rich["ikev2"]["keyrings"];
  again["crypto_maps"][1] = rich["crypto_maps"][1];
  const Document second = loaded(again);
  std::string changes;
  for (const Change& change : diff(first, second)) changes += change.text() + "\n";
  CHECK(changes == "");
  CHECK(equal(first, second));

  struct Row {
    std::string pointer;
    json value;
    std::string change;
  };
  const Row rows[] = {{"/ikev2/nat_keepalive", 30, "changed ikev2/global"},
                      {proposal + "/group", {14}, "changed ikev2/proposals A"},
                      {"/ikev2/policies/0/match", {{"fvrf", "any"}}, "changed ikev2/policies PO"},
                      {peer + "/pre_shared_key", "another key of the tests", "changed ikev2/keyrings KR"},
                      {profile + "/lifetime", 300, "changed ikev2/profiles PR"},
                      {"/ipsec/security_association/lifetime_seconds", 300, "changed ipsec/global"},
                      {"/ipsec/profiles/0/pfs", "group14", "changed ipsec/profiles P1"},
                      {entry + "/initiate", "always", "changed crypto_maps M1 10"},
                      {"/tunnels/0/protection/ikev2_profile", "PR", "changed tunnels Tunnel0"}};
  for (const Row& row : rows) {
    const auto found = diff(loaded(ike()), loaded(ike_with(row.pointer, row.value)));
    CAPTURE(row.pointer);
    REQUIRE(found.size() == 1);
    CHECK(found[0].text() == row.change);
  }
}

}  // namespace postern::config
