// What is said to the data plane, in which order, and what becomes of SAs that an earlier life left.
#include <algorithm>
#include <map>

#include <doctest/doctest.h>

#include "ike/sa_installer.hpp"
#include "ike/selectors.hpp"

using namespace postern;
using namespace postern::ike;
using namespace std::chrono_literals;

namespace {

// A worker that remembers.
struct FakeDoor : SaDoor {
  std::map<std::uint32_t, SaRow> sas;  // by slot
  std::map<std::uint32_t, SaParameters> parameters;
  std::vector<std::string> log;
  std::vector<postern::ExpectSa> expected;
  std::uint32_t next = 10;
  int fail_install = 0;  // the n-th install from now on fails
  bool unreachable = false;

  Result<std::uint32_t> install(const InstallSa& sa) override {
    const bool inbound = sa.parameters.direction == SaDirection::inbound;
    log.push_back(inbound ? "install in" : "install out");
    if (fail_install != 0 && --fail_install == 0) return fail("full", ENOSPC);
    const std::uint32_t slot = next++;
    SaRow row;
    row.slot = slot;
    row.spi = sa.parameters.spi;
    row.direction = sa.parameters.direction;
    row.installed_by = postern::SaInstaller::ike;
    row.flow = sa.parameters.flow;
    row.udp_encapsulation = sa.parameters.udp_encapsulation;
    row.local = sa.parameters.local;
    row.local_port = sa.parameters.local_port;
    row.remote = sa.parameters.remote;
    row.remote_port = sa.parameters.remote_port;
    row.cookie = sa.parameters.cookie;
    row.installed_ns = 1;
    sas[slot] = row;
    parameters[slot] = sa.parameters;
    return slot;
  }
  Result<void> expect(const postern::ExpectSa& sa) override {
    if (unreachable) return fail("gone", ENOTCONN);
    log.push_back("expect");
    expected.push_back(sa);
    return {};
  }
  Result<void> remove(std::uint32_t slot) override {
    log.push_back(sas.at(slot).direction == SaDirection::inbound ? "remove in" : "remove out");
    sas.erase(slot);
    return {};
  }
  Result<void> bind(std::uint32_t flow, std::uint32_t slot) override {
    log.push_back("bind");
    REQUIRE(sas.contains(slot));
    for (auto& [number, row] : sas)
      if (row.flow == flow && row.direction == SaDirection::outbound) row.bound = number == slot;
    return {};
  }
  Result<void> move(std::uint32_t slot, const SaEnds& ends) override {
    if (unreachable) return fail("gone", ENOTCONN);
    log.push_back(sas.at(slot).direction == SaDirection::inbound ? "move in" : "move out");
    SaRow& row = sas.at(slot);
    row.local = ends.local;
    row.remote = ends.remote;
    row.local_port = ends.local_port;
    row.remote_port = ends.remote_port;
    row.udp_encapsulation = ends.udp_encapsulation;
    return {};
  }
  Result<void> unbind(std::uint32_t flow) override {
    log.push_back("unbind");
    for (auto& [number, row] : sas)
      if (row.flow == flow) row.bound = false;
    return {};
  }
  Result<std::vector<SaRow>> list() override {
    std::vector<SaRow> out;
    for (const auto& [slot, row] : sas) out.push_back(row);
    return out;
  }
  SaRow& row(std::uint64_t cookie, SaDirection direction) {
    for (auto& [slot, one] : sas)
      if (one.cookie == cookie && one.direction == direction) return one;
    FAIL("no such SA");
    std::abort();
  }
  [[nodiscard]] std::uint64_t bound(std::uint32_t flow) const {
    for (const auto& [slot, one] : sas)
      if (one.flow == flow && one.bound) return one.cookie;
    return 0;
  }
};

const auto any4 = any_selector(Family::v4);
const Time start{1h};

std::shared_ptr<const Policy> policy_of(std::vector<std::uint32_t> flows, std::uint32_t lifetime_s = 100000) {
  auto connection = std::make_shared<Connection>();
  for (const auto flow : flows) {
    ChildPolicy child;
    child.place.flow = flow;
    child.lifetime_s = lifetime_s;
    connection->children.push_back(child);
  }
  auto policy = std::make_shared<Policy>();
  policy->connections.push_back(connection);
  return policy;
}

InstallChild child(std::uint64_t id, std::uint32_t flow = 1, bool outbound_now = true) {
  InstallChild out;
  out.id = ChildId{id};
  auto connection = std::make_shared<Connection>();
  connection->fvrf = 7;
  out.connection = connection;
  out.policy.name = "M1 10 1";
  out.policy.place.flow = flow;
  out.policy.place.ifindex = 3;
  out.policy.lifetime_bytes = 1000000;
  out.policy.lifetime_packets = 5000;
  out.suite.transform = {crypto::Cipher::aes_gcm_16, 128, crypto::Integrity::none};
  out.spi_in = 0x1000 + static_cast<std::uint32_t>(id);
  out.spi_out = 0x2000 + static_cast<std::uint32_t>(id);
  out.local = {selector_of(*Prefix::parse("10.1.0.0/16"), 6, 0, 65535)};
  out.remote = {selector_of(*Prefix::parse("10.2.0.0/16"), 6, 443, 443)};
  out.local_endpoint = {*IpAddress::parse("192.0.2.1"), 4500};
  out.remote_endpoint = {*IpAddress::parse("192.0.2.2"), 61000};
  out.udp_encapsulation = true;
  out.outbound_now = outbound_now;
  out.keys.inbound_cipher = Secret::copy_of(as_bytes("inbound cipher key.."));
  out.keys.outbound_cipher = Secret::copy_of(as_bytes("outbound cipher key."));
  return out;
}

using Log = std::vector<std::string>;

}  // namespace

