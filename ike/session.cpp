#include "ike/session.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "ike/authentication.hpp"
#include "ike/mobike.hpp"
#include "ike/payload_rules.hpp"
#include "ike/session_core.hpp"

namespace postern::ike {
namespace {

template <class... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};

SessionPhase phase_of(const State& state) {
  return std::visit(Overloaded{[](const Made&) { return SessionPhase::made; },
                               [](const InitSent&) { return SessionPhase::init_sent; },
                               [](const InitAnswered&) { return SessionPhase::init_answered; },
                               [](const AuthSent&) { return SessionPhase::auth_sent; },
                               [](const Established&) { return SessionPhase::established; },
                               [](const Closing&) { return SessionPhase::closing; },
                               [](const Gone&) { return SessionPhase::closed; }},
                    state);
}

Octets critical_data(PayloadType type) { return {static_cast<std::byte>(type)}; }

// The end of an IKE SA whose peer breaks the protocol; before it is up, the end of the attempt.
void end(SessionCore& core, std::string why) {
  if (!core.established()) {
    Failure failure;
    failure.kind = FailureKind::invalid_syntax;
    failure.summary = why;
    failure.remedy = "nothing to configure: report it to who makes the peer, with a capture";
    core.attempt_failed(std::move(failure));
  }
  core.close_now(std::move(why), true);
}

// §2.21.3: what cannot be understood, though the peer certainly said it.
void not_understood(SessionCore& core, const Header& header, const ParseFailure& why) {
  const std::string what = text(header.exchange) + ": " + text(why);
  core.tell(EventKind::message_ignored, what);
  if (header.response) return end(core, "the peer's answer cannot be understood: " + what);
  Message request{header, {}};
  if (why.error == ParseError::unsupported_critical)
    return core.refuse(request, NotifyType::unsupported_critical_payload, critical_data(why.payload));
  core.refuse(request, NotifyType::invalid_syntax);
  end(core, "the peer's request cannot be understood: " + what);
}

void dispatch_request(SessionCore& core, const Message& request, const Endpoint& local, const Endpoint& remote,
                      Time now) {
  switch (request.header.exchange) {
    case ExchangeType::ike_auth: return on_auth_request(core, request, now);
    case ExchangeType::create_child_sa: return on_create_child_request(core, request, now);
    case ExchangeType::informational: return on_informational_request(core, request, local, remote, now);
    case ExchangeType::ike_sa_init: break;
  }
  core.refuse(request, NotifyType::invalid_syntax);
}

void dispatch_response(SessionCore& core, const Message& response, Pending about, Time now) {
  switch (response.header.exchange) {
    case ExchangeType::ike_auth: return on_auth_response(core, response, now);
    case ExchangeType::create_child_sa: return on_create_child_response(core, response, std::move(about), now);
    case ExchangeType::informational: return on_informational_response(core, response, about, now);
    case ExchangeType::ike_sa_init: return;
  }
}

// The float to port 4500, at the responder (§2.23).
void follow_float(SessionCore& core, const Endpoint& local, const Endpoint& remote) {
  if (core.in<InitAnswered>() == nullptr) return;
  core.local = local;
  core.remote = remote;
}

// §2.11: the answer goes where the request came from, also when it was on its way twice. A retransmission is the same
// bit by bit (§2.1); of a fragmented request the first fragment stands for all (RFC 7383 §2.6.1), which may be cut
// anew.
void answer_again(SessionCore& core, const AnsweredRequest& known, Bytes datagram, const Endpoint& local,
                  const Endpoint& remote) {
  const auto place = fragment_number(datagram);
  if (place && place->number != 1) return;
  const bool same = std::ranges::equal(datagram, known.request);
  if (!same && !(place && open_fragment(datagram, *core.cipher_in))) return;
  for (const Octets& one : known.response) core.emit(SendDatagram{local, remote, core.setup.fvrf, one});
}

// The message of a datagram, or of the fragments that this one was the last of. Nothing: there is none yet, or nobody
// we know said it (§2.21.1).
std::optional<Parsed<Message>> receive(SessionCore& core, Reassembly& fragments, Bytes datagram) {
  if (fragment_number(datagram)) {
    const std::size_t most = core.established() ? max_message_bytes : max_unproven_bytes;
    return core.fragment_mtu == 0 ? std::nullopt : fragments.take(datagram, *core.cipher_in, most);
  }
  auto message = open_message(datagram, *core.cipher_in);
  const auto error = message ? std::nullopt : std::optional(message.error().error);
  if (error == ParseError::not_authentic || error == ParseError::not_protected) return std::nullopt;
  return message;
}

void on_next_request(SessionCore& core, const Header& header, Bytes datagram, const Endpoint& local,
                     const Endpoint& remote, Time now) {
  const auto request = receive(core, core.requests_in, datagram);
  if (!request) return;
  core.last_heard = now;
  core.traffic_unanswered = false;
  follow_float(core, local, remote);
  if (core.follows_messages()) peer_is_at(core, remote);
  core.use_message_id(core.next_expected, now);
  if (core.in<Gone>() != nullptr) return;
  core.last_request = fragment_number(datagram) ? core.requests_in.first_datagram() : octets(datagram);
  core.asked_local = local;
  core.asked_remote = remote;
  core.requests_in.clear();
  if (!*request) return not_understood(core, header, request->error());
  core.tell(EventKind::trace, fmt::format("got {} request {}", text(header.exchange), header.message_id));
  if (const auto broken = broken_rule(**request)) {
    core.tell(EventKind::message_ignored, *broken);
    core.refuse(**request, NotifyType::invalid_syntax);
    return end(core, "the peer broke the protocol: " + *broken);
  }
  dispatch_request(core, **request, local, remote, now);
}

// §2.3: within our window requests may overtake each other; they are answered in order. Fragments wait for nobody: the
// peer sends them again.
void keep_early(SessionCore& core, const Header& header, Bytes datagram, const Endpoint& local,
                const Endpoint& remote) {
  if (!core.established() || header.message_id - core.next_expected >= core.window_in) return;
  if (core.early.contains(header.message_id) || fragment_number(datagram)) return;
  if (receive(core, core.requests_in, datagram)) core.early[header.message_id] = {octets(datagram), local, remote};
}

void on_request(SessionCore& core, const Header& header, Bytes datagram, const Endpoint& local, const Endpoint& remote,
                Time now) {
  const auto known = std::ranges::find(core.answered, header.message_id, &AnsweredRequest::message_id);
  if (known != core.answered.end()) return answer_again(core, *known, datagram, local, remote);
  if (header.message_id < core.next_expected || core.waiting) return;
  if (header.message_id > core.next_expected) return keep_early(core, header, datagram, local, remote);
  on_next_request(core, header, datagram, local, remote, now);
  while (!core.early.empty() && core.in<Gone>() == nullptr && !core.waiting) {
    const auto next = core.early.begin();
    if (next->first > core.next_expected) return;
    const EarlyRequest one = std::move(next->second);
    const bool due = next->first == core.next_expected;
    core.early.erase(next);
    const auto early_header = parse_header(one.datagram);
    if (due && early_header) on_next_request(core, *early_header, one.datagram, one.local, one.remote, now);
  }
}

void on_response(SessionCore& core, const Header& header, Bytes datagram, const Endpoint& remote, Time now) {
  const auto request = std::ranges::find(core.outstanding, header.message_id, &Outstanding::message_id);
  if (request == core.outstanding.end()) return;
  const auto response = receive(core, request->response, datagram);
  if (!response) return on_unprotected_answer(core, datagram);
  core.last_heard = now;
  core.traffic_unanswered = false;
  core.mobility.untried = core.mobility.theirs.size();
  if (core.follows_messages()) peer_is_at(core, remote);
  if (!*response) return not_understood(core, header, response->error());
  core.tell(EventKind::trace, fmt::format("got {} response {}", text(header.exchange), header.message_id));
  if (const auto broken = broken_rule(**response)) {
    core.tell(EventKind::message_ignored, *broken);
    return end(core, "the peer broke the protocol: " + *broken);
  }
  Pending about = std::move(request->about);
  core.outstanding.erase(request);
  dispatch_response(core, **response, std::move(about), now);
}

void take(SessionCore& core, Bytes datagram, const Endpoint& local, const Endpoint& remote, Time now) {
  const auto header = parse_header(datagram);
  if (!header || core.in<Gone>() != nullptr) return;
  if (header->exchange == ExchangeType::ike_sa_init)
    return header->response ? on_init_response(core, datagram, now) : on_init_request(core, datagram, now);
  if (!core.cipher_in || header->initiator_spi != core.spi_i || header->responder_spi != core.spi_r) return;
  if (header->from_initiator == core.initiator) return;  // our own, reflected (§3.1)
  if (header->response) return on_response(core, *header, datagram, remote, now);
  on_request(core, *header, datagram, local, remote, now);
}

Actions done(SessionCore& core, Time now) {
  core.run_tasks(now);
  return std::exchange(core.actions, {});
}

bool is_being_rekeyed(const SessionCore& core, ChildId id) {
  return attempt_of(core, [&](const ChildAttempt& one) { return one.replaces == id; }) != nullptr ||
         std::ranges::any_of(core.tasks,
                             [&](const Task& task) { return task.kind == TaskKind::rekey_child && task.id == id; });
}

ChildView view_of(const SessionCore& core, const Child& one, Time now) {
  ChildView out;
  out.transport = one.transport;
  out.cpi_in = one.cpi_in;
  out.cpi_out = one.cpi_out;
  out.id = one.id;
  out.name = one.policy.name;
  out.interface = one.policy.interface;
  out.base = one.policy.base;
  out.flow = one.policy.place.flow;
  out.base_flow = one.policy.place.base_flow;
  out.spi_in = one.spi_in;
  out.spi_out = one.spi_out;
  out.local = one.local;
  out.remote = one.remote;
  out.suite = one.suite;
  out.age = now - one.born;
  out.lifetime = one.die_at - one.born;
  out.lifetime_bytes = one.policy.lifetime_bytes;
  out.rekeying = one.closing || one.remove_at.has_value() || is_being_rekeyed(core, one.id);
  out.outbound = one.outbound;
  return out;
}

}  // namespace

