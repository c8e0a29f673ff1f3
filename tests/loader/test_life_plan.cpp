// Plans as tables: documents and links in, SAs, flows, devices and interfaces out.
#include <algorithm>

#include <doctest/doctest.h>

#include "config/load.hpp"
#include "loader/plan.hpp"
#include "loader/plan_sa.hpp"
#include "loader/worker_devices.hpp"

using namespace postern;
using namespace postern::loader;

namespace {

Secret key_of(std::size_t size, std::uint8_t fill) {
  Secret key(size);
  std::ranges::fill(key.mutable_bytes(), std::byte{fill});
  return key;
}

config::ManualKeys keys(std::uint32_t in, std::uint32_t out) {
  return {{in, key_of(16, 1), key_of(32, 2)}, {out, key_of(16, 3), key_of(32, 4)}};
}

Prefix prefix(const char* text) { return *Prefix::parse(text); }
IpAddress address(const char* text) { return *IpAddress::parse(text); }

config::Ace ace(std::uint32_t sequence, config::Action action, const char* source, const char* destination) {
  config::Ace out;
  out.sequence = sequence;
  out.action = action;
  out.source = prefix(source);
  out.destination = prefix(destination);
  return out;
}

// One map entry on out0 and one tunnel from it.
config::Document document() {
  config::Document d;
  d.transform_sets = {{"T1",
                       {"esp-aes", "esp-sha256-hmac"},
                       {crypto::Cipher::aes_cbc, 128, crypto::Integrity::hmac_sha256_128},
                       false}};
  d.profiles.resize(1);
  d.profiles[0].name = "P1";
  d.profiles[0].transform_sets = {"T1"};
  d.acls = {{"101", Family::v4, {ace(10, config::Action::permit, "10.1.0.0/16", "10.2.0.0/16")}}};
  config::MapEntry entry;
  entry.sequence = 10;
  entry.acl = "101";
  entry.peer = address("192.0.2.2");
  entry.peers = {{entry.peer, {}, false}};
  entry.transform_sets = {"T1"};
  entry.keys = keys(4097, 4098);
  d.crypto_maps = {{"M1", Family::v4, {}, {entry}}};
  d.interfaces.resize(2);
  d.interfaces[0].name = "out0";
  d.interfaces[0].crypto_map = "M1";
  d.interfaces[1].name = "in0";
  d.interfaces[1].inside = true;
  config::Tunnel tunnel;
  tunnel.source = "out0";
  tunnel.destination = address("192.0.2.2");
  tunnel.profile = "P1";
  tunnel.keys = keys(4099, 4100);
  d.tunnels = {tunnel};
  return d;
}

LinkFacts link(const char* name, std::uint32_t ifindex, std::vector<Prefix> addresses = {}) {
  LinkFacts out;
  out.name = name;
  out.ifindex = ifindex;
  out.addresses = std::move(addresses);
  return out;
}

Facts facts() {
  Facts f;
  f.steer = "pn-N1";
  f.cpus = 4;
  f.links = {link("out0", 2, {prefix("192.0.2.1/24"), prefix("fe80::1/64"), prefix("2001:db8:ff::1/64")}),
             link("in0", 3, {prefix("10.1.0.1/16")}), link("pn-N1", 4), link("Tunnel0", 5)};
  return f;
}

Plan plan_of(const config::Document& d, const Facts& f) {
  FlowBook flows;
  auto plan = make_plan(d, f, flows);
  REQUIRE_MESSAGE(plan.has_value(), (plan ? "" : plan.error().message()));
  return std::move(*plan);
}

const PlannedInterface* interface_of(const Plan& plan, std::string_view name) {
  const auto found = std::ranges::find(plan.interfaces, name, &PlannedInterface::name);
  return found == plan.interfaces.end() ? nullptr : &*found;
}

std::size_t count_of(const Plan& plan, DeviceKind kind) {
  return static_cast<std::size_t>(std::ranges::count(plan.devices, kind, &PlannedDevice::kind));
}

}  // namespace