TEST_CASE("parameters: both directions, selectors as each sender sees them, volume lifetimes, no stray ports") {
  const auto pair = sa_pair(child(5), 0.5);
  REQUIRE(pair);
  const SaParameters &in = pair->inbound.parameters, &out = pair->outbound.parameters;
  CHECK(in.direction == SaDirection::inbound);
  CHECK(out.direction == SaDirection::outbound);
  CHECK(in.spi == 0x1005);
  CHECK(out.spi == 0x2005);
  CHECK(in.fvrf == 7);
  CHECK(out.cookie == 5);
  CHECK(out.remote_port == 61000);
  CHECK(out.hard_bytes == 1000000);
  CHECK(out.soft_bytes == 600000);
  CHECK(in.soft_bytes == 600000);
  CHECK(in.hard_bytes == 1000000 + inbound_grace_bytes);
  CHECK(out.hard_packets == 5000);
  CHECK(in.hard_packets == 5000 + inbound_grace_packets);
  CHECK(in.hard_seconds == 3600);
  CHECK(in.soft_packets == 3000);
  CHECK(!in.extended_sequence);
  REQUIRE(out.selector_count == 1);
  CHECK(out.selectors[0].source_first == *IpAddress::parse("10.1.0.0"));
  CHECK(out.selectors[0].destination_port_first == 443);
  CHECK(out.selectors[0].protocol == 6);
  CHECK(in.selectors[0].source_last == *IpAddress::parse("10.2.255.255"));
  CHECK(in.selectors[0].source_port_last == 443);
  CHECK(std::memcmp(in.cipher_key.data(), "inbound cipher key..", 20) == 0);
  CHECK(std::memcmp(out.cipher_key.data(), "outbound cipher key.", 20) == 0);
  CHECK(out.cipher_key_bytes == 20);

  auto plain = child(6);
  plain.udp_encapsulation = false;
  CHECK(sa_pair(plain, 0.9)->outbound.parameters.remote_port == 0);
  plain.suite.extended_sequence = true;
  plain.policy.place.replay_window = 100;
  plain.policy.place.tfc_bytes = 1400;
  plain.policy.place.dummy_interval_us = 5000;
  const auto extended = sa_pair(plain, 0.9);
  CHECK(extended->inbound.parameters.extended_sequence);
  CHECK(extended->outbound.parameters.extended_sequence);
  CHECK(extended->inbound.parameters.replay_window == 100);
  CHECK(extended->outbound.parameters.tfc_bytes == 1400);
  CHECK(extended->outbound.parameters.dummy_interval_us == 5000);
  plain.tfc_padding = false;  // the peer's word counts (RFC 7296 §1.3.1)
  CHECK(sa_pair(plain, 0.9)->outbound.parameters.tfc_bytes == 0);
}

TEST_CASE("volume lifetimes: of small ones half is left for the rekey, of large ones a seventh at most") {
  CHECK(soft_limit(0, rekey_bytes, 0.3) == 0);
  for (const double jitter : {0.0, 0.5, 1.0}) {
    const auto part = [&](std::uint64_t hard) {
      return static_cast<double>(soft_limit(hard, rekey_bytes, jitter)) / static_cast<double>(hard);
    };
    CHECK(part(2560 << 10) == doctest::Approx(0.5 + 0.2 * jitter));
    CHECK(part(4608000ULL << 10) == doctest::Approx(0.86 + 0.056 * jitter));
    const std::uint64_t middle = 256 << 20;
    CHECK(middle - soft_limit(middle, rekey_bytes, jitter) >= (38 << 20));  // a rekey at line rate
  }
}

