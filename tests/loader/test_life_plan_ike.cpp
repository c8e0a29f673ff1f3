// Policies for postern-ike as tables: documents and links in, connections and children out.
#include <algorithm>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "config/load.hpp"
#include "ike/selectors.hpp"
#include "loader/plan_ike.hpp"

using namespace postern;
using namespace postern::loader;
using nlohmann::json;

namespace {

constexpr const char* base = R"({
  "version": 1,
  "acls": [{"name": "101", "rules": [
    {"action": "deny", "protocol": "ip", "source": "10.1.9.0/24", "destination": "any"},
    {"action": "permit", "protocol": "ip", "source": "10.1.0.0/16", "destination": "10.2.0.0/16"},
    {"action": "permit", "protocol": "tcp", "source": "10.1.0.0/16", "destination": "host 10.7.0.1", "destination_ports": "eq 80 443"}]}],
  "ipsec": {
    "transform_sets": [{"name": "G", "transforms": ["esp-gcm 256"]}, {"name": "C", "transforms": ["esp-aes", "esp-sha256-hmac"]}],
    "profiles": [{"name": "P1", "transform_sets": ["C"], "ikev2_profile": "TUN", "security_association": {"lifetime_seconds": 900}}]},
  "ikev2": {
    "nat_keepalive": 30,
    "proposals": [{"name": "A", "encryption": ["aes-cbc-256"], "integrity": ["sha512"], "group": [19]}],
    "policies": [{"name": "PO", "match": {"address_local": "192.0.2.1"}, "proposals": ["A", "default"]}],
    "keyrings": [{"name": "KR", "peers": [{"name": "n2", "address": "192.0.2.2",
                  "pre_shared_key": {"local": "our own key", "remote": "the peer's key"}}]}],
    "profiles": [
      {"name": "ADDR", "match": {"identity_remote": [{"address": "192.0.2.0/24"}]}, "keyring": "KR",
       "authentication": {"local": {"method": "pre-share"}, "remote": {"method": "pre-share"}}},
      {"name": "TUN", "match": {"identity_remote": [{"fqdn": "t.n2"}, {"key_id": "0x01"}]}, "identity_local": {"fqdn": "t.n1"},
       "lifetime": 600, "dpd": {"mode": "periodic", "interval": 20, "retry": 4}, "nat_force_encap": true, "keyring": "KR",
       "authentication": {"local": {"method": "pre-share"}, "remote": {"method": "pre-share", "key": "inline key"}}}]},
  "crypto_maps": [{"name": "M1", "entries": [
    {"sequence": 10, "type": "ipsec-isakmp", "match_address": "101", "peer": "192.0.2.2", "transform_sets": ["G", "C"],
     "pfs": "group20", "df_bit": "set", "ecn": "discard", "dscp": 46, "tcp_mss": "auto", "fragmentation": "after-encryption", "security_association": {"lifetime_kilobytes": "disable", "replay_window": 128, "lifetime_packets": 70000,
                                                                "extended_sequence_numbers": true, "tfc_padding": 1200, "dummy": {"seconds": 2}}}]}],
  "interfaces": [{"name": "out0", "addresses": ["192.0.2.1/24"], "crypto_map": "M1"}],
  "tunnels": [{"number": 0, "mode": "ipsec dual-overlay", "source": "out0", "destination": "192.0.2.2", "ttl": 64,
               "protection": {"profile": "P1"}}]
})";

config::Document document(const json& source) {
  auto loaded = config::load(source);
  if (!loaded) FAIL(config::to_text(loaded.error()));
  return std::move(loaded->document);
}

Facts facts() {
  Facts out;
  out.steer = "pn-N1";
  const auto add = [&](const char* name, std::uint32_t ifindex, std::uint32_t mtu) {
    LinkFacts& link = out.links.emplace_back();
    link.name = name;
    link.ifindex = ifindex;
    link.mtu = mtu;
  };
  add("out0", 2, 1500);
  add("pn-N1", 4, 1500);
  add("Tunnel0", 5, 1400);
  return out;
}

