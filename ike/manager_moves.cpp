// RFC 4555: an address of ours that is another now. To the policy that is another connection; its IKE SAs go along,
// where they can, and what we owe the old one is owed to the new one.
#include <algorithm>

#include "ike/manager.hpp"

namespace postern::ike {
namespace {

bool shares_a_flow(const Connection& a, const Connection& b) {
  return std::ranges::any_of(a.children, [&](const ChildPolicy& child) {
    return std::ranges::any_of(b.children,
                               [&](const ChildPolicy& other) { return other.place.flow == child.place.flow; });
  });
}

// Wherever it has been sent (RFC 5685).
const IpAddress& gateway_of(const Connection& connection) {
  return connection.home ? *connection.home : connection.remote;
}

// The same peer, profile and flows, from another address.
bool differs_in_our_address(const Connection& a, const Connection& b) {
  const bool same_peer =
      a.is_named() ? a.remote_name == b.remote_name : gateway_of(a) == gateway_of(b) && !b.is_named();
  return a.local != b.local && a.local.family() == b.local.family() && a.fvrf == b.fvrf && same_peer &&
         a.profile_name == b.profile_name && !a.is_template() && !b.is_template() && shares_a_flow(a, b);
}

bool has(const Policy& policy, const std::string& name) {
  return std::ranges::any_of(policy.connections, [&](const auto& one) { return one->name == name; });
}

}  // namespace

std::map<std::string, std::string> Manager::renamed(const Policy& before, const Policy& after) {
  std::map<std::string, std::string> out;
  std::set<std::string> taken;
  for (const auto& old : before.connections) {
    if (has(after, old->name)) continue;
    const auto fresh = std::ranges::find_if(after.connections, [&](const auto& one) {
      return differs_in_our_address(*old, *one) && !has(before, one->name) && !taken.contains(one->name);
    });
    if (fresh == after.connections.end()) continue;
    taken.insert((*fresh)->name);
    out[old->name] = (*fresh)->name;
  }
  return out;
}

void Manager::rename(const std::string& from, const std::string& to) {
  if (auto node = wishes_.extract(from); !node.empty()) {
    Wish& wish = node.mapped();
    if (wish.due && wish_timers_.erase({*wish.due, from}) != 0) wish_timers_.insert({*wish.due, to});
    node.key() = to;
    wishes_.insert(std::move(node));
  }
  for (auto& [id, child] : children_)
    if (child.connection == from) child.connection = to;
  for (auto& [flow, peers] : flows_)
    for (FlowOwner& owner : peers.owners)
      if (owner.connection == from) owner.connection = to;
  if (auto node = redirections_.extract(from); !node.empty()) {
    node.key() = to;
    redirections_.insert(std::move(node));
  }
  if (outlived_.erase(from) != 0) outlived_.insert(to);
}

// True: the IKE SA goes on, as one of `after`.
bool Manager::goes_along(Key key, const Connection& before, const Connection& after, Time now) {
  Session& session = *sessions_.at(key).session;
  if (!differs_in_our_address(before, after) || !session.can_move()) return false;
  const auto shared = std::ranges::find(policy_->connections, after.name, [](const auto& one) { return one->name; });
  session.follow(*shared);
  moving_.insert(key);
  // posternd waits for us to have taken the policy, and the worker for posternd to know where an SA is.
  if (!move_at_ || now < *move_at_) move_at_ = now;
  return true;
}

void Manager::moves_on_time(Time now) {
  if (!move_at_ || now < *move_at_) return;
  move_at_.reset();
  for (const Key key : std::exchange(moving_, {})) with(key, now, [&](Session& session) { return session.move(now); });
}

}  // namespace postern::ike
