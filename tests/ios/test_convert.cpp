// IOS configurations to documents that config/ accepts, and what is refused with its line.
#include <doctest/doctest.h>

#include "config/load.hpp"
#include "ios/convert.hpp"

using namespace postern;
using namespace postern::ios;
using nlohmann::json;

namespace {

constexpr const char* site = R"(hostname R1
crypto ikev2 proposal P1
 encryption aes-gcm-256 aes-gcm-128
 prf sha384
 group 20 14
crypto ikev2 policy WAN
 match address local 203.0.113.1
 proposal P1
crypto ikev2 keyring RING
 peer branch
  address 203.0.113.2
  pre-shared-key local s3cret-one
  pre-shared-key remote 0 s3cret-two
 peer others
  address 198.51.100.0 255.255.255.0
  pre-shared-key s3cret-three
crypto ikev2 profile BRANCHES
 match identity remote address 203.0.113.2 255.255.255.255
 match identity remote fqdn domain example.com
 identity local fqdn r1.example.com
 authentication local pre-share
 authentication remote pre-share
 keyring local RING
 dpd 10 3 periodic
crypto ipsec transform-set STRONG esp-gcm 256
crypto ipsec transform-set OLD esp-aes 192 esp-sha-hmac
 mode transport
crypto map M 10 ipsec-isakmp
 set peer 203.0.113.2
 set transform-set STRONG OLD
 set pfs group20
 set ikev2-profile BRANCHES
 set security-association lifetime seconds 1800
 match address 101
interface GigabitEthernet0/0
 ip address 203.0.113.1 255.255.255.0
 no shutdown
 crypto map M
interface Gi0/1
 ip address 10.1.0.1 255.255.0.0
ip access-list extended 101
 10 permit tcp 10.1.0.77 0.0.255.255 host 10.2.0.9 eq www 443
 20 deny udp any any range 1024 2048 log
access-list 101 permit gre host 10.1.0.1 any
)";

const Options devices = {.key_directory = "/etc/postern/keys",
                         .interfaces = {{"gi0/0", "eth0"}, {"GigabitEthernet0/1", "eth1"}}};

std::vector<std::string> said(const Converted& converted, Severity severity) {
  std::vector<std::string> out;
  for (const Note& one : converted.notes)
    if (one.severity == severity) out.push_back(std::to_string(one.line) + " " + one.message);
  return out;
}

config::Problems problems(const Converted& converted) {
  const auto loaded = config::load(converted.document, config::LoadOptions{.read_secret_files = false});
  return loaded ? config::Problems{} : loaded.error();
}

}  // namespace

TEST_CASE("a site with a crypto map becomes a valid document") {
  const Converted got = convert(site, devices);
  CHECK(said(got, Severity::error) == std::vector<std::string>{});
  CHECK(config::to_text(problems(got)) == "");
  const json& document = got.document;
  CHECK(document["system"]["hostname"] == "R1");
  CHECK(document["acls"] == json::parse(R"([{"name": "101", "rules": [
    {"sequence": 10, "action": "permit", "protocol": "tcp", "source": "10.1.0.0 0.0.255.255", "destination": "host 10.2.0.9", "destination_ports": "eq 80 443"},
    {"sequence": 20, "action": "deny", "protocol": "udp", "source": "any", "destination": "any", "destination_ports": "range 1024 2048", "log": true},
    {"action": "permit", "protocol": "gre", "source": "host 10.1.0.1", "destination": "any"}]}])"));
  CHECK(document["crypto_maps"] ==
        json::parse(R"([{"name": "M", "entries": [{"sequence": 10, "type": "ipsec-isakmp", "peer": "203.0.113.2",
    "transform_sets": ["STRONG", "OLD"], "pfs": "group20", "ikev2_profile": "BRANCHES", "match_address": "101",
    "security_association": {"lifetime_seconds": 1800}}]}])"));
  CHECK(document["interfaces"] == json::parse(R"([{"name": "eth0", "addresses": ["203.0.113.1/24"], "crypto_map": "M"},
    {"name": "eth1", "addresses": ["10.1.0.1/16"], "inside": true}])"));
  CHECK(document["ipsec"]["transform_sets"][1] ==
        json::parse(R"({"name": "OLD", "transforms": ["esp-aes 192", "esp-sha-hmac"], "mode": "transport"})"));
  CHECK(document["ikev2"]["profiles"][0]["match"]["identity_remote"] ==
        json::parse(R"([{"address": "203.0.113.2/32"}, {"fqdn": "*.example.com"}])"));
  CHECK(document["ikev2"]["keyrings"][0]["peers"][1]["address"] == "198.51.100.0/24");
}