TEST_CASE("ends that moved: both SAs go there; what could not be said is said when the channel is back") {
  FakeDoor door;
  ike::SaInstaller installer(door);
  REQUIRE(installer.install(child(1), 0.9, start));
  door.log.clear();
  const Endpoint local{*IpAddress::parse("192.0.2.9"), 4500};
  const auto to = [&](std::uint64_t id, std::uint16_t port, bool encapsulated = true) {
    return MoveChild{ChildId{id}, local, {*IpAddress::parse("203.0.113.9"), port}, encapsulated};
  };
  CHECK(installer.move(to(1, 7000)));
  CHECK(door.log == Log{"move in", "move out"});
  CHECK(installer.move(to(2, 7000)));  // not ours
  CHECK(door.log.size() == 2);

  door.unreachable = true;
  CHECK(installer.move(to(1, 7001)));
  door.unreachable = false;
  door.log.clear();
  REQUIRE(installer.reconcile(start));
  CHECK(door.log == Log{"move in", "move out", "bind"});
  CHECK(door.row(1, SaDirection::outbound).remote_port == 7001);
  CHECK(door.row(1, SaDirection::inbound).local == local.address);
  CHECK(installer.move(to(1, 7001, false)));
  CHECK_FALSE(door.row(1, SaDirection::inbound).udp_encapsulation);
  CHECK(door.row(1, SaDirection::inbound).local_port == 0);
  door.log.clear();
  REQUIRE(installer.reconcile(start));
  CHECK(door.log == Log{"bind"});
}

TEST_CASE("selector pairs: families and protocols must agree; too many or none is an error") {
  const auto any6 = any_selector(Family::v6);
  CHECK(pairs_of({any4, any6}, {any4, any6}).size() == 2);
  Selector tcp = any4, udp = any4;
  tcp.protocol = 6;
  udp.protocol = 17;
  CHECK(pairs_of({tcp}, {any4}).at(0).protocol == 6);
  CHECK(pairs_of({any4}, {udp}).at(0).protocol == 17);
  CHECK(pairs_of({tcp}, {udp}).empty());
  auto none = child(1);
  none.local = {tcp};
  none.remote = {udp};
  CHECK(!sa_pair(none, 0.9));
  auto many = child(1);
  many.local.assign(16, any4);
  many.remote.assign(2, any4);
  const auto whole = sa_pair(many, 0.9);
  REQUIRE(whole);
  CHECK(whole->inbound.parameters.selector_count == 32);
  CHECK(whole->outbound.parameters.selectors[31].source_last == any4.last);
  many.local.push_back(any4);
  CHECK(!sa_pair(many, 0.9));
}

TEST_CASE("order: inbound, outbound, bind; at the end unbind, inbound, outbound") {
  FakeDoor door;
  ike::SaInstaller installer(door);
  REQUIRE(installer.install(child(1), 0.9, start));
  CHECK(door.log == Log{"install in", "install out", "bind"});
  door.log.clear();
  installer.remove(ChildId{1}, start);
  CHECK(door.log == Log{"unbind", "remove in", "remove out"});
  CHECK(door.sas.empty());
  installer.remove(ChildId{1}, start);
  CHECK(door.log.size() == 3);
}

TEST_CASE("a rekey: the new SA carries the flow when it is told to, and the old goes without unbinding it") {
  FakeDoor door;
  ike::SaInstaller installer(door);
  REQUIRE(installer.install(child(1), 0.9, start));
  REQUIRE(installer.install(child(2, 1, false), 0.9, start));
  CHECK(door.bound(1) == 1);
  installer.switch_outbound(ChildId{2});
  CHECK(door.bound(1) == 2);
  door.log.clear();
  installer.remove(ChildId{1}, start);
  CHECK(door.log == Log{"remove in", "remove out"});
  CHECK(door.bound(1) == 2);
}

