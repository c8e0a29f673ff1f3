// Redirects (RFC 5685) of one IKE SA, private to the session's files: the client's end and the gateway's.
#pragma once

#include <optional>

#include "ike/session_core.hpp"

namespace postern::ike {

// REDIRECT_SUPPORTED or REDIRECTED_FROM of an initiator that follows, and what a responder
// keeps of it.
void offer_redirect(SessionCore& core, Message& message);
void note_redirect_offer(SessionCore& core, const Message& request);
// REDIRECT in the answer to IKE_SA_INIT. True: it ends the session, or is not to be believed; nothing else of the
// message counts.
[[nodiscard]] bool on_init_redirect(SessionCore& core, const Message& response);
// In an answer to IKE_AUTH of a gateway that has proved itself: where to, if anywhere; and going there, from IKE_AUTH
// that is over, or from EAP's.
[[nodiscard]] std::optional<GatewayIdentity> auth_redirect(SessionCore& core, const Message& response);
void leave_after_auth(SessionCore& core, const GatewayIdentity& to, const Identity& peer, Time now);
void leave_for(SessionCore& core, const GatewayIdentity& to, ExchangeType during);
// In an INFORMATIONAL request, which has been answered.
void on_late_redirect(SessionCore& core, const Message& request);
// The gateway. True: the peer, which has proved itself, is sent away in `reply` and gets no child.
[[nodiscard]] bool redirects_in_auth(SessionCore& core, Message& reply, Time now);
void start_redirect(SessionCore& core, Time now);
void redirect_answered(SessionCore& core, Time now);

}  // namespace postern::ike
