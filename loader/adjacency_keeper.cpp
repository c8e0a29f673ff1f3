#include "loader/adjacency_keeper.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace postern::loader {
namespace {

// Looking everything up anew takes at most about a tenth of the time.
constexpr int resolve_rest_factor = 10;
constexpr Duration resolve_rest_least = std::chrono::milliseconds(20);
// Timers that are due this soon are served together.
constexpr Duration timer_slack = std::chrono::milliseconds(200);
// A neighbour entry that was deleted under us is asked for again after this.
constexpr Duration renew_delay = std::chrono::milliseconds(100);

bool operator!=(const Adjacency& a, const Adjacency& b) {
  return a.ifindex != b.ifindex || a.mtu != b.mtu || a.destination != b.destination || a.source != b.source ||
         a.forward != b.forward;
}

}  // namespace

AdjacencyKeeper::AdjacencyKeeper(Netlink& netlink, AdjacencyTable& table, Time now, const AdjacencyLimits& limits)
    : netlink_(netlink), table_(table), limits_(limits) {
  for (const AdjacencyRow& row : table.row) {
    if (row.used.load(std::memory_order_relaxed) == 0) continue;
    Entry entry;
    entry.forward = entry.forward_allowed = row.value.forward;
    entry.asked = now;
    entry.published = row.value;
    entries_.emplace(row.key, std::move(entry));
  }
}

void AdjacencyKeeper::set_devices(std::set<std::uint32_t> own, std::set<std::uint32_t> inside, Time now) {
  if (own == own_ && inside == inside_) return;
  own_ = std::move(own);
  inside_ = std::move(inside);
  resolve_all(now);
}

void AdjacencyKeeper::want(const AdjacencyKey& key, bool forward, Time now) {
  auto found = entries_.find(key);
  if (found == entries_.end()) {
    if (forward) make_room_for_forward();
    found = entries_.emplace(key, Entry{}).first;
  }
  Entry& entry = found->second;
  const bool same_use = forward ? entry.forward : entry.outer;
  (forward ? entry.forward : entry.outer) = true;
  if (forward) entry.asked = now;
  // A worker that holds packets asks again and again: the answer is on its way already.
  if (same_use && (entry.published || (entry.retry && *entry.retry > now && !forward))) return;
  resolve(key, entry, now);
}

void AdjacencyKeeper::unwant(const AdjacencyKey& key) {
  const auto found = entries_.find(key);
  if (found == entries_.end() || !found->second.outer) return;
  Entry& entry = found->second;
  entry.outer = false;
  if (entry.forward) return;
  withdraw(key, entry, "not wanted");
  let_go(entry);
  entries_.erase(found);
}

void AdjacencyKeeper::resolve_all(Time now) {
  const Time begin = Clock::now();
  for (auto& [key, entry] : entries_) resolve(key, entry, now);
  resolve_due_.reset();
  resolve_not_before_ = now + resolve_rest_least + (Clock::now() - begin) * resolve_rest_factor;
}

void AdjacencyKeeper::resolve(const AdjacencyKey& key, Entry& entry, Time now) {
  auto path = find_path(key, !entry.looked_up_as_outer());
  if (!path) {
    let_go(entry);
    entry.path.reset();
    withdraw(key, entry, path.error().message());
    entry.retry = now + limits_.probe_interval;
    return;
  }
  entry.retry.reset();
  entry.forward_allowed = entry.forward && inside_.contains(path->ifindex);
  // A forwarded packet carries no mark: it may have another route than a packet of the node itself.
  if (entry.forward_allowed && entry.looked_up_as_outer()) {
    const auto forwarded = find_path(key, true);
    entry.forward_allowed = forwarded && *forwarded == *path;
  }
  const bool moved = !entry.path || entry.path->ifindex != path->ifindex || entry.path->next_hop != path->next_hop;
  if (moved) let_go(entry);
  entry.path = std::move(*path);
  if (!entry.path->next_hop) return publish(key, entry, entry.path->destination);
  find_neighbour(key, entry, now);
}

// Outer next hops are kept resolved by the kernel. Forwarded destinations, which a peer's traffic chooses, are only
// probed: when they are asked for, and while they answer.
void AdjacencyKeeper::find_neighbour(const AdjacencyKey& key, Entry& entry, Time now) {
  const std::uint32_t ifindex = entry.path->ifindex;
  const IpAddress next_hop = *entry.path->next_hop;
  Result<void> asked{};
  if (!entry.kept && entry.looked_up_as_outer()) {
    const auto kept = netlink_.keep_neighbour(ifindex, next_hop);
    if (kept) entry.kept = *kept;
    if (!kept) asked = std::unexpected(kept.error());
  }
  if (!entry.kept && asked) asked = netlink_.probe_neighbour(ifindex, next_hop);
  const bool probe_again = !entry.kept && (entry.looked_up_as_outer() || entry.published);
  entry.retry = probe_again || !asked ? std::optional(now + limits_.probe_interval) : std::nullopt;
  if (!asked) return withdraw(key, entry, asked.error().message());
  const auto neighbour = netlink_.neighbour(ifindex, next_hop);
  if (neighbour && *neighbour) return on_neighbour(key, entry, **neighbour, now);
  // Gone between the two requests: as if its removal had been announced.
  entry.kept = false;
  entry.retry = now + renew_delay;
  withdraw(key, entry, fmt::format("next hop {} is not known", next_hop.text()));
}