// Only what is new and authentic gets here: one who repeats the peer's packets from elsewhere moves nothing.
void peer_is_at(SessionCore& core, const Endpoint& remote) {
  if (core.remote == remote || !core.follows_peer() || !core.established() || core.mobility.proven) return;
  core.remote = remote;
  core.tell(EventKind::peer_moved,
            fmt::format("NAT gave the peer the place {} port {}", remote.address.text(), remote.port));
  move_children(core);
}

void move_children(SessionCore& core) {
  for (const Child& one : core.children)
    core.emit(MoveChild{one.id, core.local, core.traffic_remote(), core.encapsulates()});
}

// Legal moves of the diagram in session.hpp; everything may end. A move that is not there is a fault of ours: the
// session closes rather than go on from a state that cannot be.
void SessionCore::enter(State next) {
  const SessionPhase from = phase_of(state_), to = phase_of(next);
  const bool legal = to == SessionPhase::closed || (from == SessionPhase::made && to != SessionPhase::auth_sent) ||
                     (from == SessionPhase::init_sent && to == SessionPhase::auth_sent) ||
                     (from == SessionPhase::init_answered && to == SessionPhase::established) ||
                     (from == SessionPhase::auth_sent && to == SessionPhase::established) ||
                     (from == SessionPhase::established && to == SessionPhase::closing) ||
                     (from == SessionPhase::closing && to == SessionPhase::closing);
  if (!legal) {
    tell(EventKind::message_ignored,
         fmt::format("illegal state change {} -> {}", static_cast<int>(from), static_cast<int>(to)));
    next = Gone{};
  }
  state_ = std::move(next);
}