struct Both {
  Plan plan;
  IkePlan ike;
};
Both plan_of(const config::Document& d, const Facts& f = facts()) {
  FlowBook flows;
  auto plan = make_plan(d, f, flows);
  REQUIRE_MESSAGE(plan.has_value(), (plan ? "" : plan.error().message()));
  auto ike = plan_ike(d, f, *plan);
  REQUIRE_MESSAGE(ike.has_value(), (ike ? "" : ike.error().message()));
  return {std::move(*plan), std::move(*ike)};
}

// That of a map entry or tunnel.
const ike::Connection& connection(const Both& both, std::string_view owner) {
  for (const auto& one : both.ike.policy.connections)
    for (const ike::ChildPolicy& child : one->children)
      if (child.name.starts_with(owner)) return *one;
  FAIL("no connection of " << owner);
  return *both.ike.policy.connections.front();
}

std::string text_of(const Secret& key) { return {reinterpret_cast<const char*>(key.bytes().data()), key.size()}; }
IpAddress ip(const char* text) { return *IpAddress::parse(text); }

}  // namespace

TEST_CASE("a negotiated entry is one connection, with a child for each permit rule (CM-17)") {
  const Both both = plan_of(document(json::parse(base)));
  CHECK(both.ike.missing.empty());
  REQUIRE(both.ike.policy.connections.size() == 2);
  const ike::Connection& map = connection(both, "M1 10 out0");
  CHECK(map.name == "192.0.2.1 192.0.2.2 ADDR");
  CHECK(map.local == ip("192.0.2.1"));
  CHECK(map.remote == ip("192.0.2.2"));
  CHECK(!map.always());
  CHECK(map.policy_name == "PO");
  CHECK(map.profile_name == "ADDR");  // by its match rules
  CHECK(map.keyring_name == "KR");
  REQUIRE(map.proposals.size() == 2);
  CHECK(map.proposals[0].name == "A");
  CHECK(map.proposals[0].prf == std::vector{crypto::Prf::hmac_sha512});
  CHECK((map.local_identity == ike::Identity::of(ip("192.0.2.1"))));  // IKE-38
  CHECK((map.remote_identities == std::vector<ike::IdentityMatch>{*Prefix::parse("192.0.2.0/24")}));
  CHECK(text_of(map.local_key) == "our own key");
  CHECK(text_of(map.remote_key) == "the peer's key");
  CHECK(map.lifetime_s == 86400);
  CHECK(map.nat_keepalive_s == 30);
  CHECK(!map.force_encapsulation);

  REQUIRE(map.children.size() == 3);
  const ike::ChildPolicy &all = map.children[0], &web = map.children[1], &later = map.children[2];
  // By the flow, whose number an edit of other rules leaves alone (CM-19).
  CHECK(all.name == "M1 10 out0 #" + std::to_string(both.plan.flows[0].id));
  CHECK(web.name == "M1 10 out0 #" + std::to_string(both.plan.flows[1].id));
  CHECK(web.interface == "out0");
  CHECK(web.map == "M1");
  CHECK(web.sequence == 10);
  CHECK((all.local == std::vector<ike::Selector>{{0, 0, 65535, ip("10.1.0.0"), ip("10.1.255.255")}}));
  CHECK((web.remote == std::vector<ike::Selector>{{6, 80, 80, ip("10.7.0.1"), ip("10.7.0.1")},
                                                  {6, 443, 443, ip("10.7.0.1"), ip("10.7.0.1")}}));
  // R43-07: what has no ports is a flow of its own, with OPAQUE ports.
  CHECK(later.name == "M1 10 out0 #" + std::to_string(both.plan.flows[2].id) + " fragments");
  CHECK((later.local == std::vector<ike::Selector>{{6, 65535, 0, ip("10.1.0.0"), ip("10.1.255.255")}}));
  CHECK((later.remote == std::vector<ike::Selector>{{6, 65535, 0, ip("10.7.0.1"), ip("10.7.0.1")}}));
  CHECK(later.later_fragments);
  CHECK_FALSE(web.later_fragments);
  CHECK(later.place.flow == both.plan.flows[2].id);
  CHECK(later.place.flow != web.place.flow);
  CHECK(web.local.size() == 1);
  CHECK(web.local[0].protocol == 6);
  REQUIRE(all.proposals.size() == 2);
  CHECK(all.proposals[0].transform.cipher == crypto::Cipher::aes_gcm_16);
  for (const ike::EspProposal& proposal : all.proposals) CHECK(proposal.extended_sequence);
  CHECK(all.lifetime_packets == 70000);
  CHECK(all.place.tfc_bytes == 1200);
  CHECK(all.place.dummy_interval_us == 2'000'000);
  CHECK(web.place.dummy_interval_us == 2'000'000);  // CM-27: an entry's are of all its flows
  CHECK(all.pfs == std::vector{crypto::DhGroup::ecp384});
  CHECK(all.lifetime_s == 3600);
  CHECK(all.lifetime_bytes == 0);
  CHECK(all.idle_s == 0);
  CHECK(all.place.flow == both.plan.flows[0].id);
  CHECK(web.place.flow == both.plan.flows[1].id);
  CHECK(all.place.deliver == DeliverTo::map_interface);
  CHECK(all.place.ifindex == 2);
  CHECK(all.place.path_mtu == 1500);
  CHECK(all.place.replay_window == 128);
  CHECK(all.place.df == DfPolicy::set);
  CHECK(all.place.ecn == EcnPolicy::discard);
  CHECK(all.place.fragmentation == FragmentPolicy::after);
  CHECK_FALSE(all.place.dscp_copy);
  CHECK(all.place.dscp == 46);
  CHECK(all.place.tcp_mss == mss_of_path);
  CHECK(all.place.path_mtu_aging_s == 600);
}

