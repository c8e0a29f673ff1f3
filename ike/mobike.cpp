// MOBIKE (RFC 4555): the original initiator of an IKE SA moves, and takes its SAs along.
#include <algorithm>

#include <fmt/format.h>

#include "ike/session_core.hpp"

namespace postern::ike {
namespace {

// §3.9: the addresses and ports that the peer sees itself talk between, in its order.
bool fits_no_nats(const NotifyPayload& notify, const Endpoint& local, const Endpoint& remote) {
  OctetWriter expected;
  for (const Endpoint* const end : {&remote, &local}) expected.address(end->address);
  for (const Endpoint* const end : {&remote, &local}) expected.u16(end->port);
  return notify.data == expected.take();
}

// The SAs go on at the new place. What a header alone does not change, another local end or UDP that comes or goes, a
// rekey does.
void move_to(SessionCore& core, const Endpoint& local, const Endpoint& remote, bool encapsulated) {
  const bool moved = core.remote != remote;
  const bool anew = core.local.address != local.address || encapsulated != core.encapsulates();
  if (moved)
    core.tell(EventKind::peer_moved, fmt::format("the peer moved to {} port {}", remote.address.text(), remote.port));
  core.local = local;
  core.remote = remote;
  for (const Child& one : core.children) {
    if (moved) core.emit(MoveChild{one.id, remote});
    if (anew && !one.closing && !one.remove_at && !one.replaced)
      core.add_task({TaskKind::rekey_child, {}, one.id, {}, 0});
  }
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
  if (update && core.initiator) return refuse(NotifyType::invalid_syntax);  // §3.5: only who began the IKE SA moves it
  if (meets_forbidden_nat(request, local, remote)) return refuse(NotifyType::unexpected_nat_detected);
  const NatSeen nat = detect_nat(core, request, local, remote);
  if (nat.told) add_nat_detection(core, reply, local, remote, core.connection->force_encapsulation);
  if (!update) return true;
  // §3.5: an address that policy does not know of.
  if (remote.address.family() != core.remote.address.family()) return refuse(NotifyType::unacceptable_addresses);
  const bool was = core.encapsulates();
  if (nat.told) {
    core.nat_local = nat.local;
    core.nat_remote = nat.remote;
  }
  move_to(core, local, remote, was);
  return true;
}

}  // namespace postern::ike
