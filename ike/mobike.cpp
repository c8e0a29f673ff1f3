// MOBIKE (RFC 4555): who began the first IKE SA moves, and takes its SAs along: we, or the peer.
#include "ike/mobike.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace postern::ike {
namespace {

constexpr std::size_t cookie_bytes = 16;  // §4.2.5: 8 to 64

// §3.9: the addresses and ports that the peer sees itself talk between, in its order.
bool fits_no_nats(const NotifyPayload& notify, const Endpoint& local, const Endpoint& remote) {
  OctetWriter expected;
  for (const Endpoint* const end : {&remote, &local}) expected.address(end->address);
  for (const Endpoint* const end : {&remote, &local}) expected.u16(end->port);
  return notify.data == expected.take();
}

// What is in transport mode stays where it is (§1.3): its ends are the traffic's.
void take_along(SessionCore& core, bool elsewhere) {
  for (const Child& one : core.children) {
    if (!one.transport || !elsewhere)
      core.emit(MoveChild{one.id, core.local, core.traffic_remote(), core.encapsulates()});
    else if (!one.closing && !one.remove_at)
      core.add_task({TaskKind::delete_child, {}, one.id, {}});
  }
}

// §3.5: requests without an answer go on on the new path, and with patience for it.
void go_on_from_here(SessionCore& core, Time now) {
  for (Outstanding& request : core.outstanding) {
    request.next_retransmit = now;
    request.wait = core.setup.lifetimes.first_retransmit;
    request.left = core.setup.lifetimes.retransmits;
    request.doubles = true;
    request.sent = 0;
  }
}

void set_task(SessionCore& core, TaskKind kind, Time now) {
  std::erase_if(core.tasks, [&](const Task& task) { return task.kind == kind; });
  core.add_task({kind, {}, {}, now});
}

// Our requests and keepalives go there from now on; the children's packets when it has been shown (§3.7).
void aim_at(SessionCore& core, const Endpoint& remote, Time now) {
  Mobility& at = core.mobility;
  if (!at.proven) at.proven = core.remote;
  if (*at.proven == remote) at.proven.reset();  // it was there before
  core.remote = remote;
  go_on_from_here(core, now);
}

// §3.7 is over, where there was a question: the peer is where it said.
void arrive(SessionCore& core) {
  const bool elsewhere = core.mobility.proven && core.mobility.proven->address != core.remote.address;
  core.mobility.proven.reset();
  take_along(core, elsewhere);
}

bool gives_back(const Message& response, const Octets& cookie) {
  const auto* const given = response.notify(NotifyType::cookie2);
  return given != nullptr && given->data == cookie;
}

// §3.7: "If the values do not match, the IKE_SA MUST be closed."
void close_for_cookie(SessionCore& core, Time now) {
  Failure out;
  out.kind = FailureKind::refused;
  out.by_peer = true;
  out.summary = fmt::format("{} does not give COOKIE2 back as it was: it may not be there", core.remote.address.text());
  out.remedy = "nothing to configure: report it to who makes the peer, with a capture";
  core.attempt_failed(std::move(out));
  core.add_task({TaskKind::delete_ike, {}, {}, now});
}

Failure refused_to_move(const NotifyPayload& error, const Endpoint& local) {
  Failure out;
  out.kind = FailureKind::refused;
  out.by_peer = true;
  out.summary = fmt::format("the peer does not let us move to {}: {}", local.address.text(), text(error.type));
  out.remedy = error.type == NotifyType::unexpected_nat_detected
                   ? "there is a NAT on the new path, which the peer forbids"
                   : "does the peer know of this address? Its log tells; a new IKE SA is set up from it";
  return out;
}

// §3.5, §3.7: it is answered where it asks from; its traffic follows when that is where it is.
void peer_goes_to(SessionCore& core, const Endpoint& local, const Endpoint& remote, Time now) {
  Mobility& at = core.mobility;
  const bool here_else = core.local.address != local.address;
  core.local = local;
  if (core.remote != remote) {
    core.tell(EventKind::peer_moved, fmt::format("the peer moved to {} port {}", remote.address.text(), remote.port));
    ++at.peer_moves;
    aim_at(core, remote, now);
  }
  if (at.proven) set_task(core, TaskKind::check_route, now);
  if (!at.proven || here_else) take_along(core, here_else);
}

}  // namespace

bool can_move(const SessionCore& core) {
  return core.established() && core.mobike && !core.superseded &&
         std::ranges::none_of(core.children, &Child::transport);
}

bool meets_forbidden_nat(const Message& request, const Endpoint& local, const Endpoint& remote) {
  const auto* const forbidden = request.notify(NotifyType::no_nats_allowed);
  return forbidden != nullptr && !fits_no_nats(*forbidden, local, remote);
}

