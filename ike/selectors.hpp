// Traffic selectors (RFC 7296 §2.9): narrowing. Pure.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ike/payloads.hpp"

namespace postern::ike {

[[nodiscard]] Selector selector_of(const Prefix& prefix, std::uint8_t protocol = 0, std::uint16_t first_port = 0,
                                   std::uint16_t last_port = 65535);
// Everything of one family.
[[nodiscard]] Selector any_selector(Family family);

// RFC 4301 §4.4.1.1: the packets whose ports cannot be seen.
[[nodiscard]] constexpr bool is_opaque(const Selector& s) { return s.first_port == 65535 && s.last_port == 0; }

[[nodiscard]] std::optional<Selector> intersect(const Selector& a, const Selector& b);
[[nodiscard]] bool covers(std::span<const Selector> outer, const Selector& inner);

// Both mean the same packets, however they are listed: an initiator may put the packet that it is about in front
// (§2.9).
[[nodiscard]] bool same(std::span<const Selector> a, std::span<const Selector> b);

// The largest part of `offered` that `allowed` covers, in the offer's order, without doubles; empty: TS_UNACCEPTABLE.
// `max`: at most so many.
[[nodiscard]] std::vector<Selector> narrow(std::span<const Selector> offered, std::span<const Selector> allowed,
                                           std::size_t max = 16);

// Whether some packet goes from one to the other. An SA holds such pairs, `max_selectors` of them at most
// (worker/sa_state.hpp).
[[nodiscard]] bool pair_up(const Selector& local, const Selector& remote);
[[nodiscard]] std::size_t pair_count(std::span<const Selector> local, std::span<const Selector> remote);

// Leaves whole selectors, the first ones of both sides, at most `most` of a side and `most_pairs` pairs. true: some
// that make pairs had to go.
[[nodiscard]] bool cut_to_fit(std::vector<Selector>& local, std::vector<Selector>& remote, std::size_t most,
                              std::size_t most_pairs);

// All pairs of these in parts of at most `most_pairs`, so that each fits an SA.
using SelectorSides = std::pair<std::vector<Selector>, std::vector<Selector>>;
[[nodiscard]] std::vector<SelectorSides> in_parts(const std::vector<Selector>& local,
                                                  const std::vector<Selector>& remote, std::size_t most_pairs);

// What of `from` no selector of `holes` holds, in pieces that do not overlap. Nothing: it is not said by selectors (all
// protocols but one), or by more than `max`.
[[nodiscard]] std::optional<std::vector<Selector>> without(std::span<const Selector> from,
                                                           std::span<const Selector> holes, std::size_t max = 16);

// What a packet that triggered us is in: the first selector of a request (§2.9: the very specific one).
[[nodiscard]] bool contains(const Selector& selector, const IpAddress& address, std::uint8_t protocol,
                            std::uint16_t port);

// "10.1.0.0/16", "10.1.0.5-10.1.0.9", with "/prot/port" in the guide's style when not any.
[[nodiscard]] std::string text(const Selector& selector);
[[nodiscard]] std::string listed(std::span<const Selector> selectors);

}  // namespace postern::ike
