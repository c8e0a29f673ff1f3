// Which peer a flow goes to, where its entry has several (CM-05, CM-07).
#include <algorithm>

#include <fmt/format.h>

#include "ike/manager.hpp"

namespace postern::ike {
namespace {

std::string peer_text(const Connection& connection) {
  return connection.is_named() ? connection.remote_name : connection.remote.text();
}

}  // namespace

// The peer that a flow has come to stays the one, as long as the policy has it (CM-13).
void Manager::flows_changed() {
  struct Row {
    std::uint32_t rank;
    FlowOwner owner;
  };
  std::unordered_map<std::uint32_t, std::vector<Row>> rows;
  std::unordered_map<std::uint32_t, FlowPeers> fresh;
  for (const auto& connection : policy_->connections)
    for (const ChildPolicy& child : connection->children) {
      if (child.dynamic) continue;
      rows[child.place.flow].push_back({child.rank, {connection->name, child.name}});
      fresh[child.place.flow].default_first = child.default_first;
    }
  for (auto& [flow, found] : rows) {
    std::ranges::stable_sort(found, {}, &Row::rank);
    FlowPeers& peers = fresh[flow];
    for (Row& row : found) peers.owners.push_back(std::move(row.owner));
    const FlowOwner* const before = owner_of(flow);
    if (before == nullptr) continue;
    const auto same = std::ranges::find(peers.owners, before->connection, &FlowOwner::connection);
    if (same != peers.owners.end()) peers.current = static_cast<std::size_t>(same - peers.owners.begin());
  }
  flows_ = std::move(fresh);
}

const Manager::FlowOwner* Manager::owner_of(std::uint32_t flow) const {
  const auto known = flows_.find(flow);
  return known == flows_.end() ? nullptr : &known->second.owners[known->second.current];
}

bool Manager::is_current(const std::string& connection, const ChildPolicy& child) const {
  const FlowOwner* const owner = owner_of(child.place.flow);
  return owner == nullptr || owner->connection == connection;
}

bool Manager::has_others(const Connection& connection) const {
  return std::ranges::any_of(connection.children, [&](const ChildPolicy& child) {
    const auto known = flows_.find(child.place.flow);
    return known != flows_.end() && known->second.owners.size() > 1;
  });
}

// Whoever began: this peer works.
void Manager::flow_is_up(const InstallChild& child) {
  const auto known = flows_.find(child.policy.place.flow);
  if (known == flows_.end()) return;
  FlowPeers& peers = known->second;
  const auto at = std::ranges::find(peers.owners, child.connection->name, &FlowOwner::connection);
  if (at != peers.owners.end()) peers.current = static_cast<std::size_t>(at - peers.owners.begin());
  peers.failures = 0;
}

// Once round: when nobody works, traffic has to ask again.
void Manager::try_next_peer(const Connection& connection, const std::vector<std::string>& children, Time now) {
  for (const std::string& name : children) {
    const ChildPolicy* const child = connection.child(name);
    const auto known = child == nullptr ? flows_.end() : flows_.find(child->place.flow);
    if (known == flows_.end()) continue;
    FlowPeers& peers = known->second;
    if (peers.owners.size() < 2 || peers.owners[peers.current].connection != connection.name) continue;
    peers.current = (peers.current + 1) % peers.owners.size();
    if (++peers.failures >= peers.owners.size()) {
      peers.failures = 0;
      continue;
    }
    const FlowOwner next = peers.owners[peers.current];
    const auto wish = wishes_.find(next.connection);
    if (wish == wishes_.end()) continue;
    Event event;
    event.kind = EventKind::trace;
    event.connection = next.connection;
    event.child = next.child;
    event.text = fmt::format("{} goes to {} now, {} does not work", next.child, peer_text(*wish->second.connection),
                             peer_text(connection));
    tell(event);
    want(wish->second, {next.child}, now, std::chrono::milliseconds(1));
  }
}

void Manager::back_to_default(std::uint32_t flow) {
  const auto known = flows_.find(flow);
  if (known == flows_.end() || !known->second.default_first) return;
  known->second.current = 0;
  known->second.failures = 0;
}

std::map<std::uint32_t, IpAddress> Manager::current_peers() const {
  std::map<std::uint32_t, IpAddress> out;
  for (const auto& [flow, peers] : flows_) {
    if (peers.owners.size() < 2) continue;
    const auto wish = wishes_.find(peers.owners[peers.current].connection);
    if (wish != wishes_.end()) out[flow] = wish->second.connection->remote;
  }
  return out;
}

}  // namespace postern::ike