bool answer_mobike(SessionCore& core, const Message& request, const Endpoint& local, const Endpoint& remote,
                   Message& reply, Time now) {
  if (!core.mobike || !core.established()) return true;
  const auto refuse = [&](NotifyType why) {
    reply.add_notify(why);
    return false;
  };
  // §3.7: it is given back as it is.
  if (const auto* const cookie = request.notify(NotifyType::cookie2))
    reply.add_notify(NotifyType::cookie2, cookie->data);
  const bool update = request.notify(NotifyType::update_sa_addresses) != nullptr;
  if (update && core.began)
    return refuse(NotifyType::invalid_syntax);  // §3.5: only who began the first IKE SA moves it
  if (meets_forbidden_nat(request, local, remote)) return refuse(NotifyType::unexpected_nat_detected);
  const NatSeen nat = detect_nat(core, request, local, remote);
  if (nat.told) add_nat_detection(core, reply, local, remote, core.connection->force_encapsulation);
  // §3.5: an address that policy does not know of.
  if (update && remote.address.family() != core.remote.address.family())
    return refuse(NotifyType::unacceptable_addresses);
  if (update && nat.told) {
    core.nat_local = nat.local;
    core.nat_remote = nat.remote;
  }
  if (update) peer_goes_to(core, local, remote, now);
  if (take_other_addresses(core, request, remote) && core.began && can_move(core))
    try_peer_at(core, remote, "the peer says that it has the other address no more", now);
  return true;
}

// Whether there is a NAT on the way from there the answer will say; until then the SAs go on in the form they have.
// Who did not begin the IKE SA can but say where it is (§3.5, §3.6): its old address is gone.
void move_ourselves(SessionCore& core, const Endpoint& local, Time now) {
  if (core.local == local) return announce_addresses(core, now);
  core.tell(EventKind::we_moved, fmt::format("from {} to {}", core.local.address.text(), local.address.text()));
  ++core.mobility.moves;
  const bool elsewhere = core.local.address != local.address;
  core.local = local;
  if (core.remote.port == ike_port) core.remote.port = nat_port;
  take_along(core, elsewhere);
  go_on_from_here(core, now);
  core.mobility.told.clear();  // §3.6: what was sent from another address does not count
  set_task(core, core.began ? TaskKind::update_addresses : TaskKind::announce_addresses, now);
}

void take_moves_over(SessionCore& from, SessionCore& to, Time now) {
  if (from.mobility.moves > to.mobility.moves || from.mobility.peer_moves > to.mobility.peer_moves) {
    to.local = from.local;
    to.remote = from.remote;
    to.nat_local = from.nat_local;
    to.nat_remote = from.nat_remote;
    to.mobility = from.mobility;
  }
  const auto add = [&](TaskKind kind) { to.add_task({kind, {}, {}, now}); };
  const bool announces = underway<Announcing>(from) != nullptr, updates = underway<Updating>(from) != nullptr;
  if (announces || updates) to.mobility.told.clear();
  if (announces) add(TaskKind::announce_addresses);
  if (updates) add(TaskKind::update_addresses);
  if (to.mobility.proven) add(to.began ? TaskKind::update_addresses : TaskKind::check_route);
}

void try_peer_at(SessionCore& core, const Endpoint& remote, std::string_view why, Time now) {
  core.tell(EventKind::peer_moved, fmt::format("{}: from {} to {} port {}", why, core.remote.address.text(),
                                               remote.address.text(), remote.port));
  ++core.mobility.moves;
  aim_at(core, remote, now);
  set_task(core, TaskKind::update_addresses, now);
}

void start_update(SessionCore& core, Time now, Duration every, std::uint32_t tries) {
  Mobility& at = core.mobility;
  Message message = core.request(ExchangeType::informational);
  message.add_notify(NotifyType::update_sa_addresses);
  tell_other_addresses(core, message);
  add_nat_detection(core, message, core.local, core.remote, core.connection->force_encapsulation);
  Updating asked{at.moves, {}};
  if (at.proven) {
    auto cookie = core.random(cookie_bytes);
    if (!cookie) return core.close_now("COOKIE2: " + cookie.error().message(), true);
    message.add_notify(NotifyType::cookie2, *cookie);
    asked.cookie = std::move(*cookie);
  }
  core.send_request(std::move(message), now, std::move(asked), every, tries);
}

void on_update_answered(SessionCore& core, const Message& response, const Updating& asked, Time now) {
  if (asked.moves != core.mobility.moves || !core.established()) return;  // §3.5: we are elsewhere, and say so
  if (!asked.cookie.empty() && !gives_back(response, asked.cookie)) return close_for_cookie(core, now);
  if (const auto* const error = response.error()) {
    core.attempt_failed(refused_to_move(*error, core.local));
    return core.add_task({TaskKind::delete_ike, {}, {}, now});
  }
  const bool before = core.encapsulates();
  if (const NatSeen nat = detect_nat(core, response, core.local, core.remote); nat.told) {
    core.nat_local = nat.local;
    core.nat_remote = nat.remote;
  }
  if (core.mobility.proven || before != core.encapsulates()) arrive(core);
}

void start_route_check(SessionCore& core, Time now) {
  if (!core.mobility.proven) return;
  auto cookie = core.random(cookie_bytes);
  if (!cookie) return core.close_now("COOKIE2: " + cookie.error().message(), true);
  Message message = core.request(ExchangeType::informational);
  message.add_notify(NotifyType::cookie2, *cookie);
  core.send_request(std::move(message), now, CheckingRoute{core.mobility.peer_moves, std::move(*cookie)});
}

// A request that went to several places does not tell which one works: another one is queued already.
void on_route_checked(SessionCore& core, const Message& response, const CheckingRoute& asked, Time now) {
  if (!core.established()) return;
  if (!gives_back(response, asked.cookie)) return close_for_cookie(core, now);
  if (asked.peer_moves == core.mobility.peer_moves) arrive(core);
}

}  // namespace postern::ike
