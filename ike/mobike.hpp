// MOBIKE (RFC 4555) of one IKE SA, private to the session's files: our moves, and what the peer says of its own.
#pragma once

#include "ike/session_core.hpp"

namespace postern::ike {

// Whether the IKE SA can go on between other addresses; transport mode cannot (RFC 4555 §1.3).
[[nodiscard]] bool can_move(const SessionCore& core);
// RFC 4555 §3.5: we are there now, and tell the peer.
void move_ourselves(SessionCore& core, const Endpoint& local, Time now);
// Sent again as SessionCore::send_request() has it.
void start_update(SessionCore& core, Time now, Duration every = {}, std::uint32_t tries = 0);
void on_update_answered(SessionCore& core, const Message& response, const Updating& asked, Time now);
// §3.5, §3.6, §3.7, §3.8: what an INFORMATIONAL request from there asks for, and its answer. False: it is refused.
[[nodiscard]] bool answer_mobike(SessionCore& core, const Message& request, const Endpoint& local,
                                 const Endpoint& remote, Message& reply, Time now);
// §3.7: the peer has to answer from its new place before its traffic goes there.
void start_route_check(SessionCore& core, Time now);
void on_route_checked(SessionCore& core, const Message& response, const CheckingRoute& asked, Time now);
// What is under way in an IKE SA that is replaced goes on in its successor: the answers would come to one that has
// nothing any more.
void take_moves_over(SessionCore& from, SessionCore& to, Time now);
// §3.9: NO_NATS_ALLOWED, and the message that holds it came by another path than its sender sees.
[[nodiscard]] bool meets_forbidden_nat(const Message& request, const Endpoint& local, const Endpoint& remote);
// The initiator asks whether the peer is there; its traffic goes there when it has said so. `why`: for a person.
void try_peer_at(SessionCore& core, const Endpoint& remote, std::string_view why, Time now);

// mobike_addresses.cpp, §3.4 and §3.6. What we have beside `core.local`, into IKE_AUTH.
void offer_other_addresses(SessionCore& core, Message& message);
// Into INFORMATIONAL, if the peer does not know it; that there is nothing has to be said, too.
void tell_other_addresses(SessionCore& core, Message& message);
// The list that `message` holds, if it does, takes the place of the one before. True: the peer, whose message came from
// `from`, has the address no more that we know it by.
[[nodiscard]] bool take_other_addresses(SessionCore& core, const Message& message, const Endpoint& from);
// All that this end has by `connection`, for good order sorted, and no more than are told.
[[nodiscard]] std::vector<IpAddress> all_addresses(const Connection& connection);
// The peer hears of what we have and it does not know.
void announce_addresses(SessionCore& core, Time now);
void start_announcement(SessionCore& core, Time now);
// §3.6: who did not begin the IKE SA may have to find a path that still works; the peer's others get the datagrams,
// too.
void announce_elsewhere(SessionCore& core, const Datagrams& datagrams);
// §3.5: `request` has been sent often enough here; another address of the peer's is tried from now on. False: there is
// none.
bool leave_silent_path(SessionCore& core, const Outstanding& request, Time now);

}  // namespace postern::ike
