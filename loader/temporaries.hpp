// Entries of the policy that stand while a peer's SAs do: what somebody negotiated by a dynamic map (DM-12), and pairs
// of hosts with SAs of their own (CM-09). They follow from the SAs in the worker's memory file alone, so a new posternd
// finds them there. Pure but for temporaries_of().
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "base/net_types.hpp"
#include "base/result.hpp"
#include "maps/policy.hpp"
#include "worker/sa_channel.hpp"
#include "worker/sa_state.hpp"

namespace postern::loader {

class SharedMemory;

struct TemporaryEntry {
  std::uint32_t flow = 0, base_flow = 0;
  std::uint32_t fvrf = 0;
  std::uint64_t since_ns = 0;
  IpAddress peer;
  std::vector<TrafficSelector> selectors;  // as packets leave: our side is `source`
  std::set<std::uint32_t> slots;           // of its inbound SAs
};
using Temporaries = std::map<std::uint32_t, TemporaryEntry>;  // by flow

// An inbound SA of postern-ike came, or went. true: the entry is new, or gone.
[[nodiscard]] bool add_temporary(Temporaries& all, std::uint32_t slot, const SaSlot& sa);
[[nodiscard]] bool drop_temporary(Temporaries& all, const SaRow& gone);
[[nodiscard]] Temporaries temporaries_of(const SharedMemory& memory);

// Those of `base_flow`, the oldest first: what is there already keeps its packets when a peer claims more.
[[nodiscard]] std::vector<const TemporaryEntry*> temporaries_of_base(const Temporaries& all, std::uint32_t base_flow);

// Permits for what the entry's SAs carry, without `entry` and `name`. Error: its ranges of addresses need more than
// max_temporary_rules.
inline constexpr std::size_t max_temporary_rules = 64;
[[nodiscard]] Result<std::vector<PolicyRule>> rules_of(const TemporaryEntry& entry);

// The fewest prefixes that make up a range of addresses of one family.
[[nodiscard]] std::vector<Prefix> prefixes_of(const IpAddress& first, const IpAddress& last);

}  // namespace postern::loader
