// Children that traffic or a peer makes out of one of the policy: pairs of hosts (CM-09, and RFC 7296 §2.9 where the
// peer requires them), and the pieces of a flow that a peer takes in SAs of their own alone.
#include <algorithm>

#include <fmt/format.h>

#include "ike/derived_child.hpp"
#include "ike/manager.hpp"
#include "ike/selectors.hpp"

namespace postern::ike {
namespace {

// A child that was made for a packet and never got an SA is kept so long.
constexpr auto hosts_patience = std::chrono::seconds(30);
// Of one flow, where the document says nothing because the peer is who wants them.
constexpr std::uint32_t pairs_of_peer = 64, pieces_of_flow = 8;

// Those that hold the host, cut down to it.
std::vector<Selector> of_host(std::span<const Selector> selectors, const IpAddress& host) {
  std::vector<Selector> out;
  for (const Selector& one : selectors)
    if (one.family() == host.family() && one.first <= host && host <= one.last)
      out.push_back({one.protocol, one.first_port, one.last_port, host, host});
  return out;
}

// A tunnel has one flow, whatever its device carries; what a peer of a template took is already its own word.
bool may_be_split(const ChildPolicy& child) {
  return child.base.empty() && !child.dynamic && !child.per_host && !child.transport && !child.later_fragments &&
         child.place.deliver == DeliverTo::map_interface;
}

}  // namespace

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
  Ends ends{of_host(of.local, hosts.local), of_host(of.remote, hosts.remote)};
  if (ends.local.empty() || ends.remote.empty()) return std::nullopt;
  return derived_child(wish, of, std::move(ends), of.per_host ? of.limit : pairs_of_peer, now);
}

std::optional<std::string> Manager::derived_child(Wish& wish, const ChildPolicy& of, Ends ends, std::uint32_t limit,
                                                  Time now) {
  const ChildPolicy base = of;
  ChildPolicy made = derive(base, std::move(ends.local), std::move(ends.remote), "");
  made.rank = base.rank;
  made.limit = limit;
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
  const auto flow = there < limit ? temporary_.flow_for(base.name, made.name, limit) : std::nullopt;
  if (!flow) {
    if (there >= limit) temporary_.count_refusal();
    hosts_refused(*wish.connection, base, limit);
    return std::nullopt;
  }
  made.place.flow = *flow;
  hosts_since_[made.name] = now;
  const std::string name = made.name;
  children.push_back(std::move(made));
  put_children(wish, std::move(children));
  return name;
}

// RFC 7296 §2.9: "requesting an SA for only the specific traffic it is trying to forward".
void Manager::go_by_pairs(Wish& wish, const std::string& child, Time now) {
  const ChildPolicy* const base = wish.connection->child(child);
  if (base == nullptr || !may_be_split(*base)) return;
  wish.by_pairs.insert(child);
  wish.refused.erase(child);  // it is not asked for again
  const auto asked = wish.asked_by.find(child);
  if (asked == wish.asked_by.end()) return;  // nobody has sent anything yet
  const auto pair = child_of_hosts(wish, *base, asked->second, now);
  if (pair) want(wish, {*pair}, now, std::chrono::milliseconds(1));
}

