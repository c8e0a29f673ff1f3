// Which of a connection's flows a peer's request for a child SA is for, and what of it (RFC 7296 §2.9). Pure.
#pragma once

#include <span>
#include <vector>

#include "ike/session_core.hpp"

namespace postern::ike {

struct ChildMatch {
  ChildPolicy policy;                   // of the connection, or derived from one that is
  std::vector<Selector> local, remote;  // no more pairs than an SA holds
  unsigned rank = 0;
  bool cut = false;            // there were more selectors than we take
  bool more_possible = false;  // other flows take other parts of the offer
  bool too_wide = false;       // the flow is of pairs of hosts alone
};

// The flows of this peer that the offer fits (CM-16): those that it fits whole before those that it meets in part (a
// tunnel takes anything, a map entry beside it does not mean that), and of either those first that have no SA yet. A
// rekey is for the same flow.
[[nodiscard]] std::vector<ChildMatch> matches_of(const SessionCore& core, const Connection& connection,
                                                 const ChildOffer& offer);
// RFC 7296 §2.9: of an offer that several flows take a part of each, one SA takes one part.
[[nodiscard]] bool leaves_more(const ChildMatch& chosen, std::span<const ChildMatch> all);
// IKE-48: what a rekey leaves must be what there was.
[[nodiscard]] bool covers_old(const ChildMatch& match, const Child& old);

}  // namespace postern::ike
