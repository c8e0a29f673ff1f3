// Dynamic maps and pairs of hosts in a plan: their templates, and before those what peers have negotiated.
#include <algorithm>

#include "loader/plan_acl.hpp"
#include "loader/planner.hpp"

namespace postern::loader {
namespace {

// What stands at the place of a dynamic map: an entry of the policy for all that is temporary, and one for each
// template, so that a deny of one does not end the others.
constexpr std::uint32_t temporary_entry_offset = 0x20000;
constexpr std::uint32_t no_ace_index = ~std::uint32_t{0};

}  // namespace

// The permits of what has been derived from `base`, before its own; each with a flow to be shown.
Result<void> Planner::add_temporaries(const PlannedFlow& base, std::uint32_t entry, Placed& rules) {
  for (const TemporaryEntry* const one : temporaries_of_base(temporaries_, base.id)) {
    POSTERN_TRY(permits, rules_of(*one));
    for (PolicyRule& rule : permits) {
      rule.entry = entry;
      rule.name = base.key + " for " + one->peer.text();
      rules.emplace_back(std::move(rule), PlannedInterface::RuleOrigin{base.map, base.sequence, "", 0});
    }
    if (!temporary_.insert(one->flow).second) continue;  // of another interface that shares it
    PlannedFlow flow = base;
    flow.id = one->flow;
    flow.key = base.key + " temporary " + std::to_string(one->flow);
    flow.is_template = flow.per_host = false;
    flow.base_flow = base.id;
    flow.peer = one->peer;
    flow.selectors = one->selectors;
    plan_.flows.push_back(std::move(flow));
    add_peer({one->fvrf, one->peer});
  }
  return {};
}

// DM-04 to DM-07. A template without a list filters nothing; one whose list is missing or empty drops all.
void Planner::add_template(const Placement& at, const config::DynamicEntry& entry, const PlannedFlow& flow,
                           std::uint32_t policy_entry, std::vector<std::uint32_t>& bases, Placed& rules) {
  const config::Acl* const acl = entry.acl ? config::find_named(document_.acls, *entry.acl) : nullptr;
  const auto add_flow = [&](std::uint32_t ace, const std::string& what) {
    PlannedFlow made = flow;
    made.ace = ace;
    return bases.emplace_back(flow_of(at, std::move(made), "dynamic " + flow.sa_pair + ": " + what));
  };
  if (!entry.acl) {
    add_flow(0, "any");
    return;
  }
  const bool permits = acl != nullptr && std::ranges::any_of(acl->rules, [](const config::Ace& ace) {
                         return ace.action == config::Action::permit;
                       });
  if (!permits) {
    PolicyRule rule;
    rule.entry = policy_entry;
    rule.source = rule.destination = {at.map.family == Family::v4 ? IpAddress::v4(0) : IpAddress{}, 0};
    rule.name = *entry.acl + " (missing or empty)";
    rule.flow = add_flow(no_ace_index, "nothing");
    rules.emplace_back(std::move(rule), PlannedInterface::RuleOrigin{flow.map, flow.sequence, "", 0});
    return;
  }
  for (std::uint32_t index = 0; index < acl->rules.size(); ++index) {
    const config::Ace& ace = acl->rules[index];
    if (!ace.options.time_range.empty() && !facts_.time_ranges.contains(ace.options.time_range)) continue;
    PolicyRule rule = policy_rule(*acl, ace, policy_entry);
    if (rule.permit) rule.flow = add_flow(index, ace_key(ace));
    rules.emplace_back(std::move(rule), PlannedInterface::RuleOrigin{flow.map, flow.sequence, acl->name, index});
  }
}

// DM-03: what peers have negotiated, and behind it the templates by sequence.
Result<void> Planner::add_dynamic(const Placement& at, std::uint32_t entry_offset) {
  const config::DynamicMap* const dynamic = config::find_named(document_.dynamic_maps, *at.entry.dynamic);
  if (dynamic == nullptr) return fail("crypto map " + at.map.name + ": no dynamic map \"" + *at.entry.dynamic + "\"");
  Placed permits, templates;
  std::uint32_t number = temporary_entry_offset + entry_offset + at.entry.sequence;
  const std::uint32_t temporary = number;
  std::vector<std::uint32_t> bases;
  for (const config::DynamicEntry& one : dynamic->entries) {
    PlannedFlow flow;
    flow.sa_pair = at.key() + " " + dynamic->name + " " + std::to_string(one.sequence);
    flow.map = at.map.name;
    flow.sequence = at.entry.sequence;
    flow.dynamic_map = dynamic->name;
    flow.dynamic_sequence = one.sequence;
    flow.is_template = true;
    add_template(at, one, flow, number += temporary_entry_offset, bases, templates);
  }
  for (const std::uint32_t base : bases)
    POSTERN_CHECK(add_temporaries(PlannedFlow(*plan_.find_flow(base)), temporary, permits));
  PlannedInterface& planned = interface_of(at.link, at.interface.vrf);
  append(planned, std::move(permits));
  append(planned, std::move(templates));
  if (!at.place.local) miss(without_address(at));
  return add_negotiated(at.key());
}

}  // namespace postern::loader
