// IKE_AUTH (RFC 7296 §1.2, §2.15, §2.21.2). Who the ends are is proved and checked in authentication.cpp, which may
// have to wait for postern-pki: each half of an exchange goes on in a function of its own.
#include "ike/exchange_auth.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "ike/exchange_eap.hpp"
#include "ike/mobike.hpp"
#include "ike/redirect.hpp"
#include "ike/selectors.hpp"
#include "ike/session_core.hpp"

namespace postern::ike {
namespace {

std::string rules_text(const std::vector<IdentityMatch>& rules) {
  std::string out;
  for (const IdentityMatch& rule : rules) out += (out.empty() ? "" : ", ") + text(rule);
  return out;
}

bool allows(const Connection& connection, const IkeSuite& suite) {
  return std::ranges::any_of(connection.proposals, [&](const IkeProposal& p) {
    const auto has = [](const auto& list, const auto& value) { return std::ranges::find(list, value) != list.end(); };
    const EncryptionChoice cipher{suite.cipher.cipher, suite.cipher.key_bits};
    return has(p.encryption, cipher) && has(p.prf, suite.prf) && has(p.groups, suite.group) &&
           (suite.cipher.integrity == crypto::Integrity::none || has(p.integrity, suite.cipher.integrity));
  });
}

Failure wrong_identity(std::string offered, std::string accepted, std::string whose) {
  Failure out;
  out.kind = FailureKind::wrong_identity;
  out.summary = fmt::format("{} is {}, which no profile between these addresses matches", whose, offered);
  out.differs = fmt::format("identity: the peer says {}, we accept {}", offered, accepted);
  out.offered = std::move(offered);
  out.accepted = std::move(accepted);
  out.remedy = "correct the identity at one end, or match it in the IKEv2 profile";
  return out;
}

// Of distinguished names there is more than one encoding (RFC 5280 §7.1): whether ours is the one that the peer means,
// the peer judges when it has it.
bool is_us(const SessionCore& core, const Connection& connection, const Identity& wanted) {
  const auto own = own_identity(core, connection);
  return own && (identity_of(*own) == wanted || (own->type == IdType::dn && wanted.type == IdType::dn));
}

// Whom the peer may be, by what it says: its identity, and whom it wants to talk to (§2.15, §3.5).
Result<Candidates, Failure> candidates(const SessionCore& core, const Identity& peer, const IdPayload* wanted) {
  Candidates out;
  std::string accepted, ours;
  for (const auto& one :
       core.setup.surroundings->connections(core.setup.fvrf, core.local.address, core.remote.address)) {
    if (!allows(*one, core.suite)) continue;
    accepted += (accepted.empty() ? "" : ", ") + rules_text(one->remote_identities);
    if (!matches_any(one->remote_identities, peer) && one->certificate_maps.empty()) continue;
    ours += (ours.empty() ? "" : ", ") + one->local_identity.text();
    if (wanted == nullptr || is_us(core, *one, identity_of(*wanted))) out.push_back(one);
  }
  if (!out.empty()) return out;
  if (!ours.empty())
    return std::unexpected(wrong_identity(identity_of(*wanted).text(), ours, "the identity that the peer asks for"));
  return std::unexpected(wrong_identity(peer.text(), accepted, "the peer's identity"));
}

Failure auth_refused(const SessionCore& core, const NotifyPayload& error) {
  if (error.type == NotifyType::authentication_failed) return wrong_key(core.connection->local_identity, true);
  Failure out;
  out.kind = FailureKind::refused;
  out.by_peer = true;
  out.summary = "the peer refused IKE_AUTH: " + text(error.type);
  out.remedy = fmt::format("look at the log of {}", core.remote.address.text());
  return out;
}

// The one identity that the profile accepts, if it is exactly one: the peer may need it to choose its own (§2.15).
const Identity* sole_identity(const Connection& connection) {
  return connection.remote_identities.size() == 1 ? std::get_if<Identity>(&connection.remote_identities.front())
                                                  : nullptr;
}

// What the initiator says beside AUTH, which is made when this is whole but for it.
// `proof`: none asks for EAP.
Result<Message> auth_request(SessionCore& core, AuthSent& state, const IdPayload& own, std::optional<Proof> proof) {
  const Connection& connection = *core.connection;
  Message message = core.request(ExchangeType::ike_auth);
  message.add(PayloadType::id_initiator, own);
  if (proof)
    for (CertPayload& one : proof->certificates) message.add(PayloadType::certificate, std::move(one));
  if (core.setup.initial_contact) message.add_notify(NotifyType::initial_contact);
  add_certificate_requests(core, {core.connection}, message);
  if (const Identity* const peer = sole_identity(connection)) message.add(PayloadType::id_responder, peer->payload());
  if (proof) {
    message.add(PayloadType::auth, std::move(proof->auth));
    say_ppk(core, state, message);
  }
  if (is_eap_alone(connection)) message.add_notify(NotifyType::eap_only_authentication);  // RFC 5998 §2
  ask_for_configuration(core, message);
  if (core.childless) {
    offer_in_auth(core, message);
    return message;
  }
  for (const std::string& name : core.wanted) {
    const ChildPolicy* const policy = connection.child(name);
    if (policy == nullptr) continue;
    POSTERN_TRY(attempt, begin_child(core, *policy, true));
    state.child = std::move(attempt);
    add_child_payloads(message, *state.child);
    offer_in_auth(core, message);
    return message;
  }
  return fail("no child SA to make");
}

void send_auth_request(SessionCore& core, AuthSent state, const IdPayload& own, std::optional<Proof> proof, Time now) {
  auto message = auth_request(core, state, own, std::move(proof));
  core.enter(std::move(state));
  if (!message) return core.close_now(message.error().message(), false);
  core.send_request(std::move(*message), now);
}

void cannot_prove(SessionCore& core, Failure failure) {
  const std::string why = failure.summary;
  core.attempt_failed(std::move(failure));
  core.close_now(why, true);
}

Failure no_first_request() {
  return {FailureKind::invalid_syntax,
          "the peer goes on with IKE_AUTH that it has not begun",
          {},
          {},
          {},
          "look at the peer's log",
          false};
}

void start_lifetimes(SessionCore& core, Time now) {
  const Duration whole = lifetime_of(core, now);
  core.enter(Established{now, now + core.rekey_after(whole, core.initiator), now + whole});
}

// RFC 4555 §3.9: who says that there is no NAT on the path, and is seen from another place, gets no IKE SA.
bool refuses_nat(const SessionCore& core, const Candidates& between, const Message& request) {
  return request.notify(NotifyType::mobike_supported) != nullptr &&
         std::ranges::any_of(between, [](const auto& one) { return one->options.mobike; }) &&
         meets_forbidden_nat(request, core.asked_local, core.asked_remote);
}

void refuse_nat(SessionCore& core, const Message& request) {
  const std::string seen = fmt::format("{} port {}", core.asked_remote.address.text(), core.asked_remote.port);
  core.attempt_failed({FailureKind::refused,
                       "the peer allows no NAT, and there is one",
                       {},
                       {},
                       "the peer is seen at " + seen + ", which is not where it sees itself",
                       "take the NAT off the path, or allow NAT traversal at the peer",
                       false});
  core.refuse(request, NotifyType::unexpected_nat_detected);
  core.close_now("the peer allows no NAT", false);
}

bool brings_child(const Message& message) { return message.find<SaPayload>(PayloadType::sa) != nullptr; }

// The first child, which the request to authenticate brings along; without its payloads there is none (RFC 6023).
void answer_first_child(SessionCore& core, const Message& request, const InitAnswered& state, Message& reply,
                        Time now) {
  ChildOffer offer;
  offer.sa = request.find<SaPayload>(PayloadType::sa);
  offer.tsi = request.find<TsPayload>(PayloadType::ts_initiator);
  offer.tsr = request.find<TsPayload>(PayloadType::ts_responder);
  offer.nonce_i = state.nonce_i;
  offer.nonce_r = state.nonce_r;
  offer.first = true;
  offer.tfc_padding = takes_tfc_padding(request);
  offer.transport = request.notify(NotifyType::use_transport_mode) != nullptr;
  offer.cpi = offered_cpi(request);
  if (offer.sa == nullptr || offer.tsi == nullptr || offer.tsr == nullptr) return;
  const auto made = accept_child(core, offer, reply, now);
  if (made) return;
  core.attempt_failed(made.error().failure);
  reply.add_notify(made.error().notify, made.error().data);
}

// The responder, once it knows that the peer is one of `fitting` and has proved itself in turn.
void answer_auth_request(SessionCore& core, const Message& request, const InitAnswered& state, const IdPayload& own,
                         Proof proof, Time now) {
  Message reply = core.answer(request);
  reply.add(PayloadType::id_responder, own);
  for (CertPayload& one : proof.certificates) reply.add(PayloadType::certificate, std::move(one));
  reply.add(PayloadType::auth, std::move(proof.auth));
  if (core.uses_ppk) reply.add_notify(NotifyType::ppk_identity);  // RFC 8784 §4
  conclude_as_responder(core, request, state, reply, now);
  core.send_response(request, std::move(reply));
}

void on_peer_checked(SessionCore& core, const std::shared_ptr<const Message>& request,
                     const std::shared_ptr<const InitAnswered>& state, Result<Candidates, Failure> fitting, Time now) {
  if (!fitting) return refuse_authentication(core, *request, std::move(fitting.error()));
  core.connection = *std::ranges::max_element(*fitting, {}, [&](const auto& one) { return fit(*one, *request); });
  core.remote_identity = identity_of(*request->find<IdPayload>(PayloadType::id_initiator));
  if (refuses_childless(core, *request)) return;
  const auto own = own_identity(core, *core.connection);
  if (!own) return refuse_authentication(core, *request, no_identity(own.error()));
  prove(
      core, *core.connection, {state->response, state->nonce_i}, *own,
      [request, state, own = *own](SessionCore& at, Result<Proof, Failure>&& proof, Time when) {
        if (!proof) return refuse_authentication(at, *request, std::move(proof.error()));
        answer_auth_request(at, *request, *state, own, std::move(*proof), when);
      },
      now);
}

}  // namespace

int fit(const Connection& connection, const Message& request) {
  const auto* const tsi = request.find<TsPayload>(PayloadType::ts_initiator);
  const auto* const tsr = request.find<TsPayload>(PayloadType::ts_responder);
  if (tsi == nullptr || tsr == nullptr) return 0;
  int best = 0;
  for (const ChildPolicy& child : connection.children) {
    if (same(tsi->selectors, child.remote) && same(tsr->selectors, child.local)) return 2;
    const bool meets = !narrow(tsi->selectors, child.remote).empty() && !narrow(tsr->selectors, child.local).empty();
    best = std::max(best, meets ? 1 : 0);
  }
  return best;
}

bool refuses_childless(SessionCore& core, const Message& request) {
  if (core.connection->childless != Childless::never || brings_child(request)) return false;
  core.refuse(request, NotifyType::invalid_syntax);
  core.close_now("the peer wants an IKE SA without a child", false);
  return true;
}

Failure no_identity(const Error& why) {
  return {FailureKind::credential, why.message(), {}, {}, {}, "see `show crypto pki trustpoints`", false};
}

void refuse_authentication(SessionCore& core, const Message& request, Failure failure) {
  const std::string summary = failure.summary;
  core.attempt_failed(std::move(failure));
  core.refuse(request, NotifyType::authentication_failed);  // §2.21.2
  core.close_now(summary, false);
}

void reject_answer(SessionCore& core, Failure failure) {
  const std::string summary = failure.summary;
  core.attempt_failed(std::move(failure));
  Message message = core.request(ExchangeType::informational);
  message.add_notify(NotifyType::authentication_failed);
  message.add(PayloadType::delete_, DeletePayload{ProtocolId::ike, {}});
  if (const auto sealed = seal_message(message, *core.cipher_out)) core.transmit(*sealed);
  core.close_now(summary, true);
}

bool accepts_identity(const Connection& connection, const Identity& peer) {
  return matches_any(connection.remote_identities, peer) || !connection.certificate_maps.empty();
}

void reject_identity(SessionCore& core, const Identity& peer) {
  reject_answer(core,
                wrong_identity(peer.text(), rules_text(core.connection->remote_identities), "the peer's identity"));
}

Failure auth_without_identity(const SessionCore& core, const Message& response) {
  if (const auto* const error = response.error()) return auth_refused(core, *error);
  return {FailureKind::invalid_syntax,
          "the peer's IKE_AUTH answer has no identity",
          {},
          {},
          {},
          "look at the peer's log",
          true};
}

void conclude_as_responder(SessionCore& core, const Message& first, const InitAnswered& state, Message& reply,
                           Time now) {
  if (first.notify(NotifyType::initial_contact) != nullptr)
    core.emit(InitialContact{core.connection, *core.remote_identity, core.eap_identity});
  established(core, now);
  note_auth_offer(core, first);
  offer_in_auth(core, reply);
  add_auth_lifetime(core, reply, now);
  if (redirects_in_auth(core, reply, now)) return;
  const bool forced = core.connection->childless == Childless::force && brings_child(first);
  if (const auto refused = configure_peer(core, first, reply))
    reply.add_notify(*refused);  // §2.19: the IKE SA stands, without a child
  else if (forced)
    reply.add_notify(NotifyType::no_additional_sas);
  else
    answer_first_child(core, first, state, reply, now);
}

void conclude_as_initiator(SessionCore& core, const Message& response, const Identity& peer, Time now) {
  if (const auto to = auth_redirect(core, response)) return leave_after_auth(core, *to, peer, now);
  AuthSent state = std::move(*core.in<AuthSent>());
  core.remote_identity = peer;
  note_auth_offer(core, response);
  note_auth_lifetime(core, response, now);
  established(core, now);
  if (auto configured = take_configuration(core, response); !configured) {
    core.attempt_failed(std::move(configured.error()), state.child ? std::string_view(state.child->policy.name) : "");
    if (state.child) core.setup.surroundings->free_spi(state.child->spi_in);
    return core.add_task({TaskKind::delete_ike, {}, {}, now});
  }
  if (!state.child && brings_child(response)) {
    core.attempt_failed({FailureKind::invalid_syntax,
                         "the peer's answer holds a child SA that nobody asked for",
                         {},
                         {},
                         {},
                         "look at the peer's log",
                         true});
    return core.add_task({TaskKind::delete_ike, {}, {}, now});
  }
  const std::string first = state.child ? state.child->policy.name : std::string();
  if (state.child)
    if (const auto made = finish_child(core, *state.child, {&response, state.nonce_i, state.nonce_r, true}, now); !made)
      core.attempt_failed(made.error(), first);
  for (const std::string& name : core.wanted)
    if (name != first) core.add_task({TaskKind::make_child, name, {}, now});
}

Duration lifetime_of(const SessionCore& core, Time now) {
  const Duration whole = std::chrono::seconds(core.connection->lifetime_s);
  return core.credentials_end ? std::clamp<Duration>(*core.credentials_end - now, Duration::zero(), whole) : whole;
}

void established(SessionCore& core, Time now) {
  start_lifetimes(core, now);
  core.last_heard = now;
  core.tell(EventKind::ike_up, fmt::format("IKE SA with {} is up", core.remote_identity->text()));
}

namespace {

// RFC 8784 §3: with a PPK that is not required twice, without it for a peer that does not know it.
void prove_ourselves(SessionCore& core, const std::shared_ptr<AuthSent>& state, const IdPayload& own, Time now) {
  const Ppk& ppk = core.connection->ppk;
  const bool without = core.may_use_ppk && !ppk.required && state->no_ppk_auth.empty();
  if (core.may_use_ppk && !without)
    if (const auto mixed = mix_in_ppk(core, ppk); !mixed) return cannot_prove(core, no_identity(mixed.error()));
  prove(
      core, *core.connection, {state->request, state->nonce_r}, own,
      [state, own, without](SessionCore& at, Result<Proof, Failure>&& proof, Time when) {
        if (!proof) return cannot_prove(at, std::move(proof.error()));
        if (!without) return send_auth_request(at, std::move(*state), own, std::move(*proof), when);
        state->no_ppk_auth = std::move(proof->auth.data);
        prove_ourselves(at, state, own, when);
      },
      now);
}

}  // namespace

void start_auth(SessionCore& core, AuthSent state, Time now) {
  const auto own = own_identity(core, *core.connection);
  if (!own) return cannot_prove(core, no_identity(own.error()));
  const auto kept = std::make_shared<AuthSent>(std::move(state));
  if ((core.eap = eap_peer_of(core)) == nullptr) return prove_ourselves(core, kept, *own, now);
  send_auth_request(core, std::move(*kept), *own, std::nullopt, now);
}

void on_auth_request(SessionCore& core, const Message& request, Time now) {
  const InitAnswered* const answered = core.in<InitAnswered>();
  if (answered == nullptr) return core.refuse(request, NotifyType::invalid_syntax);
  if (core.eap) return on_eap_request(core, request, now);
  note_certificate_request(core, request);
  if (request.find<IdPayload>(PayloadType::id_initiator) == nullptr)  // EAP or AUTH that nothing went before
    return refuse_authentication(core, request, no_first_request());
  core.peer_fetches = request.notify(NotifyType::http_cert_lookup_supported) != nullptr;
  const IdPayload& id = *request.find<IdPayload>(PayloadType::id_initiator);
  auto between = candidates(core, identity_of(id), request.find<IdPayload>(PayloadType::id_responder));
  if (!between) return refuse_authentication(core, request, between.error());
  if (refuses_nat(core, *between, request)) return refuse_nat(core, request);
  Message claim = request;
  if (auto chosen = choose_ppk(core, *between, claim); !chosen)
    return refuse_authentication(core, request, std::move(chosen.error()));
  const auto kept = std::make_shared<const Message>(std::move(claim));
  const auto state = std::make_shared<const InitAnswered>(*answered);
  if (request.find<AuthPayload>(PayloadType::auth) == nullptr)
    return begin_eap(core, kept, state, std::move(*between), now);
  check(
      core, std::move(*between), *kept, {state->request, state->nonce_r},
      [kept, state](SessionCore& at, Result<Candidates, Failure>&& fitting, Time when) {
        on_peer_checked(at, kept, state, std::move(fitting), when);
      },
      now);
}

void on_auth_response(SessionCore& core, const Message& response, Time now) {
  AuthSent* const sent = core.in<AuthSent>();
  if (sent == nullptr) return;
  if (core.eap) return on_eap_response(core, response, now);
  const auto* const id = response.find<IdPayload>(PayloadType::id_responder);
  if (id == nullptr || response.find<AuthPayload>(PayloadType::auth) == nullptr) {
    core.attempt_failed(auth_without_identity(core, response));
    return core.close_now("not authenticated", true);
  }
  if (!accepts_identity(*core.connection, identity_of(*id))) return reject_identity(core, identity_of(*id));
  if (auto settled = settle_ppk(core, *sent, response); !settled)
    return reject_answer(core, std::move(settled.error()));
  const auto kept = std::make_shared<const Message>(response);
  check(
      core, {core.connection}, *kept, {sent->response, sent->nonce_i},
      [kept](SessionCore& at, Result<Candidates, Failure>&& fitting, Time when) {
        if (!fitting) return reject_answer(at, std::move(fitting.error()));
        conclude_as_initiator(at, *kept, identity_of(*kept->find<IdPayload>(PayloadType::id_responder)), when);
      },
      now);
}

}  // namespace postern::ike
