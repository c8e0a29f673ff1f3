// IF-20: what of an interface outlives it, and how long. Times are the test's own.
#include <algorithm>

#include <doctest/doctest.h>

#include "base/device_names.hpp"
#include "loader/lingering.hpp"

using namespace postern;
using namespace postern::loader;

namespace {

constexpr Time begin{std::chrono::hours(1)};
Time at(int seconds) { return begin + std::chrono::seconds(seconds); }

config::Document document(std::uint32_t grace_s) {
  config::Document d;
  d.dataplane.interface_grace_s = grace_s;
  d.interfaces.resize(2);
  d.interfaces[0].name = "out0";
  d.interfaces[0].crypto_map = "M1";
  d.interfaces[1].name = "in0";
  d.interfaces[1].inside = true;
  return d;
}

LinkFacts link(const char* name, std::uint32_t ifindex, const char* address = nullptr) {
  LinkFacts out;
  out.name = name;
  out.ifindex = ifindex;
  if (address != nullptr) out.addresses = {*Prefix::parse(address)};
  return out;
}

Facts facts(std::vector<LinkFacts> links) {
  Facts out;
  out.links = std::move(links);
  return out;
}

Facts complete(Lingering& lingering, const config::Document& d, Facts f, int seconds) {
  lingering.complete(f, d, at(seconds));
  lingering.settle(d, at(seconds));
  return f;
}

}  // namespace

TEST_CASE("IF-20: a device that is gone counts as it was until the grace is over, and no longer") {
  const auto d = document(30);
  Lingering lingering;
  const auto whole = [] { return facts({link("out0", 2, "192.0.2.1/24"), link("in0", 3, "10.1.0.1/16")}); };
  CHECK(complete(lingering, d, whole(), 0) == whole());
  CHECK_FALSE(lingering.next_end());
  const auto gone = complete(lingering, d, facts({link("in0", 3)}), 10);
  const LinkFacts* const out0 = gone.find("out0");
  REQUIRE(out0 != nullptr);
  CHECK(out0->gone);
  CHECK(out0->ifindex == 2);
  CHECK(out0->addresses == whole().links[0].addresses);
  CHECK(lingering.next_end() == at(40));
  CHECK(complete(lingering, d, facts({link("in0", 3)}), 39).find("out0") != nullptr);
  CHECK(lingering.next_end() == at(40));  // from when it went
  CHECK(complete(lingering, d, facts({link("in0", 3)}), 40).find("out0") == nullptr);
  CHECK_FALSE(lingering.next_end());
  CHECK(complete(lingering, d, facts({link("in0", 3)}), 41).find("out0") == nullptr);

  // Back in time, as another device: that one counts, and the next absence begins anew.
  CHECK(complete(lingering, d, whole(), 50) == whole());
  CHECK(complete(lingering, d, facts({}), 60).find("out0")->gone);
  const auto back = complete(lingering, d, facts({link("out0", 9, "192.0.2.1/24")}), 70);
  CHECK(back.links.size() == 1);
  CHECK(back.find("out0")->ifindex == 9);
  CHECK_FALSE(back.find("out0")->gone);
  CHECK_FALSE(lingering.next_end());
  CHECK(complete(lingering, d, facts({}), 80).find("out0")->ifindex == 9);
  CHECK(lingering.next_end() == at(110));
}

TEST_CASE("IF-20: inside interfaces, interfaces of no document and a grace of 0 do not linger") {
  Lingering lingering;
  (void)complete(lingering, document(30), facts({link("out0", 2), link("in0", 3), link("eth9", 4)}), 0);
  const auto gone = complete(lingering, document(30), facts({}), 1);
  CHECK(gone.links.size() == 1);
  auto other = document(30);
  other.interfaces.erase(other.interfaces.begin());
  CHECK(complete(lingering, other, facts({}), 2).links.empty());
  CHECK(complete(lingering, document(30), facts({}), 3).links.empty());  // forgotten with the document
  Lingering at_once;
  (void)complete(at_once, document(0), facts({link("out0", 2)}), 0);
  CHECK(complete(at_once, document(0), facts({}), 1).links.empty());
}

TEST_CASE("IF-20: a document that is only looked at takes nothing away") {
  Lingering lingering;
  (void)complete(lingering, document(30), facts({link("out0", 2)}), 0);
  Facts f = facts({});
  lingering.complete(f, document(30), at(1));
  Facts candidate = facts({});
  lingering.complete(candidate, document(0), at(2));
  CHECK(candidate.links.empty());
  CHECK(complete(lingering, document(30), facts({}), 3).find("out0") != nullptr);
}

TEST_CASE("IF-20: a device under another name is followed while the grace lasts") {
  const auto d = document(30);
  Lingering lingering;
  (void)complete(lingering, d, facts({link("out0", 2, "192.0.2.1/24")}), 0);
  const auto renamed = complete(lingering, d, facts({link("wan", 2)}), 5);
  REQUIRE(renamed.links.size() == 2);
  CHECK_FALSE(renamed.find("out0")->gone);
  CHECK(renamed.find("out0")->renamed == "wan");
  CHECK(renamed.find("out0")->addresses.size() == 1);
  CHECK(complete(lingering, d, facts({link("wan", 2)}), 35).find("out0") == nullptr);
}

TEST_CASE("IF-20: addresses that a device has lost count as long; those that were moved or replaced do not") {
  const auto d = document(30);
  Lingering lingering;
  const auto with = [](std::vector<const char*> addresses) {
    LinkFacts one = link("out0", 2);
    for (const char* const text : addresses) one.addresses.push_back(*Prefix::parse(text));
    return facts({one});
  };
  (void)complete(lingering, d, with({"192.0.2.1/24", "2001:db8::1/64", "fe80::1/64"}), 0);
  const auto down = complete(lingering, d, with({"192.0.2.1/24"}), 10);
  CHECK(down.links[0].addresses == with({"192.0.2.1/24", "2001:db8::1/64"}).links[0].addresses);
  CHECK(lingering.next_end() == at(40));
  CHECK(complete(lingering, d, with({"192.0.2.1/24", "fe80::1/64"}), 41).links[0].addresses.size() == 2);
  CHECK_FALSE(lingering.next_end());
  CHECK(complete(lingering, d, with({"192.0.2.9/24"}), 50).links[0].addresses ==
        with({"192.0.2.9/24"}).links[0].addresses);
}

TEST_CASE("device names in one text") {
  CHECK(device_names("").empty());
  CHECK(device_names("out0").size() == 1);
  CHECK(device_names("out0 out1").size() == 2);
  CHECK(is_among("out1", "out0 out1"));
  CHECK(is_among("out0", "out0"));
  CHECK_FALSE(is_among("out", "out0 out1"));
  CHECK_FALSE(is_among("", "out0 out1"));
  CHECK_FALSE(is_among("out0 out1", "out0 out1"));
}
