// RFC 5685. As a client: a gateway sends a connection to another one, where it stays until it has no IKE SA there any
// more; then its own gateway counts again. As a gateway: strangers and peers that are sent away.
#include <algorithm>

#include <fmt/format.h>

#include "ike/manager.hpp"
#include "ike/payload_rules.hpp"

namespace postern::ike {
namespace {

std::set<std::string> names_of_children(const SessionView& view) {
  std::set<std::string> out;
  for (const ChildView& child : view.children) out.insert(child.name);
  return out;
}

Failure too_many(const Connection& connection, const GatewayIdentity& to) {
  Failure out;
  out.kind = FailureKind::redirect_loop;
  out.by_peer = true;
  out.summary = fmt::format("sent to {}: more than {} redirects within {} s", to.text(), connection.redirect.most,
                            connection.redirect.period_s);
  out.remedy =
      "do the gateways send their clients to each other? ikev2.redirect.max_redirects is how many are followed";
  return out;
}

}  // namespace

// --- client

void Manager::on_redirected(Key key, const Redirected& news, Time now) {
  Entry* const entry = find(key);
  if (entry == nullptr || entry->session->connection() == nullptr) return;
  const auto known = wishes_.find(entry->session->connection()->name);
  if (known == wishes_.end()) return;
  Wish& wish = known->second;
  const Connection& connection = *entry->session->connection();
  const SessionView view = entry->session->view(now);
  Redirection& way = redirections_[wish.connection->name];
  const Duration period = std::chrono::seconds(connection.redirect.period_s);
  std::erase_if(way.times, [&](Time at) { return now - at >= period; });
  if (way.times.size() >= connection.redirect.most) {
    tell_redirect_failed(connection, view.remote, too_many(connection, news.to));
    if (news.during != ExchangeType::informational) go_home(connection.name);
    return;
  }
  way.times.push_back(now);
  way.from = {connection.remote, {}};
  way.children = {news.wanted_children.begin(), news.wanted_children.end()};
  way.replaces = news.during == ExchangeType::informational ? std::optional(key) : std::nullopt;
  if (way.replaces) way.children.merge(names_of_children(view));
  entry->redirected = news.during != ExchangeType::informational;
  Event event;
  event.kind = EventKind::redirected;
  event.connection = connection.name;
  event.local = view.local;
  event.remote = view.remote;
  event.initiator = true;
  event.text = fmt::format("{} sends us to {}", connection.remote.text(), news.to.text());
  tell(event);
  if (news.to.address) return go_to(wish, *news.to.address, now);
  way.name = PeerName{news.to.name, connection.local.family()};
  wish.not_before = std::max(wish.not_before, now + PeerNames::patience);  // until it is known where to
  keep_redirect_names();
  if (redirect_names_.ask(*way.name, now)) setup_.effects->resolve(*way.name);
}

void Manager::keep_redirect_names() {
  std::set<PeerName> names;
  for (const auto& [connection, way] : redirections_)
    if (way.name) names.insert(*way.name);
  redirect_names_.keep(names);
}

// A name that a gateway gave.
void Manager::on_redirect_name(const PeerName& name, const resolver::Answer& answer, Time now) {
  if (!redirect_names_.settle(name, answer, own_addresses(), now)) return;
  const PeerNames::State state = *redirect_names_.find(name);
  std::vector<std::string> waiting;
  for (const auto& [connection, way] : redirections_)
    if (way.name == name) waiting.push_back(connection);
  for (const std::string& connection : waiting) redirections_.at(connection).name.reset();
  keep_redirect_names();
  for (const std::string& connection : waiting) {
    const auto wish = wishes_.find(connection);
    if (wish == wishes_.end()) continue;
    wish->second.not_before = now;
    if (state.problem.empty() && state.address) {
      go_to(wish->second, *state.address, now);
      continue;
    }
    Failure failure;
    failure.kind = FailureKind::unresolved;
    failure.summary = "sent to a gateway that is not found: " + state.problem;
    failure.remedy = "a name server that knows it, or a gateway that sends to addresses";
    tell_redirect_failed(*wish->second.connection, {wish->second.connection->remote}, std::move(failure));
    give_up_redirect(wish->second, now);
  }
}

// The way back, for what has no IKE SA to live on: with a pause.
void Manager::give_up_redirect(Wish& wish, Time now) {
  const bool stays = redirections_.at(wish.connection->name).replaces.has_value();
  go_home(wish.connection->name);
  if (stays) return;
  failed(wish, now);
  if (wish.connection->always()) schedule(wish, wish.not_before);
}

// Make before break: what an IKE SA carries that stands goes on in it until the new one has it all.
void Manager::go_to(Wish& wish, const IpAddress& gateway, Time now) {
  const std::string name = wish.connection->name;
  Redirection& way = redirections_.at(name);
  const std::string problem = own_addresses().contains(gateway)
                                  ? gateway.text() + " is our own address"
                                  : no_gateway(gateway, wish.connection->local, *way.from.address);
  if (!problem.empty()) {
    Failure failure;
    failure.kind = FailureKind::refused;
    failure.by_peer = true;
    failure.summary = "sent to a gateway that is none: " + problem;
    failure.remedy = "look at the gateway that sends us there";
    tell_redirect_failed(*wish.connection, {wish.connection->remote}, std::move(failure));
    return give_up_redirect(wish, now);
  }
  way.to = gateway;
  place_connection(name);
  wish.children.merge(way.children);
  way.children.clear();
  wish.not_before = now;
  attempt(wish, now);
  if (!way.replaces) return;
  for (const Key key : sessions_of(name))
    if (key != *way.replaces && sessions_.at(key).session->connection()->remote == gateway)
      sessions_.at(key).replaces = way.replaces;
  way.replaces.reset();
}

// §5: "it SHOULD delete the existing security associations with the old gateway".
void Manager::leave_old_gateway(Key key, Entry& entry, Time now) {
  if (!entry.replaces || entry.session->phase() != SessionPhase::established) return;
  const Key old = *entry.replaces;
  const Entry* const left = find(old);
  if (left != nullptr &&
      !std::ranges::includes(names_of_children(entry.session->view(now)), names_of_children(left->session->view(now))))
    return;
  sessions_.at(key).replaces.reset();
  if (left != nullptr) close(old, now, true);
}

// The last IKE SA with a gateway that we were sent to is gone, or could not be set up.
void Manager::gateway_lost(const Connection& connection) {
  const auto way = redirections_.find(connection.name);
  if (!connection.home || way == redirections_.end() || way->second.to != connection.remote) return;
  for (const Key key : sessions_of(connection.name))
    if (sessions_.at(key).session->connection()->remote == connection.remote) return;
  go_home(connection.name);
}

void Manager::go_home(const std::string& connection) {
  const auto way = redirections_.find(connection);
  if (way == redirections_.end()) return;
  way->second.to.reset();
  way->second.name.reset();
  way->second.replaces.reset();
  way->second.children.clear();
  keep_redirect_names();
  place_connection(connection);
}

// The policy, and what we owe the connection, with the place where it is now.
void Manager::place_connection(const std::string& name) {
  policy_ = with_redirects(policy_);
  const auto placed = std::ranges::find(policy_->connections, name, [](const auto& one) { return one->name; });
  const auto wish = wishes_.find(name);
  if (placed != policy_->connections.end() && wish != wishes_.end()) wish->second.connection = *placed;
}

std::shared_ptr<const Policy> Manager::with_redirects(std::shared_ptr<const Policy> policy) const {
  auto out = std::make_shared<Policy>(*policy);
  bool changed = false;
  for (auto& connection : out->connections) {
    const auto way = redirections_.find(connection->name);
    const bool away = way != redirections_.end() && way->second.to && connection->follows_redirects();
    if (!away && !connection->home) continue;
    connection = away ? sent_to(*connection, *way->second.to) : sent_home(*connection);
    changed = true;
  }
  return changed ? out : policy;
}

// What is not in the policy any more, or does not follow any more.
void Manager::prune_redirections() {
  std::erase_if(redirections_, [&](const auto& row) {
    return std::ranges::none_of(policy_->connections,
                                [&](const auto& one) { return one->name == row.first && one->follows_redirects(); });
  });
  keep_redirect_names();
}

std::optional<GatewayIdentity> Manager::redirected_from(const Connection& connection) const {
  const auto way = redirections_.find(connection.name);
  return connection.home && way != redirections_.end() ? std::optional(way->second.from) : std::nullopt;
}

std::set<IpAddress> Manager::own_addresses() const {
  std::set<IpAddress> out;
  for (const auto& connection : policy_->connections) out.insert(connection->local);
  return out;
}

void Manager::tell_redirect_failed(const Connection& connection, const Endpoint& remote, Failure failure) {
  Event event;
  event.kind = EventKind::attempt_failed;
  event.connection = connection.name;
  event.initiator = true;
  event.local.address = connection.local;
  event.remote = remote;
  event.text = failure.summary;
  event.failure = std::move(failure);
  tell(event);
}

// --- gateway

// The IKE SA that is being set up does not count yet.
bool Manager::is_full(const Connection& connection) const {
  if (connection.redirect.above == 0) return true;
  const auto counts = [&](const auto& row) {
    const Entry& entry = row.second;
    const auto& of = entry.session->connection();
    return !entry.closing && entry.established && of != nullptr && of->profile_name == connection.profile_name &&
           !entry.session->redirected_to();
  };
  return std::cmp_greater_equal(std::ranges::count_if(sessions_, counts), connection.redirect.above);
}

// §3: before anything is kept or computed for it. Who the peer is nobody knows yet: all that it may be have to agree.
// True: it is answered, or too many were just now.
bool Manager::redirect_stranger(const Datagram& datagram, const Header& header, Time now) {
  const auto fits = connections_between(*policy_, datagram.fvrf, datagram.local.address, datagram.remote.address);
  if (fits.empty() || fits.front()->redirect.when != RedirectWhen::init) return false;
  const RedirectPolicy& policy = fits.front()->redirect;
  const auto agrees = [&](const auto& one) {
    return one->redirect.when == RedirectWhen::init && one->redirect.to == policy.to && is_full(*one);
  };
  const auto to = GatewayIdentity::parse(policy.to);
  const auto message = parse_message(datagram.bytes);
  if (!to || to->address == datagram.local.address || !message || broken_rule(*message)) return false;
  const NotifyPayload* const from = message->notify(NotifyType::redirected_from);
  if (from == nullptr && message->notify(NotifyType::redirect_supported) == nullptr) return false;
  if (const auto gateway = from == nullptr ? std::nullopt : std::optional(decode_gateway(from->data));
      gateway && *gateway && **gateway == *to)
    return false;  // §7: not to and fro
  if (!std::ranges::all_of(fits, agrees)) return false;
  if (!redirect_answers_.take(now)) return true;
  Message reply{{header.initiator_spi, 0, header.exchange, false, true, header.message_id}, {}};
  reply.add_notify(NotifyType::redirect, encode_gateway(*to, message->find<NoncePayload>(PayloadType::nonce)->data));
  answer(datagram, reply);
  Event event;
  event.kind = EventKind::redirected;
  event.local = datagram.local;
  event.remote = datagram.remote;
  event.spi_i = header.initiator_spi;
  event.text = "the peer is sent to " + to->text();
  tell(event);
  return true;
}

// Of those that match, who said that they would go. Nobody is sent to where it comes from, or is.
Manager::Count Manager::redirect(const Filter& filter, const GatewayIdentity& to, Time now) {
  Count count;
  for (const auto& [key, connection] : matching_sessions(filter)) {
    const Entry* const entry = find(key);
    if (entry == nullptr || entry->session->phase() != SessionPhase::established) continue;
    ++count.matched;
    if (!entry->session->can_redirect() || entry->session->redirected_from() == to || to.address == connection->local)
      continue;
    ++count.done;
    with(key, now, [&](Session& session) { return session.redirect(to, now); });
  }
  return count;
}

}  // namespace postern::ike