TEST_CASE(
    "of two children of one flow the other takes over when the bound one goes; one that may not send never does") {
  FakeDoor door;
  ike::SaInstaller installer(door);
  REQUIRE(installer.install(child(1), 0.9, start));
  REQUIRE(installer.install(child(2), 0.9, start));
  REQUIRE(installer.install(child(3, 1, false), 0.9, start));
  CHECK(door.bound(1) == 2);
  installer.remove(ChildId{2}, start);
  CHECK(door.bound(1) == 1);
  installer.remove(ChildId{1}, start);
  CHECK(door.bound(1) == 0);
  CHECK(door.log[door.log.size() - 3] == "unbind");
}

TEST_CASE("reauthentication by the peer: the child of its new IKE SA waits until it is used, or the old one goes") {
  const auto answered = [](std::uint64_t id, std::uint32_t flow = 1) {
    InstallChild out = child(id, flow);
    out.answered = true;
    return out;
  };
  FakeDoor door;
  ike::SaInstaller installer(door);
  REQUIRE(installer.install(answered(1), 0.9, start));
  CHECK(door.bound(1) == 1);  // nothing else serves the flow
  REQUIRE(installer.install(answered(2), 0.9, start));
  REQUIRE(installer.install(answered(3, 2), 0.9, start));
  CHECK(door.bound(1) == 1);
  CHECK(door.bound(2) == 3);
  SUBCASE("used") {
    door.row(2, SaDirection::outbound).packets = 7;
    REQUIRE(installer.poll(start + 1s));
    CHECK(door.bound(1) == 1);
    door.row(2, SaDirection::inbound).packets = 1;
    REQUIRE(installer.poll(start + 2s));
    CHECK(door.bound(1) == 2);
    installer.switch_outbound(ChildId{1});
    REQUIRE(installer.poll(start + 1h));
    CHECK(door.bound(1) == 1);  // once, and no more
  }
  SUBCASE("not used") {
    REQUIRE(installer.poll(start + 9s));
    CHECK(door.bound(1) == 1);
    REQUIRE(installer.poll(start + 10s));
    CHECK(door.bound(1) == 2);
  }
  SUBCASE("the old one goes: its inbound SA a little later, its outbound SA at once") {
    door.log.clear();
    installer.remove(ChildId{1}, start + 1s);
    CHECK(door.log == Log{"bind", "remove out"});
    CHECK(door.bound(1) == 2);
    REQUIRE(installer.poll(start + 2s));
    CHECK(door.sas.size() == 5);
    REQUIRE(installer.poll(start + 3s));
    CHECK(door.sas.size() == 4);
    CHECK(door.log.back() == "remove in");
    installer.remove(ChildId{2}, start + 4s);  // nobody takes over: both go
    CHECK(door.log == Log{"bind", "remove out", "remove in", "unbind", "remove in", "remove out"});
  }
  SUBCASE("the channel comes back: what was about to leave goes at once") {
    installer.remove(ChildId{1}, start + 1s);
    REQUIRE(installer.reconcile(start + 1s));
    CHECK(door.sas.size() == 4);
  }
}

TEST_CASE("half an installation is taken back") {
  for (const int which : {1, 2}) {
    CAPTURE(which);
    FakeDoor door;
    door.fail_install = which;
    ike::SaInstaller installer(door);
    CHECK(!installer.install(child(1), 0.9, start));
    CHECK(door.sas.empty());
    CHECK(installer.children() == 0);
  }
}

TEST_CASE("survivors work until their flow has a child that had packets, then go soon; without packets later") {
  for (const bool packets : {true, false}) {
    CAPTURE(packets);
    FakeDoor door;
    ike::SaInstaller before(door);
    REQUIRE(before.install(child(100), 0.9, start));
    ike::SaInstaller installer(door);  // the next life
    installer.set_policy(*policy_of({1}), start);
    const auto found = installer.reconcile(start);
    REQUIRE(found);
    CHECK(found->survivor_flows == std::set<std::uint32_t>{1});
    CHECK(found->survivor_spis == std::vector<std::uint32_t>{0x1000 + 100});
    CHECK(found->lost.empty());
    REQUIRE(installer.poll(start + 100s));
    CHECK(door.bound(1) == 100);
    CHECK(installer.survivors() == 1);
    const Time up = start + 100s;
    REQUIRE(installer.install(child(1), 0.9, up));
    CHECK(door.bound(1) == 1);
    if (packets) door.row(1, SaDirection::inbound).packets = 3;
    REQUIRE(installer.poll(up + 1s));
    CHECK(installer.survivors() == 1);
    REQUIRE(installer.poll(up + 5s));
    CHECK(installer.survivors() == (packets ? 0 : 1));
    REQUIRE(installer.poll(up + 31s));
    CHECK(installer.survivors() == 0);
    CHECK(door.sas.size() == 2);
    CHECK(door.bound(1) == 1);
  }
}

