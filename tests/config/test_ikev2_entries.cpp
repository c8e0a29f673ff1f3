// Map entries and tunnels that negotiate: IKE-01, TS-59..66, CM-01, CM-03, CM-17, SV-01, SV-06, SV-25, SV-29.
#include "tests/config/ikev2_document.hpp"

namespace postern::config {

TEST_CASE("a negotiated entry has sets and no keys, a manual one has keys and one set") {
  check_refused(ike_with(entry + "/session_key", keys(5001, 5002)), entry + "/session_key", "ipsec-manual");
  check_refused(ike_with(entry + "/udp_encapsulation", json::object()), entry + "/udp_encapsulation", "ipsec-manual");
  check_refused(ike_with(entry + "/transform_set", "T1"), entry + "/transform_set", "one of the two");
  check_refused(ike_with(entry + "/transform_sets", {"T1", "NO"}), entry + "/transform_sets/1", "T1");
  check_refused(ike_with(entry + "/transform_sets", json::array()), entry + "/transform_sets", "1 to 6");
  check_warned(ike_with(entry + "/transform_sets", {"T1", "T1"}), entry + "/transform_sets/1", "already");
  auto one = ike_without(entry, "transform_sets");
  one["crypto_maps"][0]["entries"][0]["transform_set"] = "T1";
  CHECK(loaded(one).crypto_maps[0].entries[0].transform_sets == std::vector<std::string>{"T1"});

  for (const char* const key : {"ikev2_profile", "initiate", "pfs", "transform_sets"}) {
    auto manual = good();
    manual["crypto_maps"][0]["entries"][0][key] = json::parse(R"({"ikev2_profile": "PR", "initiate": "always",
        "pfs": "group19", "transform_sets": ["T1"]})")[key];
    check_refused(manual, entry + "/" + key, key == std::string("transform_sets") ? "exactly one" : "no negotiation");
  }
  auto bare = good();
  bare["crypto_maps"][0]["entries"][0].erase("session_key");
  check_refused(bare, entry + "/session_key", "is missing");
  bare = good();
  bare["crypto_maps"][0]["entries"][0].erase("transform_set");
  check_refused(bare, entry + "/transform_set", "is missing");
}

TEST_CASE("CM-02: an entry that lacks its list, peer or set is kept as incomplete, and warned of") {
  for (const char* const key : {"match_address", "peer", "transform_sets"}) {
    check_warned(ike_without(entry, key), entry, key);
    CHECK(loaded(ike_without(entry, key)).crypto_maps[0].entries[0].incomplete());
  }
  CHECK(!loaded(ike()).crypto_maps[0].entries[0].incomplete());
  for (const char* const key : {"match_address", "peer"}) {  // with manual keys there is nothing to wait for
    auto manual = good();
    manual["crypto_maps"][0]["entries"][0].erase(key);
    check_refused(manual, entry + "/" + key, "is missing");
  }
}

TEST_CASE("CM-05, CM-07: several peers stand in a list, in order") {
  auto several = ike_without(entry, "peer");
  several["crypto_maps"][0]["entries"][0]["peers"] = {"192.0.2.2", "192.0.2.3"};
  several["ikev2"]["keyrings"][0]["peers"].push_back(
      {{"name", "N3"}, {"address", "192.0.2.3"}, {"pre_shared_key", psk}});
  several["crypto_maps"][0]["entries"][0]["default_peer"] = true;
  check_accepted(several);
  const MapEntry made = loaded(several).crypto_maps[0].entries[0];
  CHECK(made.peers ==
        std::vector<Peer>{{*IpAddress::parse("192.0.2.2"), "", false}, {*IpAddress::parse("192.0.2.3"), "", false}});
  CHECK(made.default_peer);
  const auto with = [&](json peers) {
    auto out = several;
    out["crypto_maps"][0]["entries"][0]["peers"] = std::move(peers);
    return out;
  };
  check_refused(with({"192.0.2.2", "192.0.2.2"}), entry + "/peers/1", "already");
  check_refused(with({"192.0.2.2", "192.0.2.1"}), entry + "/peers/1", "own address");
  check_refused(with({"192.0.2.2", "2001:db8::3"}), entry + "/peers/1", "family");
  check_refused(with(json::array()), entry + "/peers", "1 to 8");
  check_refused(ike_with(entry + "/peers", {"192.0.2.2"}), entry + "/peer", "one of the two");
  check_warned(ike_with(entry + "/default_peer", true), entry + "/default_peer", "no effect");
  auto manual = good();
  manual["crypto_maps"][0]["entries"][0]["peers"] = {"192.0.2.2"};
  check_refused(manual, entry + "/peers", "exactly one peer");
}