TEST_CASE("a negotiated tunnel is one connection with one child, any to any of what it carries (SV-02, SV-07)") {
  const Both both = plan_of(document(json::parse(base)));
  const ike::Connection& tunnel = connection(both, "Tunnel0");
  CHECK(tunnel.always());
  CHECK(tunnel.profile_name == "TUN");
  CHECK((tunnel.local_identity == ike::Identity::of(ike::IdType::fqdn, "t.n1")));
  REQUIRE(tunnel.remote_identities.size() == 2);
  CHECK((std::get<ike::Identity>(tunnel.remote_identities[1]) == ike::Identity::of(ike::IdType::key_id, "\x01")));
  CHECK(text_of(tunnel.local_key) == "our own key");
  CHECK(text_of(tunnel.remote_key) == "inline key");
  CHECK(tunnel.lifetime_s == 600);
  CHECK((tunnel.dpd == ike::Dpd{ike::DpdMode::periodic, 20, 4}));
  CHECK(tunnel.force_encapsulation);
  REQUIRE(tunnel.children.size() == 1);
  const ike::ChildPolicy& child = tunnel.children[0];
  CHECK(child.name == "Tunnel0");
  CHECK(child.interface == "Tunnel0");
  CHECK(child.map == "Tunnel0-head-0");
  REQUIRE(child.local.size() == 2);
  CHECK(child.local[0].family() == Family::v4);
  CHECK((child.local[1] == ike::Selector{0, 0, 65535, {}, Prefix{{}, 0}.last()}));
  CHECK((child.local == child.remote));
  CHECK(child.lifetime_s == 900);
  CHECK(child.lifetime_bytes == 4608000ULL * 1024);
  CHECK(child.pfs.empty());
  CHECK(child.place.deliver == DeliverTo::tunnel);
  CHECK(child.place.ifindex == 5);
  CHECK(child.place.path_mtu == 1500);  // of the source
  CHECK(child.place.ttl == 64);
  CHECK(child.place.replay_window == 64);
  CHECK(child.lifetime_packets == 0);
  CHECK(child.place.tfc_bytes == 0);
  CHECK(child.place.dummy_interval_us == 0);
  for (const ike::EspProposal& proposal : child.proposals) CHECK_FALSE(proposal.extended_sequence);
}

