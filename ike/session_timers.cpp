// What time does to an IKE SA: retransmission (RFC 7296 §2.1), lifetimes (§2.8), liveness (§2.4), NAT keepalives
// (§2.23).
#include <algorithm>

#include <fmt/format.h>

#include "ike/authentication.hpp"
#include "ike/mobike.hpp"
#include "ike/session_core.hpp"

namespace postern::ike {
namespace {

Failure silence(const SessionCore& core) {
  Failure out;
  const bool floated = std::holds_alternative<AuthSent>(core.state());
  out.kind =
      floated && core.local.port != core.setup.local.port ? FailureKind::no_answer_after_float : FailureKind::no_answer;
  const std::string peer = core.remote.address.text();
  if (out.kind == FailureKind::no_answer_after_float) {
    out.summary =
        fmt::format("{} answered on port {} but not after the change to UDP port 4500", peer, core.setup.remote.port);
    out.remedy = "let UDP port 4500 pass in both directions";
  } else if (floated) {
    out.summary = fmt::format("{} answered IKE_SA_INIT but not IKE_AUTH", peer);
    out.remedy = "look at the peer's log; large IKE_AUTH messages may be lost as fragments";
  } else {
    out.summary = peer + " does not answer";
    out.remedy = fmt::format("is the peer up, its address right, and UDP port {} open on the path?", core.remote.port);
  }
  return out;
}

void give_up(SessionCore& core) {
  if (core.established()) {
    core.tell(EventKind::peer_silent, fmt::format("{} does not answer any more", core.remote.address.text()));
    return core.close_now("the peer is silent", true);
  }
  if (core.in<Closing>() != nullptr) return core.close_now("closed without the peer's answer", !core.wanted.empty());
  core.attempt_failed(silence(core));
  core.close_now("the peer is silent", true);
}

void retransmit(SessionCore& core, Time now) {
  for (Outstanding& request : core.outstanding) {
    if (request.next_retransmit > now) continue;
    const bool here = !leave_silent_path(core, request, now);
    if (request.left == 0) return give_up(core);
    --request.left;
    ++request.sent;
    if (request.doubles && here) request.wait *= 2;
    request.next_retransmit = now + request.wait;
    core.tell(EventKind::retransmitted, fmt::format("request {} again", request.message_id));
    core.transmit(request.datagrams);
    if (std::holds_alternative<Announcing>(request.about)) announce_elsewhere(core, request.datagrams);
  }
}

// A responder of a rekey goes over to the new SA at the latest after this time (§2.8), used by the peer or not.
void switch_late(SessionCore& core, Time now) {
  for (Child& one : core.children) {
    if (!one.predecessor || one.outbound || now < one.born + core.setup.lifetimes.old_child_linger) continue;
    core.emit(SwitchOutbound{one.id});
    one.outbound = true;
  }
}

// One that the peer rekeyed, and did not delete as it should have.
void drop_replaced(SessionCore& core, Child& one, Time now) {
  core.add_task({TaskKind::delete_child, {}, one.id, now});
  one.closing = true;
}

void child_timers(SessionCore& core, Time now) {
  switch_late(core, now);
  std::vector<ChildId> gone, over;
  for (Child& one : core.children) {
    if (one.remove_at && *one.remove_at <= now) gone.push_back(one.id);
    if (one.remove_at || one.closing || !core.established()) continue;
    if (one.replaced) one.rekey_at = one.die_at;
    if (one.die_at <= now && one.replaced) {
      drop_replaced(core, one, now);
    } else if (one.die_at <= now) {
      over.push_back(one.id);
    } else if (one.rekey_at <= now) {
      one.rekey_at = one.die_at;
      core.add_task({TaskKind::rekey_child, {}, one.id, now});
    }
  }
  for (const ChildId id : gone) core.remove_child(id, "replaced");
  for (const ChildId id : over) child_is_over(core, id, now);
}

// RFC 3948 §4; an interval of none: never.
std::optional<Time> next_keepalive(const SessionCore& core) {
  if (!core.nat_local || core.connection->nat_keepalive_s == 0) return std::nullopt;
  return core.last_sent + std::chrono::seconds(core.connection->nat_keepalive_s);
}

bool liveness_due(const SessionCore& core, Time now) {
  const Dpd& dpd = core.connection->dpd;
  const Duration interval = std::chrono::seconds(dpd.interval_s);
  if (dpd.mode == DpdMode::periodic) return core.last_heard + interval <= now;
  return dpd.mode == DpdMode::on_demand && core.traffic_unanswered && core.oldest_unanswered_traffic + interval <= now;
}

// R43-01: where a certificate ends the life, a successor would end with it.
void renew(SessionCore& core, Established& state, Time now) {
  const bool certificate_ends = core.credentials_end && *core.credentials_end <= state.die_at;
  if (certificate_ends) {
    state.rekey_at = now + std::max<Duration>((state.die_at - now) / 2, std::chrono::seconds(1));
    return core.emit(Reauthenticate{});
  }
  state.rekey_at = state.die_at;
  core.add_task({TaskKind::rekey_ike, {}, {}, now});
}

void established_timers(SessionCore& core, Time now) {
  auto& state = *core.in<Established>();
  if (state.die_at <= now) return core.add_task({TaskKind::expire_ike, {}, {}, now});
  if (core.redirect.leave_by && *core.redirect.leave_by <= now) {  // RFC 5685 §5: it had its time
    core.redirect.leave_by.reset();
    core.wanted.clear();
    return core.add_task({TaskKind::delete_ike, {}, {}, now});
  }
  if (state.rekey_at <= now) renew(core, state, now);
  if (core.outstanding.empty() && liveness_due(core, now)) core.add_task({TaskKind::probe, {}, {}, now});
  if (const auto due = next_keepalive(core); due && *due <= now) {
    core.emit(SendKeepalive{core.local, core.remote, core.setup.fvrf});
    core.last_sent = now;
  }
}

}  // namespace

// §2.8: "an implementation MUST close the IKE SA and any associated Child SAs and then MAY start new ones".
void child_is_over(SessionCore& core, ChildId id, Time now) {
  const Child* const one = core.child(id);
  if (one == nullptr) return;
  core.want_again(one->policy.name);
  core.remove_child(id, "its lifetime is over, and it could not be rekeyed");
  core.add_task({TaskKind::delete_ike, {}, {}, now});
}

void run_timers(SessionCore& core, Time now) {
  retransmit(core, now);
  waiting_timer(core, now);
  if (const auto* const half_open = core.in<InitAnswered>(); half_open != nullptr && half_open->deadline <= now)
    core.close_now("IKE_AUTH did not come", false);
  if (const auto* const closing = core.in<Closing>(); closing != nullptr && closing->deadline <= now)
    core.close_now(core.superseded ? "replaced" : "closed without the peer's answer", !core.wanted.empty());
  child_timers(core, now);
  if (core.established()) established_timers(core, now);
}

std::optional<Time> earliest_timer(const SessionCore& core) {
  std::optional<Time> out;
  const auto at = [&](Time when) { out = out ? std::min(*out, when) : when; };
  if (std::holds_alternative<Gone>(core.state())) return out;
  for (const Outstanding& one : core.outstanding) at(one.next_retransmit);
  if (core.waiting) at(core.waiting->deadline);
  if (const auto* const half_open = std::get_if<InitAnswered>(&core.state())) at(half_open->deadline);
  if (const auto* const closing = std::get_if<Closing>(&core.state())) at(closing->deadline);
  for (const Child& one : core.children) {
    if (one.remove_at) at(*one.remove_at);
    if (one.predecessor && !one.outbound) at(one.born + core.setup.lifetimes.old_child_linger);
    if (!one.remove_at && !one.closing && core.established()) at(std::min(one.rekey_at, one.die_at));
  }
  const auto* const state = std::get_if<Established>(&core.state());
  if (state == nullptr) return out;
  if (core.redirect.leave_by) at(*core.redirect.leave_by);
  // What cannot begin yet is looked at again by whatever ends what it waits for.
  if (const auto when = core.next_task_time(); when && core.window_open()) at(*when);
  if (core.outstanding.empty()) {
    const Dpd& dpd = core.connection->dpd;
    const Duration interval = std::chrono::seconds(dpd.interval_s);
    if (dpd.mode == DpdMode::periodic) at(core.last_heard + interval);
    if (dpd.mode == DpdMode::on_demand && core.traffic_unanswered) at(core.oldest_unanswered_traffic + interval);
    at(std::min(state->rekey_at, state->die_at));
  }
  if (const auto due = next_keepalive(core)) at(*due);
  return out;
}

}  // namespace postern::ike