TEST_CASE("a map entry becomes an SA pair with the ACE as its selectors, mirrored for what comes in") {
  const Plan plan = plan_of(document(), facts());
  const PlannedSaPair* const pair = plan.find_pair("M1 10 out0");
  REQUIRE(pair != nullptr);
  const SaParameters &in = pair->inbound.parameters, &out = pair->outbound.parameters;
  CHECK(in.direction == SaDirection::inbound);
  CHECK(out.direction == SaDirection::outbound);
  CHECK(in.spi == 4097);
  CHECK(out.spi == 4098);
  CHECK(in.deliver == DeliverTo::map_interface);
  CHECK(in.ifindex == 2);
  CHECK(in.local == address("192.0.2.1"));
  CHECK(in.remote == address("192.0.2.2"));
  CHECK(in.replay_window == 0);  // MAN-10
  REQUIRE(out.selector_count == 1);
  CHECK(out.selectors[0].source_first == address("10.1.0.0"));
  CHECK(out.selectors[0].source_last == address("10.1.255.255"));
  CHECK(out.selectors[0].destination_first == address("10.2.0.0"));
  CHECK(in.selectors[0].source_first == address("10.2.0.0"));
  CHECK(in.selectors[0].destination_last == address("10.1.255.255"));
  CHECK(std::ranges::all_of(in.cipher_key, [](auto b) { return b == std::byte{0}; }));  // keys stay in Secret
  CHECK(pair->inbound.cipher_key == key_of(16, 1));
  CHECK(pair->outbound.integrity_key == key_of(32, 4));
}

namespace {

// The map of document() on two uplinks, with the address of a loopback device.
config::Document shared_document() {
  config::Document d = document();
  d.crypto_maps[0].local_interface = "lo";
  d.interfaces.resize(4);
  d.interfaces[2].name = "out1";
  d.interfaces[2].crypto_map = "M1";
  d.interfaces[3].name = "lo";
  return d;
}

Facts two_uplinks() {
  Facts f = facts();
  f.links.push_back(link("out1", 6, {prefix("198.51.100.1/24")}));
  f.links.back().mtu = 1400;
  f.links.push_back(link("lo", 1, {prefix("127.0.0.1/8"), prefix("::1/128"), prefix("203.0.113.1/32")}));
  return f;
}

}  // namespace

TEST_CASE("IF-03: a map with a local address of its own has one SA pair and one set of flows for all its interfaces") {
  const Plan plan = plan_of(shared_document(), two_uplinks());
  REQUIRE(plan.sas.size() == 2);  // the tunnel's is the other
  const PlannedSaPair* const pair = plan.find_pair("M1 10 shared lo");
  REQUIRE(pair != nullptr);
  const SaParameters& in = pair->inbound.parameters;
  CHECK(in.local == address("203.0.113.1"));  // not the loopback network's
  CHECK(in.ifindex == 0);                     // wherever a packet arrived
  CHECK(in.path_mtu == 1400);                 // fits both
  REQUIRE(pair->flows.size() == 1);
  const PlannedInterface *const first = interface_of(plan, "out0"), *const second = interface_of(plan, "out1");
  REQUIRE(first != nullptr);
  REQUIRE(second != nullptr);
  REQUIRE(first->rules.size() == 1);
  REQUIRE(second->rules.size() == 1);
  CHECK(first->rules[0].flow == second->rules[0].flow);
  CHECK(first->rules[0].flow == pair->flows[0]);
  const PlannedFlow* const flow = plan.find_flow(pair->flows[0]);
  REQUIRE(flow != nullptr);
  CHECK(flow->interface == "out0 out1");
  CHECK(std::ranges::count(plan.flows, "M1", &PlannedFlow::map) == 1);

  // One of them gone: the same SAs. Without the address there are none, and the rules stand all the same.
  Facts one = two_uplinks();
  std::erase_if(one.links, [](const LinkFacts& it) { return it.name == "out0"; });
  CHECK(plan_of(shared_document(), one).find_pair("M1 10 shared lo") != nullptr);
  Facts bare = two_uplinks();
  bare.links.back().addresses.resize(2);
  const Plan without = plan_of(shared_document(), bare);
  CHECK(without.find_pair("M1 10 shared lo") == nullptr);
  CHECK(interface_of(without, "out1")->rules.size() == 1);
  CHECK(std::ranges::count(without.missing, "interface lo has no address of the family of peer 192.0.2.2") == 1);

  config::Document apart = shared_document();  // IF-04
  apart.crypto_maps[0].local_interface.reset();
  const Plan two = plan_of(apart, two_uplinks());
  REQUIRE(two.find_pair("M1 10 out0") != nullptr);
  REQUIRE(two.find_pair("M1 10 out1") != nullptr);
  CHECK(two.find_pair("M1 10 out1")->inbound.parameters.ifindex == 6);
  CHECK(two.find_pair("M1 10 out0")->flows != two.find_pair("M1 10 out1")->flows);
}

