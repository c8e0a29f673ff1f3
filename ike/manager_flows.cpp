// Which peer a flow goes to, where its entry has several (CM-05, CM-07); and the children of pairs of hosts (CM-09).
#include <algorithm>

#include <fmt/format.h>

#include "ike/derived_child.hpp"
#include "ike/manager.hpp"
#include "ike/selectors.hpp"

namespace postern::ike {
namespace {

// A child that was made for a packet and never got an SA is kept so long.
constexpr auto hosts_patience = std::chrono::seconds(30);

std::string peer_text(const Connection& connection) {
  return connection.is_named() ? connection.remote_name : connection.remote.text();
}

Selector host_selector(const Selector& like, const IpAddress& host) { return {like.protocol, 0, 65535, host, host}; }

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

// --- pairs of hosts

// The connection, and the policy that has it, are made anew: sessions keep the one that they were made by.
void Manager::put_children(Wish& wish, std::vector<ChildPolicy> children) {
  auto connection = std::make_shared<Connection>(*wish.connection);
  connection->children = std::move(children);
  auto policy = std::make_shared<Policy>(*policy_);
  const auto at = std::ranges::find(policy->connections, connection->name, [](const auto& c) { return c->name; });
  if (at == policy->connections.end()) return;
  *at = connection;
  wish.connection = std::move(connection);
  policy_ = std::move(policy);
  flows_changed();
}

std::optional<std::string> Manager::child_of_hosts(Wish& wish, const ChildPolicy& of, const HostPair& hosts, Time now) {
  const ChildPolicy base = of;
  if (!contains(base.local.front(), hosts.local, base.local.front().protocol, 0) ||
      !contains(base.remote.front(), hosts.remote, base.remote.front().protocol, 0))
    return std::nullopt;
  ChildPolicy made = derive(base, {host_selector(base.local.front(), hosts.local)},
                            {host_selector(base.remote.front(), hosts.remote)}, "");
  made.rank = base.rank;
  if (wish.connection->child(made.name) != nullptr) return made.name;
  std::vector<ChildPolicy> children = wish.connection->children;
  std::erase_if(children, [&](const ChildPolicy& one) {
    if (one.base.empty() || temporary_.is_held(one.name)) return false;
    const auto since = hosts_since_.find(one.name);
    const bool old = since == hosts_since_.end() || now - since->second >= hosts_patience;
    if (old && since != hosts_since_.end()) hosts_since_.erase(since);
    return old;
  });
  const auto there = static_cast<std::uint32_t>(std::ranges::count(children, base.name, &ChildPolicy::base));
  const auto flow = there < base.limit ? temporary_.flow_for(base.name, made.name, base.limit) : std::nullopt;
  if (!flow) {
    if (there >= base.limit) temporary_.count_refusal();
    hosts_refused(*wish.connection, base);
    return std::nullopt;
  }
  made.place.flow = *flow;
  hosts_since_[made.name] = now;
  const std::string name = made.name;
  children.push_back(std::move(made));
  put_children(wish, std::move(children));
  return name;
}

// CM-10: what is there stays, the packet is dropped by the worker.
void Manager::hosts_refused(const Connection& connection, const ChildPolicy& base) {
  Event event;
  event.kind = EventKind::attempt_failed;
  event.connection = connection.name;
  event.local.address = connection.local;
  event.remote.address = connection.remote;
  Failure failure;
  failure.kind = FailureKind::refused;
  failure.summary =
      fmt::format("{}: {} pairs of hosts have SAs of their own, which is its limit", base.name, base.limit);
  failure.remedy = "a higher per_host_limit, or an access list with fewer hosts";
  event.text = failure.summary;
  event.failure = std::move(failure);
  tell(event);
}

// The pairs that have SAs live on by what the new policy says of their entry (CM-19).
std::shared_ptr<const Policy> Manager::with_hosts_of(const Policy& before, std::shared_ptr<const Policy> after) const {
  auto out = std::make_shared<Policy>(*after);
  bool changed = false;
  for (auto& connection : out->connections) {
    const auto old = std::ranges::find(before.connections, connection->name, [](const auto& c) { return c->name; });
    if (old == before.connections.end()) continue;
    std::vector<ChildPolicy> kept;
    for (const ChildPolicy& child : (*old)->children) {
      const ChildPolicy* const base = child.base.empty() ? nullptr : connection->child(child.base);
      if (base == nullptr || !base->per_host || !temporary_.is_held(child.name) ||
          base->place.flow != child.place.base_flow || !lies_inside(*base, child.local, child.remote))
        continue;
      kept.push_back(derive_again(*base, child));
    }
    if (kept.empty()) continue;
    auto edited = std::make_shared<Connection>(*connection);
    std::ranges::move(kept, std::back_inserter(edited->children));
    connection = std::move(edited);
    changed = true;
  }
  return changed ? out : after;
}

}  // namespace postern::ike
