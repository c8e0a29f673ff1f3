// What IKE_AUTH has in common, with EAP and without. Private to ike/exchange_auth.cpp and ike/exchange_eap.cpp.
#pragma once

#include "ike/authentication.hpp"

namespace postern::ike {

[[nodiscard]] inline Identity identity_of(const IdPayload& id) { return {id.type, id.data}; }
// How well a connection fits the flow that the request asks for: exactly (2), in part, or not at all.
[[nodiscard]] int fit(const Connection& connection, const Message& request);
// RFC 6023 §4: who does not make an IKE SA without a child answers a request for one as if it knew of none, and is
// gone.
[[nodiscard]] bool refuses_childless(SessionCore& core, const Message& request);
[[nodiscard]] Failure no_identity(const Error& why);
[[nodiscard]] bool accepts_identity(const Connection& connection, const Identity& peer);

// §2.21.2. The responder says no; the initiator does not believe the answer, says so in an exchange of its own, and is
// gone.
void refuse_authentication(SessionCore& core, const Message& request, Failure failure);
void reject_answer(SessionCore& core, Failure failure);
void reject_identity(SessionCore& core, const Identity& peer);
// Of an answer that lacks what an end must prove: the error that it says, or that it says none.
[[nodiscard]] Failure auth_without_identity(const SessionCore& core, const Message& response);

// Both ends have proved themselves. Responder: the IKE SA is up; into `reply`, which has AUTH, what `first` asked for
// beside it. Initiator: what the answer says of the first child.
void conclude_as_responder(SessionCore& core, const Message& first, const InitAnswered& state, Message& reply,
                           Time now);
void conclude_as_initiator(SessionCore& core, const Message& response, const Identity& peer, Time now);

}  // namespace postern::ike