TEST_CASE("survivors go with their flow, and at the end of their lifetime; their flow is unbound") {
  for (const bool gone : {true, false}) {
    CAPTURE(gone);
    FakeDoor door;
    ike::SaInstaller before(door);
    REQUIRE(before.install(child(100), 0.9, start));
    ike::SaInstaller installer(door);
    REQUIRE(installer.reconcile(start));
    REQUIRE(installer.poll(start + 1s));
    CHECK(installer.survivors() == 1);  // no policy yet: nothing is judged
    installer.set_policy(gone ? *policy_of({2}) : *policy_of({1}, 3700), start + 2s);
    if (!gone) {
      CHECK(installer.survivors() == 1);
      REQUIRE(installer.poll(start + 200s));
    }
    CHECK(installer.survivors() == 0);
    CHECK(door.sas.empty());
    CHECK(std::ranges::count(door.log, "unbind") == 1);
  }
}

TEST_CASE("a worker that came back: what it has is kept, its slots are learned anew, what it lacks is lost") {
  FakeDoor door;
  ike::SaInstaller installer(door);
  REQUIRE(installer.install(child(1, 1), 0.9, start));
  REQUIRE(installer.install(child(2, 2), 0.9, start));
  std::map<std::uint32_t, SaRow> moved;
  for (auto [slot, row] : door.sas) {
    if (row.cookie == 2 && row.direction == SaDirection::outbound) continue;
    row.slot += 100;
    row.bound = false;
    moved[slot + 100] = row;
  }
  door.sas = moved;
  const auto found = installer.reconcile(start);
  REQUIRE(found);
  CHECK(found->lost == std::vector<ChildId>{ChildId{2}});
  CHECK(found->survivor_flows.empty());
  CHECK(door.bound(1) == 1);
  installer.remove(ChildId{1}, start);
  CHECK(door.sas.size() == 1);
}

TEST_CASE("SAs that posternd installed are none of ours") {
  FakeDoor door;
  SaRow manual;
  manual.slot = 1;
  manual.installed_by = postern::SaInstaller::posternd;
  door.sas[1] = manual;
  ike::SaInstaller installer(door);
  installer.set_policy(*policy_of({}), start);
  REQUIRE(installer.reconcile(start));
  REQUIRE(installer.poll(start + 60s));
  CHECK(door.sas.size() == 1);
}

TEST_CASE("counters: traffic of either direction is told once a change; idleness once an interval") {
  FakeDoor door;
  ike::SaInstaller installer(door);
  auto one = child(1);
  one.policy.idle_s = 60;
  REQUIRE(installer.install(one, 0.9, start));
  CHECK(installer.poll(start + 1s)->empty());
  door.row(1, SaDirection::outbound).packets = 4;
  auto traffic = installer.poll(start + 2s);
  REQUIRE(traffic);
  REQUIRE(traffic->size() == 1);
  CHECK(traffic->front().outbound);
  CHECK(!traffic->front().inbound);
  CHECK(installer.poll(start + 3s)->empty());
  CHECK(installer.poll(start + 61s)->empty());
  traffic = installer.poll(start + 62s);
  REQUIRE(traffic->size() == 1);
  CHECK(traffic->front().idle);
  CHECK(installer.poll(start + 63s)->empty());
  CHECK(installer.counters(ChildId{1})->packets_out == 4);
  CHECK(!installer.counters(ChildId{2}));
}

TEST_CASE("what is asked for is expected, with what XDP knows it by; a data plane that is away is no error") {
  FakeDoor door;
  postern::ike::SaInstaller installer(door);
  ExpectChild asked{7, 0x1005, {*IpAddress::parse("192.0.2.1"), 4500}, true, false};
  installer.expect(asked);
  asked.udp_encapsulation = false;
  asked.ah = true;
  installer.expect(asked);
  REQUIRE(door.expected.size() == 2);
  const postern::ExpectSa &encapsulated = door.expected[0], &plain = door.expected[1];
  CHECK((encapsulated.fvrf == 7 && encapsulated.spi == 0x1005 && encapsulated.protocol == IpProto::esp));
  CHECK(encapsulated.local == *IpAddress::parse("192.0.2.1"));
  CHECK(encapsulated.local_port == 4500);
  CHECK((plain.protocol == IpProto::ah && plain.local_port == 0));
  door.unreachable = true;
  installer.expect(asked);
  CHECK(door.expected.size() == 2);
}
