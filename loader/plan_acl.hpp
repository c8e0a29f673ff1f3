// An access rule of the document as the policy's rule. Pure.
#pragma once

#include <vector>

#include "config/model.hpp"
#include "maps/policy.hpp"

namespace postern::loader {

// ICMP's type and code as RFC 4301 §4.4.1.1 has them, 16 bits that stand where ports do; other rules: none.
[[nodiscard]] std::vector<config::PortRange> icmp_ranges(const config::Ace& ace);

// What it says of packets, whatever its action: equal text, same traffic.
[[nodiscard]] std::string ace_key(const config::Ace& ace);

// Without flows. `entry`: as the policy numbers it.
[[nodiscard]] PolicyRule policy_rule(const config::Acl& acl, const config::Ace& ace, std::uint32_t entry);

// What the rule looks at and does, without its name: equal text, same rule. Flows are part of it.
[[nodiscard]] std::string rule_text(const PolicyRule& rule);

}  // namespace postern::loader