TEST_CASE("IF-03: the local address of a map is an interface, which is not taken for an inside one") {
  const Converted got = convert(
      "interface Loopback0\n ip address 203.0.113.9 255.255.255.255\n"
      "crypto map M local-address Loopback 0\ncrypto map M 10 ipsec-isakmp\n set peer 203.0.113.2\n",
      Options{.interfaces = {{"Loopback0", "lo"}}});
  CHECK(got.document["crypto_maps"][0]["local_address"] == "lo");
  CHECK(got.document["crypto_maps"][0]["entries"].size() == 1);
  CHECK_FALSE(got.document["interfaces"][0].contains("inside"));
  CHECK(said(got, Severity::error).size() == 1);  // the entry lacks its list and sets
}

TEST_CASE("keys go into files and are never said") {
  Converted got = convert(site, devices);
  REQUIRE(got.keys.size() == 3);
  CHECK(got.keys[0].file == "RING-branch-local");
  CHECK(got.keys[0].value == "s3cret-one");
  CHECK(got.keys[1].value == "s3cret-two");
  CHECK(got.document["ikev2"]["keyrings"][0]["peers"][1]["pre_shared_key"] ==
        json{{"file", "/etc/postern/keys/RING-others"}});
  CHECK(got.document.dump().find("s3cret") == std::string::npos);

  got = convert(
      "crypto isakmp key s3cret-four address 10.0.0.1\nusername a password s3cret-five\nkeyring key s3cret\n"
      "crypto ikev2 keyring R\n peer p\n pre-shared-key 6 s3cret-six\n");
  for (const Note& one : got.notes) CHECK(one.message.find("s3cret") == std::string::npos);
  CHECK(said(got, Severity::error).size() == 4);
}

TEST_CASE("options of access rules (TS-04)") {
  const Converted got = convert(R"(ip access-list extended A
 permit icmp any any echo
 permit icmp any any 3 4 log
 permit icmp any any dscp ef
 permit tcp any any established tos min-delay time-range OFFICE
 permit udp any range 1 9 any precedence 5 log-input TAG
 permit ip any any fragments
)");
  CHECK(got.complete());
  CHECK(got.document["acls"][0]["rules"] == json::parse(R"([
    {"action": "permit", "protocol": "icmp", "source": "any", "destination": "any", "icmp_type": "echo"},
    {"action": "permit", "protocol": "icmp", "source": "any", "destination": "any", "icmp_type": 3, "icmp_code": 4, "log": true},
    {"action": "permit", "protocol": "icmp", "source": "any", "destination": "any", "dscp": "ef"},
    {"action": "permit", "protocol": "tcp", "source": "any", "destination": "any", "established": true, "tos": "min-delay", "time_range": "OFFICE"},
    {"action": "permit", "protocol": "udp", "source": "any", "source_ports": "range 1 9", "destination": "any", "precedence": 5, "log": "input", "log_tag": "TAG"},
    {"action": "permit", "protocol": "ip", "source": "any", "destination": "any", "fragments": true}])"));
  REQUIRE(problems(got).size() == 1);  // the range that nobody defined
  CHECK(problems(got)[0].path == "/acls/0/rules/3/time_range");
}

TEST_CASE("a tunnel with its routes") {
  const Converted got = convert(R"(
crypto ipsec transform-set T esp-aes esp-sha256-hmac
crypto ipsec profile P
 set transform-set T
 set ikev2-profile BRANCHES
vrf definition blue
interface Tunnel 0
 vrf forwarding blue
 ip address 172.16.0.1 255.255.255.252
 ipv6 address 2001:db8::1/64
 ip mtu 1400
 tunnel source Gi0/0
 tunnel mode IPsec ipv4
 tunnel destination 203.0.113.2
 tunnel protection ipsec profile P
ip route 10.9.0.0 255.255.0.0 Tunnel0
ip route 0.0.0.0 0.0.0.0 203.0.113.254
)",
                                devices);
  CHECK(got.document["tunnels"] ==
        json::parse(
            R"([{"number": 0, "mode": "ipsec ipv4", "vrf": "blue", "addresses": ["172.16.0.1/30", "2001:db8::1/64"],
    "mtu": 1400, "source": "eth0", "destination": "203.0.113.2", "protection": {"profile": "P"}, "routes": ["10.9.0.0/16"]}])"));
  CHECK(got.document["vrfs"] == json::parse(R"([{"name": "blue", "table": 1001}])"));
  CHECK(said(got, Severity::error) == std::vector<std::string>{});
  CHECK(said(got, Severity::warning).size() == 2);  // the VRF's table; the route that is the host's
}