void AdjacencyKeeper::on_neighbour(const AdjacencyKey& key, Entry& entry, const Neighbour& neighbour, Time now) {
  // Deleted, or another owner's flags were set over ours.
  if (entry.kept && !neighbour.managed && !neighbour.permanent()) {
    entry.kept = false;
    entry.retry = now + renew_delay;
  }
  if (neighbour.usable()) {
    if (!entry.kept && !entry.retry) entry.retry = now + limits_.probe_interval;
    return publish(key, entry, neighbour.mac);
  }
  withdraw(key, entry,
           fmt::format("next hop {} {}", neighbour.address.text(),
                       neighbour.failed() ? "does not answer" : "has not answered yet"));
}

void AdjacencyKeeper::publish(const AdjacencyKey& key, Entry& entry, const MacAddress& destination) {
  const Adjacency value{.ifindex = entry.path->ifindex,
                        .mtu = entry.path->mtu,
                        .destination = destination,
                        .source = entry.path->source,
                        .forward = entry.forward_allowed};
  if (entry.published && !(*entry.published != value)) return;
  if (!table_.put(key, value)) return withdraw(key, entry, "the adjacency table has no room at this place");
  entry.published = value;
  entry.reason.clear();
}

void AdjacencyKeeper::withdraw(const AdjacencyKey& key, Entry& entry, std::string reason) {
  if (entry.published) {
    table_.erase(key);
    entry.published.reset();
    if (entry.outer) spdlog::warn("peer {}: no way to it: {}", key.address.text(), reason);
  }
  entry.reason = std::move(reason);
}

void AdjacencyKeeper::let_go(Entry& entry) {
  if (!entry.kept) return;
  entry.kept = false;
  const bool shared = std::ranges::any_of(entries_, [&](const auto& one) {
    const Entry& other = one.second;
    return &other != &entry && other.kept && other.path && other.path->ifindex == entry.path->ifindex &&
           other.path->next_hop == entry.path->next_hop;
  });
  if (shared) return;
  // A device that is gone took its neighbours with it.
  (void)netlink_.release_neighbour(entry.path->ifindex, *entry.path->next_hop);
}

void AdjacencyKeeper::on_changes(const NetworkChanges& changes, Time now) {
  refresh_links(changes);
  for (const Neighbour& neighbour : changes.neighbours)
    for (auto& [key, entry] : entries_)
      if (entry.path && entry.path->ifindex == neighbour.ifindex && entry.path->next_hop == neighbour.address)
        on_neighbour(key, entry, neighbour, now);
  if (!changes.resync && !changes.routes && !changes.addresses && changes.links.empty() && changes.gone.empty()) return;
  resolve_due_ = std::max(now, resolve_not_before_);
  if (*resolve_due_ <= now) resolve_all(now);
}

void AdjacencyKeeper::on_timer(Time now) {
  if (resolve_due_ && *resolve_due_ <= now) resolve_all(now);
  expire_unasked(now);
  for (auto& [key, entry] : entries_)
    if (entry.retry && *entry.retry <= now + timer_slack) resolve(key, entry, now);
}

std::optional<Time> AdjacencyKeeper::next_deadline() const {
  std::optional<Time> next = resolve_due_;
  const auto sooner = [&](Time time) { next = next ? std::min(*next, time) : time; };
  for (const auto& [key, entry] : entries_) {
    if (entry.retry) sooner(*entry.retry);
    if (entry.forward || !entry.outer) sooner(entry.asked + limits_.forward_idle);
  }
  return next;
}

void AdjacencyKeeper::expire_unasked(Time now) {
  for (auto at = entries_.begin(); at != entries_.end();) {
    auto& [key, entry] = *at;
    const bool idle = (entry.forward || !entry.outer) && now - entry.asked >= limits_.forward_idle;
    if (idle && entry.outer) {
      entry.forward = entry.forward_allowed = false;
      if (entry.published) publish(key, entry, entry.published->destination);
    }
    if (!idle || entry.outer) {
      ++at;
      continue;
    }
    withdraw(key, entry, "idle");
    let_go(entry);
    at = entries_.erase(at);
  }
}

void AdjacencyKeeper::make_room_for_forward() {
  const auto only_forward = [](const auto& one) { return !one.second.outer; };
  if (static_cast<std::size_t>(std::ranges::count_if(entries_, only_forward)) < limits_.forward_entries) return;
  auto oldest = entries_.end();
  for (auto at = entries_.begin(); at != entries_.end(); ++at)
    if (only_forward(*at) && (oldest == entries_.end() || at->second.asked < oldest->second.asked)) oldest = at;
  if (oldest == entries_.end()) return;
  withdraw(oldest->first, oldest->second, "made room");
  let_go(oldest->second);
  entries_.erase(oldest);
}

std::vector<AdjacencyState> AdjacencyKeeper::states() const {
  std::vector<AdjacencyState> all;
  for (const auto& [key, entry] : entries_)
    all.push_back({.key = key,
                   .outer = entry.outer,
                   .forward = entry.forward,
                   .resolved = entry.published.has_value(),
                   .value = entry.published.value_or(Adjacency{}),
                   .reason = entry.reason});
  return all;
}

void AdjacencyKeeper::release_all() {
  for (auto& [key, entry] : entries_) table_.erase(key);
  entries_.clear();
  const auto all = netlink_.neighbours();
  if (!all) return;
  for (const Neighbour& neighbour : *all)
    if (neighbour.managed && neighbour.protocol == route_protocol)
      (void)netlink_.release_neighbour(neighbour.ifindex, neighbour.address);
}

}  // namespace postern::loader
