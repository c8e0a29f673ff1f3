// Whose half-open IKE SA gives way (RFC 7296 §2.6): each property of fairness, and the flood that it does not help.
#include <algorithm>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "ike/half_open.hpp"

using namespace postern;
using namespace postern::ike;

namespace {

Endpoint at(const char* address, std::uint16_t port = 500) { return {*IpAddress::parse(address), port}; }

// As the manager does it: so many in all, and of one address.
struct Table {
  std::size_t most, most_of_address;
  HalfOpen half_open = {};
  std::map<HalfOpen::Key, Endpoint> here = {};
  HalfOpen::Key next = 1;

  // The key; nothing: there was no room.
  std::optional<HalfOpen::Key> begins(const Endpoint& who) {
    const bool full_here = half_open.of_address(who) >= most_of_address;
    if (full_here || half_open.size() >= most) {
      const auto other = half_open.gives_way_to(who, full_here);
      if (!other) return std::nullopt;
      ends(*other);
    }
    half_open.add(who, next);
    here.emplace(next, who);
    CHECK(half_open.size() == here.size());
    return next++;
  }
  void ends(HalfOpen::Key key) {
    REQUIRE(here.erase(key) == 1);
    half_open.remove(key);
  }
  std::size_t of(const Endpoint& who) const {
    return static_cast<std::size_t>(std::ranges::count_if(here, [&](const auto& one) { return one.second == who; }));
  }
};

}  // namespace

TEST_CASE("half-open: one port takes what there is, and then no more; its end makes room again") {
  Table table{100, 8};
  const Endpoint flooder = at("192.0.2.1");
  HalfOpen::Key first = 0;
  for (int i = 0; i < 8; ++i) {
    const auto key = table.begins(flooder);
    REQUIRE(key);
    if (i == 0) first = *key;
  }
  for (int i = 0; i < 100; ++i) CHECK_FALSE(table.begins(flooder));
  CHECK(table.half_open.of_address(flooder) == 8);
  table.ends(first);
  CHECK(table.begins(flooder));
  table.half_open.remove(first);  // twice is no fault
  CHECK(table.half_open.size() == 8);
}

TEST_CASE("half-open: behind a NAT who has most gives up its oldest for who has less, until the shares are even") {
  Table table{100, 8};
  const Endpoint flooder = at("192.0.2.1", 1), neighbour = at("192.0.2.1", 2), third = at("192.0.2.1", 3);
  std::vector<HalfOpen::Key> floods;
  for (int i = 0; i < 8; ++i) floods.push_back(*table.begins(flooder));
  for (int i = 0; i < 4; ++i) {
    REQUIRE(table.begins(neighbour));
    CHECK_FALSE(table.here.contains(floods[static_cast<std::size_t>(i)]));  // the oldest went
    CHECK_FALSE(table.begins(flooder));                                     // and does not come back for it
  }
  CHECK(table.of(flooder) == 4);
  CHECK(table.of(neighbour) == 4);
  CHECK_FALSE(table.begins(neighbour));
  CHECK(table.begins(third));
  CHECK(table.half_open.of_address(third) == 8);
}

TEST_CASE("half-open: a flood from many ports keeps nobody out, and what came last stays longest") {
  Table table{100, 8};
  for (std::uint16_t port = 1; port <= 100; ++port) CHECK(table.begins(at("192.0.2.1", port)));
  const auto honest = table.begins(at("192.0.2.1", 5000));
  REQUIRE(honest);
  for (std::uint16_t port = 101; port < 108; ++port) REQUIRE(table.begins(at("192.0.2.1", port)));
  CHECK(table.here.contains(*honest));  // seven others fit beside it
  REQUIRE(table.begins(at("192.0.2.1", 108)));
  CHECK_FALSE(table.here.contains(*honest));
  CHECK(table.begins(at("192.0.2.1", 5000)));
}

TEST_CASE("half-open: a /64 of IPv6 counts as one address, within which each of its own has a share") {
  Table table{100, 8};
  for (int i = 1; i <= 8; ++i) REQUIRE(table.begins(at(("2001:db8:0:1::" + std::to_string(i)).c_str())));
  CHECK(table.half_open.of_address(at("2001:db8:0:1:ffff::9", 77)) == 8);
  CHECK(table.half_open.of_address(at("2001:db8:0:2::1")) == 0);
  CHECK(table.half_open.of_address(at("::ffff:192.0.2.1")) == 0);
  for (int i = 9; i <= 50; ++i) REQUIRE(table.begins(at(("2001:db8:0:1::" + std::to_string(i)).c_str())));
  CHECK(table.half_open.size() == 8);  // and not fifty
  CHECK_FALSE(table.begins(at("2001:db8:0:1::50")));
  CHECK(table.begins(at("2001:db8:0:2::1")));
  CHECK(table.half_open.size() == 9);
  // Neighbours of IPv4 are strangers to each other.
  CHECK(table.begins(at("192.0.2.1")));
  CHECK(table.half_open.of_address(at("192.0.2.2")) == 0);
}

TEST_CASE("half-open: in all, the address that has most gives way to one that has less, and to none that has as much") {
  Table table{16, 8};
  const Endpoint big = at("192.0.2.1"), other = at("192.0.2.2"), small = at("2001:db8::1");
  for (int i = 0; i < 8; ++i) REQUIRE((table.begins(big) && table.begins(other)));
  CHECK(table.half_open.size() == 16);
  CHECK_FALSE(table.begins(big));
  CHECK(table.begins(at("192.0.2.1", 501)));  // of the same address: its other port gives way
  CHECK(table.of(big) == 7);
  CHECK(table.of(other) == 8);
  for (int i = 0; i < 6; ++i) REQUIRE(table.begins(small));
  CHECK(table.half_open.size() == 16);
  CHECK(table.of(small) == 6);
  CHECK(table.half_open.of_address(big) == 5);
  CHECK(table.of(other) == 5);
  CHECK_FALSE(table.begins(small));
}

TEST_CASE("half-open: with no room at all nobody gives way") {
  Table none{0, 8}, nothing{8, 0};
  CHECK_FALSE(none.begins(at("192.0.2.1")));
  CHECK_FALSE(nothing.begins(at("192.0.2.1")));
}

TEST_CASE("half-open: whatever comes and goes, the limits hold and nobody with less than the most is refused") {
  std::mt19937 numbers(4);
  Table table{40, 10};
  for (int i = 0; i < 20000; ++i) {
    const auto port = static_cast<std::uint16_t>(numbers() % 5);
    const Endpoint who = at(numbers() % 2 == 0 ? ("192.0.2." + std::to_string(numbers() % 8)).c_str()
                                               : ("2001:db8:0:" + std::to_string(numbers() % 4) + "::1").c_str(),
                            port);
    if (numbers() % 3 == 0 && !table.here.empty()) {
      table.ends(std::next(table.here.begin(), static_cast<std::ptrdiff_t>(numbers() % table.here.size()))->first);
      continue;
    }
    const std::size_t before = table.of(who), of_address = table.half_open.of_address(who);
    const bool in = table.begins(who).has_value();
    REQUIRE(table.here.size() <= 40);
    REQUIRE(table.half_open.of_address(who) <= 10);
    REQUIRE(table.half_open.of_address(who) <= of_address + 1);
    if (in) continue;
    for (const auto& [key, other] : table.here)
      if (other.address == who.address) REQUIRE(table.of(other) <= before);
  }
  while (!table.here.empty()) table.ends(table.here.begin()->first);
  CHECK(table.half_open.size() == 0);
  CHECK(table.half_open.of_address(at("192.0.2.1")) == 0);
}