TEST_CASE("CM-19: a rule in front of others leaves their flows and children what they are") {
  json source = json::parse(base);
  FlowBook flows;
  const Facts lab = facts();
  const auto names_of = [&](const json& text) {
    const config::Document edited = document(text);
    const Plan plan = make_plan(edited, lab, flows).value();
    std::map<std::string, std::uint32_t> out;
    const IkePlan ike = plan_ike(edited, lab, plan).value();
    for (const auto& connection : ike.policy.connections)
      for (const ike::ChildPolicy& child : connection->children) out[child.name] = child.place.flow;
    return out;
  };
  const auto before = names_of(source);
  json first = source["acls"][0]["rules"][1];
  first["destination"] = "10.99.0.0/16";
  source["acls"][0]["rules"].insert(source["acls"][0]["rules"].begin(), first);
  const auto after = names_of(source);
  CHECK(after.size() == before.size() + 1);
  for (const auto& [name, flow] : before) {
    CAPTURE(name);
    REQUIRE(after.contains(name));
    CHECK(after.at(name) == flow);
  }
}

TEST_CASE("the plan of negotiated entries is that of manual ones, without SAs") {
  const Both both = plan_of(document(json::parse(base)));
  CHECK(both.plan.sas.empty());
  CHECK(both.plan.flows.size() == 4);
  CHECK(both.plan.negotiates);
  REQUIRE(both.plan.peers.size() == 1);
  CHECK(both.plan.peers[0].address == ip("192.0.2.2"));
  const auto out0 = std::ranges::find(both.plan.interfaces, "out0", &PlannedInterface::name);
  REQUIRE(out0 != both.plan.interfaces.end());
  REQUIRE(out0->rules.size() == 3);
  CHECK((out0->flags & POSTERN_IF_OUTSIDE) != 0);
  CHECK((out0->flags & POSTERN_IF_PORTS) != 0);
  CHECK(out0->rules[2].flow == both.plan.flows[1].id);
  CHECK(out0->rules[2].fragment_flow == both.plan.flows[2].id);
  CHECK(out0->rules[1].fragment_flow == 0);  // no ports: one pair of SAs carries all
  // What the kernel reassembles of UDP-encapsulated ESP.
  CHECK(std::ranges::count(both.plan.devices, DeviceKind::udp_encap, &PlannedDevice::kind) == 1);
}

TEST_CASE("R43-07: separate_fragment_sa false, and a rule with `fragments`") {
  json source = json::parse(base);
  source["crypto_maps"][0]["entries"][0]["separate_fragment_sa"] = false;
  const Both together = plan_of(document(source));
  CHECK(together.plan.flows.size() == 3);
  CHECK(connection(together, "M1 10 out0").children.size() == 2);
  const auto out0 = std::ranges::find(together.plan.interfaces, "out0", &PlannedInterface::name);
  REQUIRE(out0->rules.size() == 3);
  CHECK(out0->rules[2].fragment_flow == 0);  // classified, and dropped by the SA's selectors

  json& rule = source["acls"][0]["rules"][2];
  rule.erase("destination_ports");
  rule["fragments"] = true;
  rule["log"] = "input";
  const Both alone = plan_of(document(source));
  const auto& child = connection(alone, "M1 10 out0").children.at(1);
  CHECK(child.later_fragments);
  CHECK(ike::is_opaque(child.local.at(0)));
  const auto again = std::ranges::find(alone.plan.interfaces, "out0", &PlannedInterface::name);
  CHECK(again->rules[2].fragments == PolicyFragments::only);
  CHECK(again->rules[2].log == POSTERN_LOG_INPUT);
  CHECK(again->rules[2].name == "101 rule 30");
}

TEST_CASE("IKE-01: with IKE off there is no connection and no socket, and the plan says what is inert") {
  auto source = json::parse(base);
  source["ikev2"]["enabled"] = false;
  const Both both = plan_of(document(source));
  CHECK(both.ike.policy.connections.empty());
  CHECK(!both.plan.negotiates);
  CHECK(both.plan.flows.size() == 4);  // still blocked, never in the clear
  CHECK(std::ranges::count(both.plan.devices, DeviceKind::udp_encap, &PlannedDevice::kind) == 0);
  REQUIRE(both.plan.missing.size() == 2);
  CHECK(both.plan.missing[0].find("M1 10 out0 is inert") != std::string::npos);
}