TEST_CASE("IF-03: what arrives by a bond's port has arrived by the bond") {
  Facts f = two_uplinks();
  f.links[0].kind = "bond";
  f.links.push_back(link("port0", 8));
  f.links.back().master = 2;
  const Plan plan = plan_of(shared_document(), f);
  for (const PlannedDevice& device : plan.devices)
    if (device.kind == DeviceKind::xsk_outside) CHECK(device.arrives_at == (device.name == "port0" ? 2U : 0U));
}

TEST_CASE("IF-20: an interface that is gone keeps its flows and SAs, and nothing else of it is planned") {
  Facts f = facts();
  f.links[0].gone = true;
  const Plan plan = plan_of(document(), f);
  CHECK(plan.find_pair("M1 10 out0") != nullptr);
  CHECK(plan.find_pair("Tunnel0") != nullptr);
  CHECK(interface_of(plan, "out0") == nullptr);
  CHECK(std::ranges::none_of(plan.devices, [](const PlannedDevice& one) { return one.name == "out0"; }));
  CHECK(std::ranges::find(plan.links, "out0") == plan.links.end());
  CHECK(std::ranges::count(plan.missing, "interface out0 does not exist: its SAs wait for it") == 1);
  f.links[0].gone = false;
  f.links[0].renamed = "wan";
  const Plan renamed = plan_of(document(), f);
  CHECK(interface_of(renamed, "out0")->ifindex == 2);
  CHECK(std::ranges::find(renamed.links, "out0") == renamed.links.end());  // no address goes onto it by that name
}

TEST_CASE("a tunnel becomes an SA pair for the families that it carries") {
  struct Row {
    bool v4, v6;
    std::uint8_t selectors;
  };
  for (const Row& row : {Row{true, false, 1}, Row{false, true, 1}, Row{true, true, 2}}) {
    config::Document d = document();
    d.tunnels[0].carries_v4 = row.v4;
    d.tunnels[0].carries_v6 = row.v6;
    const Plan plan = plan_of(d, facts());
    const PlannedSaPair* const pair = plan.find_pair("Tunnel0");
    REQUIRE(pair != nullptr);
    CHECK(pair->inbound.parameters.deliver == DeliverTo::tunnel);
    CHECK(pair->inbound.parameters.ifindex == 5);
    CHECK(pair->inbound.parameters.selector_count == row.selectors);
  }
}

