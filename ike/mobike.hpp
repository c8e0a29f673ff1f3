// MOBIKE (RFC 4555) of one IKE SA, private to the session's files: our moves, and what the peer says of its own.
#pragma once

#include "ike/session_core.hpp"

namespace postern::ike {

// RFC 4555 §3.5: we are there now, and tell the peer.
void move_ourselves(SessionCore& core, const Endpoint& local, Time now);
void start_update(SessionCore& core, Time now);
void on_update_answered(SessionCore& core, const Message& response, const Updating& asked, Time now);
// RFC 4555 §3.5, §3.7, §3.8: what an INFORMATIONAL request from there asks for, and its answer.
// False: it is refused.
[[nodiscard]] bool answer_mobike(SessionCore& core, const Message& request, const Endpoint& local,
                                 const Endpoint& remote, Message& reply);
// §3.9: NO_NATS_ALLOWED, and the message that holds it came by another path than its sender sees.
[[nodiscard]] bool meets_forbidden_nat(const Message& request, const Endpoint& local, const Endpoint& remote);

}  // namespace postern::ike
