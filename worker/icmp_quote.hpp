// The packet that an ICMP error quotes, and what follows from it: an error that is of no SA by its own addresses is of
// the SA of the flow that it is about (RFC 4301 §6.2). Pure functions, any thread.
#pragma once

#include <cstdint>
#include <optional>

#include "maps/drops.hpp"
#include "worker/parse.hpp"
#include "worker/selectors.hpp"

namespace postern {

inline constexpr std::uint32_t icmp_header = 8;

// Type and code of an ICMP or ICMPv6 message. Empty: another protocol, a later fragment, or less than its header.
struct IcmpType {
  std::uint8_t type = 0, code = 0;
};
[[nodiscard]] std::optional<IcmpType> icmp_type(Bytes packet, const IpInfo& info);

// RFC 792: unreachable 3, quench 4, redirect 5, time exceeded 11, parameter problem 12. RFC 4443 §2.1: below 128.
// bpf/parse.h has the same list.
[[nodiscard]] bool is_icmp_error_type(Family family, std::uint8_t type);

// Borrowed from the error. As much as was quoted, beginning at its IP header; info.total_bytes is what its header says.
struct QuotedPacket {
  Bytes bytes;
  IpInfo info;
};
// Empty when `packet` is no ICMP error, or its quote ends inside the IP headers.
[[nodiscard]] std::optional<QuotedPacket> quoted_packet(Bytes packet, const IpInfo& info);

// The quoted packet as its answer would look: what went out by an SA is asked about where packets come in, and the
// other way round. Empty when the quote does not reach the ports of a protocol that has them.
[[nodiscard]] std::optional<SelectorView> reversed_view(const QuotedPacket& quoted);

// The check of RFC 4301 §5.2 step 4, and of §5.1 for what leaves. Drop::none: the SA takes the packet, or it is an ICMP
// error about one of its flows. Fragments that could deceive are refused here too (check_fragment()).
[[nodiscard]] Drop refused_by(const CompiledSelectors& selectors, Bytes packet, const IpInfo& info);
// One that counts as a violation of the SA's selectors.
[[nodiscard]] constexpr bool is_selector_violation(Drop reason) {
  return reason == Drop::selector || reason == Drop::fragment_selector || reason == Drop::icmp_embedded;
}

}  // namespace postern
