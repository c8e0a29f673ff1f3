// Packets that access rules decided. The data plane counts them by policy generation; a rule that stays what it is
// keeps its count when the policy around it changes. posternd's thread alone.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "maps/bpf_maps.hpp"

namespace postern::loader {

// What former generations have counted: interface and rule_text() to packets. Part of the state file.
using AclHits = std::map<std::string, std::uint64_t>;

// Key of each rule of a policy text (PlannedInterface::policy_text()), in order.
[[nodiscard]] std::vector<std::string> hit_keys(const std::string& interface, const std::string& policy_text);

// `counted`: packets by rule of a generation that is gone. What the policy of now no longer has is forgotten.
void fold_hits(AclHits& hits, const std::vector<std::string>& gone,
               const std::map<std::uint32_t, std::uint64_t>& counted, const std::string& interface,
               const std::vector<std::string>& now);

// Of each rule, in order.
[[nodiscard]] std::vector<std::uint64_t> hits_of(const AclHits& hits, const NodeMaps& maps, std::uint32_t generation,
                                                 const std::vector<std::string>& keys);

}  // namespace postern::loader