TEST_CASE("the local address: the document's, else the kernel's, of the peer's family, never a link-local one") {
  struct Row {
    const char *given, *peer, *local;  // local nullptr: none
  };
  const Row rows[] = {{nullptr, "192.0.2.2", "192.0.2.1"},
                      {"198.51.100.7/24", "192.0.2.2", "198.51.100.7"},
                      {"198.51.100.7/24", "2001:db8:ff::2", "2001:db8:ff::1"},
                      {nullptr, "2001:db8:ff::2", "2001:db8:ff::1"}};
  for (const Row& row : rows) {
    config::Document d = document();
    if (row.given != nullptr) d.interfaces[0].addresses = {prefix(row.given)};
    const auto local = local_address(d, *facts().find("out0"), address(row.peer).family());
    REQUIRE(local.has_value());
    CHECK(*local == address(row.local));
  }
  const LinkFacts only_link_local = link("x", 9, {prefix("fe80::9/64")});
  CHECK(!local_address(document(), only_link_local, Family::v6));
  CHECK(!local_address(document(), only_link_local, Family::v4));
}

TEST_CASE("flow ids: kept while the ACE says the same, spent when it goes, never given twice") {
  FlowBook flows;
  config::Document d = document();
  const auto first = make_plan(d, facts(), flows);
  REQUIRE(first);
  const auto map_flow = first->flows[0].id, tunnel_flow = first->flows[1].id;
  CHECK(map_flow != tunnel_flow);

  // Another rule in front of it: same ACE, same flow.
  d.acls[0].rules.insert(d.acls[0].rules.begin(), ace(5, config::Action::deny, "10.1.9.0/24", "10.2.0.0/16"));
  const auto second = make_plan(d, facts(), flows);
  REQUIRE(second);
  CHECK(second->flows[0].id == map_flow);
  CHECK(second->flows[0].ace == 1);

  d.acls[0].rules[1].destination = prefix("10.9.0.0/16");
  const auto third = make_plan(d, facts(), flows);
  REQUIRE(third);
  const auto edited = third->flows[0].id;
  CHECK(edited > std::max(map_flow, tunnel_flow));
  CHECK(third->flows[1].id == tunnel_flow);

  d.acls[0].rules[1].destination = prefix("10.2.0.0/16");  // as at first: the old number is spent all the same
  const auto fourth = make_plan(d, facts(), flows);
  REQUIRE(fourth);
  CHECK(fourth->flows[0].id > edited);
}

TEST_CASE("a plan that fails spends no flow id") {
  FlowBook flows;
  config::Document d = document();
  d.tunnels[0].keys.inbound.spi = 4097;  // the map entry's
  const auto plan = make_plan(d, facts(), flows);
  REQUIRE(!plan);
  CHECK(plan.error().what.find("4097") != std::string::npos);
  CHECK(flows.next() == 1);
  CHECK(flows.ids().empty());
}

TEST_CASE("selectors: the product of the port ranges, and not one more than an SA holds") {
  config::Ace tcp = ace(10, config::Action::permit, "10.1.0.0/16", "10.2.0.0/16");
  tcp.protocol = 6;
  tcp.source_ports = {{1, 10}, {20, 30}};
  constexpr std::uint16_t most = max_selectors / 2;
  for (std::uint16_t i = 0; i < most; ++i) tcp.destination_ports.push_back({i, i});
  const auto fits = selectors_of({&tcp});
  REQUIRE(fits);
  CHECK(fits->size() == max_selectors);
  CHECK((*fits)[most].source_port_first == 20);
  CHECK((*fits)[most].later_fragments);  // manual: the one pair of SAs carries them too
  CHECK(reversed((*fits)[most]).later_fragments);
  CHECK(reversed((*fits)[most]).destination_port_first == 20);
  tcp.destination_ports.push_back({most, most});
  CHECK(!selectors_of({&tcp}));
}

