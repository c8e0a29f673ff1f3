// Peers that the document names (CM-04, CM-06): a connection gets its peer's address before it is negotiated, and
// keeps its name over changes of it; IKE SAs that stand stay where they are.
#include <algorithm>

#include <fmt/format.h>

#include "ike/manager.hpp"

namespace postern::ike {
namespace {

// How often a stranger may make us ask who our peers are.
constexpr auto between_strangers = std::chrono::seconds(10);

PeerName name_of_peer(const Connection& connection) { return {connection.remote_name, connection.local.family()}; }

}  // namespace

// After a new policy. What is not known is asked for at once, so that peers find us too.
void Manager::names_changed(Time now) {
  std::set<PeerName> names;
  for (const auto& connection : policy_->connections)
    if (connection->is_named()) names.insert(name_of_peer(*connection));
  names_.keep(names);
  for (const PeerName& name : names)
    if (const auto* const state = names_.find(name); !state->settled) ask_for(name, now);
}

void Manager::ask_for(const PeerName& name, Time now) {
  if (names_.ask(name, now)) setup_.effects->resolve(name);
}

std::shared_ptr<const Policy> Manager::with_addresses(std::shared_ptr<const Policy> policy) const {
  auto out = std::make_shared<Policy>(*policy);
  bool changed = false;
  for (auto& connection : out->connections) {
    if (!connection->is_named()) continue;
    const auto* const state = names_.find(name_of_peer(*connection));
    if (state == nullptr || !state->address || connection->remote == *state->address) continue;
    auto placed = at_address(*connection, *state->address);
    if (placed == nullptr) continue;
    connection = std::move(placed);
    changed = true;
  }
  return changed ? out : policy;
}

// True: its peer is known as well as a negotiation wants it. False: on_name_answer() goes on.
bool Manager::peer_is_known(const Wish& wish, Time now) {
  const Connection& connection = *wish.connection;
  if (!connection.is_named() || connection.home) return true;  // RFC 5685: it is where its gateway sent it
  for (const Key key : sessions_of(connection.name)) {
    const Session& session = *sessions_.at(key).session;
    if (session.phase() != SessionPhase::established && session.connection()->remote == connection.remote) return true;
  }
  const PeerName name = name_of_peer(connection);
  const auto* const state = names_.find(name);
  if (state == nullptr) return false;
  const bool fresh = wish.just_answered || (!connection.remote_dynamic && !state->stale);
  if (fresh && !connection.remote.is_unspecified()) return true;
  ask_for(name, now);
  return false;
}

// Another address may be right by now, whatever it was that failed.
void Manager::peer_failed(const Connection& connection, Time now) {
  if (!connection.is_named()) return;
  const PeerName name = name_of_peer(connection);
  names_.spoil(name, connection.remote);
  ask_for(name, now);
}

void Manager::on_name_answer(const PeerName& name, const resolver::Answer& answer, Time now) {
  on_redirect_name(name, answer, now);
  const auto* const before = names_.find(name);
  const auto old = before == nullptr ? std::nullopt : before->address;
  const std::string old_problem = before == nullptr ? std::string() : before->problem;
  if (!names_.settle(name, answer, own_addresses(), now)) return;
  const PeerNames::State state = *names_.find(name);
  policy_ = with_redirects(with_addresses(policy_));
  for (const auto& connection : policy_->connections) {
    if (!connection->is_named() || name_of_peer(*connection) != name) continue;
    if (const auto wish = wishes_.find(connection->name); wish != wishes_.end()) wish->second.connection = connection;
    if (state.address && state.address != old) tell_of_name(*connection, *state.address);
  }
  std::vector<std::string> waiting;
  for (const auto& [connection, wish] : wishes_)
    if (wish.connection->is_named() && name_of_peer(*wish.connection) == name) waiting.push_back(connection);
  for (const std::string& connection : waiting) {
    const auto wish = wishes_.find(connection);
    if (wish != wishes_.end()) go_on(wish->second, state, state.problem != old_problem, now);
  }
}

// What waited for the answer. A name that nobody could tell keeps the address that it had, unless it is dynamic.
void Manager::go_on(Wish& wish, const PeerNames::State& state, bool news, Time now) {
  const Connection& connection = *wish.connection;
  std::string problem = connection.remote_dynamic || !state.address ? state.problem : std::string();
  if (problem.empty() && state.address && connection.home.value_or(connection.remote) != *state.address)
    problem = fmt::format("IKEv2 profile {} has no key for {}, which {} is", connection.profile_name,
                          state.address->text(), connection.remote_name);
  if (problem.empty()) {
    if (wish.children.empty()) return;
    if (now < wish.not_before) return schedule(wish, wish.not_before);
    wish.just_answered = true;
    attempt(wish, now);
    wish.just_answered = false;
    return;
  }
  if (!wish.children.empty() || news) tell_unresolved(connection, problem);
  if (wish.children.empty()) return;
  const std::vector<std::string> children(wish.children.begin(), wish.children.end());
  wish.children.clear();
  failed(wish, now);
  try_next_peer(connection, children, now);
  if (connection.always()) schedule(wish, wish.not_before);
}

void Manager::tell_of_name(const Connection& connection, const IpAddress& address) {
  Event event;
  event.kind = EventKind::name_resolved;
  event.connection = connection.name;
  event.local.address = connection.local;
  event.remote.address = address;
  event.text = fmt::format("{} is {}", connection.remote_name, address.text());
  tell(event);
}

void Manager::tell_unresolved(const Connection& connection, const std::string& problem) {
  Event event;
  event.kind = EventKind::attempt_failed;
  event.connection = connection.name;
  event.initiator = true;
  event.local.address = connection.local;
  event.remote.address = connection.local.family() == Family::v4 ? IpAddress::v4(0) : IpAddress{};
  Failure failure;
  failure.kind = FailureKind::unresolved;
  failure.summary = problem;
  failure.remedy = fmt::format("a name server that knows {}, a line of /etc/hosts, or the peer's address instead",
                               connection.remote_name);
  event.text = failure.summary;
  event.failure = std::move(failure);
  tell(event);
}

// A peer that has a new address may begin before we hear of it. True: somebody is asked, the stranger may come again.
bool Manager::ask_about_stranger(const Datagram& datagram, Time now) {
  bool asked = false;
  for (const auto& connection : policy_->connections) {
    if (!connection->is_named() || connection->fvrf != datagram.fvrf || connection->local != datagram.local.address)
      continue;
    const PeerName name = name_of_peer(*connection);
    const auto* const state = names_.find(name);
    if (state == nullptr) continue;
    if (!state->settled || now - *state->settled >= between_strangers) ask_for(name, now);
    asked = asked || names_.find(name)->asked;
  }
  return asked;
}

void Manager::names_on_time(Time now) {
  const resolver::Answer silence{resolver::Outcome::unreachable, {}, {}};
  for (const PeerName& name : names_.overdue(now)) on_name_answer(name, silence, now);
  for (const PeerName& name : redirect_names_.overdue(now)) on_redirect_name(name, silence, now);
  for (const PeerName& name : names_.due(now)) ask_for(name, now);
}

// With the name of the peer, where it has one.
void Manager::tell(const Event& event) {
  const auto wish = event.connection.empty() ? wishes_.end() : wishes_.find(event.connection);
  if (wish == wishes_.end() || !wish->second.connection->is_named()) return setup_.effects->tell(event);
  Event named = event;
  named.remote_name = wish->second.connection->remote_name;
  setup_.effects->tell(named);
}

std::vector<Manager::NameRow> Manager::names() const {
  std::vector<NameRow> out;
  for (const auto& connection : policy_->connections) {
    if (!connection->is_named()) continue;
    const auto* const state = names_.find(name_of_peer(*connection));
    NameRow row{
        connection->name, connection->remote_name, connection->local.family(), connection->remote_dynamic, {}, {}};
    if (!connection->remote.is_unspecified()) row.address = connection->home.value_or(connection->remote);
    if (state != nullptr && !state->problem.empty()) row.problem = state->problem;
    if (!row.address && row.problem.empty()) row.problem = connection->remote_name + " is being looked up";
    out.push_back(std::move(row));
  }
  return out;
}

}  // namespace postern::ike
