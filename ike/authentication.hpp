// How the two ends prove who they are (RFC 7296 §2.15): by a key at once, by a certificate through postern-pki, whose
// answer comes later. Either way what happens next is said by a continuation. Private to ike/session.cpp and
// ike/exchange_*.cpp.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "ike/session_core.hpp"

namespace postern::ike {

using Candidates = std::vector<std::shared_ptr<const Connection>>;

// Asks postern-pki; nothing else happens in this IKE SA until it answers, or its patience ends the attempt.
void ask_pki(SessionCore& core, pki::Question question, Waiting::ForPki then, Time now);
void take_pki_answer(SessionCore& core, std::uint64_t ticket, pki::Answer answer, Time now);
// The same of what is at URLs; when its time is over there is nothing in the answer.
void fetch_certificates(SessionCore& core, std::vector<CertificateUrl> urls, Waiting::ForCertificates then, Time now);
void take_certificates(SessionCore& core, std::uint64_t ticket, FetchedCertificates fetched, Time now);
void waiting_timer(SessionCore& core, Time now);

// Our ID payload; an identity of type DN is our certificate's subject, which postern-pki must have told.
[[nodiscard]] Result<IdPayload> own_identity(const SessionCore& core, const Connection& connection);

// What one end signed: its first message and the other's nonce, unchanged.
struct SignedExchange {
  Bytes message, nonce;
};

// Our AUTH, and the certificates that stand before it.
struct Proof {
  AuthPayload auth;
  std::vector<CertPayload> certificates;
};
// RFC 7296 §2.15: AUTH by a key that both know, of the original initiator or of the other end.
[[nodiscard]] Result<Secret> auth_by_key(const SessionCore& core, const Secret& key, const SignedExchange& what,
                                         bool initiators, const IdPayload& id);
using Proven = std::move_only_function<void(SessionCore&, Result<Proof, Failure>&&, Time)>;
void prove(SessionCore& core, const Connection& connection, const SignedExchange& what, const IdPayload& own,
           Proven then, Time now);

// Checks the peer's AUTH by what each of `candidates` (at most max_candidates) demands of it; the result are those that
// it satisfies, at least one, or why there is none. Notes in `core` who the peer is.
inline constexpr std::size_t max_candidates = pki::max_trust_rules;
using Checked = std::move_only_function<void(SessionCore&, Result<Candidates, Failure>&&, Time)>;
void check(SessionCore& core, Candidates candidates, const Message& claim, const SignedExchange& what, Checked then,
           Time now);

// RFC 7296 §3.7, §3.10.1: the CAs that these connections accept, and that we fetch certificates; nothing is added where
// there is none, and we do not.
void add_certificate_requests(const SessionCore& core, const Candidates& connections, Message& message);
// And which of ours a peer is shown: the first of those to sign with whose CA it asked for, else the first.
void note_certificate_request(SessionCore& core, const Message& message);
// RFC 7427 §3, §4: what we check, said where either end may have to sign: its method is for two that have both said it.
void add_signature_hashes(SessionCore& core, const Candidates& connections, Message& message);
void note_signature_hashes(SessionCore& core, const Message& message);

// R43-01: a certificate that the IKE SA rests on is valid for so long.
void end_at(SessionCore& core, std::int64_t valid_s, Time now);

// RFC 4478: who answered wants us to authenticate anew within this time, which it says in IKE_AUTH or later; and what
// we say to a peer that only it can authenticate anew (EAP).
void note_auth_lifetime(SessionCore& core, const Message& said, Time now);
void add_auth_lifetime(const SessionCore& core, Message& reply, Time now);

[[nodiscard]] Failure wrong_key(const Identity& peer, bool by_peer);

}  // namespace postern::ike
