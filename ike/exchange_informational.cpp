// INFORMATIONAL (RFC 7296 §1.4, §2.4): deletes, liveness, and errors after IKE_AUTH.
#include <algorithm>

#include <fmt/format.h>

#include "ike/authentication.hpp"
#include "ike/exchange_eap.hpp"
#include "ike/mobike.hpp"
#include "ike/redirect.hpp"
#include "ike/session_core.hpp"

namespace postern::ike {
namespace {

constexpr std::uint32_t probe_tries = 5;

// Another SA carries this one's traffic already: it stays for the packets under way.
void retire(SessionCore& core, ChildId id, std::string why, Time now) {
  Child* const old = core.child(id);
  if (old == nullptr) return;
  Child* next = nullptr;
  for (Child& one : core.children) {
    const bool fits = one.id != id && one.policy.name == old->policy.name && !one.closing && !one.remove_at;
    if (fits && (next == nullptr || next->replaced)) next = &one;
  }
  if (next == nullptr) return core.remove_child(id, std::move(why));
  if (old->outbound && !next->outbound) {
    core.emit(SwitchOutbound{next->id});
    next->outbound = true;
  }
  if (next->predecessor == id) next->predecessor.reset();
  old->outbound = false;
  old->remove_at = now + core.setup.lifetimes.old_child_linger;
}

// §1.4.1: our SPI for each that the peer closes; none for one that we are closing ourselves (§2.25.1).
void on_child_deletes(SessionCore& core, const DeletePayload& payload, DeletePayload& ours, Time now) {
  for (const std::uint32_t spi : payload.spis) {
    Child* const found = core.child_by_spi_out(payload.protocol, spi);
    if (found == nullptr || found->remove_at) continue;
    const bool crossing =
        underway<DeletingChild>(core, [&](const DeletingChild& d) { return d.id == found->id; }) != nullptr;
    if (!crossing) ours.spis.push_back(found->spi_in);
    retire(core, found->id, "deleted by the peer", now);
  }
}

void on_error(SessionCore& core, const Message& request) {
  const NotifyPayload* const error = request.error();
  if (error == nullptr) return;
  if (auto why = eap_verdict(core)) return core.attempt_failed(std::move(*why));
  Failure failure;
  failure.by_peer = true;
  failure.kind = error->type == NotifyType::authentication_failed ? FailureKind::wrong_key : FailureKind::refused;
  failure.summary = "the peer reports " + text(error->type);
  failure.remedy = "compare the pre-shared keys and the identities of both ends; the peer's log tells which it is";
  core.attempt_failed(std::move(failure));
}

bool deletes_ike(const Message& message) {
  return std::ranges::any_of(message.payloads, [](const Payload& p) {
    const auto* const d = std::get_if<DeletePayload>(&p.body);
    return d != nullptr && d->protocol == ProtocolId::ike;
  });
}

Failure early() {
  Failure out;
  out.kind = FailureKind::invalid_syntax;
  out.summary = "the peer begins INFORMATIONAL before it is authenticated";
  out.remedy = "nothing to configure: report it to who makes the peer, with a capture";
  return out;
}

}  // namespace

void start_delete_child(SessionCore& core, const Task& task, Time now) {
  Child* const one = core.child(task.id);
  if (one == nullptr || one->remove_at) return;
  one->closing = true;
  Message message = core.request(ExchangeType::informational);
  message.add(PayloadType::delete_, DeletePayload{one->suite.protocol, {one->spi_in}});
  core.send_request(std::move(message), now, DeletingChild{one->id});
}

void start_delete_ike(SessionCore& core, Time now) {
  Message message = core.request(ExchangeType::informational);
  message.add(PayloadType::delete_, DeletePayload{ProtocolId::ike, {}});
  core.drop_children("closed by us", core.wanted.empty());
  core.enter(Closing{now + core.setup.lifetimes.closing});
  core.send_request(std::move(message), now, DeletingIke{});
}

void start_probe(SessionCore& core, Time now) {
  const auto every = std::chrono::seconds(std::max(1U, core.connection->dpd.retry_s));
  // RFC 4555 §3.8: our NAT may have given us another place meanwhile, which the peer sees.
  if (core.mobike && core.began && core.nat_local) return start_update(core, now, every, probe_tries);
  core.send_request(core.request(ExchangeType::informational), now, Probing{}, every, probe_tries);
}

void on_informational_request(SessionCore& core, const Message& request, const Endpoint& local, const Endpoint& remote,
                              Time now) {
  // §1.4: not before the initial exchanges are over, but for a peer that does not believe us within EAP (§2.21.2).
  // Before IKE_AUTH it is nobody yet.
  const bool ends_it = request.error() != nullptr || deletes_ike(request);
  if (core.in<InitAnswered>() != nullptr && (core.connection == nullptr || !ends_it)) {
    core.attempt_failed(early());
    core.refuse(request, NotifyType::invalid_syntax);
    return core.close_now("the peer begins INFORMATIONAL before it is authenticated", false);
  }
  Message reply = core.answer(request);
  if (!answer_mobike(core, request, local, remote, reply, now)) return core.send_response(request, std::move(reply));
  if (deletes_ike(request)) {
    on_error(core, request);
    core.send_response(request, std::move(reply));
    if (auto* const own = underway<IkeAttempt>(core); own != nullptr && own->rival != nullptr)
      hand_over(core, *own->rival, now);  // its rekey stands; ours is forgotten (§2.25.2)
    return core.close_now(core.superseded ? "replaced" : "deleted by the peer", !core.superseded);
  }
  for (const ProtocolId protocol : {ProtocolId::esp, ProtocolId::ah}) {
    DeletePayload ours{protocol, {}};
    for (const Payload& p : request.payloads)
      if (const auto* const d = std::get_if<DeletePayload>(&p.body); d != nullptr && d->protocol == protocol)
        on_child_deletes(core, *d, ours, now);
    if (!ours.spis.empty()) reply.add(PayloadType::delete_, std::move(ours));
  }
  answer_configuration(request, reply);
  note_crash_token(core, request);
  note_auth_lifetime(core, request, now);
  if (request.notify(NotifyType::set_window_size) != nullptr) offer_window(core, reply);
  note_window(core, request);
  const auto* const error = request.error();
  on_error(core, request);
  core.send_response(request, std::move(reply));
  on_late_redirect(core, request);
  if (error != nullptr && error->type == NotifyType::authentication_failed)
    core.close_now("the peer does not believe our authentication", false);
}

void on_informational_response(SessionCore& core, const Message& response, const Pending& done, Time now) {
  note_window(core, response);
  if (const auto* const update = std::get_if<Updating>(&done)) on_update_answered(core, response, *update, now);
  if (const auto* const check = std::get_if<CheckingRoute>(&done)) on_route_checked(core, response, *check, now);
  if (const auto* const child = std::get_if<DeletingChild>(&done)) retire(core, child->id, "deleted by us", now);
  if (std::holds_alternative<Redirecting>(done)) redirect_answered(core, now);
  if (std::holds_alternative<DeletingIke>(done))
    core.close_now(core.superseded ? "replaced" : "deleted by us", !core.wanted.empty());
}

}  // namespace postern::ike
