// What peers bring along: rules of a temporary entry, and where a plan puts them (DM-07, DM-12, CM-09).
#include <doctest/doctest.h>

#include "loader/temporaries.hpp"

namespace postern::loader {
namespace {

IpAddress ip(const char* text) { return IpAddress::parse(text).value(); }

TrafficSelector between(const char* from, const char* to, const char* other_from, const char* other_to) {
  TrafficSelector out;
  out.source_first = ip(from);
  out.source_last = ip(to);
  out.destination_first = ip(other_from);
  out.destination_last = ip(other_to);
  return out;
}

TemporaryEntry entry_with(TrafficSelector selector) {
  TemporaryEntry out;
  out.flow = first_temporary_flow + 5;
  out.peer = ip("192.0.2.9");
  out.selectors = {selector};
  return out;
}

std::string texts(const char* first, const char* last) {
  std::string out;
  for (const Prefix& one : prefixes_of(ip(first), ip(last))) out += (out.empty() ? "" : " ") + one.text();
  return out;
}

}  // namespace

TEST_CASE("a range of addresses is the fewest prefixes") {
  CHECK(texts("10.1.0.0", "10.1.255.255") == "10.1.0.0/16");
  CHECK(texts("10.1.0.5", "10.1.0.9") == "10.1.0.5/32 10.1.0.6/31 10.1.0.8/31");
  CHECK(texts("0.0.0.0", "255.255.255.255") == "0.0.0.0/0");
  CHECK(texts("255.255.255.255", "255.255.255.255") == "255.255.255.255/32");
  CHECK(texts("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff") == "::/0");
  CHECK(texts("2001:db8::", "2001:db8::ffff:ffff:ffff:ffff") == "2001:db8::/64");
  CHECK(texts("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff") ==
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127");
}

TEST_CASE("rules of an entry are those of its selectors; too many are refused") {
  TrafficSelector udp = between("10.1.0.0", "10.1.255.255", "10.2.0.0", "10.2.0.255");
  udp.protocol = 17;
  udp.destination_port_first = udp.destination_port_last = 53;
  const auto rules = rules_of(entry_with(udp));
  REQUIRE(rules.has_value());
  REQUIRE(rules->size() == 1);
  const PolicyRule& rule = rules->front();
  CHECK(rule.permit);
  CHECK(rule.flow == first_temporary_flow + 5);
  CHECK(rule.source.text() == "10.1.0.0/16");
  CHECK(rule.protocol == 17);
  CHECK(rule.source_ports.empty());
  REQUIRE(rule.destination_ports.size() == 1);
  CHECK(rule.destination_ports[0].first == 53);

  udp.destination_port_first = 65535;  // OPAQUE
  udp.destination_port_last = 0;
  CHECK(rules_of(entry_with(udp)).value().front().fragments == PolicyFragments::only);

  const auto wild = rules_of(entry_with(between("10.1.0.1", "10.1.255.254", "10.2.0.1", "10.2.255.254")));
  REQUIRE(!wild.has_value());
  CHECK(wild.error().code == E2BIG);
}

TEST_CASE("an entry stands while it has inbound SAs, the oldest first") {
  Temporaries all;
  const auto sa = [](std::uint32_t flow, std::uint64_t installed) {
    auto slot = std::make_unique<SaSlot>();
    slot->parameters.flow = flow;
    slot->parameters.base_flow = 7;
    slot->parameters.remote = IpAddress::parse("192.0.2.9").value();
    slot->parameters.selector_count = 1;
    // As the peer sends: its side is the source.
    slot->parameters.selectors[0] = between("10.2.0.0", "10.2.0.255", "10.1.0.0", "10.1.255.255");
    slot->installed_ns.store(installed);
    return slot;
  };
  const std::uint32_t first = first_temporary_flow + 9, second = first_temporary_flow + 3;
  CHECK(add_temporary(all, 1, *sa(first, 100)));
  CHECK(!add_temporary(all, 2, *sa(first, 150)));  // its rekey
  CHECK(add_temporary(all, 3, *sa(second, 200)));
  const auto of_base = temporaries_of_base(all, 7);
  REQUIRE(of_base.size() == 2);
  CHECK(of_base[0]->flow == first);
  CHECK(of_base[0]->selectors[0].source_first == ip("10.1.0.0"));
  CHECK(temporaries_of_base(all, 8).empty());
  SaRow row;
  row.flow = first;
  row.slot = 1;
  CHECK(!drop_temporary(all, row));
  row.slot = 2;
  CHECK(drop_temporary(all, row));
  CHECK(!drop_temporary(all, row));
  CHECK(all.size() == 1);
}

}  // namespace postern::loader
