#include "ike/session_core.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "ike/mobike.hpp"
#include "ike/redirect.hpp"

namespace postern::ike {
namespace {

// "IKE_SA_INIT request 0 [SA KE No N(NAT_DETECTION_SOURCE_IP)]"
std::string describe(const Message& message) {
  std::string inside;
  for (const Payload& p : message.payloads) {
    if (!inside.empty()) inside += ' ';
    if (const auto* const notify = std::get_if<NotifyPayload>(&p.body))
      inside += fmt::format("N({})", text(notify->type));
    else
      inside += text(p.type);
  }
  return fmt::format("{} {} {} [{}]", text(message.header.exchange), message.header.response ? "response" : "request",
                     message.header.message_id, inside);
}

// What a child had for itself.
void free_numbers_of(const SessionCore& core, const Child& child) {
  core.setup.surroundings->free_spi(child.spi_in);
  if (child.policy.place.base_flow != 0) core.setup.surroundings->flows->let_go(child.policy);
}

}  // namespace

Event SessionCore::event(EventKind kind, std::string what) const {
  Event out;
  out.kind = kind;
  if (connection != nullptr) out.connection = connection->name;
  out.local = local;
  out.remote = remote;
  out.spi_i = spi_i;
  out.spi_r = spi_r;
  out.initiator = initiator;
  out.text = std::move(what);
  return out;
}

void SessionCore::tell(EventKind kind, std::string what) { emit(event(kind, std::move(what))); }

void SessionCore::tell_child(EventKind kind, const Child& of, std::string what) {
  Event out = event(kind, std::move(what));
  out.child = of.policy.name;
  out.spi_in = of.spi_in;
  out.spi_out = of.spi_out;
  emit(std::move(out));
}

void SessionCore::attempt_failed(Failure failure, std::string_view of_child) {
  Event out = event(EventKind::attempt_failed, failure.summary);
  out.child = of_child;
  out.failure = std::move(failure);
  emit(std::move(out));
}

Result<Octets> SessionCore::random(std::size_t bytes) const {
  Octets out(bytes);
  POSTERN_CHECK(setup.surroundings->random(out));
  return out;
}

Result<std::uint64_t> SessionCore::random_spi() const {
  for (;;) {
    POSTERN_TRY(bytes, random(8));
    const std::uint64_t spi = ByteReader(bytes).u64();
    if (spi != 0) return spi;  // RFC 7296 §3.1: zero is "not known yet"
  }
}

// Peers that were set up together shall not rekey together.
Duration SessionCore::jittered(Duration full, double from, double to) const {
  const auto bytes = random(4);
  const double at = bytes ? static_cast<double>(ByteReader(*bytes).u32()) / 4294967296.0 : 0.5;
  return std::chrono::duration_cast<Duration>(full * (from + (to - from) * at));
}

Duration SessionCore::rekey_after(Duration whole, bool we_began) const {
  return we_began ? jittered(whole, 0.80, 0.88) : jittered(whole, 0.88, 0.95);
}

Result<void> SessionCore::use_keys(const IkeSuite& agreed, IkeKeys derived) {
  POSTERN_TRY(as_initiator, crypto::IkeCipher::create(agreed.cipher, derived.ei.bytes(), derived.ai.bytes()));
  POSTERN_TRY(as_responder, crypto::IkeCipher::create(agreed.cipher, derived.er.bytes(), derived.ar.bytes()));
  suite = agreed;
  keys = std::move(derived);
  cipher_out.emplace(std::move(initiator ? as_initiator : as_responder));
  cipher_in.emplace(std::move(initiator ? as_responder : as_initiator));
  return {};
}

Header SessionCore::header(ExchangeType exchange, bool response, std::uint32_t id) const {
  return {spi_i, spi_r, exchange, initiator, response, id};
}

Message SessionCore::request(ExchangeType exchange) const { return {header(exchange, false, next_request), {}}; }

Message SessionCore::answer(const Message& to) const {
  return {header(to.header.exchange, true, to.header.message_id), {}};
}

void SessionCore::transmit(const Octets& datagram) { emit(SendDatagram{local, remote, setup.fvrf, datagram}); }

void SessionCore::transmit(const Datagrams& datagrams) {
  for (const Octets& one : datagrams) transmit(one);
}

Result<Datagrams> SessionCore::seal(const Message& message) {
  constexpr std::size_t udp_header = 8, marker = 4;
  if (fragment_mtu == 0) return seal_message_within(message, *cipher_out, max_message_bytes);
  const std::size_t around =
      (remote.address.family() == Family::v4 ? 20U : 40U) + udp_header + (local.port == 500 ? 0 : marker);
  return seal_message_within(message, *cipher_out, fragment_mtu - around);
}

void SessionCore::await_answer(std::uint32_t id, Datagrams datagrams, Time now, Pending about, Duration every,
                               std::uint32_t tries) {
  const bool doubles = every == Duration::zero();
  const Duration wait = doubles ? setup.lifetimes.first_retransmit : every;
  std::erase_if(outstanding, [&](const Outstanding& one) { return one.message_id == id; });  // IKE_SA_INIT once more
  outstanding.push_back({id,
                         std::move(datagrams),
                         now + wait,
                         wait,
                         tries == 0 ? setup.lifetimes.retransmits : tries,
                         1,
                         doubles,
                         std::move(about),
                         {}});
  last_sent = now;
}

void SessionCore::send_request(Message message, Time now, Pending about, Duration every, std::uint32_t tries) {
  auto sealed = seal(message);
  if (auto* const attempt = std::get_if<ChildAttempt>(&about); attempt != nullptr && !sealed)
    setup.surroundings->free_spi(attempt->spi_in);
  if (!sealed) return close_now("cannot seal a request: " + sealed.error().message(), false);
  tell(EventKind::trace, "sent " + describe(message));
  transmit(*sealed);
  await_answer(message.header.message_id, std::move(*sealed), now, std::move(about), every, tries);
  use_message_id(next_request, now);
}

// Whose ids they are rekeys first. A successor that cannot be made leaves room for an orderly end.
void SessionCore::use_message_id(std::uint32_t& next, Time now) {
  const std::uint32_t all = setup.lifetimes.message_ids;
  if (++next >= all) return close_now("no message id is left", true);
  if (!established() || superseded) return;
  if (next == all - all / (&next == &next_request ? 4 : 8)) add_task({TaskKind::rekey_ike, {}, {}, now});
  if (next == all - all / 16) {
    for (const Child& one : children) want_again(one.policy.name);
    add_task({TaskKind::expire_ike, {}, {}, now});
  }
}

void SessionCore::send_response(const Message& to, Message message) {
  auto sealed = seal(message);
  if (!sealed) return close_now("cannot seal a response: " + sealed.error().message(), false);
  tell(EventKind::trace, "sent " + describe(message));
  for (const Octets& one : *sealed) emit(SendDatagram{asked_local, asked_remote, setup.fvrf, one});
  answered.push_back({to.header.message_id, last_request, std::move(*sealed)});
  while (answered.size() > window_in) answered.pop_front();
}

void SessionCore::refuse(const Message& to, NotifyType why, Octets data) {
  Message message = answer(to);
  message.add_notify(why, std::move(data));
  send_response(to, std::move(message));
}

void SessionCore::close_now(std::string why, bool retry) {
  if (in<Gone>() != nullptr) return;
  drop_children(why, false);
  give_addresses_back(*this);
  drop_configuration(*this);
  for (const Outstanding& one : outstanding)
    if (const auto* const attempt = std::get_if<ChildAttempt>(&one.about))
      setup.surroundings->free_spi(attempt->spi_in);
  for (const ChildAttempt& attempt : held) setup.surroundings->free_spi(attempt.spi_in);
  if (auto* const auth = in<AuthSent>(); auth != nullptr && auth->child)
    setup.surroundings->free_spi(auth->child->spi_in);
  outstanding.clear();
  held.clear();
  waiting.reset();
  eap.reset();
  tasks.clear();
  const bool was_up = established() || in<Closing>() != nullptr;
  tell(was_up ? EventKind::ike_down : EventKind::trace, std::move(why));
  enter(Gone{});
  emit(Closed{retry, std::exchange(wanted, {})});
}

void SessionCore::add_task(Task task) {
  const auto same = [&](const Task& other) {
    return other.kind == task.kind && other.name == task.name && other.id == task.id;
  };
  if (std::ranges::none_of(tasks, same)) tasks.push_back(std::move(task));
}

// "It MUST wait until it has received responses to all requests up through request X-N": the oldest counts, not how
// many there are.
bool SessionCore::window_open() const {
  const std::uint32_t own = connection == nullptr ? 1 : connection->options.window;
  return outstanding.empty() || next_request - outstanding.front().message_id < std::min(window_out, std::max(1U, own));
}

namespace {

bool is_about_ike(const Task& task) {
  return task.kind == TaskKind::rekey_ike || task.kind == TaskKind::delete_ike || task.kind == TaskKind::expire_ike;
}

// RFC 7296 §2.25: what would meet itself at the peer.
bool collides(const SessionCore& core, const Task& task) {
  if (is_about_ike(task)) return !core.outstanding.empty() || !core.held.empty();
  if (underway<IkeAttempt>(core) != nullptr || underway<DeletingIke>(core) != nullptr) return true;
  if (task.kind == TaskKind::make_child)
    return attempt_of(core, [&](const ChildAttempt& a) { return a.policy.name == task.name && !a.replaces; }) !=
           nullptr;
  if (task.kind != TaskKind::rekey_child && task.kind != TaskKind::delete_child) return false;
  return attempt_of(core, [&](const ChildAttempt& a) { return a.replaces == task.id; }) != nullptr ||
         underway<DeletingChild>(core, [&](const DeletingChild& d) { return d.id == task.id; }) != nullptr;
}

}  // namespace

std::deque<Task>::iterator SessionCore::next_task(Time now) {
  for (auto one = tasks.begin(); one != tasks.end(); ++one) {
    if (one->not_before > now) continue;
    if (!collides(*this, *one)) return one;
    if (is_about_ike(*one)) break;  // what stands behind it would keep it from ever coming
  }
  return tasks.end();
}

std::optional<Time> SessionCore::next_task_time() const {
  std::optional<Time> out;
  for (const Task& one : tasks)
    if (!collides(*this, one))
      out = out ? std::min(*out, one.not_before) : one.not_before;
    else if (is_about_ike(one))
      break;
  return out;
}

void SessionCore::run_tasks(Time now) {
  while (established() && !superseded && window_open()) {
    if (!held.empty()) {
      send_held(*this, now);
      continue;
    }
    const auto ready = next_task(now);
    if (ready == tasks.end()) return;
    const Task task = *ready;
    tasks.erase(ready);
    switch (task.kind) {
      case TaskKind::make_child: start_make_child(*this, task, now); break;
      case TaskKind::rekey_child: start_rekey_child(*this, task, now); break;
      case TaskKind::delete_child: start_delete_child(*this, task, now); break;
      case TaskKind::rekey_ike: start_rekey_ike(*this, now); break;
      case TaskKind::expire_ike:
      case TaskKind::delete_ike: start_delete_ike(*this, now); break;
      case TaskKind::probe: start_probe(*this, now); break;
      case TaskKind::tell_token: start_tell_token(*this, now); break;
      case TaskKind::update_addresses: start_update(*this, now); break;
      case TaskKind::check_route: start_route_check(*this, now); break;
      case TaskKind::announce_addresses: start_announcement(*this, now); break;
      case TaskKind::redirect: start_redirect(*this, now); break;
    }
  }
}

Child* SessionCore::child(ChildId id) {
  const auto found = std::ranges::find(children, id, &Child::id);
  return found == children.end() ? nullptr : &*found;
}

Child* SessionCore::child_by_spi_out(ProtocolId protocol, std::uint32_t spi) {
  const auto found = std::ranges::find_if(
      children, [&](const Child& one) { return one.spi_out == spi && one.suite.protocol == protocol; });
  return found == children.end() ? nullptr : &*found;
}

bool SessionCore::has_child(std::string_view name) const {
  return std::ranges::any_of(
      children, [&](const Child& one) { return one.policy.name == name && !one.closing && !one.remove_at; });
}

void SessionCore::remove_child(ChildId id, std::string why) {
  const auto found = std::ranges::find(children, id, &Child::id);
  if (found == children.end()) return;
  tell_child(EventKind::child_down, *found, std::move(why));
  emit(RemoveChild{id});
  free_numbers_of(*this, *found);
  children.erase(found);
}

void SessionCore::drop_children(const std::string& why, bool forget) {
  for (const Child& one : children) {
    tell_child(EventKind::child_down, one, why);
    emit(RemoveChild{one.id});
    free_numbers_of(*this, one);
    if (!forget && !one.remove_at) want_again(one.policy.name);
  }
  children.clear();
}

void SessionCore::want_again(const std::string& child_name) {
  if (std::ranges::find(wanted, child_name) == wanted.end()) wanted.push_back(child_name);
}

Octets octets(Bytes bytes) { return {bytes.begin(), bytes.end()}; }

Octets group_octets(crypto::DhGroup group) {
  Octets out(2);
  ByteWriter(out).u16(static_cast<std::uint16_t>(group));
  return out;
}

std::optional<crypto::DhExchange> wanted_exchange(const NotifyPayload& error, std::span<const crypto::DhGroup> offered,
                                                  crypto::DhGroup tried, std::uint32_t& rounds,
                                                  std::uint32_t most_rounds) {
  if (error.type != NotifyType::invalid_ke_payload || error.data.size() != 2 || rounds >= most_rounds)
    return std::nullopt;
  const auto group = crypto::DhGroup{ByteReader(error.data).u16()};
  if (group == tried || std::ranges::find(offered, group) == offered.end()) return std::nullopt;
  auto dh = crypto::DhExchange::create(group);
  if (!dh) return std::nullopt;
  ++rounds;
  return std::move(*dh);
}

std::vector<crypto::DhGroup> groups_of(std::span<const IkeProposal> proposals) {
  std::vector<crypto::DhGroup> out;
  for (const IkeProposal& one : proposals) out.insert(out.end(), one.groups.begin(), one.groups.end());
  return out;
}

std::string joined(const std::vector<std::string>& lines) { return fmt::format("{}", fmt::join(lines, "; ")); }

std::shared_ptr<const Connection> current(const SessionCore& core) {
  const Connection& ends = *core.connection;
  for (const auto& one : core.setup.surroundings->connections(core.setup.fvrf, ends.local, ends.remote))
    if (one->name == core.connection->name) return one;
  return core.connection;
}

}  // namespace postern::ike
