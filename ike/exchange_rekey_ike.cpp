// CREATE_CHILD_SA for the IKE SA itself (RFC 7296 §1.3.2, §2.8.2, §2.18, §2.25.2).
#include <algorithm>

#include <fmt/format.h>

#include "ike/mobike.hpp"
#include "ike/session_core.hpp"

namespace postern::ike {
namespace {

constexpr auto ike_rekey_wait = std::chrono::seconds(1);
constexpr auto retry_wait = std::chrono::seconds(10);

Octets spi_octets(std::uint64_t spi) {
  Octets out(8);
  ByteWriter(out).u64(spi);
  return out;
}

// §3.1: never zero.
bool is_ike_spi(const Octets& spi) { return spi.size() == 8 && ByteReader(spi).u64() != 0; }

struct NewIke {
  IkeSuite suite;
  std::uint64_t spi_i = 0, spi_r = 0;
  Bytes nonce_i, nonce_r;
  const Secret* shared = nullptr;
  bool we_began = false;
};

Result<std::shared_ptr<SessionCore>> successor_of(SessionCore& core, const NewIke& agreed, Time now) {
  auto out = std::make_shared<SessionCore>(core.setup, agreed.we_began);
  out->began = core.began;
  out->local = core.local;
  out->remote = core.remote;
  out->spi_i = agreed.spi_i;
  out->spi_r = agreed.spi_r;
  out->connection = current(core);
  out->remote_identity = core.remote_identity;
  out->local_auth = core.local_auth;
  out->remote_auth = core.remote_auth;
  out->remote_subject = core.remote_subject;
  out->eap_identity = core.eap_identity;
  out->credentials_end = core.credentials_end;
  out->uses_ppk = core.uses_ppk;
  out->nat_local = core.nat_local;
  out->nat_remote = core.nat_remote;
  // RFC 7383 §2.3, RFC 4555 §3.1: what was agreed on holds. A window is one again, until it is told (RFC 7296 §2.3);
  // what we take may be more.
  out->fragment_mtu = core.fragment_mtu;
  out->window_in = core.window_in;
  out->told_window = core.told_window;
  out->mobike = core.mobike;
  out->mobility = core.mobility;
  POSTERN_TRY(keys,
              rekey_ike_keys(agreed.suite, {agreed.nonce_i, agreed.nonce_r, agreed.spi_i, agreed.spi_r, agreed.shared},
                             core.suite.prf, core.keys.d));
  POSTERN_CHECK(out->use_keys(agreed.suite, std::move(keys)));
  const Duration whole = lifetime_of(*out, now);
  out->enter(Established{now, now + out->rekey_after(whole, agreed.we_began), now + whole});
  out->last_heard = out->last_sent = now;
  return out;
}

void send_attempt(SessionCore& core, IkeAttempt attempt, Time now) {
  Message message = core.request(ExchangeType::create_child_sa);
  message.add(PayloadType::sa, attempt.offer);
  message.add(PayloadType::nonce, NoncePayload{attempt.nonce});
  message.add(PayloadType::ke, KePayload{attempt.dh->group(), octets(attempt.dh->public_value())});
  core.send_request(std::move(message), now, std::move(attempt));
}

void try_again(SessionCore& core, Duration wait, Time now) {
  if (auto* const state = core.in<Established>()) state->rekey_at = now + wait;
}

void attempt_refused(SessionCore& core, IkeAttempt attempt, const NotifyPayload& error, Time now) {
  if (auto dh = wanted_exchange(error, groups_of(current(core)->proposals), attempt.dh->group(), attempt.rounds,
                                max_ke_rounds)) {
    attempt.dh = std::move(dh);
    return send_attempt(core, std::move(attempt), now);
  }
  if (error.type == NotifyType::temporary_failure) {
    refused_for_now(core, now);
    return try_again(core, core.jittered(ike_rekey_wait, 0.5, 1.5), now);
  }
  Failure failure;
  failure.kind = FailureKind::refused;
  failure.by_peer = true;
  failure.summary = "the peer refused to rekey the IKE SA: " + text(error.type);
  core.attempt_failed(std::move(failure));
  try_again(core, core.jittered(retry_wait, 0.8, 1.2), now);
}

// What the other end sent makes no keys: a public value that is none (RFC 6989 §2), or an answer beside our offer.
void tell_invalid(SessionCore& core, const Error& why, bool by_peer) {
  Failure failure;
  failure.kind = FailureKind::invalid_syntax;
  failure.by_peer = by_peer;
  failure.summary = "rekey of the IKE SA: " + why.message();
  failure.remedy = "look at the peer's make and version";
  core.attempt_failed(std::move(failure));
}

Result<std::shared_ptr<SessionCore>> successor_by_answer(SessionCore& core, const IkeAttempt& attempt,
                                                         const Message& response, Time now) {
  const auto* const sa = response.find<SaPayload>(PayloadType::sa);
  const auto* const ke = response.find<KePayload>(PayloadType::ke);
  const auto* const nonce = response.find<NoncePayload>(PayloadType::nonce);
  if (sa == nullptr || ke == nullptr || nonce == nullptr) return fail("the answer is incomplete");
  const auto chosen = accept_ike(*sa, attempt.offer);
  if (!chosen || !is_ike_spi(chosen->peer_spi) || ke->group != attempt.dh->group() || chosen->suite.group != ke->group)
    return fail("the answer is not within our offer");
  POSTERN_TRY(shared, attempt.dh->shared(ke->data));
  return successor_of(
      core, {chosen->suite, attempt.spi, ByteReader(chosen->peer_spi).u64(), attempt.nonce, nonce->data, &shared, true},
      now);
}

}  // namespace

void hand_over(SessionCore& from, SessionCore& to, Time now) {
  to.children.splice(to.children.end(), from.children);
  to.tasks.insert(to.tasks.end(), from.tasks.begin(), from.tasks.end());
  // What is due because this one is old, or silent.
  std::erase_if(to.tasks, [](const Task& t) {
    return t.kind == TaskKind::rekey_ike || t.kind == TaskKind::expire_ike || t.kind == TaskKind::probe;
  });
  take_moves_over(from, to, now);
  if (underway<Redirecting>(from) != nullptr) to.add_task({TaskKind::redirect, {}, {}, now});
  to.wanted = std::exchange(from.wanted, {});
  to.lent = std::exchange(from.lent, {});
  to.assigned = std::exchange(from.assigned, {});
  to.redirect = from.redirect;
  from.tasks.clear();
  from.superseded = true;
  from.enter(Closing{now + from.setup.lifetimes.closing});
  to.emit(to.event(EventKind::ike_rekeyed, fmt::format("IKE SA with {} rekeyed", to.remote_identity->text())));
  std::ranges::move(to.actions, std::back_inserter(from.actions));
  to.actions.clear();
}

void start_rekey_ike(SessionCore& core, Time now) {
  const auto connection = current(core);
  const auto begun = [&]() -> Result<IkeAttempt> {
    IkeAttempt out;
    POSTERN_TRY(spi, core.random_spi());
    POSTERN_TRY(nonce, core.random(nonce_bytes));
    const auto groups = groups_of(connection->proposals);  // §1.3.2: KE is of a group that the offer has
    const bool offered = groups.empty() || std::ranges::find(groups, core.suite.group) != groups.end();
    POSTERN_TRY(dh, crypto::DhExchange::create(offered ? core.suite.group : groups.front()));
    out.spi = spi;
    out.nonce = std::move(nonce);
    out.dh.emplace(std::move(dh));
    out.offer = offer_ike(connection->proposals, spi_octets(spi));
    return out;
  };
  auto attempt = begun();
  if (!attempt) return try_again(core, retry_wait, now);
  send_attempt(core, std::move(*attempt), now);
}

void on_rekey_ike_request(SessionCore& core, const Message& request, Time now) {
  // §2.25.2: not while a child SA of this IKE SA is being made, rekeyed or closed, nor while it closes itself.
  if (!core.established() || attempt_of(core, [](const ChildAttempt&) { return true; }) != nullptr ||
      underway<DeletingChild>(core) != nullptr)
    return core.refuse(request, NotifyType::temporary_failure);
  const auto* const sa = request.find<SaPayload>(PayloadType::sa);
  const auto* const ke = request.find<KePayload>(PayloadType::ke);
  const auto* const nonce_i = request.find<NoncePayload>(PayloadType::nonce);
  if (ke == nullptr) return core.refuse(request, NotifyType::invalid_syntax);
  const auto spi = core.random_spi();
  const auto nonce_r = core.random(nonce_bytes);
  if (!spi || !nonce_r) return core.refuse(request, NotifyType::temporary_failure);
  const auto chosen = choose_ike(*sa, current(core)->proposals, ke->group, spi_octets(*spi));
  if (!chosen && chosen.error().error == NegotiateError::invalid_ke) {
    return core.refuse(request, NotifyType::invalid_ke_payload, group_octets(chosen.error().group));
  }
  if (!chosen || !is_ike_spi(chosen->peer_spi)) return core.refuse(request, NotifyType::no_proposal_chosen);
  Message reply = core.answer(request);
  const auto made = [&]() -> Result<std::shared_ptr<SessionCore>> {
    POSTERN_TRY(dh, crypto::DhExchange::create(chosen->suite.group));
    POSTERN_TRY(shared, dh.shared(ke->data));
    reply.add(PayloadType::sa, chosen->answer);
    reply.add(PayloadType::nonce, NoncePayload{*nonce_r});
    reply.add(PayloadType::ke, KePayload{dh.group(), octets(dh.public_value())});
    return successor_of(
        core, {chosen->suite, ByteReader(chosen->peer_spi).u64(), *spi, nonce_i->data, *nonce_r, &shared, false}, now);
  }();
  if (!made) {
    tell_invalid(core, made.error(), false);
    return core.refuse(request, NotifyType::invalid_syntax);
  }
  add_crash_token(**made, reply);
  core.send_response(request, std::move(reply));
  core.emit(AddSession{Session::of(*made)});
  auto* const own = underway<IkeAttempt>(core);
  if (own == nullptr) return hand_over(core, **made, now);
  own->rival = *made;
  own->rival_nonce = std::min(nonce_i->data, *nonce_r);
}

void on_rekey_ike_response(SessionCore& core, IkeAttempt attempt, const Message& response, Time now) {
  if (const auto* const error = response.error()) {
    if (attempt.rival != nullptr) return hand_over(core, *attempt.rival, now);
    return attempt_refused(core, std::move(attempt), *error, now);
  }
  const auto made = successor_by_answer(core, attempt, response, now);
  if (!made) {
    if (attempt.rival != nullptr) return hand_over(core, *attempt.rival, now);
    tell_invalid(core, made.error(), true);
    return try_again(core, core.jittered(retry_wait, 0.8, 1.2), now);
  }
  core.emit(AddSession{Session::of(*made)});
  note_crash_token(**made, response);
  // RFC 6290 §4.3: our request came before the responder's SPI, and so before our token.
  if (gives_crash_tokens(**made) || core.told_window) (*made)->add_task({TaskKind::tell_token, {}, {}, now});
  const Octets& nonce_r = response.find<NoncePayload>(PayloadType::nonce)->data;
  // §2.8.2: of two new IKE SAs the one with the lowest nonce is closed by its initiator; the other side's initiator
  // closes the old one.
  if (attempt.rival != nullptr && std::min(attempt.nonce, nonce_r) < attempt.rival_nonce) {
    (*made)->add_task({TaskKind::delete_ike, {}, {}, now});
    return hand_over(core, *attempt.rival, now);
  }
  // The peer closes its own; unless it heard of our delete of the old IKE SA before our answer, and knows of none.
  if (attempt.rival != nullptr)
    attempt.rival->add_task({TaskKind::delete_ike, {}, {}, now + core.setup.lifetimes.closing});
  hand_over(core, **made, now);
  start_delete_ike(core, now);
}

}  // namespace postern::ike