Session::Session(std::shared_ptr<SessionCore> core) : core_(std::move(core)) {}
Session::~Session() = default;
std::unique_ptr<Session> Session::of(std::shared_ptr<SessionCore> core) {
  return std::unique_ptr<Session>(new Session(std::move(core)));
}

std::unique_ptr<Session> Session::initiator(Setup setup, std::shared_ptr<const Connection> connection,
                                            std::vector<std::string> children) {
  auto core = std::make_shared<SessionCore>(setup, true);
  if (children.empty())
    for (const ChildPolicy& one : connection->children) children.push_back(one.name);
  core->connection = std::move(connection);
  core->wanted = std::move(children);
  return of(std::move(core));
}

std::unique_ptr<Session> Session::responder(Setup setup) { return of(std::make_shared<SessionCore>(setup, false)); }

Actions Session::initiate(Time now) {
  if (core_->in<Made>() != nullptr && core_->initiator) start_init(*core_, now);
  return done(*core_, now);
}

Actions Session::on_datagram(Bytes bytes, const Endpoint& local, const Endpoint& remote, Time now) {
  take(*core_, bytes, local, remote, now);
  return done(*core_, now);
}

Actions Session::on_pki_answer(std::uint64_t ticket, pki::Answer answer, Time now) {
  take_pki_answer(*core_, ticket, std::move(answer), now);
  return done(*core_, now);
}

