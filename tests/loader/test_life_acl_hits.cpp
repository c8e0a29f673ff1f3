// Counts of access rules over a change of policy: what stays keeps its count, what goes is forgotten.
#include <doctest/doctest.h>

#include "loader/acl_hits.hpp"
#include "loader/plan.hpp"
#include "loader/plan_acl.hpp"

using namespace postern;
using namespace postern::loader;

namespace {

config::Acl list_of(std::vector<config::Ace> rules) { return {"101", Family::v4, std::move(rules)}; }

config::Ace udp_rule(std::uint32_t sequence, const char* destination) {
  config::Ace out;
  out.sequence = sequence;
  out.protocol = 17;
  out.source = Prefix::parse("10.1.0.0/16").value();
  out.destination = Prefix::parse(destination).value();
  return out;
}

PlannedInterface with(const std::vector<config::Ace>& rules) {
  PlannedInterface out;
  out.name = "out0";
  const config::Acl acl = list_of(rules);
  for (const config::Ace& rule : acl.rules) {
    out.rules.push_back(policy_rule(acl, rule, 10));
    out.rules.back().flow = 7;
  }
  return out;
}

}  // namespace

TEST_CASE("TS-01: a rule's count survives an edit of its neighbours, under whatever number it stands") {
  const auto before = hit_keys("out0", with({udp_rule(10, "10.2.0.0/16"), udp_rule(20, "10.3.0.0/16")}).policy_text());
  const auto after = hit_keys("out0", with({udp_rule(5, "10.9.0.0/16"), udp_rule(30, "10.2.0.0/16")}).policy_text());
  REQUIRE(before.size() == 2);
  REQUIRE(after.size() == 2);
  CHECK(before[0] == after[1]);
  AclHits hits = {{"out1 something", 3}};
  fold_hits(hits, before, {{0, 5}, {1, 9}}, "out0", after);
  CHECK(hits == AclHits{{"out1 something", 3}, {before[0], 5}});
  fold_hits(hits, after, {{0, 2}, {1, 1}, {77, 1}}, "out0", after);
  CHECK(hits == AclHits{{"out1 something", 3}, {after[0], 2}, {after[1], 6}});
  fold_hits(hits, after, {}, "out0", {});
  CHECK(hits == AclHits{{"out1 something", 3}});
}

TEST_CASE("rules that differ in one option have counts of their own; a name or a tag makes no difference") {
  config::Ace plain = udp_rule(10, "10.2.0.0/16"), marked = plain, tagged = plain;
  marked.options.dscp = 46;
  tagged.sequence = 99;
  tagged.options.log_tag = "WEB";
  const auto key = [](const config::Ace& rule) { return hit_keys("out0", with({rule}).policy_text()).at(0); };
  CHECK(key(plain) != key(marked));
  CHECK(key(plain) == key(tagged));
}

TEST_CASE("TS-04: options of a rule as the policy has them") {
  config::Ace rule = udp_rule(10, "10.2.0.0/16");
  rule.protocol = 1;
  rule.options.icmp_type = 8;
  CHECK(icmp_ranges(rule) == std::vector<config::PortRange>{{0x0800, 0x08ff}});
  rule.options.icmp_code = 3;
  CHECK(icmp_ranges(rule) == std::vector<config::PortRange>{{0x0803, 0x0803}});
  rule.options = {};
  rule.protocol = 6;
  rule.options.established = true;
  const PolicyRule made = policy_rule(list_of({rule}), rule, 10);
  CHECK(made.tcp_flags.takes(16));
  CHECK(made.tcp_flags.takes(4));
  CHECK_FALSE(made.tcp_flags.takes(2));
}
