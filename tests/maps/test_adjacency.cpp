// The adjacency table: rows found, replaced and erased; readers never see half a row.
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "maps/adjacency.hpp"

using namespace postern;

namespace {

AdjacencyKey key_of(std::uint32_t host, std::uint32_t vrf = 0) { return {vrf, IpAddress::v4(host)}; }

// A value whose fields all follow from one number: a torn copy shows.
Adjacency value_of(std::uint32_t number) {
  Adjacency value;
  value.ifindex = number;
  value.mtu = static_cast<std::uint16_t>(number);
  for (std::size_t i = 0; i < 6; ++i) value.destination[i] = value.source[i] = static_cast<std::uint8_t>(number + i);
  value.forward = (number & 1) != 0;
  return value;
}

bool is_whole(const Adjacency& value) {
  const Adjacency expected = value_of(value.ifindex);
  return value.mtu == expected.mtu && value.destination == expected.destination && value.source == expected.source &&
         value.forward == expected.forward;
}

std::unique_ptr<AdjacencyTable> make_table() { return std::make_unique<AdjacencyTable>(); }

}  // namespace

TEST_CASE("found by address and VRF; replaced, erased, and put again") {
  const auto table = make_table();
  CHECK(!table->find(key_of(1)));
  REQUIRE(table->put(key_of(1), value_of(10)));
  REQUIRE(table->put(key_of(1, 5), value_of(20)));
  CHECK(table->find(key_of(1))->ifindex == 10);
  CHECK(table->find(key_of(1, 5))->ifindex == 20);
  CHECK(!table->find(key_of(1, 6)));
  const auto before = table->epoch.load();
  REQUIRE(table->put(key_of(1), value_of(11)));
  CHECK(table->epoch.load() > before);
  CHECK(table->find(key_of(1))->ifindex == 11);
  table->erase(key_of(1));
  CHECK(!table->find(key_of(1)));
  CHECK(table->find(key_of(1, 5)));
  table->erase(key_of(1));  // not there: nothing happens
  REQUIRE(table->put(key_of(1), value_of(12)));
  CHECK(table->find(key_of(1))->ifindex == 12);
}

TEST_CASE("rows that collide are all found, also after one before them is erased") {
  const auto table = make_table();
  std::vector<AdjacencyKey> colliding;
  const auto home = key_of(1).hash() % adjacency_rows;
  for (std::uint32_t host = 1; colliding.size() < adjacency_probe_limit + 1; ++host)
    if (key_of(host).hash() % adjacency_rows == home) colliding.push_back(key_of(host));
  for (std::uint32_t i = 0; i < adjacency_probe_limit; ++i) REQUIRE(table->put(colliding[i], value_of(i)));
  CHECK(!table->put(colliding.back(), value_of(99)));  // the probe range is full
  table->erase(colliding[0]);
  for (std::uint32_t i = 1; i < adjacency_probe_limit; ++i) CHECK(table->find(colliding[i])->ifindex == i);
  REQUIRE(table->put(colliding[3], value_of(33)));  // its own row, not the free one in front of it
  table->erase(colliding[3]);
  CHECK(!table->find(colliding[3]));
  CHECK(table->put(colliding.back(), value_of(99)));
  CHECK(table->find(colliding.back())->ifindex == 99);
}

TEST_CASE("readers beside a writer see whole rows or none") {
  constexpr std::uint32_t writes = 200'000;
  const auto table = make_table();
  std::atomic<bool> writing = true;
  std::atomic<std::uint64_t> seen = 0, torn = 0;
  REQUIRE(table->put(key_of(1), value_of(1)));
  const auto read = [&] {
    std::uint64_t mine = 0;
    while (writing.load(std::memory_order_relaxed) || mine == 0) {
      if (const auto value = table->find(key_of(1))) {
        ++mine;
        if (!is_whole(*value)) ++torn;
      }
    }
    seen += mine;
  };
  std::thread first(read), second(read);
  for (std::uint32_t i = 2; i < writes; ++i) {
    table->put(key_of(1), value_of(i));
    if (i % 1024 == 0) {
      table->erase(key_of(1));
      table->put(key_of(1), value_of(i));
    }
  }
  writing = false;
  first.join();
  second.join();
  CHECK(torn == 0);
  CHECK(seen > 0);
  CHECK(table->find(key_of(1))->ifindex == writes - 1);
}
