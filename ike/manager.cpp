#include "ike/manager.hpp"

#include <algorithm>

#include "base/log.hpp"
#include "ike/earliest.hpp"

namespace postern::ike {

// Child ids go on into the data plane as the SAs' cookie, where those of an earlier life may still be: a life begins at
// a random number.
Manager::Manager(Setup setup)
    : setup_(std::move(setup)),
      spis_(setup_.random),
      temporary_(setup_.random),
      cookies_(setup_.random),
      crash_tokens_(setup_.random) {
  std::array<std::byte, 4> start{};
  if (setup_.random(start)) next_child_ = std::uint64_t{load_be32(start.data())} << 32;
  surroundings_.random = setup_.random;
  surroundings_.allocate_spi = [this] { return spis_.allocate(); };
  surroundings_.free_spi = [this](std::uint32_t spi) { spis_.free(spi); };
  surroundings_.next_child_id = [this] { return ChildId{++next_child_}; };
  surroundings_.trustpoint = setup_.trustpoint;
  surroundings_.flows = &temporary_;
  surroundings_.lend_address = [this](const Prefix& pool, const std::string& owner, const auto& wanted) {
    return pools_.take(pool, owner, wanted);
  };
  surroundings_.take_address_back = [this](const IpAddress& address, const std::string& owner) {
    pools_.give_back(address, owner);
  };
  surroundings_.held_address = [this](const std::string& connection, Family family) -> std::optional<IpAddress> {
    for (const Key key : sessions_of(connection))
      for (const IpAddress& one : sessions_.at(key).session->assigned().addresses)
        if (one.family() == family) return one;
    return std::nullopt;
  };
  surroundings_.crash_token = [this](std::uint64_t spi_i, std::uint64_t spi_r) {
    return crash_tokens_.token(spi_i, spi_r);
  };
  surroundings_.connections = [this](std::uint32_t fvrf, const IpAddress& local, const IpAddress& remote) {
    return connections_between(*policy_, fvrf, local, remote);
  };
  surroundings_.is_full = [this](const Connection& connection) { return is_full(connection); };
  surroundings_.eap_user = [this](std::string_view name) -> std::optional<Secret> {
    const auto found = std::ranges::find(policy_->eap_users, name, &EapUser::name);
    return found == policy_->eap_users.end() ? std::nullopt : std::optional(found->password);
  };
}

Manager::~Manager() = default;

Manager::Entry* Manager::find(Key key) {
  const auto found = sessions_.find(key);
  return found == sessions_.end() ? nullptr : &found->second;
}

// A session has its SPI once it has said or heard its first word. Without one it came to nothing: what it wants to say
// is said all the same.
void Manager::begin(std::unique_ptr<Session> session, Actions first, const std::optional<InitKey>& init, Time now) {
  const Key key = session->own_spi();
  if (key != 0) {
    if (init) make_room_for(init->remote, now);
    Entry& entry = add(std::move(session), now);
    if (init) {
      entry.init = init;
      entry.half_open = true;
      half_open_.add(init->remote, key);
      inits_[*init] = key;
    }
  }
  run(key, std::move(first), now);
}

Manager::Entry& Manager::add(std::unique_ptr<Session> session, Time now) {
  const Key key = session->own_spi();
  Entry& entry = sessions_[key];
  entry.session = std::move(session);
  entry.number = next_number_++;
  entry.born = now;
  return entry;
}

void Manager::close(Key key, Time now, bool tell_peer) {
  if (Entry* const entry = find(key)) entry->closing = true;
  with(key, now, [&](Session& session) { return session.close(now, tell_peer); });
}

// --- actions

// A batch is done whole before the next: what one action makes others want waits its turn.
void Manager::run(Key key, Actions actions, Time now) {
  batches_.push_back({key, std::move(actions)});
  if (running_) return;
  running_ = true;
  while (!batches_.empty()) {
    Batch batch = std::move(batches_.front());
    batches_.pop_front();
    for (Action& action : batch.actions) perform(batch.key, action, now);
    settle(batch.key, now);
  }
  running_ = false;
}

void Manager::perform(Key key, Action& action, Time now) {
  struct Doer {
    Manager& manager;
    Key key;
    Time now;
    Effects& effects;
    void operator()(const SendDatagram& a) const { effects.send(a); }
    void operator()(const SendKeepalive& a) const { effects.send(a); }
    void operator()(const ExpectChild& a) const { effects.expect(a); }
    void operator()(InstallChild& a) const { manager.do_install(key, a, now); }
    void operator()(const SwitchOutbound& a) const { effects.switch_outbound(a.id); }
    void operator()(const RemoveChild& a) const {
      effects.remove(a.id);
      const auto known = manager.children_.find(a.id);
      if (known == manager.children_.end()) return;
      const std::string connection = known->second.connection;
      manager.children_.erase(known);
      if (const auto wish = manager.wishes_.find(connection); wish != manager.wishes_.end())
        manager.schedule(wish->second, now + std::chrono::seconds(1));
    }
    void operator()(const MoveChild& a) const {
      const auto moved = effects.move(a);
      if (moved) return;
      spdlog::warn("child {} does not move: {}", static_cast<std::uint64_t>(a.id), moved.error().message());
      manager.on_child_lost(a.id, now);
    }
    void operator()(AddSession& a) const {
      if (manager.moving_.contains(key)) manager.moving_.insert(a.session->own_spi());  // it takes the move over, too
      manager.do_add(a, now);
    }
    void operator()(const InitialContact& a) const { manager.on_initial_contact(key, a, now); }
    void operator()(const AskPki& a) const { effects.ask(key, a); }
    void operator()(const FetchCertificates& a) const { manager.do_fetch(key, a, now); }
    void operator()(const Reauthenticate&) const { manager.reauthenticate(key, now); }
    void operator()(const Reassigned& a) const { manager.reassign(a.interface); }
    void operator()(const PartlyCovered& a) const { manager.cover_rest(key, a, now); }
    void operator()(const Redirected& a) const { manager.on_redirected(key, a, now); }
    void operator()(const Event& a) const {
      if (a.kind == EventKind::attempt_failed && !a.child.empty()) manager.child_failed(a, now);
      if (Entry* const entry = manager.find(key); entry != nullptr && a.kind == EventKind::peer_silent)
        entry->silent = true;
      manager.tell(a);
    }
    void operator()(const Closed& a) const { manager.do_closed(key, a, now); }
  };
  std::visit(Doer{*this, key, now, *setup_.effects}, action);
}

void Manager::do_install(Key key, InstallChild& child, Time now) {
  const auto installed = setup_.effects->install(child);
  children_[child.id] = {key, child.connection->name, child.policy.name};
  if (installed) {
    flow_is_up(child);
    if (const auto wish = wishes_.find(child.connection->name); wish != wishes_.end())
      wish->second.refused.erase(child.policy.name);
    return;
  }
  with(key, now,
       [&](Session& session) { return session.on_install_failed(child.id, installed.error().message(), now); });
}

void Manager::do_add(AddSession& successor, Time now) {
  const Key key = successor.session->own_spi();
  Entry& entry = add(std::move(successor.session), now);
  entry.established = now;
  for (const ChildView& child : entry.session->view(now).children)
    if (const auto known = children_.find(child.id); known != children_.end()) known->second.session = key;
  settle(key, now);
}

void Manager::do_fetch(Key key, const FetchCertificates& wanted, Time now) {
  for (const CertificateFetches::Fetch& one : fetches_.begin(key, wanted)) setup_.effects->fetch(one);
  give_certificates(now);  // of which all were in the cache
}

void Manager::give_certificates(Time now) {
  while (auto done = fetches_.next())
    with(done->session, now,
         [&](Session& one) { return one.on_certificates(done->ticket, std::move(done->certificates), now); });
}

// The newest IKE SA that was lent addresses for it has the last word.
void Manager::reassign(const std::string& interface) {
  const Entry* newest = nullptr;
  for (const auto& [key, entry] : sessions_)
    if (entry.session->assigned().interface == interface && (newest == nullptr || newest->number < entry.number))
      newest = &entry;
  setup_.effects->assign(interface,
                         newest == nullptr ? std::vector<IpAddress>() : newest->session->assigned().addresses);
}

void Manager::do_closed(Key key, const Closed& closed, Time now) {
  Entry* const entry = find(key);
  if (entry == nullptr) return;
  const bool dead = entry->silent;
  const auto connection = entry->session->connection();
  const bool own_attempt = !entry->init && !entry->established;  // what a stranger begins delays nothing of ours
  const bool redirected = entry->redirected;
  forget(key);
  if (connection == nullptr || shutting_down_ || redirected) return;
  gateway_lost(*connection);
  const auto known = wishes_.find(connection->name);
  if (known == wishes_.end()) return;
  Wish& wish = known->second;
  if (own_attempt) failed(wish, now);
  if ((own_attempt || dead) && !connection->home) peer_failed(*wish.connection, now);
  if (own_attempt || dead) try_next_peer(*wish.connection, closed.wanted_children, now);
  // Without an SA traffic asks by itself; only what shall always be up is asked for again here.
  if (wish.connection->always()) want(wish, {}, now, std::chrono::milliseconds(100));
}

// --- tables and timers, brought up to date after whatever happened to a session

void Manager::settle(Key key, Time now) {
  Entry* const entry = find(key);
  if (entry == nullptr) return;
  const SessionPhase phase = entry->session->phase();
  if (phase == SessionPhase::closing || phase == SessionPhase::closed) entry->closing = true;
  if (phase == SessionPhase::established && !entry->established) {
    entry->established = now;
    if (const auto& connection = entry->session->connection())
      if (const auto wish = wishes_.find(connection->name); wish != wishes_.end()) {
        wish->second.failures = 0;
        wish->second.not_before = {};
        schedule(wish->second, now + setup_.limits.duplicate_patience);
      }
  }
  if (entry->half_open && phase != SessionPhase::made && phase != SessionPhase::init_answered) {
    entry->half_open = false;
    half_open_.remove(key);
  }
  arm(key, *entry);
  leave_old_gateway(key, *entry, now);
}

void Manager::arm(Key key, Entry& entry) {
  const auto wanted = entry.session->next_timer();
  if (wanted == entry.timer) return;
  if (entry.timer) session_timers_.erase({*entry.timer, key});
  entry.timer = wanted;
  if (wanted) session_timers_.insert({*wanted, key});
}

void Manager::forget(Key key) {
  const auto known = sessions_.find(key);
  if (known == sessions_.end()) return;
  Entry& entry = known->second;
  if (entry.timer) session_timers_.erase({*entry.timer, key});
  if (entry.init) inits_.erase(*entry.init);
  if (entry.half_open) half_open_.remove(key);
  sessions_.erase(known);
}

void Manager::on_pki_answer(std::uint64_t session, std::uint64_t ticket, pki::Answer answer, Time now) {
  with(session, now, [&](Session& one) { return one.on_pki_answer(ticket, std::move(answer), now); });
}

void Manager::on_url_answer(std::uint64_t fetch, resolver::UrlAnswer answer, Time now) {
  fetches_.settle(fetch, std::move(answer));
  give_certificates(now);
}

void Manager::on_timer(Time now) {
  // What is due now, and not what becomes due while it is served: the loop ends.
  std::vector<Key> due;
  for (const auto& [at, key] : session_timers_) {
    if (at > now) break;
    due.push_back(key);
  }
  for (const Key key : due) {
    Entry* const entry = find(key);
    if (entry == nullptr || !entry->timer || *entry->timer > now) continue;
    with(key, now, [&](Session& session) { return session.on_timer(now); });
  }
  names_on_time(now);
  moves_on_time(now);
  std::vector<std::string> wishes;
  for (const auto& [at, name] : wish_timers_) {
    if (at > now) break;
    wishes.push_back(name);
  }
  for (const std::string& name : wishes) {
    const auto wish = wishes_.find(name);
    if (wish == wishes_.end()) continue;
    wish_timers_.erase({*wish->second.due, name});
    wish->second.due.reset();
    review(wish->second, now);
  }
}

std::optional<Time> Manager::next_timer() const {
  const auto first = [](const auto& timers) {
    return timers.empty() ? std::nullopt : std::optional(timers.begin()->first);
  };
  return earliest(
      {first(session_timers_), first(wish_timers_), move_at_, names_.next_timer(), redirect_names_.next_timer()});
}

// --- the data plane's word

void Manager::on_soft_expiry(ChildId id, Time now) {
  with_child(id, now, [&](Session& session) { return session.rekey_child(id, now); });
}

void Manager::on_hard_expiry(ChildId id, Time now) {
  with_child(id, now, [&](Session& session) { return session.on_hard_expiry(id, now); });
}

void Manager::on_idle(ChildId id, Time now) {
  const auto known = children_.find(id);
  if (known == children_.end()) return;
  const auto wish = wishes_.find(known->second.connection);
  const ChildPolicy* const policy =
      wish == wishes_.end() ? nullptr : wish->second.connection->child(known->second.name);
  if (policy != nullptr && policy->initiate == Initiate::always) return;  // what shall always be up is not idle
  if (policy != nullptr && wish->second.pieces.contains(policy->name) && has_live(wish->second, policy->base, now))
    return;  // it goes with the rest of its flow
  if (policy != nullptr) back_to_default(policy->place.flow);
  with_child(id, now, [&](Session& session) { return session.delete_child(id, now); });
}

void Manager::on_inbound_traffic(ChildId id, Time now) {
  with_child(id, now, [&](Session& session) { return session.on_inbound_traffic(id, now); });
}

void Manager::on_outbound_traffic(ChildId id, Time now) {
  with_child(id, now, [&](Session& session) { return session.on_outbound_traffic(id, now); });
}

void Manager::on_peer_moved(ChildId id, const Endpoint& remote, Time now) {
  with_child(id, now, [&](Session& session) { return session.on_peer_moved(id, remote, now); });
}

void Manager::on_child_lost(ChildId id, Time now) {
  const auto known = children_.find(id);
  if (known == children_.end()) return;
  const Child child = known->second;
  with_child(id, now, [&](Session& session) { return session.delete_child(id, now); });
  if (const auto wish = wishes_.find(child.connection); wish != wishes_.end())
    want(wish->second, {child.name}, now, std::chrono::milliseconds(500));
}

// --- the end, and what `show` asks

void Manager::shut_down(Time now) {
  shutting_down_ = true;
  std::vector<Key> keys;
  for (const auto& [key, entry] : sessions_) keys.push_back(key);
  for (const Key key : keys) close(key, now, true);
}

std::vector<Manager::Row> Manager::rows(Time now) const {
  std::vector<Row> out;
  for (const auto& [key, entry] : sessions_) out.push_back({entry.number, entry.established, entry.session->view(now)});
  std::ranges::sort(out, {}, &Row::number);
  return out;
}

std::set<std::string> Manager::negotiating() const {
  std::set<std::string> out;
  for (const auto& [name, wish] : wishes_)
    if (!wish.children.empty()) out.insert(name);
  for (const auto& [key, entry] : sessions_)
    if (!entry.established && !entry.closing && entry.session->connection() != nullptr)
      out.insert(entry.session->connection()->name);
  return out;
}

}  // namespace postern::ike