TEST_CASE("manual keys, both protocols") {
  const Converted got = convert(R"(
crypto map mymap 10 ipsec-manual
 match address 102
 set-peer 192.0.2.1
 set transform-set both
 set session-key inbound ah 300 98765432109876549876543210987654
 set session-key outbound ah 400 fedcbafedcbafedcfedcbafedcbafedc
 set session-key inbound esp 300 cipher 0123456789012345 authenticator 11112222333344445555666677778888
 set session-key outbound esp 400 cipher abcdefabcdefabcd
)");
  const json& entry = got.document["crypto_maps"][0]["entries"][0];
  CHECK(entry["session_key"]["inbound"]["esp"] ==
        json::parse(R"({"spi": 300, "cipher": {"file": "/etc/postern/keys/mymap-10-inbound-cipher"},
    "authenticator": {"file": "/etc/postern/keys/mymap-10-inbound-authenticator"}})"));
  CHECK(entry["session_key"]["outbound"]["ah"] ==
        json::parse(R"({"spi": 400, "key": {"file": "/etc/postern/keys/mymap-10-outbound-ah"}})"));
  CHECK(entry["transform_set"] == "both");
  CHECK(got.keys.size() == 5);
  CHECK(said(got, Severity::warning) == std::vector<std::string>{"4 'set-peer' is taken as 'set peer'"});
}

TEST_CASE("R43-13, EX-46: the global settings, however they are spelled") {
  for (const char* const spelling : {"propagate", "propogate"}) {
    const Converted got = convert(std::string("Device> enable\nDevice# configure terminal\n"
                                              "Device(config)# crypto ipsec security-association dummy seconds 15\n"
                                              "Device(config)# crypto ipsec security-association ecn ") +
                                  spelling + "\nDevice(config-crypto-map)# exit\n");
    CHECK(
        got.document ==
        json::parse(
            R"({"version": 1, "ipsec": {"security_association": {"dummy": {"seconds": 15}}, "global": {"ecn": "propagate"}}})"));
    CHECK(got.complete());
    CHECK(said(got, Severity::warning).size() == (std::string_view(spelling) == "propogate" ? 1 : 0));
    CHECK(config::to_text(problems(got)) == "");
  }
}

TEST_CASE("R43-14, EX-47: an entry's settings in each spelling, and the output behind them") {
  const char* const lines[] = {"set security-association copy", "set security-association dfbit copy",
                               "set ipsec security-association dfbit copy"};
  for (const char* const df_bit : lines)
    for (const char* const ecn : {"propagate", "propogate"}) {
      const Converted got =
          convert(std::string("Device(config)# crypto map cmap 1 ipsec-isakmp\nDevice(config-crypto-map)# ") + df_bit +
                  "\nDevice(config-crypto-map)# set security-association dummy seconds 15\n"
                  "Device(config-crypto-map)# set security-association ecn " +
                  ecn +
                  "\nDevice(config-crypto-map)# end\nDevice# show crypto map ipsec sa\n\ninterface: Tunnel0\n"
                  "  Crypto map tag: Tunnel0-head-0, local addr 2001:db8::1\n   PERMIT, flags={origin_is_acl,}\n");
      CHECK(got.document["crypto_maps"] ==
            json::parse(R"([{"name": "cmap", "entries": [{"sequence": 1, "type": "ipsec-isakmp", "df_bit": "copy",
        "ecn": "propagate", "security_association": {"dummy": {"seconds": 15}}}]}])"));
      CHECK_FALSE(got.document.contains("interfaces"));
      CHECK(said(got, Severity::warning).size() ==
            (df_bit == lines[0] ? 1 : 0) + (std::string_view(ecn) == "propogate" ? 1 : 0));
      CHECK(said(got, Severity::error) ==
            std::vector<std::string>{
                "0 crypto map cmap 1 is incomplete: it lacks match address, set peer, set transform-set"});
    }
}