TEST_CASE("what the kernel has to tell, and does not: no connection, and a reason") {
  auto source = json::parse(base);
  source["interfaces"][0].erase("addresses");
  Facts f = facts();
  CHECK(plan_of(document(source), f).ike.policy.connections.empty());
  CHECK(plan_of(document(source), f).plan.missing.size() == 2);
  f.links[0].addresses = {*Prefix::parse("192.0.2.33/24")};
  const Both both = plan_of(document(source), f);
  CHECK(connection(both, "M1 10 out0").local == ip("192.0.2.33"));
  CHECK(connection(both, "M1 10 out0").policy_name == "default");  // PO is for 192.0.2.1
  CHECK(connection(both, "M1 10 out0").proposals[0].name == "default");
  // A profile that turns out to be for another address.
  source["ikev2"]["profiles"][0]["match"]["address_local"] = "192.0.2.1";
  const Both none = plan_of(document(source), f);
  CHECK(none.ike.policy.connections.size() == 1);
  REQUIRE(none.ike.missing.size() == 1);
  CHECK(none.ike.missing[0].find("M1 10 out0: no IKEv2 profile matches peer 192.0.2.2") != std::string::npos);
}

TEST_CASE("MAN-14: inbound SPIs of manual SAs are listed") {
  auto source = json::parse(base);
  const auto sa = [](unsigned spi) {
    return json{{"esp", {{"spi", spi}, {"cipher", std::string(32, 'a')}, {"authenticator", std::string(64, 'b')}}}};
  };
  source["tunnels"][0]["protection"]["session_key"] = {{"inbound", sa(5001)}, {"outbound", sa(5002)}};
  const Both both = plan_of(document(source));
  CHECK(both.ike.policy.manual_spis == std::vector<std::uint32_t>{5001});
  CHECK(both.ike.policy.connections.size() == 1);
}

TEST_CASE("an ACE whose ports make more selectors than an SA holds is refused") {
  auto source = json::parse(base);
  source["acls"][0]["rules"][2]["source_ports"] = "eq 11 13 15 17";
  source["acls"][0]["rules"][2]["destination_ports"] = "eq 1 2 3 4 5 6 7 8";
  (void)plan_of(document(source));  // 32
  source["acls"][0]["rules"][2]["destination_ports"] = "eq 1 2 3 4 5 6 7 8 9";
  const config::Document d = document(source);
  FlowBook flows;
  const auto plan = make_plan(d, facts(), flows);
  REQUIRE(plan);
  const auto refused = plan_ike(d, facts(), *plan);
  REQUIRE(!refused);
  CHECK(refused.error().message().find("36") != std::string::npos);
}

TEST_CASE("front-door VRF: the routing table, and the policies and profiles of that VRF") {
  auto source = json::parse(base);
  source["vrfs"] = {{{"name", "blue"}, {"table", 100}}};
  source["interfaces"][0]["vrf"] = "blue";
  source["ikev2"]["profiles"][0]["match"]["fvrf"] = "blue";
  const Both both = plan_of(document(source));
  const ike::Connection& map = connection(both, "M1 10 out0");
  CHECK(map.fvrf == 100);
  CHECK(map.policy_name == "default");  // PO is for the global VRF
  CHECK(map.children[0].place.inside_vrf == 100);
  CHECK(connection(both, "Tunnel0").fvrf == 100);
  CHECK(connection(both, "Tunnel0").children[0].place.inside_vrf == 0);
}