TEST_CASE("CM-04, CM-06: a peer may be a name, which may be dynamic") {
  const auto named = [](const std::string& pointer, json value) {
    auto out = ike_with("/ikev2/profiles/0/match/identity_remote", {"any"});
    out["crypto_maps"][0]["family"] = "ipv4";
    if (pointer.contains("/peers")) out["crypto_maps"][0]["entries"][0].erase("peer");
    out[json::json_pointer(pointer)] = std::move(value);
    return out;
  };
  const auto first_of = [](const json& document) { return loaded(document).crypto_maps[0].entries[0].peers.at(0); };
  CHECK(first_of(named(entry + "/peer", "VPN.Example.NET.")) == Peer{{}, "vpn.example.net", false});
  CHECK(first_of(named(entry + "/peer", {{"name", "vpn"}, {"dynamic", true}})) == Peer{{}, "vpn", true});
  CHECK(first_of(named(entry + "/peers", {"vpn", "192.0.2.2"})) == Peer{{}, "vpn", false});
  CHECK(loaded(named(entry + "/peer", "vpn")).crypto_maps[0].family == Family::v4);
  check_accepted(named(entry + "/peer", std::string(63, 'a') + ".example"));

  for (const char* const wrong :
       {"192.0.2", "192.0.2.256", "300", "2001:db8::g", "vpn..example", "-vpn.example", "vpn-.example", "v_pn.example",
        "vpn example", ".", "vpn.example/24", "http://vpn.example", "vpn.example.1"}) {
    CAPTURE(wrong);
    check_refused(named(entry + "/peer", wrong), entry + "/peer", "");
    check_refused(named(entry + "/peers", {"192.0.2.2", wrong}), entry + "/peers/1", "");
    check_refused(named(entry + "/peer", {{"name", wrong}}), entry + "/peer/name", "");
  }
  check_refused(named(entry + "/peer", std::string(64, 'a') + ".example"), entry + "/peer", "not a host name");
  check_refused(named(entry + "/peer", std::string(126, 'a') + "." + std::string(127, 'a')), entry + "/peer", "");
  check_refused(named(entry + "/peer", {{"name", "192.0.2.2"}, {"dynamic", true}}), entry + "/peer/name",
                "not an IP address");
  check_refused(named(entry + "/peer", {{"dynamic", true}}), entry + "/peer/name", "is missing");
  check_refused(named(entry + "/peer", {{"name", "vpn"}, {"dynamic", "yes"}}), entry + "/peer/dynamic", "");
  check_refused(named(entry + "/peer", {{"name", "vpn"}, {"port", 4}}), entry + "/peer/port", "unknown key");
  check_refused(named(entry + "/peers", json::array({"vpn", "VPN."})), entry + "/peers/1", "already");
  check_refused(named(entry + "/peers", json::array({"vpn", {{"name", "vpn"}, {"dynamic", true}}})), entry + "/peers/1",
                "already");
  auto manual = good();
  manual["crypto_maps"][0]["entries"][0]["peer"] = "vpn.example.net";
  check_refused(manual, entry + "/peer", "manual keys are of an address");
}

TEST_CASE("CM-04: a peer by name has a profile that accepts its name or everybody, and no transport mode is required") {
  auto document = ike_with(entry + "/peer", "vpn.example.net");
  document["crypto_maps"][0]["entries"][0].erase("ikev2_profile");
  check_refused(document, entry + "/ikev2_profile", "no IKEv2 profile matches peer vpn.example.net");
  document["ikev2"]["profiles"][0]["match"]["identity_remote"].push_back({{"fqdn", "VPN.example.net"}});
  check_accepted(document);
  document["acls"][0]["rules"][0]["source"] = "host 192.0.2.1";
  document["acls"][0]["rules"][0]["destination"] = "host 192.0.2.9";
  document["ipsec"]["transform_sets"][0]["mode"] = "transport require";
  check_refused(document, entry + "/transform_sets/0", "a peer by name may be elsewhere");
}

