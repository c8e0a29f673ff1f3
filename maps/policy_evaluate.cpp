// The reference: reads like the guide's description of an access list, and shares nothing with the compiler.
#include <algorithm>

#include "maps/policy.hpp"

namespace postern {
namespace {

bool in_ranges(const std::vector<PolicyPortRange>& ranges, std::uint16_t port) {
  return ranges.empty() ||
         std::ranges::any_of(ranges, [&](const auto& range) { return range.first <= port && port <= range.last; });
}

// "match-all +syn -ack", "match-any +ack +rst", flag by flag.
bool flags_match(const PolicyTcpFlags& wanted, std::uint8_t flags) {
  int asked = 0, right = 0;
  for (unsigned bit = 1; bit <= 32; bit <<= 1) {
    if ((wanted.set & bit) != 0) ++asked, right += (flags & bit) != 0 ? 1 : 0;
    if ((wanted.clear & bit) != 0) ++asked, right += (flags & bit) == 0 ? 1 : 0;
  }
  return wanted.all ? right == asked : right > 0;
}

bool matches(const PolicyRule& rule, const PolicyPacket& packet) {
  if (rule.source.family() != packet.source.family() || !rule.source.contains(packet.source)) return false;
  if (rule.destination.family() != packet.destination.family() || !rule.destination.contains(packet.destination))
    return false;
  if (rule.protocol && *rule.protocol != packet.protocol) return false;
  if ((packet.traffic_class & rule.traffic_class.mask) != rule.traffic_class.value) return false;
  if (rule.fragments == PolicyFragments::only) return packet.later_fragment;
  const bool names_ports = !rule.source_ports.empty() || !rule.destination_ports.empty();
  const bool names_flags = rule.tcp_flags.set != 0 || rule.tcp_flags.clear != 0;
  if (packet.later_fragment) return rule.permit || (!names_ports && !names_flags);
  if (names_flags && !flags_match(rule.tcp_flags, packet.tcp_flags)) return false;
  return in_ranges(rule.source_ports, packet.source_port) && in_ranges(rule.destination_ports, packet.destination_port);
}

// A dynamic map is several entries at one place of the map: their numbers are alike in the low 17 bits.
bool same_place(const PolicyRule& a, const PolicyRule& b) {
  return ((a.entry ^ b.entry) & 0x1ffff) == 0 && a.source.family() == b.source.family();
}

}  // namespace

PolicyVerdict evaluate(const PolicyInput& policy, const PolicyPacket& packet, const PolicyRule* but_not) {
  const auto& rules = policy.rules;
  for (std::size_t i = 0; i < rules.size(); ++i) {
    if (but_not != nullptr && same_place(rules[i], *but_not)) continue;
    if (!matches(rules[i], packet)) continue;
    const bool apart = packet.later_fragment && rules[i].fragment_flow != 0;
    if (rules[i].permit) return {apart ? rules[i].fragment_flow : rules[i].flow, static_cast<std::uint32_t>(i)};
    while (i + 1 < rules.size() && same_entry(rules[i], rules[i + 1])) ++i;
  }
  return {};
}

}  // namespace postern