TEST_CASE("TS-58: entries and tunnels with the same ends and profile are one connection, each child by its own entry") {
  auto source = json::parse(base);
  source["acls"].push_back(
      {{"name", "102"},
       {"rules",
        {{{"action", "permit"}, {"protocol", "udp"}, {"source", "10.3.0.0/16"}, {"destination", "10.4.0.0/16"}}}}});
  source["crypto_maps"][0]["entries"].push_back({{"sequence", 20},
                                                 {"type", "ipsec-isakmp"},
                                                 {"match_address", "102"},
                                                 {"peer", "192.0.2.2"},
                                                 {"transform_sets", {"C"}},
                                                 {"initiate", "always"},
                                                 {"ikev2_profile", "ADDR"}});
  source["ipsec"]["profiles"][0]["ikev2_profile"] = "ADDR";
  const Both both = plan_of(document(source));
  REQUIRE(both.ike.policy.connections.size() == 1);
  const ike::Connection& one = *both.ike.policy.connections.front();
  CHECK(one.always());
  REQUIRE(one.children.size() == 5);  // one of them for later fragments of the rule with ports
  const auto of_20 = std::ranges::find(both.plan.flows, 20U, &PlannedFlow::sequence);
  REQUIRE(of_20 != both.plan.flows.end());
  const std::string name = "M1 20 out0 #" + std::to_string(of_20->id);
  REQUIRE(one.child(name) != nullptr);
  REQUIRE(one.child("Tunnel0") != nullptr);
  const ike::ChildPolicy &first = one.children[0], &udp = *one.child(name), &tunnel = *one.child("Tunnel0");
  CHECK(first.initiate == ike::Initiate::on_traffic);
  CHECK(first.proposals.size() == 2);
  CHECK(udp.sequence == 20);
  CHECK(udp.initiate == ike::Initiate::always);
  REQUIRE(udp.proposals.size() == 1);
  CHECK(udp.proposals[0].transform.cipher == crypto::Cipher::aes_cbc);
  CHECK(tunnel.name == "Tunnel0");
  CHECK(tunnel.lifetime_s == 900);

  SUBCASE("the name outlives the entry that was the first") {
    source["crypto_maps"][0]["entries"].erase(0);
    const Both less = plan_of(document(source));
    REQUIRE(less.ike.policy.connections.size() == 1);
    CHECK(less.ike.policy.connections.front()->name == one.name);
  }
  SUBCASE("another peer, profile or address of ours is another connection") {
    source["crypto_maps"][0]["entries"][1]["peer"] = "192.0.2.2";
    source["crypto_maps"][0]["entries"][1]["ikev2_profile"] = "TUN";
    CHECK(plan_of(document(source)).ike.policy.connections.size() == 2);
  }
}

TEST_CASE("rows for show, and what makes two policies different") {
  const Both both = plan_of(document(json::parse(base)));
  const ike::Policy& policy = both.ike.policy;
  REQUIRE(policy.policies.size() == 2);
  CHECK((policy.policies[0] == ike::PolicyRow{"PO", "192.0.2.1", "global", {"A", "default"}}));
  CHECK(policy.policies[1].name == "default");
  REQUIRE(policy.proposals.size() == 2);
  CHECK(policy.proposals[1].name == "default");
  REQUIRE(policy.profiles.size() == 2);
  CHECK(policy.profiles[1].match_remote == std::vector<std::string>{"t.n2", "key-id 01"});
  CHECK(policy.profiles[1].local_identity == "t.n1");

  CHECK(same_policy(policy, plan_of(document(json::parse(base))).ike.policy));
  auto counted = policy;
  counted.generation = 7;
  CHECK(same_policy(policy, counted));
  for (const auto& [pointer, value] :
       std::vector<std::pair<const char*, json>>{{"/ikev2/keyrings/0/peers/0/pre_shared_key/local", "another key"},
                                                 {"/ikev2/profiles/0/lifetime", 300},
                                                 {"/ikev2/proposals/0/group/0", 20},
                                                 {"/crypto_maps/0/entries/0/initiate", "always"},
                                                 {"/acls/0/rules/1/destination", "10.8.0.0/16"}}) {
    auto source = json::parse(base);
    source[json::json_pointer(pointer)] = value;
    CAPTURE(pointer);
    CHECK(!same_policy(policy, plan_of(document(source)).ike.policy));
  }
}
