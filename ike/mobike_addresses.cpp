// Addresses beside the ones in use (RFC 4555 §3.4, §3.6): what the ends tell each other of them, and when who began the
// IKE SA goes to another one of the peer's.
#include <algorithm>
#include <array>
#include <bit>

#include <fmt/format.h>

#include "ike/mobike.hpp"
#include "ike/selectors.hpp"

namespace postern::ike {
namespace {

constexpr std::uint32_t patience = 3;  // so often a request is sent on one path while there is another

bool has(const std::vector<IpAddress>& all, const IpAddress& one) { return std::ranges::find(all, one) != all.end(); }

// §4.2.2; its length has been checked (payload_notify.cpp).
std::optional<IpAddress> address_in(const NotifyPayload& notify) {
  ByteReader in(notify.data);
  if (notify.type == NotifyType::additional_ip4_address) return IpAddress::v4(in.u32());
  if (notify.type == NotifyType::additional_ip6_address)
    return IpAddress::from_mapped(std::bit_cast<std::array<std::uint8_t, 16>>(in.array<16>()));
  return std::nullopt;
}

// Behind the peer: the children protect it. What stands for everything names nothing.
bool is_protected(const Connection& connection, const IpAddress& one) {
  const Selector any = any_selector(one.family());
  return std::ranges::any_of(connection.children, [&](const ChildPolicy& child) {
    return std::ranges::any_of(child.remote, [&](const Selector& of) {
      return of.first <= one && one <= of.last && (of.first != any.first || of.last != any.last);
    });
  });
}

// Of the family in use, which an IKE SA does not change, and not one that is reached through the IKE SA alone.
bool is_of_use(const SessionCore& core, const IpAddress& one) {
  return one.family() == core.remote.address.family() && !one.is_unspecified() && !one.is_multicast() &&
         !is_protected(*core.connection, one);
}

}  // namespace

namespace {

bool add_others(const SessionCore& core, Message& message) {
  bool any = false;
  for (const IpAddress& one : core.mobility.ours) {
    if (one == core.local.address) continue;
    OctetWriter data;
    data.address(one);
    message.add_notify(
        one.family() == Family::v4 ? NotifyType::additional_ip4_address : NotifyType::additional_ip6_address,
        data.take());
    any = true;
  }
  return any;
}

}  // namespace

std::vector<IpAddress> all_addresses(const Connection& connection) {
  std::vector<IpAddress> all{connection.local};
  for (const IpAddress& one : connection.other_addresses)
    if (!has(all, one) && all.size() <= max_other_addresses) all.push_back(one);
  std::ranges::sort(all);
  return all;
}

void offer_other_addresses(SessionCore& core, Message& message) {
  core.mobility.ours = core.mobility.told = all_addresses(*core.connection);
  (void)add_others(core, message);
}

void tell_other_addresses(SessionCore& core, Message& message) {
  if (core.mobility.told == core.mobility.ours) return;
  core.mobility.told = core.mobility.ours;
  if (!add_others(core, message)) message.add_notify(NotifyType::no_additional_addresses);
}

bool take_other_addresses(SessionCore& core, const Message& message, const Endpoint& from) {
  bool told = message.notify(NotifyType::no_additional_addresses) != nullptr;
  std::vector<IpAddress> all{from.address};
  for (const Payload& payload : message.payloads) {
    const auto* const notify = std::get_if<NotifyPayload>(&payload.body);
    const auto one = notify == nullptr ? std::nullopt : address_in(*notify);
    if (!one) continue;
    told = true;
    if (is_of_use(core, *one) && !has(all, *one) && all.size() <= max_other_addresses) all.push_back(*one);
  }
  if (!told) return false;
  const bool is_gone = !has(all, core.remote.address) && is_of_use(core, from.address);
  std::erase(all, is_gone ? from.address : core.remote.address);
  core.mobility.theirs = std::move(all);
  core.mobility.untried = core.mobility.theirs.size();
  return is_gone;
}

void announce_addresses(SessionCore& core, Time now) {
  if (core.established() && core.mobike && !core.superseded && core.mobility.told != core.mobility.ours)
    core.add_task({TaskKind::announce_addresses, {}, {}, now});
}

void start_announcement(SessionCore& core, Time now) {
  if (core.mobility.told == core.mobility.ours) return;  // an update has said it
  Message message = core.request(ExchangeType::informational);
  tell_other_addresses(core, message);
  core.send_request(std::move(message), now, Announcing{});
}

void announce_elsewhere(SessionCore& core, const Datagrams& datagrams) {
  if (core.began) return;  // it moves
  for (const IpAddress& one : core.mobility.theirs)
    for (const Octets& datagram : datagrams)
      core.emit(SendDatagram{core.local, {one, nat_port}, core.setup.fvrf, datagram});
}

bool leave_silent_path(SessionCore& core, const Outstanding& request, Time now) {
  Mobility& at = core.mobility;
  if (!core.began || !can_move(core) || request.sent < patience || at.untried == 0 || at.theirs.empty()) return false;
  const IpAddress next = at.theirs.front();
  at.theirs.erase(at.theirs.begin());
  at.theirs.push_back(core.remote.address);
  --at.untried;
  try_peer_at(core, {next, nat_port}, "no answer", now);
  return true;
}

}  // namespace postern::ike
