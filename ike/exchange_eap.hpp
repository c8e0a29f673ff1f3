// IKE_AUTH by EAP (RFC 7296 §2.16; EAP alone: RFC 5998). Private to ike/session*.cpp and ike/exchange_*.cpp.
//
//   initiator                          responder
//   IDi SA TSi TSr        ------->                      without AUTH
//                         <-------     IDr CERT AUTH EAP(request)         (EAP alone: without CERT and AUTH)
//   EAP(response)         ------->     ... as often as the method wants
//                         <-------     EAP(success)
//   AUTH                  ------->                      both by the method's key, or by SK_p where it makes none
//                         <-------     AUTH SA TSi TSr
//
// With a PPK (RFC 8784 §3) it is named beside the last two AUTH, and counts from there on: AUTH before EAP is without.
#pragma once

#include "ike/authentication.hpp"
#include "ike/eap_peer.hpp"

namespace postern::ike {

// One conversation, beside the state (InitAnswered, AuthSent), which stays until AUTH.
struct EapExchange {
  std::optional<EapServer> server;  // responder
  std::optional<EapPeer> peer;      // initiator
  bool over = false;                // EAP is through: AUTH is next
  // Responder: what the last answer goes back to.
  std::shared_ptr<const Message> first;
  std::shared_ptr<const InitAnswered> init;
  IdPayload own;        // our identity
  std::string subject;  // EAP-TLS: of the other end's certificate
  // Initiator: IDr and its AUTH have been taken.
  bool peer_known = false;
};

// Both ends prove themselves by EAP and by nothing else.
[[nodiscard]] bool is_eap_alone(const Connection& connection);

// The responder: a first request without AUTH; requests after it, while core.eap is there.
void begin_eap(SessionCore& core, const std::shared_ptr<const Message>& request,
               const std::shared_ptr<const InitAnswered>& state, Candidates candidates, Time now);
void on_eap_request(SessionCore& core, const Message& request, Time now);

// What a peer that leaves in the middle of EAP leaves for, where we know.
[[nodiscard]] std::optional<Failure> eap_verdict(const SessionCore& core);

// The initiator, after its first request without AUTH.
[[nodiscard]] std::shared_ptr<EapExchange> eap_peer_of(const SessionCore& core);
void on_eap_response(SessionCore& core, const Message& response, Time now);

}  // namespace postern::ike
