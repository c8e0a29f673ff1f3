// The reference: reads like the guide's description of an access list, and shares nothing with the compiler.
#include <algorithm>

#include "maps/policy.hpp"

namespace postern {
namespace {

bool in_ranges(const std::vector<PolicyPortRange>& ranges, std::uint16_t port) {
  return ranges.empty() ||
         std::ranges::any_of(ranges, [&](const auto& range) { return range.first <= port && port <= range.last; });
}

bool matches(const PolicyRule& rule, const PolicyPacket& packet) {
  if (rule.source.family() != packet.source.family() || !rule.source.contains(packet.source)) return false;
  if (rule.destination.family() != packet.destination.family() || !rule.destination.contains(packet.destination))
    return false;
  if (rule.protocol && *rule.protocol != packet.protocol) return false;
  if (rule.fragments == PolicyFragments::only) return packet.later_fragment;
  const bool names_ports = !rule.source_ports.empty() || !rule.destination_ports.empty();
  if (packet.later_fragment) return rule.fragments == PolicyFragments::also && (rule.permit || !names_ports);
  if (!names_ports) return true;
  return in_ranges(rule.source_ports, packet.source_port) && in_ranges(rule.destination_ports, packet.destination_port);
}

}  // namespace

PolicyVerdict evaluate(const PolicyInput& policy, const PolicyPacket& packet, const PolicyRule* but_not) {
  const auto& rules = policy.rules;
  for (std::size_t i = 0; i < rules.size(); ++i) {
    if (but_not != nullptr && same_entry(rules[i], *but_not)) continue;
    if (!matches(rules[i], packet)) continue;
    if (rules[i].permit) return {rules[i].flow, static_cast<std::uint32_t>(i)};
    while (i + 1 < rules.size() && same_entry(rules[i], rules[i + 1])) ++i;
  }
  return {};
}

}  // namespace postern
