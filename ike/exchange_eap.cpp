#include "ike/exchange_eap.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "ike/exchange_auth.hpp"
#include "ike/redirect.hpp"

namespace postern::ike {
namespace {

// As a person may read it: a peer must not write to a terminal.
std::string printable(const std::string& user) { return Identity::of(IdType::email, user).text(); }

Failure failed(FailureKind kind, std::string summary, std::string remedy, bool by_peer = false) {
  return {kind, std::move(summary), {}, {}, {}, std::move(remedy), by_peer};
}

Failure failure_of(const EapFailure& why, EapType method, bool at_server) {
  const std::string by = method == EapType::none ? "EAP" : eap_name(method), detail = printable(why.detail);
  switch (why.fault) {
    case EapFault::wrong_password:
      return failed(
          FailureKind::wrong_password,
          at_server ? fmt::format("the password of {} is wrong ({})", detail, by) : fmt::format("{}: {}", by, detail),
          at_server ? "set the same password at both ends" : "compare name and password with the server's", !at_server);
    case EapFault::unknown_user:
      return failed(FailureKind::unknown_user, fmt::format("{}: there is no user {}", by, detail),
                    "add it to ikev2.eap_users, or correct the peer's name");
    case EapFault::no_common_method:
      return failed(FailureKind::eap_method, detail, "name a method of both ends in authentication.*.eap.methods",
                    !at_server);
    case EapFault::not_authentic:
      if (method == EapType::tls)
        return failed(FailureKind::certificate, fmt::format("{}: {}", by, detail),
                      "see `show crypto pki certificates` of both ends");
      return failed(FailureKind::wrong_password, fmt::format("{}: {}", by, detail),
                    "is this the server that is meant? Then set the same password at both ends");
    case EapFault::refused:
      return failed(FailureKind::refused, fmt::format("{}: {}", by, detail), "look at the peer's log", true);
    case EapFault::malformed:
    case EapFault::too_long:
      return failed(FailureKind::invalid_syntax, fmt::format("{}: {}", by, detail), "look at the peer's log");
    case EapFault::internal: break;
  }
  return failed(FailureKind::credential, fmt::format("{}: {}", by, detail), "look at the log of postern-ike");
}

// RFC 7296 §2.16: AUTH by the key that the method made, else by SK_pi and SK_pr.
Result<Secret> auth_after_eap(const SessionCore& core, const Secret& msk, bool initiators, const SignedExchange& what,
                              const IdPayload& id) {
  const Secret& without = initiators ? core.keys.pi : core.keys.pr;
  return auth_by_key(core, msk.empty() ? without : msk, what, initiators, id);
}

bool auth_verifies(const SessionCore& core, const Message& message, const Secret& msk, const SignedExchange& what,
                   const IdPayload& id) {
  const auto* const auth = message.find<AuthPayload>(PayloadType::auth);
  if (auth == nullptr || auth->method != AuthMethod::psk) return false;
  const auto expected = auth_after_eap(core, msk, !core.initiator, what, id);
  return expected && equal_in_constant_time(expected->bytes(), auth->data);
}

Octets packet_in(const Message& message) {
  const auto* const payload = message.find<RawPayload>(PayloadType::eap);
  return payload == nullptr ? Octets{} : payload->data;
}

// Asks postern-pki for the next step of TLS, and goes on with what `end` makes of it.
template <class End>
void ask_for_tls(SessionCore& core, pki::TlsQuestion question, End* (*end_of)(EapExchange&),
                 std::move_only_function<void(SessionCore&, EapStep, Time)> then, Time now) {
  ask_pki(
      core, std::move(question),
      [end_of, go_on = std::move(then)](SessionCore& at, pki::Answer answer, Time when) mutable {
        End& end = *end_of(*at.eap);
        if (auto* const progress = std::get_if<pki::TlsProgress>(&answer)) {
          EapStep step = end.on_tls(*progress);
          if (progress->finished) {
            at.eap->subject = progress->subject;
            end_at(at, progress->valid_s, when);
          }
          return go_on(at, std::move(step), when);
        }
        const auto* const refusal = std::get_if<pki::Refusal>(&answer);
        go_on(at, end.fail(EapFault::internal, refusal != nullptr ? refusal->summary : "postern-pki answered nonsense"),
              when);
      },
      now);
}

// --- responder

EapServer* server_in(EapExchange& eap) { return &*eap.server; }

void answer_by(SessionCore& core, const Message& request, Message reply, EapStep step, Time now) {
  EapExchange& eap = *core.eap;
  if (step.kind == EapStep::Kind::ask) {
    const auto asked = std::make_shared<const Message>(request);
    const auto begun = std::make_shared<const Message>(std::move(reply));
    return ask_for_tls<EapServer>(
        core, std::move(*step.question), server_in,
        [asked, begun](SessionCore& at, EapStep next, Time when) {
          answer_by(at, *asked, *begun, std::move(next), when);
        },
        now);
  }
  reply.add(PayloadType::eap, RawPayload{std::move(step.packet)});
  eap.over = step.kind == EapStep::Kind::done;
  if (step.kind != EapStep::Kind::failed) return core.send_response(request, std::move(reply));
  // RFC 7296 §2.16: the Failure ends it, and the IKE SA with it.
  Failure why = failure_of(step.failure, eap.server->method(), true);
  const std::string summary = why.summary;
  core.attempt_failed(std::move(why));
  core.send_response(request, std::move(reply));
  core.close_now(summary, false);
}

void answer_first(SessionCore& core, Proof proof, Time now) {
  EapExchange& eap = *core.eap;
  Message reply = core.answer(*eap.first);
  reply.add(PayloadType::id_responder, eap.own);
  for (CertPayload& one : proof.certificates) reply.add(PayloadType::certificate, std::move(one));
  if (!is_eap_alone(*core.connection)) reply.add(PayloadType::auth, std::move(proof.auth));
  answer_by(core, *eap.first, std::move(reply), eap.server->start(), now);
}

EapServer server_of(const SessionCore& core, const Identity& peer) {
  const Connection& connection = *core.connection;
  EapServer::Setup setup;
  setup.methods = connection.eap_server.methods;
  setup.query_identity = connection.eap_server.query_identity;
  setup.context.random = core.setup.surroundings->random;
  setup.context.password = core.setup.surroundings->eap_user;
  if (!setup.context.password) setup.context.password = [](std::string_view) { return std::optional<Secret>(); };
  setup.context.tls.trustpoint = connection.sign_trustpoint;
  setup.context.tls.verify = connection.verify_trustpoints;
  setup.context.server_name = connection.local_identity.text();
  setup.context.tls.identity_type = static_cast<std::uint8_t>(peer.type);
  setup.context.tls.identity = peer.data;
  // An address or a DN names no user: then the method's own name counts.
  if (!peer.address() && peer.type != IdType::dn)
    setup.context.user.emplace(reinterpret_cast<const char*>(peer.data.data()), peer.data.size());
  return EapServer(std::move(setup));
}

Failure auth_differs(const SessionCore& core) {
  return failed(FailureKind::wrong_key, "AUTH after EAP does not verify",
                core.uses_ppk ? "give both ends the same key under that `ppk` id; or the peer is not who ran EAP"
                              : "the peer's EAP method made another key, or the peer is not who ran it");
}

void finish_as_responder(SessionCore& core, const Message& request, Time now) {
  const auto eap = std::exchange(core.eap, nullptr);
  const Secret msk = eap->server->key();
  const IdPayload& id = *eap->first->find<IdPayload>(PayloadType::id_initiator);
  Candidates known{core.connection};
  Message claim = request;
  if (auto chosen = choose_ppk(core, known, claim); !chosen)
    return refuse_authentication(core, request, std::move(chosen.error()));
  if (!auth_verifies(core, claim, msk, {eap->init->request, eap->init->nonce_r}, id))
    return refuse_authentication(core, request, auth_differs(core));
  const auto auth = auth_after_eap(core, msk, false, {eap->init->response, eap->init->nonce_i}, eap->own);
  if (!auth) return refuse_authentication(core, request, failed(FailureKind::credential, auth.error().message(), {}));
  if (!eap->subject.empty()) core.remote_subject = eap->subject;
  core.eap_identity = printable(eap->server->user());
  core.remote_auth = eap_name(eap->server->method());
  if (is_eap_alone(*core.connection)) core.local_auth = core.remote_auth;
  Message reply = core.answer(request);
  reply.add(PayloadType::auth, AuthPayload{AuthMethod::psk, octets(auth->bytes())});
  if (core.uses_ppk) reply.add_notify(NotifyType::ppk_identity);  // RFC 8784 §3
  conclude_as_responder(core, *eap->first, *eap->init, reply, now);
  core.send_response(request, std::move(reply));
}

// --- initiator

// AUTH, and with a PPK what RFC 8784 §3 has beside it. Everything that was proved before was without one.
Result<Message> last_request(SessionCore& core) {
  AuthSent& state = *core.in<AuthSent>();
  POSTERN_TRY(own, own_identity(core, *core.connection));
  const Secret msk = core.eap->peer->key();
  const SignedExchange what{state.request, state.nonce_r};
  if (const Ppk& ppk = core.connection->ppk; core.may_use_ppk) {
    if (!ppk.required) {
      POSTERN_TRY(without, auth_after_eap(core, msk, true, what, own));
      state.no_ppk_auth = octets(without.bytes());
    }
    POSTERN_CHECK(mix_in_ppk(core, ppk));
  }
  POSTERN_TRY(auth, auth_after_eap(core, msk, true, what, own));
  Message out = core.request(ExchangeType::ike_auth);
  out.add(PayloadType::auth, AuthPayload{AuthMethod::psk, octets(auth.bytes())});
  say_ppk(core, state, out);
  return out;
}

void give_up_eap(SessionCore& core, Failure why, bool tell_peer) {
  core.eap.reset();
  if (tell_peer) return reject_answer(core, std::move(why));
  const std::string summary = why.summary;
  core.attempt_failed(std::move(why));
  core.close_now(summary, true);
}

EapPeer* peer_in(EapExchange& eap) { return &*eap.peer; }

// `by_server`: a step that fails does so by the server's word.
void go_on_as_peer(SessionCore& core, EapStep step, bool by_server, Time now) {
  EapExchange& eap = *core.eap;
  if (step.kind == EapStep::Kind::ask)
    return ask_for_tls<EapPeer>(
        core, std::move(*step.question), peer_in,
        [](SessionCore& at, EapStep next, Time when) { go_on_as_peer(at, std::move(next), false, when); }, now);
  if (step.kind == EapStep::Kind::more) {
    Message message = core.request(ExchangeType::ike_auth);
    message.add(PayloadType::eap, RawPayload{std::move(step.packet)});
    return core.send_request(std::move(message), now);
  }
  if (step.kind == EapStep::Kind::failed)
    return give_up_eap(core, failure_of(step.failure, eap.peer->method(), false), !by_server);
  const EapMethodRow* const method = find_eap_method(eap.peer->method());
  if (is_eap_alone(*core.connection) && (method == nullptr || !method->mutual || eap.peer->key().empty()))
    return give_up_eap(
        core, failed(FailureKind::eap_method, "EAP alone by a method that does not prove the server", {}), true);
  auto last = last_request(core);
  if (!last) return give_up_eap(core, failed(FailureKind::credential, last.error().message(), {}), true);
  eap.over = true;
  core.send_request(std::move(*last), now);
}

void run_peer(SessionCore& core, const Message& response, Time now) {
  const Octets packet = packet_in(response);
  const auto said = parse_eap(packet);
  go_on_as_peer(core, core.eap->peer->on_packet(packet), said && said->code == EapCode::failure, now);
}

Failure not_eap(const char* what) {
  return failed(FailureKind::wrong_key, what,
                "set authentication.local and remote of the IKEv2 profile to what the peer does");
}

// IDr, and AUTH unless EAP alone proves the responder.
void take_first(SessionCore& core, const Message& response, Time now) {
  const auto* const id = response.find<IdPayload>(PayloadType::id_responder);
  const bool proves = response.find<AuthPayload>(PayloadType::auth) != nullptr, alone = is_eap_alone(*core.connection);
  if (id == nullptr) return give_up_eap(core, auth_without_identity(core, response), false);
  if (!accepts_identity(*core.connection, identity_of(*id))) return reject_identity(core, identity_of(*id));
  // RFC 5685 §6: a gateway that proves itself here may send us away before EAP begins.
  const bool redirects = proves && response.notify(NotifyType::redirect) != nullptr;
  if (!redirects && response.find<RawPayload>(PayloadType::eap) == nullptr)
    return give_up_eap(core, not_eap("the peer does not begin EAP"), true);
  if (proves == alone)
    return give_up_eap(core,
                       not_eap(alone ? "the peer authenticates otherwise than by EAP alone, which the profile demands"
                                     : "the peer does not prove who it is before EAP"),
                       true);
  core.eap->peer_known = true;
  core.eap->own = *id;
  core.eap->peer->expect_server(static_cast<std::uint8_t>(id->type), id->data);
  if (alone) return run_peer(core, response, now);
  const auto kept = std::make_shared<const Message>(response);
  const AuthSent& sent = *core.in<AuthSent>();
  check(
      core, {core.connection}, *kept, {sent.response, sent.nonce_i},
      [kept](SessionCore& at, Result<Candidates, Failure>&& fitting, Time when) {
        if (!fitting) return give_up_eap(at, std::move(fitting.error()), true);
        if (const auto to = auth_redirect(at, *kept)) return leave_for(at, *to, ExchangeType::ike_auth);
        run_peer(at, *kept, when);
      },
      now);
}

void finish_as_initiator(SessionCore& core, const Message& response, Time now) {
  const auto eap = core.eap;
  const AuthSent& sent = *core.in<AuthSent>();
  if (response.find<AuthPayload>(PayloadType::auth) == nullptr)
    return give_up_eap(core, auth_without_identity(core, response), response.error() == nullptr);
  if (auto settled = settle_ppk(core, sent, response); !settled)
    return give_up_eap(core, std::move(settled.error()), true);
  if (!auth_verifies(core, response, eap->peer->key(), {sent.response, sent.nonce_i}, eap->own))
    return give_up_eap(core,
                       failed(FailureKind::wrong_key, "the peer's AUTH after EAP does not verify",
                              "is this the server that is meant? Its EAP method made another key"),
                       true);
  core.eap.reset();
  core.local_auth = eap_name(eap->peer->method());
  if (is_eap_alone(*core.connection)) core.remote_auth = core.local_auth;
  if (!eap->subject.empty()) core.remote_subject = eap->subject;
  core.eap_identity = printable(eap->peer->user());
  conclude_as_initiator(core, response, identity_of(eap->own), now);
}

}  // namespace

bool is_eap_alone(const Connection& connection) {
  return connection.local_auth == AuthKind::eap && connection.remote_auth == AuthKind::eap;
}

void begin_eap(SessionCore& core, const std::shared_ptr<const Message>& request,
               const std::shared_ptr<const InitAnswered>& state, Candidates candidates, Time now) {
  const IdPayload& id = *request->find<IdPayload>(PayloadType::id_initiator);
  const bool alone = request->notify(NotifyType::eap_only_authentication) != nullptr;
  // RFC 5998 §3: only who has said that EAP will do is content with it. Who has said so may be answered by more.
  std::erase_if(candidates, [&](const auto& one) {
    return one->remote_auth != AuthKind::eap || (one->local_auth == AuthKind::eap && !alone);
  });
  if (candidates.empty())
    return refuse_authentication(
        core, *request,
        failed(FailureKind::wrong_key,
               fmt::format("{} sends no AUTH and asks for EAP, which no profile for it allows", identity_of(id).text()),
               "set authentication.remote.method of the IKEv2 profile to eap, or change the peer"));
  core.connection = *std::ranges::max_element(candidates, {}, [&](const auto& one) { return fit(*one, *request); });
  core.remote_identity = identity_of(id);
  if (refuses_childless(core, *request)) return;
  const auto own = own_identity(core, *core.connection);
  if (!own) return refuse_authentication(core, *request, no_identity(own.error()));
  core.eap = std::make_shared<EapExchange>();
  core.eap->server = server_of(core, *core.remote_identity);
  core.eap->first = request;
  core.eap->init = state;
  core.eap->own = *own;
  core.in<InitAnswered>()->deadline = now + core.setup.lifetimes.eap;
  if (is_eap_alone(*core.connection)) return answer_first(core, {}, now);
  prove(
      core, *core.connection, {state->response, state->nonce_i}, *own,
      [](SessionCore& at, Result<Proof, Failure>&& proof, Time when) {
        if (!proof) return refuse_authentication(at, *at.eap->first, std::move(proof.error()));
        answer_first(at, std::move(*proof), when);
      },
      now);
}

void on_eap_request(SessionCore& core, const Message& request, Time now) {
  const bool last = request.find<AuthPayload>(PayloadType::auth) != nullptr;
  const bool first_again = request.find<IdPayload>(PayloadType::id_initiator) != nullptr;
  if (!first_again && core.eap->over && last) return finish_as_responder(core, request, now);
  if (!first_again && !core.eap->over && !last)
    return answer_by(core, request, core.answer(request), core.eap->server->on_packet(packet_in(request)), now);
  refuse_authentication(
      core, request,
      failed(FailureKind::invalid_syntax,
             core.eap->over ? "the peer does not end EAP by AUTH" : "the peer leaves EAP before its end",
             "look at the peer's log"));
}

std::optional<Failure> eap_verdict(const SessionCore& core) {
  if (!core.eap || !core.eap->server) return std::nullopt;
  const EapFailure* const why = core.eap->server->refused();
  return why == nullptr ? std::nullopt : std::optional(failure_of(*why, core.eap->server->method(), true));
}

std::shared_ptr<EapExchange> eap_peer_of(const SessionCore& core) {
  const Connection& connection = *core.connection;
  if (connection.local_auth != AuthKind::eap) return nullptr;
  auto out = std::make_shared<EapExchange>();
  EapPeer::Setup setup;
  setup.methods = connection.eap_peer.methods;
  setup.context = {core.setup.surroundings->random, connection.eap_peer.identity, connection.eap_peer.password};
  setup.context.tls.trustpoint = connection.sign_trustpoint;
  setup.context.tls.verify = connection.verify_trustpoints;
  out->peer.emplace(std::move(setup));
  return out;
}

void on_eap_response(SessionCore& core, const Message& response, Time now) {
  if (core.eap->over) return finish_as_initiator(core, response, now);
  if (!core.eap->peer_known) return take_first(core, response, now);
  if (response.find<RawPayload>(PayloadType::eap) == nullptr)
    return give_up_eap(core, auth_without_identity(core, response), response.error() == nullptr);
  run_peer(core, response, now);
}

}  // namespace postern::ike