TEST_CASE("a missing interface or address leaves its part out and says so") {
  Facts f = facts();
  std::erase_if(f.links, [](const LinkFacts& one) { return one.name == "out0"; });
  const Plan without = plan_of(document(), f);
  CHECK(without.sas.empty());
  CHECK(without.flows.empty());
  CHECK(without.missing.size() == 2);  // the interface, and the tunnel that starts there

  f = facts();
  f.links[0].addresses = {prefix("2001:db8:ff::1/64")};
  const Plan no_address = plan_of(document(), f);
  CHECK(no_address.find_pair("M1 10 out0") == nullptr);
  REQUIRE(interface_of(no_address, "out0") != nullptr);
  CHECK(!interface_of(no_address, "out0")->rules.empty());  // the policy stands all the same: fail closed
  CHECK(!no_address.missing.empty());
  CHECK(plan_of(document(), facts()).missing.empty());
}

TEST_CASE("every queue has an owner, spread over the threads") {
  Facts f = facts();
  f.links[0].queues = 3;
  f.links[1].plain_side_af_xdp = true;
  config::Document d = document();
  d.dataplane.workers = 2;
  const Plan plan = plan_of(d, f);
  CHECK(plan.threads == 2);
  CHECK(count_of(plan, DeviceKind::xsk_outside) == 3);
  CHECK(count_of(plan, DeviceKind::xsk_inside) == 1);
  CHECK(count_of(plan, DeviceKind::steer) == 2);
  CHECK(count_of(plan, DeviceKind::tunnel) == 2);
  CHECK(count_of(plan, DeviceKind::raw_icmp) == 2);
  CHECK(count_of(plan, DeviceKind::udp_encap) == 0);  // MAN-12: no UDP socket without need
  for (const PlannedDevice& device : plan.devices)
    if (device.kind == DeviceKind::xsk_outside) CHECK(device.thread == device.queue % 2);
  CHECK((interface_of(plan, "in0")->flags & POSTERN_IF_INSIDE) != 0);

  f.links[1].plain_side_af_xdp = false;  // by the kernel then: the inside interface is none of our business
  CHECK(interface_of(plan_of(d, f), "in0") == nullptr);
}

TEST_CASE("a thread without a queue of an outside interface sends there by a packet socket, the others do not") {
  Facts f = facts();
  f.links[0].queues = 2;
  config::Document d = document();
  d.dataplane.workers = 3;
  const auto threads_with_socket = [](const Plan& plan) {
    std::vector<std::uint32_t> out;
    for (const PlannedDevice& device : plan.devices)
      if (device.kind == DeviceKind::packet_out) out.push_back(device.thread);
    return out;
  };
  CHECK(threads_with_socket(plan_of(d, f)) == std::vector<std::uint32_t>{2});
  f.links[0].needs_packet_socket = true;
  CHECK(threads_with_socket(plan_of(d, f)) == std::vector<std::uint32_t>{0, 1, 2});
  f.links[0].needs_packet_socket = false;
  d.dataplane.workers = 2;
  CHECK(threads_with_socket(plan_of(d, f)).empty());
}

TEST_CASE("worker threads: as told, else one per CPU and at most one per queue") {
  struct Row {
    std::uint32_t told, cpus, queues, threads;
  };
  for (const Row& row : {Row{0, 4, 1, 1}, Row{0, 4, 8, 4}, Row{0, 2, 2, 2}, Row{3, 1, 1, 3}, Row{1000, 4, 4, 64}}) {
    config::Document d = document();
    d.dataplane.workers = row.told;
    Facts f = facts();
    f.cpus = row.cpus;
    f.links[0].queues = row.queues;
    CHECK(planned_threads(d, f) == row.threads);
  }
}