// RFC 7296 §2.9: what the peer has left is asked for, in pieces: what it left of our side, and of what it took of that,
// what it left of its own. Each may be narrowed in turn.
void Manager::cover_rest(Key key, const PartlyCovered& news, Time now) {
  const Entry* const entry = find(key);
  const auto connection = entry == nullptr ? nullptr : entry->session->connection();
  const auto known = connection == nullptr ? wishes_.end() : wishes_.find(connection->name);
  if (known == wishes_.end()) return;
  Wish& wish = known->second;
  const ChildPolicy* asked = wish.connection->child(news.child);
  if (asked != nullptr && !asked->base.empty()) asked = wish.connection->child(asked->base);
  if (asked == nullptr || !may_be_split(*asked)) return;
  const ChildPolicy base = *asked;
  const auto ours = without(news.local, news.covered_local), theirs = without(news.remote, news.covered_remote);
  std::vector<std::string> names;
  const auto piece = [&](const std::optional<std::vector<Selector>>& local,
                         const std::optional<std::vector<Selector>>& remote) {
    if (!local || !remote) return;
    for (const auto& [ours_of_it, theirs_of_it] : in_parts(*local, *remote, max_selectors)) {
      auto name = derived_child(wish, base, {ours_of_it, theirs_of_it}, pieces_of_flow, now);
      if (!name) return;
      names.push_back(std::move(*name));
    }
  };
  piece(ours, news.remote);
  piece(news.covered_local, theirs);
  if (names.empty()) return;
  wish.pieces.insert(names.begin(), names.end());
  want(wish, names, now, std::chrono::milliseconds(1));
}

// While the SA of the flow stands nobody asks for what it does not cover.
std::vector<std::string> Manager::missing_pieces(const Wish& wish, const std::set<std::string>& live, Time now) const {
  std::vector<std::string> out;
  for (const std::string& name : wish.pieces) {
    const ChildPolicy* const piece = wish.connection->child(name);
    if (piece != nullptr && live.contains(piece->base) && !live.contains(name) && !paused(wish, name, now))
      out.push_back(name);
  }
  return out;
}

bool Manager::goes_by_pairs(const std::string& connection, const std::string& child) const {
  const auto wish = wishes_.find(connection);
  return wish != wishes_.end() && wish->second.by_pairs.contains(child);
}

bool Manager::has_live(const Wish& wish, const std::string& child, Time now) const {
  return live_of(wish, now).contains(child);
}

// A fresh start asks for the whole again; what is there by a peer's wish is kept.
void Manager::forget_derived(Wish& wish) {
  std::erase_if(wish.by_pairs, [&](const std::string& name) { return temporary_.count(name) == 0; });
  std::erase_if(wish.pieces, [&](const std::string& name) { return !temporary_.is_held(name); });
  wish.asked_by.clear();
}

// CM-10: what is there stays, the packet is dropped by the worker.
void Manager::hosts_refused(const Connection& connection, const ChildPolicy& base, std::uint32_t limit) {
  Event event;
  event.kind = EventKind::attempt_failed;
  event.connection = connection.name;
  event.local.address = connection.local;
  event.remote.address = connection.remote;
  Failure failure;
  failure.kind = FailureKind::refused;
  failure.summary = fmt::format("{}: {} parts of it have SAs of their own, which is its limit", base.name, limit);
  failure.remedy = base.per_host ? "a higher per_host_limit, or an access list with fewer hosts"
                                 : "an access list that says what the peer permits";
  event.text = failure.summary;
  event.failure = std::move(failure);
  tell(event);
}

// The pairs that have SAs live on by what the new policy says of their entry (CM-19).
std::shared_ptr<const Policy> Manager::with_hosts_of(const Policy& before, std::shared_ptr<const Policy> after,
                                                     const std::map<std::string, std::string>& renamed) const {
  auto out = std::make_shared<Policy>(*after);
  bool changed = false;
  for (auto& connection : out->connections) {
    const auto old = std::ranges::find_if(before.connections, [&](const auto& one) {
      const auto other = renamed.find(one->name);
      return (other == renamed.end() ? one->name : other->second) == connection->name;
    });
    if (old == before.connections.end()) continue;
    std::vector<ChildPolicy> kept;
    for (const ChildPolicy& child : (*old)->children) {
      const ChildPolicy* const base = child.base.empty() ? nullptr : connection->child(child.base);
      const auto wish = wishes_.find(connection->name);
      const bool by_peer = base != nullptr && wish != wishes_.end() &&
                           (wish->second.by_pairs.contains(base->name) || wish->second.pieces.contains(child.name));
      if (base == nullptr || (!base->per_host && !by_peer) || !temporary_.is_held(child.name) ||
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
