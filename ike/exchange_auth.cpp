// IKE_AUTH with pre-shared keys (RFC 7296 §1.2, §2.15, §2.21.2).
#include <algorithm>

#include <fmt/format.h>

#include "ike/selectors.hpp"
#include "ike/session_core.hpp"

namespace postern::ike {
namespace {

constexpr std::size_t max_candidates = 16;

using Candidates = std::vector<std::shared_ptr<const Connection>>;

Identity identity_of(const IdPayload& id) { return {id.type, id.data}; }

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

// Whom the peer may be, by what it says: its identity, and whom it wants to talk to (§2.15, §3.5).
Result<Candidates, Failure> candidates(const SessionCore& core, const Identity& peer, const IdPayload* wanted) {
  Candidates out;
  std::string accepted, ours;
  for (const auto& one :
       core.setup.surroundings->connections(core.setup.fvrf, core.local.address, core.remote.address)) {
    if (!allows(*one, core.suite)) continue;
    accepted += (accepted.empty() ? "" : ", ") + rules_text(one->remote_identities);
    if (!matches_any(one->remote_identities, peer)) continue;
    ours += (ours.empty() ? "" : ", ") + one->local_identity.text();
    if (wanted == nullptr || one->local_identity == identity_of(*wanted)) out.push_back(one);
  }
  if (!out.empty()) return out;
  if (!ours.empty())
    return std::unexpected(wrong_identity(identity_of(*wanted).text(), ours, "the identity that the peer asks for"));
  return std::unexpected(wrong_identity(peer.text(), accepted, "the peer's identity"));
}

Result<Secret> auth_of(const SessionCore& core, const Secret& key, Bytes message, Bytes nonce, bool initiators,
                       const IdPayload& id) {
  return psk_auth(core.suite.prf, key, message, nonce, initiators ? core.keys.pi : core.keys.pr, id_octets(id));
}

bool verifies(const SessionCore& core, const Secret& key, Bytes message, Bytes nonce, bool initiators,
              const IdPayload& id, const AuthPayload& auth) {
  if (auth.method != AuthMethod::psk || key.empty()) return false;
  const auto expected = auth_of(core, key, message, nonce, initiators, id);
  return expected && equal_in_constant_time(expected->bytes(), auth.data);
}

Result<void> add_auth(const SessionCore& core, Message& message, const Secret& key, Bytes signed_message, Bytes nonce,
                      const IdPayload& id) {
  POSTERN_TRY(auth, auth_of(core, key, signed_message, nonce, core.initiator, id));
  const Bytes bytes = auth.bytes();
  message.add(PayloadType::auth, AuthPayload{AuthMethod::psk, Octets(bytes.begin(), bytes.end())});
  return {};
}

// How well a connection fits the flow that the request asks for: exactly, in part, or not at all.
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

void refuse_authentication(SessionCore& core, const Message& request, Failure failure) {
  const std::string summary = failure.summary;
  core.attempt_failed(std::move(failure));
  core.refuse(request, NotifyType::authentication_failed);  // §2.21.2
  core.close_now(summary, false);
}

// §2.21.2: an initiator that does not believe the answer says so in an exchange of its own, and is gone.
void reject_answer(SessionCore& core, Failure failure) {
  const std::string summary = failure.summary;
  core.attempt_failed(std::move(failure));
  Message message = core.request(ExchangeType::informational);
  message.add_notify(NotifyType::authentication_failed);
  message.add(PayloadType::delete_, DeletePayload{ProtocolId::ike, {}});
  if (const auto sealed = seal_message(message, *core.cipher_out)) core.transmit(*sealed);
  core.close_now(summary, true);
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

Result<Message> auth_request(SessionCore& core, AuthSent& state) {
  const Connection& connection = *core.connection;
  Message message = core.request(ExchangeType::ike_auth);
  message.add(PayloadType::id_initiator, connection.local_identity.payload());
  if (core.setup.initial_contact) message.add_notify(NotifyType::initial_contact);
  if (const Identity* const peer = sole_identity(connection)) message.add(PayloadType::id_responder, peer->payload());
  POSTERN_CHECK(
      add_auth(core, message, connection.local_key, state.request, state.nonce_r, connection.local_identity.payload()));
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

void start_lifetimes(SessionCore& core, Time now) {
  const Duration whole = std::chrono::seconds(core.connection->lifetime_s);
  core.enter(Established{now, now + core.rekey_after(whole, core.initiator), now + whole});
}

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
  if (offer.sa == nullptr || offer.tsi == nullptr || offer.tsr == nullptr) return;
  const auto made = accept_child(core, offer, reply, now);
  if (made) return;
  core.attempt_failed(made.error().failure);
  reply.add_notify(made.error().notify, made.error().data);
}

}  // namespace

void established(SessionCore& core, Time now) {
  start_lifetimes(core, now);
  core.last_heard = now;
  core.tell(EventKind::ike_up, fmt::format("IKE SA with {} is up", core.remote_identity->text()));
}

void start_auth(SessionCore& core, AuthSent state, Time now) {
  auto message = auth_request(core, state);
  core.enter(std::move(state));
  if (!message) return core.close_now(message.error().message(), false);
  core.send_request(std::move(*message), now);
}

void on_auth_request(SessionCore& core, const Message& request, Time now) {
  const InitAnswered* const answered = core.in<InitAnswered>();
  if (answered == nullptr) return core.refuse(request, NotifyType::invalid_syntax);
  const InitAnswered state = *answered;
  const IdPayload& id = *request.find<IdPayload>(PayloadType::id_initiator);
  const auto* const auth = request.find<AuthPayload>(PayloadType::auth);
  auto between = candidates(core, identity_of(id), request.find<IdPayload>(PayloadType::id_responder));
  if (!between) return refuse_authentication(core, request, between.error());
  if (between->size() > max_candidates) between->resize(max_candidates);
  std::erase_if(*between, [&](const auto& one) {
    return auth == nullptr || !verifies(core, one->remote_key, state.request, state.nonce_r, true, id, *auth);
  });
  if (between->empty()) return refuse_authentication(core, request, wrong_key(identity_of(id), false));
  core.connection = *std::ranges::max_element(*between, {}, [&](const auto& one) { return fit(*one, request); });
  core.remote_identity = identity_of(id);
  Message reply = core.answer(request);
  const IdPayload own = core.connection->local_identity.payload();
  reply.add(PayloadType::id_responder, own);
  if (const auto added = add_auth(core, reply, core.connection->local_key, state.response, state.nonce_i, own); !added)
    return core.close_now(added.error().message(), false);
  if (request.notify(NotifyType::initial_contact) != nullptr)
    core.emit(InitialContact{core.connection, *core.remote_identity});
  established(core, now);
  note_auth_offer(core, request);
  offer_in_auth(core, reply);
  if (const auto refused = configure_peer(core, request, reply))
    reply.add_notify(*refused);  // §2.19: the IKE SA stands, without a child
  else
    answer_first_child(core, request, state, reply, now);
  core.send_response(request, std::move(reply));
}

void on_auth_response(SessionCore& core, const Message& response, Time now) {
  AuthSent* const sent = core.in<AuthSent>();
  if (sent == nullptr) return;
  const auto* const id = response.find<IdPayload>(PayloadType::id_responder);
  const auto* const auth = response.find<AuthPayload>(PayloadType::auth);
  if (id == nullptr || auth == nullptr) {
    const auto* const error = response.error();
    core.attempt_failed(error != nullptr ? auth_refused(core, *error)
                                         : Failure{FailureKind::invalid_syntax,
                                                   "the peer's IKE_AUTH answer has no identity",
                                                   {},
                                                   {},
                                                   {},
                                                   "look at the peer's log",
                                                   true});
    return core.close_now("not authenticated", true);
  }
  const Identity peer = identity_of(*id);
  if (!matches_any(core.connection->remote_identities, peer))
    return reject_answer(
        core, wrong_identity(peer.text(), rules_text(core.connection->remote_identities), "the peer's identity"));
  if (!verifies(core, core.connection->remote_key, sent->response, sent->nonce_i, false, *id, *auth))
    return reject_answer(core, wrong_key(peer, false));
  core.remote_identity = peer;
  note_auth_offer(core, response);
  AuthSent state = std::move(*sent);
  established(core, now);
  const std::string first = state.child->policy.name;
  const auto made = finish_child(core, *state.child, {&response, state.nonce_i, state.nonce_r, true}, now);
  if (!made) core.attempt_failed(made.error(), first);
  for (const std::string& name : core.wanted)
    if (name != first) core.add_task({TaskKind::make_child, name, {}, now, 0});
}

}  // namespace postern::ike
