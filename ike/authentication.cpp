#include "ike/authentication.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "ike/certificate_urls.hpp"

namespace postern::ike {
namespace {

constexpr std::int64_t shortest_auth_lifetime_s = 10;  // a peer that says less has us do nothing else

constexpr HashAlgorithm accepted_hashes[] = {HashAlgorithm::sha256, HashAlgorithm::sha384, HashAlgorithm::sha512,
                                             HashAlgorithm::identity};

Failure failure_of(const pki::Refusal& refusal, FailureKind kind) {
  Failure out;
  out.kind = kind;
  out.summary = refusal.certificate.empty() ? refusal.summary
                                            : fmt::format("certificate {}: {}", refusal.certificate, refusal.summary);
  out.differs = refusal.detail;
  out.remedy = refusal.remedy;
  return out;
}

bool asks_for(const SessionCore& core, const pki::TrustpointFacts& facts) {
  const auto among = [](const Octets& all, Bytes one) {
    for (std::size_t at = 0; at + one.size() <= all.size(); at += one.size())
      if (std::ranges::equal(Bytes(all).subspan(at, one.size()), one)) return true;
    return false;
  };
  for (std::size_t at = 0; at + pki::authority_bytes <= facts.authorities.size(); at += pki::authority_bytes)
    if (among(core.peer_authorities, Bytes(facts.authorities).subspan(at, pki::authority_bytes))) return true;
  return false;
}

const std::string& signing_trustpoint(const SessionCore& core, const Connection& connection) {
  const auto& known = core.setup.surroundings->trustpoint;
  const auto fits = [&](const std::string& name) {
    const auto facts = known ? known(name) : std::nullopt;
    return facts && asks_for(core, *facts);
  };
  if (connection.other_sign_trustpoints.empty() || fits(connection.sign_trustpoint)) return connection.sign_trustpoint;
  const auto other = std::ranges::find_if(connection.other_sign_trustpoints, fits);
  return other == connection.other_sign_trustpoints.end() ? connection.sign_trustpoint : *other;
}

FailureKind kind_of(const pki::Refusal& refusal) {
  switch (refusal.kind) {
    case pki::RefusalKind::unavailable:
    case pki::RefusalKind::no_credential: return FailureKind::credential;
    case pki::RefusalKind::bad_signature:
    case pki::RefusalKind::algorithm: return FailureKind::wrong_key;
    case pki::RefusalKind::identity:
    case pki::RefusalKind::no_map: return FailureKind::wrong_identity;
    default: return FailureKind::certificate;
  }
}

Failure not_an_answer() {
  return {FailureKind::credential, "postern-pki answered another question", {}, {}, {}, "report this fault", false};
}

Failure nobody_to_ask() {
  return {FailureKind::credential, "postern-pki does not answer", {}, {}, {}, "see its log and `show ike`", false};
}

pki::SignatureKind signature_kind(AuthKind kind) {
  return kind == AuthKind::rsa     ? pki::SignatureKind::rsa
         : kind == AuthKind::ecdsa ? pki::SignatureKind::ecdsa
                                   : pki::SignatureKind::any;
}

// How it was done, for `show crypto ikev2 sa`: "RSA" is what the RFC calls its own method.
std::string method_words(const AuthPayload& auth) { return auth.method == AuthMethod::rsa ? "RSA" : text(auth.method); }

}  // namespace

void end_at(SessionCore& core, std::int64_t valid_s, Time now) {
  const Time end = now + std::chrono::seconds(std::clamp<std::int64_t>(valid_s, 0, 100LL * 365 * 86400));
  core.credentials_end = core.credentials_end ? std::min(*core.credentials_end, end) : end;
}

void note_auth_lifetime(SessionCore& core, const Message& said, Time now) {
  const auto* const notify = said.notify(NotifyType::auth_lifetime);
  if (notify == nullptr || notify->data.size() != 4 || !core.began) return;
  ByteReader in(notify->data);
  end_at(core, std::max<std::int64_t>(in.u32(), shortest_auth_lifetime_s), now);
  auto* const state = core.in<Established>();
  if (state == nullptr || state->die_at <= *core.credentials_end) return;
  state->die_at = *core.credentials_end;
  state->rekey_at = std::min(state->rekey_at, now + core.rekey_after(state->die_at - now, core.initiator));
}

void add_auth_lifetime(const SessionCore& core, Message& reply, Time now) {
  if (!core.credentials_end || core.connection->remote_auth != AuthKind::eap) return;
  const auto left = std::chrono::duration_cast<std::chrono::seconds>(*core.credentials_end - now).count();
  if (left >= core.connection->lifetime_s) return;
  OctetWriter out;
  out.u32(static_cast<std::uint32_t>(std::max<std::int64_t>(left, 0)));
  reply.add_notify(NotifyType::auth_lifetime, out.take());
}

Result<Secret> auth_by_key(const SessionCore& core, const Secret& key, const SignedExchange& what, bool initiators,
                           const IdPayload& id) {
  return psk_auth(core.suite.prf, key, what.message, what.nonce, initiators ? core.keys.pi : core.keys.pr,
                  id_octets(id));
}

namespace {

// --- keys

bool verifies(const SessionCore& core, const Secret& key, const SignedExchange& what, const IdPayload& id,
              const AuthPayload& auth) {
  if (auth.method != AuthMethod::psk || key.empty()) return false;
  const auto expected = auth_by_key(core, key, what, !core.initiator, id);
  return expected && equal_in_constant_time(expected->bytes(), auth.data);
}

// IKE-36: the profile would have the peer, its keyring does not know it.
Failure no_key(const Identity& peer) {
  Failure out;
  out.kind = FailureKind::wrong_key;
  out.summary = fmt::format("the keyring has no key for {}", peer.text());
  out.remedy = "add a peer block with this identity, or the peer's address, to the keyring of the IKEv2 profile";
  return out;
}

Result<Candidates, Failure> check_key(SessionCore& core, Candidates candidates, const SignedExchange& what,
                                      const IdPayload& id, const AuthPayload& auth) {
  const Identity peer{id.type, id.data};
  std::erase_if(candidates, [&](const auto& one) {
    return one->remote_auth != AuthKind::psk || !matches_any(one->remote_identities, peer);
  });
  const bool known =
      std::ranges::any_of(candidates, [&](const auto& one) { return keys_with(*one, peer).has_value(); });
  std::erase_if(candidates, [&](const auto& one) {
    const auto keys = keys_with(*one, peer);
    return !keys || !verifies(core, keys->remote, what, id, auth);
  });
  if (candidates.empty()) return std::unexpected(known ? wrong_key(peer, false) : no_key(peer));
  core.remote_auth = "PSK";
  return candidates;
}

Failure other_method(const Candidates& candidates, const AuthPayload& auth) {
  Failure out;
  out.kind = FailureKind::wrong_key;
  out.summary = fmt::format("the peer authenticates by {}, which is not what its profile demands", text(auth.method));
  const auto word = [](const auto& one) {
    return one->remote_auth == AuthKind::psk   ? "pre-share"
           : one->remote_auth == AuthKind::eap ? "EAP"
                                               : "a certificate";
  };
  out.differs = fmt::format("authentication: the peer uses {}, we demand {}", text(auth.method),
                            candidates.empty() ? "another" : word(candidates.front()));
  out.remedy = "set authentication.remote of the IKEv2 profile to what the peer uses, or change the peer";
  return out;
}

// --- signatures

pki::TrustRule rule_of(const Connection& connection, const Identity& peer) {
  return {connection.verify_trustpoints, signature_kind(connection.remote_auth),
          matches_any(connection.remote_identities, peer), connection.certificate_maps, connection.allow_sha1};
}

Result<Candidates, Failure> judged(SessionCore& core, const Candidates& candidates, const pki::Validated& answer,
                                   const AuthPayload& auth, Time now) {
  if (answer.verdicts.size() != candidates.size()) return std::unexpected(not_an_answer());
  Candidates out;
  for (std::size_t i = 0; i < candidates.size(); ++i)
    if (!answer.verdicts[i]) out.push_back(candidates[i]);
  if (out.empty()) {
    const pki::Refusal& first = *answer.verdicts.front();
    return std::unexpected(failure_of(first, kind_of(first)));
  }
  core.remote_auth = answer.algorithm.empty() ? method_words(auth) : answer.algorithm;
  core.remote_subject = answer.subject;
  end_at(core, answer.valid_s, now);
  return out;
}

void ask_about_peer(SessionCore& core, Candidates candidates, pki::ValidateQuestion question, const AuthPayload& auth,
                    Checked then, Time now) {
  ask_pki(
      core, std::move(question),
      [candidates = std::move(candidates), auth, go_on = std::move(then)](SessionCore& at, pki::Answer answer,
                                                                          Time when) mutable {
        if (const auto* const refusal = std::get_if<pki::Refusal>(&answer))
          return go_on(at, std::unexpected(failure_of(*refusal, kind_of(*refusal))), when);
        const auto* const validated = std::get_if<pki::Validated>(&answer);
        if (validated == nullptr) return go_on(at, std::unexpected(not_an_answer()), when);
        go_on(at, judged(at, candidates, *validated, auth, when), when);
      },
      now);
}

void check_signature(SessionCore& core, Candidates candidates, const Message& claim, const SignedExchange& what,
                     const IdPayload& id, const AuthPayload& auth, Checked then, Time now) {
  const Identity peer{id.type, id.data};
  const auto to_verify = signed_octets(core.suite.prf, what.message, what.nonce,
                                       core.initiator ? core.keys.pr : core.keys.pi, id_octets(id));
  if (!to_verify) return then(core, std::unexpected(not_an_answer()), now);
  pki::ValidateQuestion question;
  question.identity_type = static_cast<std::uint8_t>(id.type);
  question.identity = id.data;
  question.method = static_cast<std::uint8_t>(auth.method);
  question.auth = auth.data;
  question.message = *to_verify;
  if (core.said_hashes)
    for (const HashAlgorithm one : accepted_hashes) question.own_hashes.push_back(static_cast<std::uint16_t>(one));
  question.peer_said_hashes = !core.peer_hashes.empty();
  for (const auto& one : candidates) question.rules.push_back(rule_of(*one, peer));
  collect_certificates(
      core, candidates, claim,
      [candidates, question = std::move(question), auth, go_on = std::move(then)](
          SessionCore& at, Certificates&& certificates, Time when) mutable {
        if (!certificates) return go_on(at, std::unexpected(std::move(certificates.error())), when);
        question.certificates = std::move(*certificates);
        ask_about_peer(at, std::move(candidates), std::move(question), auth, std::move(go_on), when);
      },
      now);
}

void prove_by_signature(SessionCore& core, const Connection& connection, const SignedExchange& what,
                        const IdPayload& own, Proven then, Time now) {
  const auto to_sign = signed_octets(core.suite.prf, what.message, what.nonce,
                                     core.initiator ? core.keys.pi : core.keys.pr, id_octets(own));
  if (!to_sign) return then(core, std::unexpected(not_an_answer()), now);
  ask_pki(
      core,
      pki::SignQuestion{signing_trustpoint(core, connection), signature_kind(connection.local_auth), *to_sign,
                        core.said_hashes ? core.peer_hashes : std::vector<std::uint16_t>(), connection.allow_sha1,
                        connection.rsa_pkcs1, core.peer_fetches},
      [go_on = std::move(then)](SessionCore& at, pki::Answer answer, Time when) mutable {
        if (const auto* const refusal = std::get_if<pki::Refusal>(&answer))
          return go_on(at, std::unexpected(failure_of(*refusal, FailureKind::credential)), when);
        auto* const made = std::get_if<pki::Signed>(&answer);
        if (made == nullptr) return go_on(at, std::unexpected(not_an_answer()), when);
        Proof proof{{AuthMethod{made->method}, std::move(made->data)}, {}};
        for (pki::CertificatePayload& one : made->certificates)
          proof.certificates.push_back({one.encoding, std::move(one.data)});
        at.local_auth = made->algorithm.empty() ? method_words(proof.auth) : made->algorithm;
        end_at(at, made->valid_s, when);
        go_on(at, std::move(proof), when);
      },
      now);
}

}  // namespace

Failure wrong_key(const Identity& peer, bool by_peer) {
  Failure out;
  out.kind = FailureKind::wrong_key;
  out.by_peer = by_peer;
  out.summary = by_peer ? "the peer refused our authentication"
                        : fmt::format("the pre-shared key of {} does not verify", peer.text());
  out.remedy = by_peer ? "compare the pre-shared keys and the identities of both ends; the peer's log tells which it is"
                       : "set the same pre-shared key on both ends";
  return out;
}

void ask_pki(SessionCore& core, pki::Question question, Waiting::ForPki then, Time now) {
  const std::uint64_t ticket = core.next_ticket++;
  core.waiting = std::make_shared<Waiting>(Waiting{ticket, now + core.setup.lifetimes.pki, std::move(then)});
  core.emit(AskPki{ticket, std::move(question)});
}

void fetch_certificates(SessionCore& core, std::vector<CertificateUrl> urls, Waiting::ForCertificates then, Time now) {
  const std::uint64_t ticket = core.next_ticket++;
  core.waiting = std::make_shared<Waiting>(Waiting{ticket, now + core.setup.lifetimes.fetch, std::move(then)});
  core.emit(FetchCertificates{ticket, std::move(urls)});
}

namespace {

// What waits under that ticket waits no more. nullptr: nothing of this kind does.
template <class Kind>
std::shared_ptr<Waiting> taken(SessionCore& core, std::uint64_t ticket) {
  if (!core.waiting || core.waiting->ticket != ticket || !std::holds_alternative<Kind>(core.waiting->then))
    return nullptr;
  return std::exchange(core.waiting, nullptr);
}

}  // namespace

void take_pki_answer(SessionCore& core, std::uint64_t ticket, pki::Answer answer, Time now) {
  if (const auto waited = taken<Waiting::ForPki>(core, ticket))
    std::get<Waiting::ForPki>(waited->then)(core, std::move(answer), now);
}

void take_certificates(SessionCore& core, std::uint64_t ticket, FetchedCertificates fetched, Time now) {
  if (const auto waited = taken<Waiting::ForCertificates>(core, ticket))
    std::get<Waiting::ForCertificates>(waited->then)(core, std::move(fetched), now);
}

void waiting_timer(SessionCore& core, Time now) {
  if (!core.waiting || core.waiting->deadline > now) return;
  if (std::holds_alternative<Waiting::ForCertificates>(core.waiting->then))
    return take_certificates(core, core.waiting->ticket, {}, now);
  core.attempt_failed(nobody_to_ask());
  core.close_now("postern-pki does not answer", true);
}

Result<IdPayload> own_identity(const SessionCore& core, const Connection& connection) {
  const Identity& own = connection.local_identity;
  if (own.type != IdType::dn || !own.data.empty()) return own.payload();
  const auto& known = core.setup.surroundings->trustpoint;
  const std::string& trustpoint = signing_trustpoint(core, connection);
  const auto facts = known ? known(trustpoint) : std::nullopt;
  if (!facts || facts->subject.empty())
    return fail(fmt::format("trustpoint {} has no certificate whose subject could be our identity", trustpoint));
  return IdPayload{IdType::dn, facts->subject};
}

void prove(SessionCore& core, const Connection& connection, const SignedExchange& what, const IdPayload& own,
           Proven then, Time now) {
  if (connection.local_auth == AuthKind::eap)
    return then(core,
                std::unexpected(Failure{FailureKind::credential,
                                        "our end authenticates by EAP, and the peer has to ask for it",
                                        {},
                                        {},
                                        {},
                                        "let the peer be the one that answers",
                                        false}),
                now);
  if (is_signature(connection.local_auth)) return prove_by_signature(core, connection, what, own, std::move(then), now);
  const auto keys = core.remote_identity ? keys_with(connection, *core.remote_identity) : std::nullopt;
  // IKE-36: somebody else's key would prove us to nobody. (Who begins does not know yet whom it will meet.)
  if (!core.initiator && core.remote_identity && !keys)
    return then(core,
                std::unexpected(Failure{FailureKind::credential,
                                        "the keyring has no key for " + core.remote_identity->text(),
                                        {},
                                        {},
                                        {},
                                        "give the keyring of the IKEv2 profile a peer with this identity",
                                        false}),
                now);
  const auto auth = auth_by_key(core, keys ? keys->local : connection.local_key, what, core.initiator, own);
  if (!auth)
    return then(core, std::unexpected(Failure{FailureKind::credential, auth.error().message(), {}, {}, {}, {}, false}),
                now);
  core.local_auth = "PSK";
  then(core, Proof{{AuthMethod::psk, octets(auth->bytes())}, {}}, now);
}

void check(SessionCore& core, Candidates candidates, const Message& claim, const SignedExchange& what, Checked then,
           Time now) {
  const auto* const id = claim.find<IdPayload>(core.initiator ? PayloadType::id_responder : PayloadType::id_initiator);
  const auto* const auth = claim.find<AuthPayload>(PayloadType::auth);
  if (id == nullptr || auth == nullptr || candidates.empty()) return then(core, std::unexpected(not_an_answer()), now);
  const bool by_key = auth->method == AuthMethod::psk;
  Candidates fitting = candidates;
  std::erase_if(fitting, [&](const auto& one) {
    return by_key ? one->remote_auth != AuthKind::psk : !is_signature(one->remote_auth);
  });
  if (fitting.empty()) return then(core, std::unexpected(other_method(candidates, *auth)), now);
  if (fitting.size() > max_candidates) fitting.resize(max_candidates);
  if (by_key) return then(core, check_key(core, std::move(fitting), what, *id, *auth), now);
  check_signature(core, std::move(fitting), claim, what, *id, *auth, std::move(then), now);
}

void add_certificate_requests(const SessionCore& core, const Candidates& connections, Message& message) {
  const auto& known = core.setup.surroundings->trustpoint;
  std::vector<std::string> names;
  for (const auto& one : connections)
    if (is_signature(one->remote_auth))
      for (const std::string& name : one->verify_trustpoints)
        if (std::ranges::find(names, name) == names.end()) names.push_back(name);
  CertRequestPayload request{pki::x509_signature_encoding, {}};
  for (const std::string& name : names)
    if (const auto facts = known ? known(name) : std::nullopt)
      request.data.insert(request.data.end(), facts->authorities.begin(), facts->authorities.end());
  if (!request.data.empty()) message.add(PayloadType::certificate_request, std::move(request));
  offer_certificate_lookup(connections, message);
}

void note_certificate_request(SessionCore& core, const Message& message) {
  constexpr std::size_t most = 64 * pki::authority_bytes;
  core.peer_authorities.clear();
  for (const Payload& p : message.payloads)
    if (const auto* const request = std::get_if<CertRequestPayload>(&p.body);
        request != nullptr && request->encoding == pki::x509_signature_encoding &&
        core.peer_authorities.size() + request->data.size() <= most)
      core.peer_authorities.insert(core.peer_authorities.end(), request->data.begin(), request->data.end());
}

void add_signature_hashes(SessionCore& core, const Candidates& connections, Message& message) {
  core.said_hashes = std::ranges::any_of(
      connections, [](const auto& one) { return is_signature(one->remote_auth) || is_signature(one->local_auth); });
  if (!core.said_hashes) return;
  OctetWriter out;
  for (const HashAlgorithm one : accepted_hashes) out.u16(static_cast<std::uint16_t>(one));
  message.add_notify(NotifyType::signature_hash_algorithms, out.take());
}

void note_signature_hashes(SessionCore& core, const Message& message) {
  core.peer_hashes.clear();
  const auto* const said = message.notify(NotifyType::signature_hash_algorithms);
  if (said == nullptr) return;
  ByteReader in(said->data);
  while (in.remaining() >= 2 && core.peer_hashes.size() < 16) core.peer_hashes.push_back(in.u16());
}

}  // namespace postern::ike
