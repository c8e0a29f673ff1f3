// MOBIKE (RFC 4555): who began the first IKE SA moves, and takes its SAs along: we, or the peer.
#include "ike/mobike.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace postern::ike {
namespace {

// §3.9: the addresses and ports that the peer sees itself talk between, in its order.
bool fits_no_nats(const NotifyPayload& notify, const Endpoint& local, const Endpoint& remote) {
  OctetWriter expected;
  for (const Endpoint* const end : {&remote, &local}) expected.address(end->address);
  for (const Endpoint* const end : {&remote, &local}) expected.u16(end->port);
  return notify.data == expected.take();
}

// What is in transport mode stays where it is (§1.3): its ends are the traffic's.
void go_to(SessionCore& core, const Endpoint& local, const Endpoint& remote) {
  const bool elsewhere = core.local.address != local.address || core.remote.address != remote.address;
  core.local = local;
  core.remote = remote;
  for (const Child& one : core.children)
    if (one.transport && elsewhere && !one.closing && !one.remove_at)
      core.add_task({TaskKind::delete_child, {}, one.id, {}, 0});
    else
      core.emit(MoveChild{one.id, core.local, core.remote, core.encapsulates()});
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

}  // namespace

bool meets_forbidden_nat(const Message& request, const Endpoint& local, const Endpoint& remote) {
  const auto* const forbidden = request.notify(NotifyType::no_nats_allowed);
  return forbidden != nullptr && !fits_no_nats(*forbidden, local, remote);
}

bool answer_mobike(SessionCore& core, const Message& request, const Endpoint& local, const Endpoint& remote,
                   Message& reply) {
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
  if (!update) return true;
  // §3.5: an address that policy does not know of.
  if (remote.address.family() != core.remote.address.family()) return refuse(NotifyType::unacceptable_addresses);
  if (nat.told) {
    core.nat_local = nat.local;
    core.nat_remote = nat.remote;
  }
  if (core.remote != remote)
    core.tell(EventKind::peer_moved, fmt::format("the peer moved to {} port {}", remote.address.text(), remote.port));
  go_to(core, local, remote);
  return true;
}

// Whether there is a NAT on the way from there the answer will say; until then the SAs go on in the form they have.
void move_ourselves(SessionCore& core, const Endpoint& local, Time now) {
  if (core.local == local) return;
  core.tell(EventKind::we_moved, fmt::format("from {} to {}", core.local.address.text(), local.address.text()));
  ++core.moves;
  go_to(core, local, {core.remote.address, core.remote.port == ike_port ? nat_port : core.remote.port});
  for (Outstanding& request : core.outstanding) {  // they go on from the new address
    request.next_retransmit = now;
    request.wait = core.setup.lifetimes.first_retransmit;
    request.left = core.setup.lifetimes.retransmits;
  }
  std::erase_if(core.tasks, [](const Task& task) { return task.kind == TaskKind::update_addresses; });
  core.add_task({TaskKind::update_addresses, {}, {}, now, 0});
}

void start_update(SessionCore& core, Time now) {
  Message message = core.request(ExchangeType::informational);
  message.add_notify(NotifyType::update_sa_addresses);
  add_nat_detection(core, message, core.local, core.remote, core.connection->force_encapsulation);
  core.send_request(std::move(message), now, Updating{core.moves});
}

void on_update_answered(SessionCore& core, const Message& response, const Updating& asked, Time now) {
  if (asked.moves != core.moves || !core.established()) return;  // §3.5: we are elsewhere again, and say so
  if (const auto* const error = response.error()) {
    core.attempt_failed(refused_to_move(*error, core.local));
    return core.add_task({TaskKind::delete_ike, {}, {}, now, 0});
  }
  const NatSeen nat = detect_nat(core, response, core.local, core.remote);
  if (!nat.told) return;
  const bool before = core.encapsulates();
  core.nat_local = nat.local;
  core.nat_remote = nat.remote;
  if (before != core.encapsulates()) move_children(core);
}

}  // namespace postern::ike