Actions Session::on_certificates(std::uint64_t ticket, FetchedCertificates fetched, Time now) {
  take_certificates(*core_, ticket, std::move(fetched), now);
  return done(*core_, now);
}

Actions Session::on_timer(Time now) {
  run_timers(*core_, now);
  return done(*core_, now);
}

std::optional<Time> Session::next_timer() const { return earliest_timer(*core_); }

Actions Session::want_child(const std::string& name, Time now) {
  SessionCore& core = *core_;
  const bool on_its_way = attempt_of(core, [&](const ChildAttempt& a) { return a.policy.name == name; }) != nullptr;
  if (std::ranges::find(core.wanted, name) == core.wanted.end()) core.wanted.push_back(name);
  if (core.established() && !core.has_child(name) && !on_its_way) core.add_task({TaskKind::make_child, name, {}, now});
  return done(core, now);
}

Actions Session::rekey_child(ChildId id, Time now) {
  const Child* const one = core_->child(id);
  const bool on_its_way = attempt_of(*core_, [&](const ChildAttempt& a) { return a.replaces == id; }) != nullptr;
  if (one != nullptr && !one->closing && !one->replaced && !one->remove_at && !on_its_way)
    core_->add_task({TaskKind::rekey_child, {}, id, now});
  return done(*core_, now);
}

Actions Session::delete_child(ChildId id, Time now) {
  if (core_->child(id) != nullptr) core_->add_task({TaskKind::delete_child, {}, id, now});
  return done(*core_, now);
}

// RFC 7296 §2.8: where the peer would not rekey it, the IKE SA goes. Without an attempt, the child alone: it comes
// again with traffic.
Actions Session::on_hard_expiry(ChildId id, Time now) {
  const Child* const one = core_->child(id);
  if (one == nullptr || one->closing || one->remove_at || is_being_rekeyed(*core_, id)) return done(*core_, now);
  if (one->rekey_tried && !one->replaced && core_->established())
    child_is_over(*core_, id, now);
  else
    core_->add_task({TaskKind::delete_child, {}, id, now});
  return done(*core_, now);
}

Actions Session::rekey(Time now) {
  if (core_->established()) core_->add_task({TaskKind::rekey_ike, {}, {}, now});
  return done(*core_, now);
}

Actions Session::redirect(const GatewayIdentity& to, Time now) {
  if (core_->established() && can_redirect()) {
    core_->redirect.to = to;
    core_->add_task({TaskKind::redirect, {}, {}, now});
  }
  return done(*core_, now);
}

bool Session::can_redirect() const { return core_->redirect.gateway && !core_->superseded; }
const std::optional<GatewayIdentity>& Session::redirected_from() const { return core_->redirect.from; }
const std::optional<GatewayIdentity>& Session::redirected_to() const { return core_->redirect.to; }

Actions Session::close(Time now, bool tell_peer) {
  SessionCore& core = *core_;
  core.wanted.clear();
  if (!core.established() || !tell_peer) {
    if (core.in<Closing>() == nullptr || !tell_peer) core.close_now("closed by us", false);
    return done(core, now);
  }
  core.drop_children("closed by us", true);
  core.tasks.clear();
  core.add_task({TaskKind::delete_ike, {}, {}, now});  // after the answers that are under way
  return done(core, now);
}

Actions Session::on_inbound_traffic(ChildId id, Time now) {
  SessionCore& core = *core_;
  core.last_heard = now;
  core.traffic_unanswered = false;
  Child* const one = core.child(id);
  if (one != nullptr && one->predecessor && !one->outbound) {
    core.emit(SwitchOutbound{id});
    one->outbound = true;
    if (Child* const old = core.child(*one->predecessor)) old->outbound = false;
  }
  return done(core, now);
}