TEST_CASE("dynamic maps, several peers, SAs per host, and the profile form") {
  const Converted got = convert(R"(crypto ikev2 keyring RING
 peer any
  address 0.0.0.0 0.0.0.0
  pre-shared-key s3cret
crypto ikev2 profile ALL
 match identity remote any
 authentication local pre-share
 authentication remote pre-share
 keyring local RING
crypto ipsec transform-set STRONG esp-gcm 256
crypto ipsec profile PR
 set transform-set STRONG
 set ikev2-profile ALL
crypto dynamic-map ROAM 20
 set transform-set STRONG
crypto dynamic-map ROAM 10
 set transform-set STRONG
 set peer 203.0.113.9
 set pfs group20
 match address 102
crypto map M 10 ipsec-isakmp
 set peer 203.0.113.2
 set peer 203.0.113.3 default
 set transform-set STRONG
 set ikev2-profile ALL
 set security-association level per-host
 match address 101
crypto map M 20 ipsec-isakmp profile PR
 set peer 203.0.113.4
 match address 102
crypto map M 30 ipsec-isakmp profile PR
 set peer 203.0.113.5
 set peer b.example.net
 set peer a.example.net dynamic default
 match address 102
crypto map M 1000 ipsec-isakmp dynamic ROAM
interface gi0/0
 ip address 203.0.113.1 255.255.255.0
 crypto map M
access-list 101 permit ip 10.1.0.0 0.0.255.255 10.2.0.0 0.0.255.255
access-list 102 permit ip 10.1.0.0 0.0.255.255 10.3.0.0 0.0.255.255
)",
                                devices);
  CHECK(said(got, Severity::error) == std::vector<std::string>{});
  CHECK(config::to_text(problems(got)) == "");
  const json& entries = got.document["crypto_maps"][0]["entries"];
  CHECK(entries[0]["peers"] == json{"203.0.113.3", "203.0.113.2"});
  CHECK(entries[0]["default_peer"] == true);
  CHECK(entries[0]["per_host_limit"] == 64);
  CHECK_FALSE(entries[0].contains("peer"));
  CHECK(entries[1]["profile"] == "PR");
  CHECK(entries[1]["peer"] == "203.0.113.4");
  CHECK(entries[2]["peers"] ==
        json::array({{{"name", "a.example.net"}, {"dynamic", true}}, "203.0.113.5", "b.example.net"}));
  CHECK(entries[2]["default_peer"] == true);
  CHECK(entries[3] == json{{"sequence", 1000}, {"type", "ipsec-isakmp"}, {"dynamic", "ROAM"}});
  CHECK(got.document["dynamic_maps"] == json::parse(R"([{"name": "ROAM", "entries": [
      {"sequence": 20, "transform_sets": ["STRONG"]},
      {"sequence": 10, "transform_sets": ["STRONG"], "peers": ["203.0.113.9"], "pfs": "group20", "match_address": "102"}]}])"));
}

TEST_CASE("what is not converted is an error at its line") {
  struct Case {
    const char* text;
    const char* error;
  };
  for (const Case& one :
       {Case{"crypto map M 10 ipsec-isakmp dynamic D discover\n",
             "1 a dynamic map does not look for its peers: 'discover' is not converted"},
        Case{"crypto map M 10 ipsec-isakmp x\n set peer 1.1.1.1\n", "1 this block is not converted"},
        Case{"crypto dynamic-map D 10\n set peer 1.1.1.1 default\n", "2 a template has no default peer"},
        Case{"crypto dynamic-map D 10\n set peer vpn.example.net\n", "2 a template's peers are addresses"},
        Case{"crypto dynamic-map D 10\n set peer vpn.example.net dynamic\n", "2 a template's peers are addresses"},
        Case{"crypto dynamic-map D x\n set peer 1.1.1.1\n", "1 the sequence of the entry is not a number"},
        Case{"ip access-list extended A\n permit tcp any any reflect X\n",
             "2 'reflect' of an access rule is not converted; the rule is left out"},
        Case{"ip access-list extended A\n permit tcp any any eq gopher\n",
             "2 'gopher' is no port that is known by that name: write its number"},
        Case{"ip access-list extended A\n permit tcp any\n", "2 the access rule has no destination"},
        Case{"crypto ipsec security-association dummy seconds x\n", "1 seconds is not a number"},
        Case{"interface Gi9/9\n",
             "1 which Linux device is GigabitEthernet9/9? Say --interface GigabitEthernet9/9=DEVICE"},
        Case{"interface Tunnel1\n ip address 10.0.0.1 255.0.255.0\n",
             "2 10.0.0.1 255.0.255.0 is not an address and its network mask"},
        Case{"frobnicate the gateway\n", "1 'frobnicate the gateway' is not converted"}}) {
    const Converted got = convert(one.text, devices);
    CAPTURE(one.text);
    REQUIRE(said(got, Severity::error).size() >= 1);
    CHECK(said(got, Severity::error)[0] == one.error);
    CHECK_FALSE(got.complete());
  }
}

TEST_CASE("IKEv1 is refused, the rest is taken") {
  const Converted got = convert("crypto isakmp policy 1\n encryption aes\n group 14\nhostname R9\n");
  CHECK(said(got, Severity::error).size() == 1);
  CHECK(got.document["system"]["hostname"] == "R9");
}

TEST_CASE("hostile text is bounded") {
  std::string many;
  for (int i = 0; i < 3000; ++i) many += "nonsense\n";
  const Converted got = convert(many);
  CHECK(got.notes.size() == max_notes + 1);
  CHECK_FALSE(got.complete());
  CHECK(convert(std::string(max_text_bytes + 1, 'a')).notes.size() == 1);
  CHECK_FALSE(convert(std::string("\0\xff\x80 x\n", 6)).complete());
}
