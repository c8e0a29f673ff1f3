// The policy compiler: the ordered rules of one interface's crypto maps become the contents of the classifier's BPF
// maps. Pure: no descriptor is touched here (maps/policy_writer.hpp does that), so tests compare it with evaluate()
// alone.
//
// Semantics, shared by the compiler, the BPF programs and evaluate():
// - First match wins. A deny ends its own entry only: later entries are still asked (TS-03). Nothing matches: bypass.
// - IPv4 rules match IPv4 packets alone, IPv6 rules IPv6 alone; "any" of one family does not cover the other.
// - Ports are those of TCP, UDP, UDP-Lite, SCTP and DCCP. Type and code of ICMP and ICMPv6 are a source port, type in
//   the upper eight bits (RFC 4301 §4.4.1.1).
// - A non-initial fragment has no ports and no TCP flags. It matches a permit by addresses and protocol alone, and
// never
//   a deny that names either: so what cannot be told apart is protected and does not leak (RFC 4301 §7). The permit may
//   have a flow of its own for it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/net_types.hpp"
#include "base/result.hpp"
#include "maps/abi_options.h"

namespace postern {

struct PolicyPortRange {
  std::uint16_t first = 0, last = 65535;  // host order, inclusive
};

// What a rule has to do with non-initial fragments.
enum class PolicyFragments : std::uint8_t {
  also,  // they match it as whole packets do, as far as it can be told
  only,  // nothing else matches; such a rule names no ports
};

// DSCP, precedence and TOS are parts of one byte. mask 0: any.
struct PolicyClass {
  std::uint8_t mask = 0, value = 0;
  [[nodiscard]] bool takes(std::uint8_t traffic_class) const { return (traffic_class & mask) == value; }
};

// TCP flags, FIN 1 to URG 32, that shall be set and that shall not. Nothing in both: any.
struct PolicyTcpFlags {
  std::uint8_t set = 0, clear = 0;
  bool all = false;  // all of them as they shall be; else one is enough ("established": ACK or RST)
  [[nodiscard]] bool any() const { return (set | clear) == 0; }
  [[nodiscard]] bool takes(std::uint8_t flags) const {
    if (any()) return true;
    if (all) return (flags & set) == set && (flags & clear) == 0;
    return (flags & set) != 0 || (~flags & clear) != 0;
  }
};

// One ACE. source and destination are of one family, seen in the outbound direction.
struct PolicyRule {
  std::uint32_t entry = 0;  // sequence number of the crypto map entry; above 17 bits: of a part of a dynamic map
  bool permit = true;
  std::uint32_t flow = 0;                                        // permit: node-wide flow id, not 0
  std::uint32_t fragment_flow = 0;                               // permit: of non-initial fragments; 0: the same
  std::optional<std::uint8_t> protocol;                          // empty: any
  Prefix source, destination;                                    // host bits are ignored
  std::vector<PolicyPortRange> source_ports, destination_ports;  // empty: any
  PolicyClass traffic_class{};
  PolicyTcpFlags tcp_flags{};
  PolicyFragments fragments = PolicyFragments::also;
  postern_log log = POSTERN_LOG_NONE;
  std::string name{};  // as a log record calls it: "101 rule 10"
  std::string log_tag{};
  [[nodiscard]] bool names_ports() const { return !source_ports.empty() || !destination_ports.empty(); }
  [[nodiscard]] bool looks_inside() const { return names_ports() || !tcp_flags.any(); }  // behind the IP headers
  // A non-initial fragment of its addresses and protocol matches it.
  [[nodiscard]] bool takes_later_fragments() const {
    return fragments == PolicyFragments::only || permit || !looks_inside();
  }
  [[nodiscard]] bool takes_whole_packets() const { return fragments != PolicyFragments::only; }
};

// Adjacent rules of one family and one sequence number are one entry (an interface's IPv6 map may repeat the numbers).
[[nodiscard]] inline bool same_entry(const PolicyRule& a, const PolicyRule& b) {
  return a.entry == b.entry && a.source.family() == b.source.family();
}

// Everything that one interface protects: its IPv4 and IPv6 map sets in order of evaluation. One generation number per
// interface and version: numbers are node-wide and grow (the worker calls a verdict stale by comparing them).
struct PolicyInput {
  std::uint32_t generation = 0;  // 1..0xfffffffe
  std::vector<PolicyRule> rules;
};

// A packet as the policy sees it, in the outbound direction (an inbound one: with source and destination swapped).
struct PolicyPacket {
  IpAddress source, destination;
  std::uint8_t protocol = 0;
  std::uint16_t source_port = 0, destination_port = 0;  // host order; ICMP: type and code, 0
  bool later_fragment = false;
  std::uint8_t traffic_class = 0;
  std::uint8_t tcp_flags = 0;
};

// What its rules look at: POSTERN_IF_POLICY.
[[nodiscard]] std::uint32_t policy_flags(const std::vector<PolicyRule>& rules);

struct PolicyVerdict {
  std::uint32_t flow = 0;      // 0: bypass
  std::uint32_t ace = no_ace;  // index in PolicyInput::rules of the permit that decided
  static constexpr std::uint32_t no_ace = POSTERN_NO_ACE;
  bool operator==(const PolicyVerdict&) const = default;
};

// The reference: rules one after the other. Not for the data path's speed; used by tests, to explain a verdict, and for
// what the worker itself makes, once an SA. The map's entry of `but_not` is not asked.
[[nodiscard]] PolicyVerdict evaluate(const PolicyInput& policy, const PolicyPacket& packet,
                                     const PolicyRule* but_not = nullptr);

// Rows of the maps for one generation, without duplicates. `*_prefixes` keys are in network order as the LPM wants
// them.
struct PolicyImage {
  std::uint32_t generation = 0;
  template <class Key>
  using Rows = std::vector<std::pair<Key, postern_ace_bits>>;
  Rows<postern_prefix_key> source_prefixes, destination_prefixes;
  Rows<postern_protocol_key> protocols;
  Rows<postern_port_key> source_ports, destination_ports;
  std::vector<std::pair<postern_ace_key, postern_ace>> aces;
};

// Errors: more than POSTERN_MAX_ACES rules or POSTERN_MAX_ENTRIES entries, or port ranges that need too many rows;
// families mixed in a rule, ports of a protocol that has none, an empty port range, a permit without flow, a reserved
// generation.
[[nodiscard]] Result<PolicyImage> compile(const PolicyInput& policy);

// The image looked up as the BPF programs look it up: longest prefix, conjunction, first bit, deny skips its entry.
[[nodiscard]] PolicyVerdict classify(const PolicyImage& image, const PolicyPacket& packet);

// True for the protocols whose first four bytes are source and destination port.
[[nodiscard]] constexpr bool has_ports(std::uint8_t protocol) {
  return protocol == 6 || protocol == 17 || protocol == 33 || protocol == 132 || protocol == 136;
}
[[nodiscard]] constexpr bool is_icmp(std::uint8_t protocol) { return protocol == 1 || protocol == 58; }

}  // namespace postern