Actions Session::on_peer_moved(ChildId id, const Endpoint& remote, Time now) {
  if (core_->child(id) != nullptr) peer_is_at(*core_, remote);
  return done(*core_, now);
}

Actions Session::on_outbound_traffic(ChildId, Time now) {
  if (!core_->traffic_unanswered) core_->oldest_unanswered_traffic = now;
  core_->traffic_unanswered = true;
  return done(*core_, now);
}

Actions Session::on_install_failed(ChildId id, const std::string& why, Time now) {
  SessionCore& core = *core_;
  if (Child* const one = core.child(id)) {
    Failure failure;
    failure.kind = FailureKind::install_failed;
    failure.summary = why;
    core.attempt_failed(std::move(failure), one->policy.name);
    core.add_task({TaskKind::delete_child, {}, id, now});
  }
  return done(core, now);
}

bool Session::can_move() const { return ike::can_move(*core_); }

void Session::follow(std::shared_ptr<const Connection> connection) {
  core_->connection = std::move(connection);
  core_->mobility.ours = all_addresses(*core_->connection);
}

Actions Session::have_addresses(const Connection& connection, Time now) {
  core_->mobility.ours = all_addresses(connection);
  announce_addresses(*core_, now);
  return done(*core_, now);
}

Actions Session::move(Time now) {
  if (can_move()) move_ourselves(*core_, {core_->connection->local, nat_port}, now);
  return done(*core_, now);
}

void Session::set_initial_contact(bool nothing_left) { core_->setup.initial_contact = nothing_left; }

std::uint64_t Session::own_spi() const { return core_->initiator ? core_->spi_i : core_->spi_r; }
std::uint64_t Session::peer_spi() const { return core_->initiator ? core_->spi_r : core_->spi_i; }
SessionPhase Session::phase() const { return phase_of(core_->state()); }
const std::shared_ptr<const Connection>& Session::connection() const { return core_->connection; }

const AssignedConfiguration& Session::assigned() const { return core_->assigned; }

SessionView Session::view(Time now) const {
  const SessionCore& core = *core_;
  SessionView out;
  out.phase = phase();
  out.fvrf = core.setup.fvrf;
  out.initiator = core.initiator;
  out.local = core.local;
  out.remote = core.remote;
  out.spi_i = core.spi_i;
  out.spi_r = core.spi_r;
  if (core.cipher_in) out.suite = core.suite;
  out.remote_identity = core.remote_identity;
  out.local_auth = core.local_auth;
  out.remote_auth = core.remote_auth;
  out.remote_subject = core.remote_subject;
  out.eap_identity = core.eap_identity;
  out.nat_local = core.nat_local;
  out.nat_remote = core.nat_remote;
  out.lent = core.lent;
  out.assigned = core.assigned;
  out.fragmentation = core.fragment_mtu != 0;
  out.mobike = core.mobike;
  out.others = core.mobility.theirs;
  out.follows_redirects = core.redirect.client || core.redirect.gateway;
  if (core.redirect.from) out.redirected_from = core.redirect.from->text();
  if (core.redirect.to) out.redirected_to = core.redirect.to->text();
  out.ppk = core.uses_ppk;
  out.window = core.window_out;
  out.window_in = core.window_in;
  out.outstanding = static_cast<std::uint32_t>(core.outstanding.size());
  out.queued = static_cast<std::uint32_t>(core.tasks.size() + core.held.size());
  out.early = static_cast<std::uint32_t>(core.early.size());
  out.next_request = core.next_request;
  out.next_expected = core.next_expected;
  if (core.connection != nullptr) {
    out.connection = core.connection->name;
    out.of_template = !core.connection->template_name.empty();
    out.profile = core.connection->profile_name;
    out.local_identity = core.connection->local_identity;
    out.dpd = core.connection->dpd;
  }
  if (const auto* const state = std::get_if<Established>(&core.state())) {
    out.age = now - state->since;
    out.lifetime = state->die_at - state->since;
  }
  for (const Child& one : core.children) out.children.push_back(view_of(core, one, now));
  return out;
}

}  // namespace postern::ike
