// Traffic selectors, compiled for the data path (RFC 4301 §4.4.1.1, §5.2 step 4). Immutable after compile; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "worker/parse.hpp"
#include "worker/sa_state.hpp"

namespace postern {

using Address128 = unsigned __int128;  // v4-mapped, most significant byte first: ranges compare as numbers

// RFC 4301 §4.4.1.1, RFC 7296 §3.13.1: a port range that only packets without visible ports match.
[[nodiscard]] constexpr bool is_opaque(std::uint16_t first, std::uint16_t last) { return first == 65535 && last == 0; }

// What a packet shows to a selector. `ports_known` is false for a non-initial fragment: it matches ports that are ANY
// or OPAQUE (RFC 4301 §7), or a selector that says it takes them. `ports_missing`: a packet too short for the ports
// that its protocol has, which matches ANY alone. ICMP: both ports are type * 256 + code (RFC 4301 §4.4.1.1).
struct SelectorView {
  Address128 source = 0, destination = 0;
  std::uint16_t source_port = 0, destination_port = 0;
  std::uint8_t protocol = 0;
  Family family = Family::v4;
  bool ports_known = true;
  bool ports_missing = false;
};

// Protocols whose ports, or ICMP type and code, a selector can name.
[[nodiscard]] bool has_selector_ports(std::uint8_t protocol);
[[nodiscard]] SelectorView selector_view(Bytes packet, const IpInfo& info);

class CompiledSelectors {
 public:
  CompiledSelectors() = default;
  explicit CompiledSelectors(std::span<const TrafficSelector> selectors);

  // No selectors: any-any of both families.
  [[nodiscard]] bool permit(Bytes packet, const IpInfo& info) const {
    if (wholly_[info.family == Family::v6]) return true;
    return match(selector_view(packet, info));
  }
  // Whether the pieces into which a packet may be cut pass too.
  [[nodiscard]] bool permit_pieces(Bytes packet, const IpInfo& info) const;
  [[nodiscard]] bool match(const SelectorView& view) const;

 private:
  struct Row {
    Address128 source_first, source_last, destination_first, destination_last;
    std::uint16_t source_port_first, source_port_last, destination_port_first, destination_port_last;
    std::uint8_t protocol;
    bool later_fragments;
    Family family;  // a v6 range holds the v4-mapped space too, and must not match it
  };
  std::vector<Row> rows_;
  bool wholly_[2] = {true, true};  // IPv4, IPv6: some selector takes every packet of the family
};

}  // namespace postern
