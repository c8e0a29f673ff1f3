// CREATE_CHILD_SA for child SAs: new ones and rekeying (RFC 7296 §1.3.1, §1.3.3, §2.8, §2.25.1).
#include <algorithm>

#include <fmt/format.h>

#include "ike/session_core.hpp"

namespace postern::ike {
namespace {

constexpr auto temporary_wait = std::chrono::seconds(1);
constexpr auto out_of_sync = std::chrono::minutes(5);
constexpr auto rekey_retry = std::chrono::seconds(10);

Octets spi_octets(std::uint32_t spi) {
  Octets out(4);
  ByteWriter(out).u32(spi);
  return out;
}

void send_attempt(SessionCore& core, ChildAttempt attempt, Time now) {
  if (!core.window_open()) return core.held.push_back(std::move(attempt));
  Message message = core.request(ExchangeType::create_child_sa);
  if (attempt.replaces)
    if (const Child* const old = core.child(*attempt.replaces))
      message.add_notify(NotifyType::rekey_sa, {}, old->suite.protocol, spi_octets(old->spi_in));
  add_child_payloads(message, attempt);
  core.send_request(std::move(message), now, std::move(attempt));
}

void cannot_begin(SessionCore& core, const std::string& child, const Error& error) {
  Failure failure;
  failure.kind = FailureKind::install_failed;
  failure.summary = error.message();
  core.attempt_failed(std::move(failure), child);
}

// §2.8.1: of two simultaneous rekeys the one that holds the lowest of the four nonces goes.
bool loses(const ChildAttempt& attempt, const Octets& nonce_r) {
  return attempt.rival && std::min(attempt.nonce, nonce_r) < attempt.rival_nonce;
}

// Whoever made the SA that goes deletes it, whoever made the one that stays deletes the old one. The loser sends on
// into the old SA until then: the winner need not have our answer yet.
void rekeyed(SessionCore& core, const ChildAttempt& attempt, ChildId made, bool lost, Time now) {
  Child& fresh = *core.child(made);
  if (lost) {
    fresh.closing = true;
    return core.add_task({TaskKind::delete_child, {}, made, now});
  }
  core.tell_child(EventKind::child_rekeyed, fresh, "rekeyed by us");
  if (Child* const rival = attempt.rival ? core.child(*attempt.rival) : nullptr) rival->predecessor.reset();
  Child* const old = core.child(*attempt.replaces);
  if (old == nullptr) return;
  old->outbound = false;
  core.add_task({TaskKind::delete_child, {}, old->id, now});
}

// Later, and only so often; the old SA carries traffic meanwhile (IKE-48).
void try_again(SessionCore& core, const ChildAttempt& attempt, Duration wait, Time now) {
  if (!attempt.replaces) return core.add_task({TaskKind::make_child, attempt.policy.name, {}, now + wait});
  if (Child* const old = core.child(*attempt.replaces)) old->rekey_at = now + wait;
}

// Whatever else the answer holds.
void attempt_refused(SessionCore& core, ChildAttempt attempt, const NotifyPayload& error, Time now) {
  const auto tried = attempt.dh ? attempt.dh->group() : crypto::DhGroup::none;
  if (auto dh = wanted_exchange(error, attempt.policy.pfs, tried, attempt.rounds, max_ke_rounds)) {
    attempt.dh = std::move(dh);
    return send_attempt(core, std::move(attempt), now);
  }
  core.setup.surroundings->free_spi(attempt.spi_in);
  if (error.type == NotifyType::temporary_failure) {
    refused_for_now(core, now);
    return try_again(core, attempt, core.jittered(temporary_wait, 0.5, 1.5), now);
  }
  if (error.type == NotifyType::child_sa_not_found && attempt.replaces) {  // §2.25.1
    if (core.child(*attempt.replaces) == nullptr) return;                  // its delete came first
    core.remove_child(*attempt.replaces, "the peer does not know it any more");
    if (!core.has_child(attempt.policy.name)) core.add_task({TaskKind::make_child, attempt.policy.name, {}, now});
    return;
  }
  core.attempt_failed(refused_by_peer(attempt, error), attempt.policy.name);
  if (attempt.replaces) try_again(core, attempt, core.jittered(rekey_retry, 0.8, 1.2), now);
}

void refuse_child(SessionCore& core, const Message& request, const ChildRefusal& why) {
  if (why.notify != NotifyType::invalid_ke_payload) core.attempt_failed(why.failure);
  core.refuse(request, why.notify, why.data);
}

const NotifyPayload* rekeys_child(const Message& request) { return request.notify(NotifyType::rekey_sa); }

std::uint32_t spi_of(const NotifyPayload& notify) { return ByteReader(notify.spi).u32(); }

}  // namespace

// One whose child was rekeyed or went meanwhile has lost its purpose.
void send_held(SessionCore& core, Time now) {
  ChildAttempt attempt = std::move(core.held.front());
  core.held.pop_front();
  const Child* const old = attempt.replaces ? core.child(*attempt.replaces) : nullptr;
  if (attempt.replaces && (old == nullptr || old->closing || old->replaced || old->remove_at))
    return core.setup.surroundings->free_spi(attempt.spi_in);
  send_attempt(core, std::move(attempt), now);
}

void start_make_child(SessionCore& core, const Task& task, Time now) {
  const auto connection = current(core);
  const ChildPolicy* const policy = connection->child(task.name);
  if (policy == nullptr || core.has_child(task.name)) return;
  auto remote = within_lent(core, policy->remote);
  if (remote.empty())
    return cannot_begin(core, task.name, Error{policy->name + ": the address that the peer was lent is not in it"});
  auto attempt = begin_child(core, *policy, false);
  if (!attempt) return cannot_begin(core, task.name, attempt.error());
  attempt->remote = std::move(remote);
  send_attempt(core, std::move(*attempt), now);
}

void start_rekey_child(SessionCore& core, const Task& task, Time now) {
  Child* const old = core.child(task.id);
  if (old == nullptr || old->closing || old->replaced || old->remove_at) return;
  old->rekey_tried = true;
  const auto connection = current(core);
  const ChildPolicy* const policy = connection->child(old->policy.name);
  const ChildPolicy& wanted = policy != nullptr ? *policy : old->policy;
  // §1.3.3: a KE payload is of a group that the offer has, which may have been edited.
  const bool offered = std::ranges::find(wanted.pfs, old->suite.group) != wanted.pfs.end();
  auto attempt = begin_child(core, wanted, false, offered ? old->suite.group : crypto::DhGroup::none);
  if (!attempt) return cannot_begin(core, old->policy.name, attempt.error());
  attempt->replaces = old->id;
  attempt->local = old->local;
  attempt->remote = old->remote;
  send_attempt(core, std::move(*attempt), now);
}

void on_create_child_request(SessionCore& core, const Message& request, Time now) {
  const auto* const sa = request.find<SaPayload>(PayloadType::sa);
  if (!sa->proposals.empty() && sa->proposals.front().protocol == ProtocolId::ike)
    return on_rekey_ike_request(core, request, now);
  // §2.25.2: the IKE SA itself is being replaced or closed.
  if (!core.established() || core.superseded || underway<IkeAttempt>(core) != nullptr)
    return core.refuse(request, NotifyType::temporary_failure);
  ChildOffer offer;
  offer.sa = sa;
  offer.tsi = request.find<TsPayload>(PayloadType::ts_initiator);
  offer.tsr = request.find<TsPayload>(PayloadType::ts_responder);
  offer.ke = request.find<KePayload>(PayloadType::ke);
  offer.tfc_padding = takes_tfc_padding(request);
  offer.transport = request.notify(NotifyType::use_transport_mode) != nullptr;
  offer.cpi = offered_cpi(request);
  const Octets nonce_i = request.find<NoncePayload>(PayloadType::nonce)->data;
  if (const auto* const notify = rekeys_child(request)) {
    const Child* const old = core.child_by_spi_out(notify->protocol, spi_of(*notify));
    if (old == nullptr) {
      Message message = core.answer(request);
      message.add_notify(NotifyType::child_sa_not_found, {}, notify->protocol, notify->spi);
      return core.send_response(request, std::move(message));
    }
    if (old->closing || old->remove_at) return core.refuse(request, NotifyType::temporary_failure);
    offer.replaces = old;
  }
  const auto nonce_r = core.random(nonce_bytes);
  if (!nonce_r) return core.refuse(request, NotifyType::temporary_failure);
  offer.nonce_i = nonce_i;
  offer.nonce_r = *nonce_r;
  Message reply = core.answer(request);
  const auto made = accept_child(core, offer, reply, now);
  if (!made) return refuse_child(core, request, made.error());
  if (offer.replaces != nullptr) {
    core.child(*made)->predecessor = offer.replaces->id;
    core.child(offer.replaces->id)->replaced = true;
    core.tell_child(EventKind::child_rekeyed, *core.child(*made), "rekeyed by the peer");
    const ChildId old = offer.replaces->id;
    if (auto* const own = attempt_of(core, [&](const ChildAttempt& a) { return a.replaces == old; })) {
      own->rival = *made;
      own->rival_nonce = std::min(nonce_i, *nonce_r);
    }
  }
  core.send_response(request, std::move(reply));
}

void refused_for_now(SessionCore& core, Time now) {
  if (!core.refused_since) core.refused_since = now;
  if (now - *core.refused_since < out_of_sync) return;
  for (const Child& one : core.children) core.want_again(one.policy.name);
  core.tell(EventKind::message_ignored, "the peer answers TEMPORARY_FAILURE for minutes: the IKE SA is set up anew");
  core.add_task({TaskKind::delete_ike, {}, {}, now});
}

void on_create_child_response(SessionCore& core, const Message& response, Pending about, Time now) {
  const auto* const error = response.error();
  if (error == nullptr || error->type != NotifyType::temporary_failure) core.refused_since.reset();
  if (auto* const ike = std::get_if<IkeAttempt>(&about))
    return on_rekey_ike_response(core, std::move(*ike), response, now);
  auto* const pending = std::get_if<ChildAttempt>(&about);
  if (pending == nullptr) return;
  ChildAttempt attempt = std::move(*pending);
  if (error != nullptr) return attempt_refused(core, std::move(attempt), *error, now);
  const auto* const nonce = response.find<NoncePayload>(PayloadType::nonce);
  const Octets nonce_r = nonce != nullptr ? nonce->data : Octets();
  const bool lost = loses(attempt, nonce_r);
  const auto made = finish_child(core, attempt, {&response, attempt.nonce, nonce_r, false, !lost}, now);
  if (!made) {
    core.attempt_failed(made.error(), attempt.policy.name);
    if (attempt.replaces) try_again(core, attempt, core.jittered(rekey_retry, 0.8, 1.2), now);
    return;
  }
  if (attempt.replaces) rekeyed(core, attempt, *made, lost, now);
}

}  // namespace postern::ike
