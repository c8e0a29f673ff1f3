// What shall be up: the policy's connections, what triggers them, how soon they are tried again.
#include <algorithm>

#include "base/device_names.hpp"
#include "ike/manager.hpp"

namespace postern::ike {
namespace {

bool same_path(const Connection& a, const Connection& b) {
  return a.fvrf == b.fvrf && a.local == b.local && a.remote == b.remote;
}

// RFC 7296 §2.19: a peer is asked for addresses when the IKE SA is set up.
bool same_questions(const Connection& a, const Connection& b) {
  const auto asked = [](const Connection& of) {
    std::vector<Prefix> out;
    for (const ChildPolicy& child : of.children) out.insert(out.end(), child.ask.begin(), child.ask.end());
    return out;
  };
  return asked(a) == asked(b);
}

std::set<std::string> live_children(const SessionView& view) {
  std::set<std::string> out;
  for (const ChildView& child : view.children) out.insert(child.name);
  return out;
}

}  // namespace

// Uniform in 0.5 to 1 times `full`: peers that were refused together shall not come back together.
Duration Manager::jittered(Duration full) {
  std::array<std::byte, 4> bytes{};
  const double at = setup_.random(bytes) ? static_cast<double>(load_be32(bytes.data())) / 4294967296.0 : 0.5;
  return std::chrono::duration_cast<Duration>(full * (0.5 + at / 2));
}

std::vector<Manager::Key> Manager::sessions_of(const std::string& connection) const {
  std::vector<Key> out;
  for (const auto& [key, entry] : sessions_)
    if (!entry.closing && entry.session->connection() != nullptr && entry.session->connection()->name == connection)
      out.push_back(key);
  return out;
}

// The newest first.
std::vector<Manager::Key> Manager::established_of(const std::string& connection) const {
  std::vector<Key> out;
  for (const Key key : sessions_of(connection))
    if (sessions_.at(key).session->phase() == SessionPhase::established) out.push_back(key);
  std::ranges::sort(out, std::greater{}, [this](Key key) {
    const Entry& entry = sessions_.at(key);
    return std::pair(entry.established.value_or(entry.born), entry.number);
  });
  return out;
}

// What `initiate always` means. Later fragments come rarely, and not every peer has SAs for them.
std::vector<std::string> Manager::always_up(const Connection& connection) const {
  std::vector<std::string> out;
  for (const ChildPolicy& child : connection.children)
    if (child.initiate == Initiate::always && !child.later_fragments && is_current(connection.name, child) &&
        !goes_by_pairs(connection.name, child.name))
      out.push_back(child.name);
  return out;
}

// --- policy

void Manager::set_policy(std::shared_ptr<const Policy> policy, Time now) {
  const auto before = policy_;
  const auto other_names = renamed(*before, *policy);
  for (const auto& [from, to] : other_names) rename(from, to);
  policy_ = with_redirects(with_addresses(with_hosts_of(*before, std::move(policy), other_names)));
  prune_redirections();
  spis_.set_manual(policy_->manual_spis);
  (void)crash_tokens_.set_policy(*policy_);  // without tokens a peer learns by its own liveness check
  // Before anything ends: what is owed then is owed, and timed, under the name that the policy has now.
  for (const auto& [from, to] : other_names)
    if (const auto wish = wishes_.find(to); wish != wishes_.end())
      wish->second.connection = *std::ranges::find(policy_->connections, to, [](const auto& c) { return c->name; });
  flows_changed();
  names_changed(now);
  for (const auto& old : before->connections) {
    const auto other = other_names.find(old->name);
    const std::string& name = other == other_names.end() ? old->name : other->second;
    const auto same = std::ranges::find(policy_->connections, name, [](const auto& c) { return c->name; });
    const Connection* const after = same == policy_->connections.end() ? nullptr : same->get();
    old->is_template() ? template_changed(*old, after, now) : policy_changed(*old, after, now);
  }
  for (const auto& connection : policy_->connections) {
    if (connection->is_template()) continue;  // nobody to begin with
    const auto [at, fresh] = wishes_.try_emplace(connection->name);
    Wish& wish = at->second;
    const bool renamed = std::ranges::any_of(other_names, [&](const auto& o) { return o.second == connection->name; });
    const bool edited = !fresh && (renamed || !(*wish.connection == *connection));
    wish.connection = connection;
    if (edited) set_up(wish);  // what failed may work now
    if (connection->always() && (fresh || edited)) want(wish, {}, now, jittered(std::chrono::milliseconds(200)));
  }
}

// An edit counts from the next negotiation on; what is gone, or lives on another path and cannot move, ends now.
void Manager::policy_changed(const Connection& before, const Connection* after, Time now) {
  if (after == nullptr) {
    if (const auto wish = wishes_.find(before.name); wish != wishes_.end()) {
      if (wish->second.due) wish_timers_.erase({*wish->second.due, before.name});
      wishes_.erase(wish);
    }
  }
  for (const Key key : sessions_of(before.name)) {
    if (after == nullptr || !same_questions(before, *after) ||
        (!same_path(before, *after) && !goes_along(key, before, *after, now))) {
      close(key, now, true);
      continue;
    }
    if (same_path(before, *after) && before.other_addresses != after->other_addresses)  // else the move tells
      with(key, now, [&](Session& session) { return session.have_addresses(*after, now); });
    for (const ChildView& child : sessions_.at(key).session->view(now).children) {
      const ChildPolicy* const kept = after->child(child.name);
      if (kept != nullptr && kept->place.flow == child.flow) continue;
      with(key, now, [&](Session& session) { return session.delete_child(child.id, now); });
    }
  }
}

// DM-19: what peers have negotiated stays as it is, while the policy still has what it was made of.
void Manager::template_changed(const Connection& before, const Connection* after, Time now) {
  std::vector<Key> keys;
  for (const auto& [key, entry] : sessions_)
    if (const auto& made = entry.session->connection();
        !entry.closing && made != nullptr && made->template_name == before.name)
      keys.push_back(key);
  for (const Key key : keys) {
    const auto made = after == nullptr ? nullptr : connection_now(*policy_, *sessions_.at(key).session->connection());
    if (made == nullptr) {
      close(key, now, true);
      continue;
    }
    if (before.other_addresses != after->other_addresses)
      with(key, now, [&](Session& session) { return session.have_addresses(*made, now); });
    for (const ChildView& child : sessions_.at(key).session->view(now).children) {
      const ChildPolicy* const base = made->child(child.base);
      if (base != nullptr && base->place.flow == child.base_flow) continue;
      with(key, now, [&](Session& session) { return session.delete_child(child.id, now); });
    }
  }
}

// No other IKE SA of any connection is left with this peer: only then may we say so (RFC 7296 §2.4). The peer would end
// the child SAs of an earlier life with it, which carry traffic until the new ones do.
bool Manager::alone_with(const Connection& connection, Key self) const {
  return !outlived_.contains(connection.name) && std::ranges::none_of(sessions_, [&](const auto& row) {
    const auto& other = row.second.session->connection();
    return row.first != self && !row.second.closing && other != nullptr && same_path(*other, connection);
  });
}

// --- wishes

void Manager::schedule(Wish& wish, Time at) {
  const std::string& name = wish.connection->name;
  if (wish.due && *wish.due <= at) return;
  if (wish.due) wish_timers_.erase({*wish.due, name});
  wish.due = at;
  wish_timers_.insert({at, name});
}

void Manager::want(Wish& wish, const std::vector<std::string>& children, Time now, Duration delay) {
  wish.children.insert(children.begin(), children.end());
  for (const std::string& name : always_up(*wish.connection)) wish.children.insert(name);
  const Time at = std::max(now + delay, wish.not_before);
  if (delay == Duration::zero() && at <= now) return attempt(wish, now);
  schedule(wish, at);
}

// Children of a session that is up or on its way, else a new session.
void Manager::attempt(Wish& wish, Time now) {
  std::erase_if(wish.children, [&](const std::string& child) { return wish.connection->child(child) == nullptr; });
  if (shutting_down_ || wish.children.empty() || !peer_is_known(wish, now)) return;
  const std::string& name = wish.connection->name;
  auto candidates = established_of(name);
  if (candidates.empty())
    for (const Key key : sessions_of(name))
      if (sessions_.at(key).session->phase() != SessionPhase::established) candidates.push_back(key);
  // A peer by name that has moved: what stands with its old address goes on, what is new does not go there.
  std::erase_if(candidates,
                [&](Key key) { return sessions_.at(key).session->connection()->remote != wish.connection->remote; });
  std::vector<std::string> children(wish.children.begin(), wish.children.end());
  wish.children.clear();
  if (!candidates.empty()) {
    for (const std::string& child : children)
      with(candidates.front(), now, [&](Session& session) { return session.want_child(child, now); });
    return;
  }
  begin_attempt(wish, std::move(children), alone_with(*wish.connection, 0), now);
}

void Manager::begin_attempt(const Wish& wish, std::vector<std::string> children, bool initial_contact, Time now) {
  const Connection& connection = *wish.connection;
  const std::uint16_t port = connection.force_encapsulation ? nat_port : ike_port;
  Lifetimes patience = setup_.lifetimes;
  if (has_others(connection)) patience.retransmits = std::min(patience.retransmits, setup_.limits.retransmits_of_many);
  auto session = Session::initiator({&surroundings_,
                                     {connection.local, port},
                                     {connection.remote, port},
                                     connection.fvrf,
                                     initial_contact,
                                     patience,
                                     redirected_from(connection)},
                                    wish.connection, std::move(children));
  Actions first = session->initiate(now);
  begin(std::move(session), std::move(first), std::nullopt, now);
}

// Make before break: the new IKE SA brings the same children, whose flows go over to them; the old one is a duplicate
// then and is closed as one (close_duplicate).
void Manager::reauthenticate(Key key, Time now) {
  const Entry* const old = find(key);
  if (old == nullptr || old->closing || shutting_down_ || old->session->connection() == nullptr) return;
  const auto wish = wishes_.find(old->session->connection()->name);
  if (wish == wishes_.end() || now < wish->second.not_before) return;
  for (const Key other : sessions_of(wish->first))
    if (other != key && sessions_.at(other).number > old->number) return;  // it is on its way, or there
  std::vector<std::string> children;
  for (const std::string& name : live_children(old->session->view(now)))
    if (wish->second.connection->child(name) != nullptr) children.push_back(name);
  if (!children.empty()) begin_attempt(wish->second, std::move(children), false, now);
}

// Children of the newest IKE SA that stands.
std::set<std::string> Manager::live_of(const Wish& wish, Time now) const {
  const auto up = established_of(wish.connection->name);
  return up.empty() ? std::set<std::string>() : live_children(sessions_.at(up.front()).session->view(now));
}

// Due: duplicates, and what is wanted and not there.
void Manager::review(Wish& wish, Time now) {
  close_duplicate(wish, now);
  const auto live = live_of(wish, now);
  for (const std::string& name : always_up(*wish.connection))
    if (!live.contains(name) && !paused(wish, name, now)) wish.children.insert(name);
  for (std::string& name : missing_pieces(wish, live, now)) wish.children.insert(std::move(name));
  if (wish.children.empty()) return;
  if (now < wish.not_before) return schedule(wish, wish.not_before);
  attempt(wish, now);
}

Duration Manager::back_off(std::uint32_t failures) {
  const Duration full = setup_.limits.first_retry * (std::int64_t{1} << std::min(failures, 16U));
  return jittered(std::min(full, setup_.limits.last_retry));
}

void Manager::failed(Wish& wish, Time now) { wish.not_before = now + back_off(wish.failures++); }

// The IKE SA stands, the flow has no SA: traffic that goes on must not ask the peer several times a second.
void Manager::child_failed(const Event& event, Time now) {
  const auto known = wishes_.find(event.connection);
  if (known == wishes_.end() || known->second.connection->child(event.child) == nullptr) return;
  Wish& wish = known->second;
  if (event.failure && event.failure->kind == FailureKind::pairs_required) go_by_pairs(wish, event.child, now);
  if (wish.by_pairs.contains(event.child)) return;
  Pause& pause = wish.refused[event.child];
  pause.until = now + back_off(pause.failures++);
  try_next_peer(*wish.connection, {event.child}, now);
  if (wish.connection->child(event.child)->initiate == Initiate::always) schedule(wish, pause.until);
}

bool Manager::paused(const Wish& wish, const std::string& child, Time now) {
  const auto pause = wish.refused.find(child);
  return pause != wish.refused.end() && now < pause->second.until;
}

// A fresh start: no back-off is owed.
void Manager::set_up(Wish& wish) {
  wish.failures = 0;
  wish.not_before = {};
  wish.refused.clear();
  forget_derived(wish);
}

// Both ends began at once, or the peer came back without INITIAL_CONTACT. Both IKE SAs may live (RFC 7296 §2.8 leaves
// it open), but not for good: one with nothing of its own is closed. Both ends choose the same one: of two that are as
// old as each other the one with the smaller SPIs, else the older.
void Manager::close_duplicate(Wish& wish, Time now) {
  const auto up = established_of(wish.connection->name);
  if (up.size() < 2) return;
  const auto view_of = [&](Key key) { return sessions_.at(key).session->view(now); };
  Key keep = up[0], lose = up[1];
  const Entry &newest = sessions_.at(keep), &other = sessions_.at(lose);
  const Time at = *newest.established;
  if (now - at < setup_.limits.duplicate_patience) return schedule(wish, at + setup_.limits.duplicate_patience);
  if (wish.last_duplicate != Time{} && now - wish.last_duplicate < setup_.limits.duplicate_pause)
    return schedule(wish, wish.last_duplicate + setup_.limits.duplicate_pause);
  const auto mine = view_of(keep), its = view_of(lose);
  if (at - *other.established < setup_.limits.duplicate_patience &&
      std::pair(mine.spi_i, mine.spi_r) < std::pair(its.spi_i, its.spi_r))
    std::swap(keep, lose);
  const auto kept = live_children(view_of(keep)), lost = live_children(view_of(lose));
  if (!std::ranges::includes(kept, lost)) return;
  wish.last_duplicate = now;
  close(lose, now, true);
  if (up.size() > 2) schedule(wish, now + setup_.limits.duplicate_pause);
}

// RFC 7296 §2.4. Only what was up before the new one began is dead: of two that began at once each says that it is
// the first.
void Manager::on_initial_contact(Key key, const InitialContact& contact, Time now) {
  const Entry* const fresh = find(key);
  if (fresh == nullptr || contact.connection == nullptr) return;
  const Time began = fresh->born;
  std::vector<Key> others = sessions_of(contact.connection->name);
  if (const std::string& whose = contact.connection->template_name; !whose.empty())  // it may come from elsewhere now
    for (const auto& [other, entry] : sessions_)
      if (const auto& made = entry.session->connection();
          !entry.closing && made != nullptr && made->template_name == whose && made->name != contact.connection->name)
        others.push_back(other);
  for (const Key other : others) {
    const Entry& entry = sessions_.at(other);
    if (other == key || !entry.established || *entry.established >= began) continue;
    const SessionView view = entry.session->view(now);
    if (view.remote_identity != contact.remote || view.eap_identity != contact.eap_identity) continue;
    close(other, now, false);
  }
}

// --- triggers

void Manager::on_acquire(std::uint32_t flow, Time now, const std::optional<HostPair>& hosts) {
  const FlowOwner* const owner = owner_of(flow);
  if (owner == nullptr) return;
  const auto known = wishes_.find(owner->connection);
  if (known == wishes_.end() || now < known->second.not_before) return;  // traffic that goes on asks again
  Wish& wish = known->second;
  std::string child = owner->child;
  if (const ChildPolicy* const base = wish.connection->child(child);
      base != nullptr && (base->per_host || wish.by_pairs.contains(child))) {
    auto of_hosts = hosts ? child_of_hosts(wish, *base, *hosts, now) : std::nullopt;
    if (!of_hosts) return;
    child = std::move(*of_hosts);
  } else if (hosts && base != nullptr) {
    wish.asked_by[child] = *hosts;
  }
  if (!paused(wish, child, now)) want(wish, {child}, now, Duration::zero());
}

void Manager::on_survivors(const std::set<std::uint32_t>& flows, std::span<const std::uint32_t> spis, Time now) {
  spis_.set_foreign(spis);
  temporary_.set_foreign(flows);
  outlived_.clear();
  for (const std::uint32_t flow : flows) {
    const FlowOwner* const owner = owner_of(flow);
    if (owner == nullptr) continue;
    const auto wish = wishes_.find(owner->connection);
    if (wish == wishes_.end()) continue;
    outlived_.insert(owner->connection);
    want(wish->second, {owner->child}, now, jittered(std::chrono::milliseconds(500)));
  }
}

bool Manager::matches(const Filter& filter, const Connection& connection) const {
  return (!filter.remote || connection.remote == *filter.remote || connection.home == filter.remote) &&
         (filter.remote_name.empty() || connection.remote_name == filter.remote_name) &&
         (filter.connection.empty() || connection.name == filter.connection) &&
         std::ranges::any_of(connection.children, [&](const ChildPolicy& child) { return matches(filter, child); });
}

bool Manager::matches(const Filter& filter, const ChildPolicy& child) const {
  return (filter.interface.empty() || is_among(filter.interface, child.interface)) &&
         (filter.map.empty() || child.map == filter.map) && (!filter.sequence || child.sequence == *filter.sequence);
}

// With what the policy says now about each.
std::vector<std::pair<Manager::Key, std::shared_ptr<const Connection>>> Manager::matching_sessions(
    const Filter& filter) const {
  std::vector<std::pair<Key, std::shared_ptr<const Connection>>> out;
  for (const auto& [key, entry] : sessions_) {
    auto connection = entry.session->connection();
    if (entry.closing || connection == nullptr) continue;
    if (filter.remote && connection->remote != *filter.remote && connection->home != filter.remote) continue;
    if (const auto wish = wishes_.find(connection->name); wish != wishes_.end()) connection = wish->second.connection;
    Filter rest = filter;
    rest.remote.reset();  // a peer by name may have moved since
    if (matches(rest, *connection)) out.emplace_back(key, std::move(connection));
  }
  return out;
}

// An IKE SA that carries flows of other entries too lives on: only the children of those that are meant go.
Manager::Count Manager::clear_sessions(const Filter& filter, Time now) {
  Count count;
  for (const auto& [key, connection] : matching_sessions(filter)) {
    ++count.matched;
    const auto meant = [&](const ChildPolicy& child) { return matches(filter, child); };
    for (const ChildPolicy& child : connection->children)
      if (meant(child)) back_to_default(child.place.flow);
    if (std::ranges::all_of(connection->children, meant))
      close(key, now, true);
    else
      delete_children(key, *connection, filter, now);
  }
  for (auto& [name, wish] : wishes_)
    if (matches(filter, *wish.connection)) {
      set_up(wish);
      go_home(name);
    }
  count.done = count.matched;
  return count;
}

Manager::Count Manager::clear_children(const Filter& filter, Time now) {
  Count count;
  for (const auto& [key, connection] : matching_sessions(filter))
    count.matched += delete_children(key, *connection, filter, now);
  count.done = count.matched;
  return count;
}

std::uint32_t Manager::delete_children(Key key, const Connection& connection, const Filter& filter, Time now) {
  const Entry* const entry = find(key);
  if (entry == nullptr) return 0;
  std::vector<ChildId> chosen;
  for (const ChildView& child : entry->session->view(now).children) {
    const ChildPolicy* const policy = connection.child(child.base.empty() ? child.name : child.base);
    if (policy != nullptr && !matches(filter, *policy)) continue;
    if (filter.spi && child.spi_in != *filter.spi && child.spi_out != *filter.spi) continue;
    chosen.push_back(child.id);
    back_to_default(child.flow);
  }
  for (const ChildPolicy& child : connection.children)
    if (!filter.spi && matches(filter, child)) back_to_default(child.place.flow);
  for (const ChildId id : chosen) with(key, now, [&](Session& one) { return one.delete_child(id, now); });
  return static_cast<std::uint32_t>(chosen.size());
}

Manager::Count Manager::connect(const Filter& filter, Time now) {
  Count count;
  for (auto& [name, wish] : wishes_) {
    if (!matches(filter, *wish.connection)) continue;
    ++count.matched;
    const auto live = live_of(wish, now);
    std::vector<std::string> missing;
    for (const ChildPolicy& child : wish.connection->children)
      if (matches(filter, child) && !live.contains(child.name) && !child.per_host && !goes_by_pairs(name, child.name) &&
          (filter.remote || is_current(name, child)))
        missing.push_back(child.name);
    if (missing.empty()) continue;
    ++count.done;
    set_up(wish);
    want(wish, missing, now, Duration::zero());
  }
  return count;
}

Manager::Count Manager::rekey(const Filter& filter, Time now) {
  Count count;
  for (const auto& [key, connection] : matching_sessions(filter)) {
    if (find(key)->session->phase() != SessionPhase::established) continue;
    ++count.matched;
    with(key, now, [&](Session& session) { return session.rekey(now); });
  }
  count.done = count.matched;
  return count;
}

}  // namespace postern::ike