TEST_CASE("CM-25: an entry may be made of an IPsec profile") {
  auto of_profile = ike_without(entry, "transform_sets");
  of_profile["crypto_maps"][0]["entries"][0].erase("ikev2_profile");
  of_profile["ipsec"]["profiles"].push_back({{"name", "MAPP"},
                                             {"transform_sets", {"T1"}},
                                             {"ikev2_profile", "PR"},
                                             {"security_association", {{"lifetime_seconds", 600}}}});
  of_profile["crypto_maps"][0]["entries"][0]["profile"] = "MAPP";
  const MapEntry made = loaded(of_profile).crypto_maps[0].entries[0];
  CHECK(made.transform_sets == std::vector<std::string>{"T1"});
  CHECK(made.ikev2_profile == "PR");
  CHECK(made.sa.lifetime_s == 600);
  of_profile["crypto_maps"][0]["entries"][0]["pfs"] = "group19";
  check_refused(of_profile, entry + "/pfs", "the profile says it");
  check_refused(ike_with(entry + "/profile", "NOBODY"), entry + "/profile", "does not exist");
}

TEST_CASE("CM-09: pairs of hosts are counted, and come with traffic") {
  CHECK(loaded(ike_with(entry + "/per_host_limit", 4)).crypto_maps[0].entries[0].per_host_limit == 4);
  check_refused(ike_with(entry + "/per_host_limit", 0), entry + "/per_host_limit", "1 to 1024");
  check_refused(ike_with(entry + "/per_host_only", true), entry + "/per_host_only", "no SAs of pairs");
  auto only = ike_with(entry + "/per_host_limit", 4);
  only["crypto_maps"][0]["entries"][0]["per_host_only"] = true;
  CHECK(loaded(only).crypto_maps[0].entries[0].per_host_only);
  auto always = ike_with(entry + "/per_host_limit", 4);
  always["crypto_maps"][0]["entries"][0]["initiate"] = "always";
  check_refused(always, entry + "/initiate", "first packet");
}

TEST_CASE("CM-03, CM-17: peers and lists of a negotiated entry") {
  check_refused(ike_with(entry + "/peer", "192.0.2.1"), entry + "/peer", "own address");
  check_refused(ike_with(entry + "/peer", "0.0.0.0"), entry + "/peer", "not a host's address");
  check_refused(ike_with(entry + "/peer", {"192.0.2.2", "192.0.2.3"}), entry + "/peer", "exactly one peer");
  auto many = ike();
  json rule = many["acls"][0]["rules"][0];
  rule["destination"] = "10.7.0.0/16";
  many["acls"][0]["rules"].push_back(rule);
  check_accepted(many);
  many["acls"][0]["rules"][0]["action"] = "deny";
  check_accepted(many);
  many["acls"][0]["rules"][1]["action"] = "deny";
  check_refused(many, entry + "/match_address", "permits nothing");
  many["acls"][0]["rules"] = json::array();
  check_refused(many, entry + "/match_address", "permits nothing");
  auto gcm = ike();
  gcm["ipsec"]["transform_sets"].push_back({{"name", "G"}, {"transforms", {"esp-gcm 256"}}});
  gcm["crypto_maps"][0]["entries"][0]["transform_sets"] = {"G", "T1"};
  check_accepted(gcm);
}

TEST_CASE("negotiated entries and tunnels need a profile that fits, and a key for the peer") {
  auto unnamed = ike_without(entry, "ikev2_profile");
  check_accepted(unnamed);
  unnamed["ikev2"]["profiles"][0]["match"]["identity_remote"] = json::parse(R"([{"fqdn": "n2.example"}])");
  check_refused(unnamed, entry + "/ikev2_profile", "no IKEv2 profile matches peer 192.0.2.2");
  check_refused(unnamed, "/tunnels/0/protection/ikev2_profile", "no IKEv2 profile matches peer 192.0.2.2");
  unnamed["ikev2"]["profiles"][0]["match"]["identity_remote"] = {"any"};
  check_accepted(unnamed);
  unnamed["ikev2"]["profiles"][0]["match"]["address_local"] = "192.0.2.77";
  check_refused(unnamed, entry + "/ikev2_profile", "no IKEv2 profile matches");
  check_refused(ike_without("", "ikev2"), "/tunnels/0/protection/ikev2_profile", "no IKEv2 profile");
  // SV-29: of the tunnel, else of its IPsec profile.
  auto named = ike();
  named["ikev2"]["profiles"][0]["match"]["identity_remote"] = json::parse(R"([{"fqdn": "n2.example"}])");
  named["ipsec"]["profiles"][0]["ikev2_profile"] = "PR";
  check_accepted(named);
}

TEST_CASE("IKE-01: with IKE off, what needs it says that it is inert, and manual keys go on") {
  auto off = ike_with("/ikev2/enabled", false);
  check_warned(off, entry, "inert");
  check_warned(off, "/tunnels/0", "inert");
  auto manual = good();
  manual["ikev2"]["enabled"] = false;
  CHECK(load(manual)->warnings.empty());
}

