// Children that are not in the policy but made of one that is: of a template for what a peer proposes (DM-01 to DM-06),
// of a per-host entry for a pair of hosts (CM-09). Pure.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "ike/policy.hpp"

namespace postern::ike {

// DM-06: every packet of the proposal is permitted: it lies in the template whole, and meets none of its denials.
[[nodiscard]] bool lies_inside(const ChildPolicy& base, std::span<const Selector> local,
                               std::span<const Selector> remote);

// `whose`: what tells it from children of other peers with the same selectors. Without a flow.
[[nodiscard]] ChildPolicy derive(const ChildPolicy& base, std::vector<Selector> local, std::vector<Selector> remote,
                                 const std::string& whose);
// The same child by what the policy says of its base now.
[[nodiscard]] ChildPolicy derive_again(const ChildPolicy& base, const ChildPolicy& before);

// `child` is `of`, or was derived from it.
[[nodiscard]] inline bool stems_from(const ChildPolicy& child, const ChildPolicy& of) {
  return child.name == of.name || child.base == of.name;
}

}  // namespace postern::ike
