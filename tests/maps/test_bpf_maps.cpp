// Typed handles and the SA map over real maps.
#include <algorithm>

#include "maps/bpf_maps.hpp"
#include "tests/bpf/bpf_node.hpp"

using namespace postern;
using namespace postern::testing;

TEST_CASE("update, lookup, erase, and what is not there") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  const auto& locals = node.maps().local_addresses;
  postern_local_key key{};
  key.vrf = 5;
  CHECK(!locals.lookup(key).value());
  REQUIRE(locals.update(key, {42}, BPF_NOEXIST));
  const auto twice = locals.update(key, {43}, BPF_NOEXIST);
  REQUIRE(!twice);
  CHECK(twice.error().code == EEXIST);
  CHECK(locals.lookup(key).value()->ifindex == 42);
  CHECK(std::ranges::count_if(*locals.keys(), [](const auto& one) { return one.vrf == 5; }) == 1);
  CHECK(locals.erase(key) == true);
  CHECK(locals.erase(key) == false);
}

TEST_CASE("per-CPU counters are summed, and have no single value") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  const auto& hits = node.maps().ace_hits;
  const auto cpus = static_cast<std::uint64_t>(libbpf_num_possible_cpus());
  REQUIRE(hits.update({1, 2}, {3, 400}));
  CHECK(hits.sum({1, 2})->packets == 3 * cpus);
  CHECK(hits.sum({1, 2})->bytes == 400 * cpus);
  CHECK(hits.sum({1, 3})->packets == 0);
  CHECK(!hits.lookup({1, 2}));
}

TEST_CASE("a pin of another shape or no pin is an error that names it") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  const auto wrong = PinnedMap<std::uint32_t, std::uint64_t>::open(node.pin_dir(), "interfaces");
  REQUIRE(!wrong);
  CHECK(wrong.error().what.find("interfaces") != std::string::npos);
  const auto none = NodeMaps::open(node.pin_dir() / "nowhere");
  REQUIRE(!none);
  CHECK(none.error().code == ENOENT);
}

TEST_CASE("SAs: one per SPI, destination, protocol and VRF") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  const SaMap sas(node.maps().sas);
  InboundSaEntry entry;
  entry.spi = Spi{0x1001};
  entry.destination = IpAddress::parse("192.0.2.1").value();
  entry.peer = IpAddress::parse("192.0.2.2").value();
  entry.slot = 7;
  entry.flow = 8;
  entry.encap_port = 4500;
  REQUIRE(sas.insert(entry));
  const auto again = sas.insert(entry);
  REQUIRE(!again);
  CHECK(again.error().code == EEXIST);
  CHECK(sas.list() == std::vector{entry});
  InboundSaEntry other = entry;
  other.vrf = 9;
  REQUIRE(sas.insert(other));
  CHECK(sas.list()->size() == 2);
  CHECK(sas.erase(entry) == true);
  CHECK(sas.erase(entry) == false);
  CHECK(sas.list() == std::vector{other});

  InboundSaEntry expected = entry;
  expected.slot = expected_sa;
  REQUIRE(sas.insert(expected));
  REQUIRE(sas.replace(entry));
  REQUIRE(sas.erase_expected(expected));
  CHECK(sas.list()->size() == 2);  // it is there now, and stays
  REQUIRE(sas.replace(expected));
  REQUIRE(sas.erase_expected(expected));
  REQUIRE(sas.erase_expected(expected));
  CHECK(sas.list() == std::vector{other});

  InboundSaEntry reserved = entry;
  for (const std::uint32_t spi : {0U, 1U, 255U}) {
    reserved.spi = Spi{spi};
    CHECK(!sas.insert(reserved));
  }
  reserved.spi = Spi{256};
  CHECK(sas.insert(reserved));
}