TEST_CASE("same_sa and moved: what makes an installed SA another one") {
  const Plan plan = plan_of(document(), facts());
  const PlannedSa& planned = plan.find_pair("M1 10 out0")->inbound;
  SaParameters installed = planned.parameters;
  std::ranges::copy(planned.cipher_key.bytes(), installed.cipher_key.begin());
  std::ranges::copy(planned.integrity_key.bytes(), installed.integrity_key.begin());
  CHECK(same_sa(planned, installed));
  CHECK(!moved(planned, installed));
  const auto differs = [&](auto change, bool moves) {
    SaParameters other = installed;
    change(other);
    CHECK(!same_sa(planned, other));
    CHECK(moved(planned, other) == moves);
  };
  differs([](SaParameters& p) { p.cipher_key[0] ^= std::byte{1}; }, false);
  differs([](SaParameters& p) { p.integrity_key[31] ^= std::byte{1}; }, false);
  differs([](SaParameters& p) { p.integrity_key_bytes = 20; }, false);
  differs([](SaParameters& p) { p.spi ^= 1; }, false);
  differs([](SaParameters& p) { p.remote = address("192.0.2.3"); }, false);
  differs([](SaParameters& p) { p.selectors[0].protocol = 6; }, false);
  differs([](SaParameters& p) { p.selector_count = 200; }, false);
  SaParameters elsewhere = installed;  // the same interface as another device: PlaceSa
  elsewhere.ifindex = 77;
  CHECK(same_sa(planned, elsewhere));
  CHECK(!moved(planned, elsewhere));
  differs([](SaParameters& p) { p.path_mtu = 1400; }, true);
  differs([](SaParameters& p) { p.local = address("192.0.2.9"); }, true);
}

TEST_CASE("a bond: its ports receive under its policy, it sends, and says nothing by XDP") {
  Facts f = facts();
  f.links[0].kind = "bond";
  f.links[0].queues = 16;
  f.links.push_back(link("s0", 10));
  f.links.push_back(link("s1", 11));
  f.links.push_back(link("other0", 12));
  f.links[4].master = f.links[5].master = 2;
  f.links[4].queues = 2;
  const Plan plan = plan_of(document(), f);
  const PlannedInterface *const bond = interface_of(plan, "out0"), *const port = interface_of(plan, "s0");
  REQUIRE(bond != nullptr);
  REQUIRE(port != nullptr);
  CHECK(bond->has_ports);
  CHECK(!bond->rules.empty());
  CHECK(plan.threads == 2);  // by what is received, not by the bond's own 16 queues
  CHECK(bond->queues == 2);
  CHECK(port->part_of == "out0");
  CHECK(port->rules.empty());
  CHECK((port->flags & POSTERN_IF_OUTSIDE) != 0);
  CHECK(port->queues == 2);
  CHECK(interface_of(plan, "s1") != nullptr);
  CHECK(interface_of(plan, "other0") == nullptr);
  // A bond stands before its ports: they take its generation.
  CHECK(bond < port);
}

TEST_CASE("stacks that cannot be are refused with their place") {
  struct Row {
    const char *kind, *master;
    bool lower_is_outside;
    config::XdpMode mode;
    const char* path;  // nullptr: fine
  };
  using enum config::XdpMode;
  for (const Row& row :
       {Row{"", "bond", false, automatic, "/interfaces/0/name"},
        Row{"", "bridge", false, automatic, "/interfaces/0/name"}, Row{"", "vrf", false, automatic, nullptr},
        Row{"vlan", nullptr, false, automatic, nullptr}, Row{"vlan", nullptr, true, automatic, "/interfaces/0/name"},
        Row{"vlan", nullptr, false, native, "/dataplane/xdp_mode"}, Row{"", nullptr, false, native, nullptr}}) {
    Facts f = facts();
    f.links[0].kind = row.kind;
    f.links.push_back(link("m0", 20));
    if (row.master != nullptr) {
      f.links[0].master = 20;
      f.links[4].kind = row.master;
    }
    config::Document d = document();
    d.dataplane.xdp_mode = row.mode;
    f.links[0].lower = 3;
    if (row.lower_is_outside) d.interfaces[1].crypto_map = "M1";
    if (row.lower_is_outside) f.links[1].addresses = {prefix("198.51.100.1/24")};
    if (row.lower_is_outside) d.tunnels.clear();
    FlowBook flows;
    const auto plan = make_plan(d, f, flows);
    CHECK(plan.has_value() == (row.path == nullptr));
    if (row.path != nullptr && !plan) CHECK_MESSAGE(plan.error().what.starts_with(row.path), plan.error().what);
  }
}

