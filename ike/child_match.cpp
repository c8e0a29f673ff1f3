#include "ike/child_match.hpp"

#include <algorithm>

#include "ike/derived_child.hpp"
#include "ike/selectors.hpp"

namespace postern::ike {
namespace {

// R43-02: an OPAQUE selector names packets without visible ports, which a flow for them takes; any other skips it and
// goes on with the next, because an SA for it would hold nothing else.
std::vector<Selector> that_suit(const ChildPolicy& policy, std::span<const Selector> offered) {
  std::vector<Selector> out;
  for (const Selector& one : offered)
    if (is_opaque(one) == policy.later_fragments) out.push_back(one);
  return out;
}

bool rekeys(const Connection& connection, const Child& old, const ChildPolicy& policy) {
  return old.policy.name == policy.name ||
         (old.policy.base == policy.name && connection.child(old.policy.name) == nullptr);
}

// Our own entry says that each pair of hosts has an SA (CM-09), and the peer's request is for more. An initiator that
// was triggered by a packet puts that in front (RFC 7296 §2.9): then the pair is cut out, which is a narrowing.
void keep_to_pair(ChildMatch& match, const ChildOffer& offer) {
  const auto is_host = [](const Selector& one) { return one.first == one.last; };
  const auto one_host = [&](const std::vector<Selector>& all) {
    return std::ranges::all_of(all, [&](const Selector& one) { return is_host(one) && one.first == all[0].first; });
  };
  if (one_host(match.local) && one_host(match.remote)) return;
  const Selector &ours = offer.tsr->selectors.front(), &theirs = offer.tsi->selectors.front();
  auto local = narrow({&ours, 1}, match.local), remote = narrow({&theirs, 1}, match.remote);
  match.too_wide = !is_host(ours) || !is_host(theirs) || local.empty() || remote.empty();
  if (match.too_wide) return;
  const auto to_host = [&](const std::vector<Selector>& all, const Selector& host) {
    const Selector any{all[0].protocol, 0, 65535, host.first, host.last};
    return narrow(all, {&any, 1});
  };
  match.local = to_host(match.local, ours);
  match.remote = to_host(match.remote, theirs);
  match.more_possible = true;
}

// RFC 7296 §2.9: what is agreed on is what the SA will hold. Of a rekey that would be what it holds already (§2.9.2),
// wherever the peer names it.
void make_fit(ChildMatch& match, const ChildOffer& offer, std::size_t most) {
  const bool rekeys_whole = offer.replaces != nullptr && covers_old(match, *offer.replaces);
  match.cut = cut_to_fit(match.local, match.remote, most, max_selectors);
  if (!match.cut || !rekeys_whole) return;
  match.local = offer.replaces->local;
  match.remote = offer.replaces->remote;
}

// A child of its own for what the peer proposes: of a template always, of a per-host entry for less than the whole.
ChildPolicy child_for(const SessionCore& core, const ChildMatch& match, bool whole) {
  if (!match.policy.dynamic && (!match.policy.per_host || whole)) return match.policy;
  return derive(match.policy, match.local, match.remote, match.policy.dynamic ? core.remote_identity->text() : "");
}

}  // namespace

std::vector<ChildMatch> matches_of(const SessionCore& core, const Connection& connection, const ChildOffer& offer) {
  std::vector<ChildMatch> out;
  const std::vector<Selector> theirs = within_lent(core, offer.tsi->selectors);
  for (const ChildPolicy& policy : connection.children) {
    if (offer.replaces != nullptr && !rekeys(connection, *offer.replaces, policy)) continue;
    const bool derived = offer.replaces != nullptr && offer.replaces->policy.base == policy.name;
    const ChildPolicy& asked = derived ? offer.replaces->policy : policy;  // DM-19: what is there stays as it is
    if (asked.dynamic && !lies_inside(asked, offer.tsr->selectors, theirs)) continue;
    ChildMatch match{asked, narrow(that_suit(asked, offer.tsr->selectors), asked.local, max_wire_selectors),
                     narrow(that_suit(asked, theirs), asked.remote, max_wire_selectors)};
    make_fit(match, offer, connection.options.max_selectors);
    if (pair_count(match.local, match.remote) == 0) continue;
    if (asked.per_host_only && offer.replaces == nullptr) keep_to_pair(match, offer);
    const bool whole =
        !asked.per_host_only && same(offer.tsr->selectors, policy.local) && same(offer.tsi->selectors, policy.remote);
    if (offer.replaces == nullptr) match.policy = child_for(core, match, whole);
    // Of templates the first by sequence (DM-01), however well it fits.
    match.rank = policy.dynamic ? 0U : (whole ? 0U : 2U) + (core.has_child(policy.name) ? 1U : 0U);
    const auto behind =
        std::ranges::upper_bound(out, match.rank, {}, &ChildMatch::rank);  // in the policy's order where alike
    out.insert(behind, std::move(match));
  }
  return out;
}

bool leaves_more(const ChildMatch& chosen, std::span<const ChildMatch> all) {
  const auto within = [](const std::vector<Selector>& outer, const std::vector<Selector>& inner) {
    return std::ranges::all_of(inner, [&](const Selector& one) { return covers(outer, one); });
  };
  return std::ranges::any_of(all, [&](const ChildMatch& one) {
    return !one.too_wide && (!within(chosen.local, one.local) || !within(chosen.remote, one.remote));
  });
}

bool covers_old(const ChildMatch& match, const Child& old) {
  const auto all = [](std::span<const Selector> outer, const std::vector<Selector>& inner) {
    return std::ranges::all_of(inner, [&](const Selector& one) { return covers(outer, one); });
  };
  return all(match.local, old.local) && all(match.remote, old.remote);
}

}  // namespace postern::ike