TEST_CASE("TS-59 to TS-62: lifetimes, each inherited by itself") {
  const Document plain = loaded(ike());
  CHECK(plain.ipsec.sa.lifetime_s == 3600U);
  CHECK(plain.ipsec.sa.lifetime_kb == 4608000U);
  auto document = ike();
  document["ipsec"]["security_association"] = {{"lifetime_seconds", 120}, {"idle_time", 60}, {"replay_window", 128}};
  document["crypto_maps"][0]["entries"][0]["security_association"] = {{"lifetime_kilobytes", "disable"},
                                                                      {"lifetime_packets", 1000},
                                                                      {"extended_sequence_numbers", true},
                                                                      {"tfc_padding", "mtu"},
                                                                      {"dummy", {{"pps", 4}}}};
  document["ipsec"]["profiles"][0]["security_association"] = {{"lifetime_kilobytes", 2560}};
  const Document d = loaded(document);
  CHECK(d.ipsec.sa.lifetime_s == 120U);
  CHECK(d.ipsec.sa.lifetime_kb == 4608000U);
  CHECK(d.ipsec.sa.replay_window == 128);
  CHECK(d.crypto_maps[0].entries[0].sa.lifetime_kb == 0U);
  CHECK(!d.crypto_maps[0].entries[0].sa.lifetime_s);
  CHECK(d.crypto_maps[0].entries[0].sa.lifetime_packets == 1000U);
  CHECK(d.crypto_maps[0].entries[0].sa.extended_sequence == true);
  CHECK(!d.ipsec.sa.extended_sequence);
  CHECK(d.crypto_maps[0].entries[0].sa.tfc_bytes == 65535);
  CHECK(d.crypto_maps[0].entries[0].sa.dummy_interval_us == 250'000U);
  CHECK(!d.profiles[0].sa.dummy_interval_us);
  CHECK(d.profiles[0].sa.lifetime_kb == 2560U);
  const std::string global = "/ipsec/security_association";
  check_refused(ike_with(global + "/lifetime_seconds", 119), global + "/lifetime_seconds", "120 to 2592000");
  check_refused(ike_with(global + "/lifetime_seconds", 2592001), global + "/lifetime_seconds", "120 to 2592000");
  check_accepted(ike_with(global + "/lifetime_seconds", 2592000));
  check_refused(ike_with(global + "/lifetime_kilobytes", 2559), global + "/lifetime_kilobytes", "2560 to 4294967295");
  check_refused(ike_with(global + "/lifetime_kilobytes", "off"), global + "/lifetime_kilobytes", "disable");
  check_accepted(ike_with(global + "/lifetime_kilobytes", 4294967295U));
  check_refused(ike_with(global + "/idle_time", 59), global + "/idle_time", "60 to 86400");
  check_refused(ike_with(global + "/replay_window", 31), global + "/replay_window", "32 to 4096");
  check_refused(ike_with(global + "/dummy", {{"pps", 25001}}), global + "/dummy/pps", "1 to 25000");
  check_refused(ike_with(global + "/dummy", {{"seconds", 0}}), global + "/dummy/seconds", "1 to 3600");
  check_refused(ike_with(global + "/dummy", {{"pps", 1}, {"seconds", 1}}), global + "/dummy", "1 to 1");
  check_refused(ike_with(global + "/dummy", json::object()), global + "/dummy", "1 to 1");
  check_refused(ike_with(global + "/dummy", {{"rate", 1}}), global + "/dummy/rate", "pps, seconds");
  check_refused(ike_with(global + "/dummy", "off"), global + "/dummy", "disable");
  check_refused(ike_with(global + "/dummy", 5), global + "/dummy", "object or string");
  check_refused(ike_with(global + "/tfc_padding", 63), global + "/tfc_padding", "64 to 65535");
  check_refused(ike_with(global + "/tfc_padding", "max"), global + "/tfc_padding", "mtu");
  check_accepted(ike_with(global + "/dummy", {{"seconds", 15}}));
  check_accepted(ike_with(global + "/tfc_padding", 1400));
  check_refused(ike_with(global + "/lifetime_packets", 999), global + "/lifetime_packets", "1000 to 4294967295");
  check_refused(ike_with(global + "/extended_sequence_numbers", "yes"), global + "/extended_sequence_numbers",
                "boolean");
}

TEST_CASE("TS-29, TS-32: what IKEv2 negotiates of AH and of compression, and what it cannot say") {
  const auto with_sets = [](std::initializer_list<json> sets) {
    auto document = ike();
    json names = json::array();
    for (const json& words : sets) {
      names.push_back("S" + std::to_string(names.size()));
      document["ipsec"]["transform_sets"].push_back({{"name", names.back()}, {"transforms", words}});
    }
    document["crypto_maps"][0]["entries"][0]["transform_sets"] = names;
    return document;
  };
  const json ah = {"ah-sha256-hmac"}, esp = {"esp-aes", "esp-sha256-hmac"},
             both = {"ah-sha256-hmac", "esp-aes", "esp-sha256-hmac"},
             small = {"esp-aes", "esp-sha256-hmac", "comp-deflate"};
  const std::string sets = "/crypto_maps/0/entries/0/transform_sets";
  check_accepted(with_sets({ah}));
  check_accepted(with_sets({ah, esp}));
  check_refused(with_sets({both}), sets, "one protocol");
  check_refused(with_sets({esp, both}), sets, "one protocol");
  check_accepted(with_sets({small}));
  check_refused(with_sets({small, esp}), sets, "with and without compression");
  auto tunnel = ike();
  tunnel["ipsec"]["transform_sets"].push_back({{"name", "B"}, {"transforms", both}});
  tunnel["ipsec"]["profiles"][0]["transform_sets"] = {"B"};
  check_refused(tunnel, "/tunnels/0/protection/profile", "one protocol");
  tunnel["ipsec"]["transform_sets"].back()["transforms"] = ah;
  check_accepted(tunnel);
}

TEST_CASE("TS-64 to TS-66: PFS, off by default; the guide's bare form means group 1, which is weak") {
  CHECK(!loaded(ike()).crypto_maps[0].entries[0].pfs);
  CHECK(loaded(ike_with(entry + "/pfs", "group19")).crypto_maps[0].entries[0].pfs == crypto::DhGroup::ecp256);
  CHECK(loaded(ike_with("/ipsec/profiles/0/pfs", "group31")).profiles[0].pfs == crypto::DhGroup::curve25519);
  CHECK(!loaded(ike_with(entry + "/pfs", false)).crypto_maps[0].entries[0].pfs);
  CHECK(loaded(ike_with(entry + "/pfs", true)).crypto_maps[0].entries[0].pfs == crypto::DhGroup::modp768);  // TS-65
  check_warned(ike_with(entry + "/pfs", true), entry + "/pfs", "weaker dh-group is deprecated: group 1 (modp768)");
  check_warned(ike_with(entry + "/pfs", "group5"), entry + "/pfs", "weaker dh-group");
  CHECK(loaded(ike_with(entry + "/pfs", "group17")).crypto_maps[0].entries[0].pfs == crypto::DhGroup::modp6144);
  check_refused(ike_with(entry + "/pfs", "group13"), entry + "/pfs", "not a known group");
  check_refused(ike_with(entry + "/pfs", "19"), entry + "/pfs", "group31");
  check_refused(ike_with(entry + "/pfs", 19), entry + "/pfs", "string or boolean");
}

TEST_CASE("SV-06, SV-25: negotiated tunnels") {
  auto transport = ike();
  transport["ipsec"]["transform_sets"].push_back(
      {{"name", "TT"}, {"transforms", {"esp-aes", "esp-sha256-hmac"}}, {"mode", "transport"}});
  transport["ipsec"]["profiles"][0]["transform_sets"] = {"T1", "TT"};
  check_refused(transport, "/tunnels/0/protection/profile", "transport mode");
  auto two = ike();
  two["tunnels"].push_back(json(two["tunnels"][0]));
  two["tunnels"][1]["number"] = 1;
  two["tunnels"][1].erase("addresses");
  check_refused(two, "/tunnels/1/protection", "source, destination and IKEv2 profile of Tunnel0");
  two["ikev2"]["profiles"].push_back(json(two["ikev2"]["profiles"][0]));
  two["ikev2"]["profiles"][1]["name"] = "P2";
  two["ikev2"]["profiles"][1]["match"]["identity_remote"] = json::parse(R"([{"fqdn": "second.example"}])");
  two["tunnels"][1]["protection"]["ikev2_profile"] = "P2";
  check_accepted(two);
  check_refused(ike_with("/tunnels/0/udp_encapsulation", json::object()), "/tunnels/0/udp_encapsulation",
                "IKE detects NAT");
  auto both = good();
  both["ikev2"] = ike()["ikev2"];
  both["tunnels"][0]["protection"]["ikev2_profile"] = "PR";
  check_refused(both, "/tunnels/0/protection/ikev2_profile", "session_key is given too");
}

}  // namespace postern::config