TEST_CASE("VRFs: sockets in each, bound to its device; the main table's keep out of all; another table is refused") {
  Facts f = facts();
  f.vrfs = {{"red", 30, 10}, {"blue", 31, 20}};
  config::Document d = document();
  d.vrfs = {{"red", 10}, {"blue", 20}};
  d.interfaces[0].vrf = "red";
  d.tunnels[0].vrf = "blue";
  d.tunnels[0].udp_encapsulation = true;
  const Plan plan = plan_of(d, f);
  const auto socket = [&](DeviceKind kind, std::uint32_t vrf) {
    return std::ranges::find_if(plan.devices,
                                [&](const PlannedDevice& one) { return one.kind == kind && one.vrf == vrf; });
  };
  const auto esp = socket(DeviceKind::raw_esp, 10);
  REQUIRE(esp != plan.devices.end());
  CHECK(esp->vrf_device == "red");
  CHECK(esp->ifindex == 30);
  CHECK(esp->not_from.empty());
  CHECK(socket(DeviceKind::raw_esp, 0)->not_from == std::vector<std::uint32_t>{30, 31});
  CHECK(socket(DeviceKind::raw_esp, 20) == plan.devices.end());  // nobody's front door
  CHECK(socket(DeviceKind::udp_encap, 10)->vrf_device == "red");
  CHECK(socket(DeviceKind::udp_encap, 0) == plan.devices.end());
  CHECK(socket(DeviceKind::raw_icmp, 20)->vrf_device == "blue");
  CHECK(plan.find_pair("Tunnel0")->inbound.parameters.fvrf == 10);
  CHECK(plan.find_pair("Tunnel0")->inbound.parameters.inside_vrf == 20);
  CHECK(plan.find_pair("M1 10 out0")->inbound.parameters.inside_vrf == 10);

  f.vrfs[1].table = 21;
  FlowBook flows;
  const auto refused = make_plan(d, f, flows);
  REQUIRE(!refused);
  CHECK(refused.error().what.starts_with("/vrfs/1/table"));
  f.vrfs.pop_back();
  const Plan without = plan_of(d, f);
  CHECK(std::ranges::find(without.missing, "VRF blue does not exist") != without.missing.end());
}

TEST_CASE("a path of jumbo frames is as wide as a frame of the worker") {
  Facts f = facts();
  f.links[0].mtu = 9000;
  const Plan plan = plan_of(document(), f);
  CHECK(plan.find_pair("M1 10 out0")->outbound.parameters.path_mtu == largest_path_mtu);
  CHECK(plan.find_pair("Tunnel0")->inbound.parameters.path_mtu == largest_path_mtu);
  CHECK(plan_tunnels(document(), f)[0].mtu < largest_path_mtu);
}

TEST_CASE("AF_XDP sockets: a change of one leaves the others, where the new one can join them") {
  PlannedDevice out0, in0;
  out0.kind = DeviceKind::xsk_outside;
  out0.ifindex = 2;
  in0.kind = DeviceKind::xsk_inside;
  in0.ifindex = 3;
  in0.mtu = 1500;
  PlannedDevice changed = in0;
  changed.mtu = 1400;
  const auto joined = difference({out0, in0}, {out0, changed}, [](const PlannedDevice&) { return true; });
  CHECK(joined.removed == std::vector{in0});
  CHECK(joined.added == std::vector{changed});
  const auto together = difference({out0, in0}, {out0, changed});
  CHECK(together.removed.size() == 2);
  CHECK(together.added.size() == 2);
  CHECK(difference({out0, in0}, {in0, out0}).removed.empty());
}
