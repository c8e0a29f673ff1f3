// IKE_SA_INIT (RFC 7296 §1.2, §2.6, §2.14, §2.23).
#include <algorithm>

#include <fmt/format.h>

#include "ike/authentication.hpp"
#include "ike/payload_rules.hpp"
#include "ike/redirect.hpp"
#include "ike/session_core.hpp"

namespace postern::ike {
namespace {

// The responder's SPI is not in the hashes of the request that begins an IKE SA.
std::uint64_t hashed_spi_r(const SessionCore& core, const Message& message) {
  const bool begins = message.header.exchange == ExchangeType::ike_sa_init && !message.header.response;
  return begins ? 0 : core.spi_r;
}

}  // namespace

// §2.23. With encapsulation forced the source hash is wrong on purpose, so that the peer sees a NAT too (IKE-41).
void add_nat_detection(const SessionCore& core, Message& message, const Endpoint& local, const Endpoint& remote,
                       bool forced) {
  const std::uint64_t i = core.spi_i, r = hashed_spi_r(core, message);
  const std::uint16_t source_port = forced ? std::uint16_t{0} : local.port;
  message.add_notify(NotifyType::nat_detection_source_ip, nat_detection_hash(i, r, local.address, source_port));
  message.add_notify(NotifyType::nat_detection_destination_ip, nat_detection_hash(i, r, remote.address, remote.port));
}

// The peer may send several source hashes.
NatSeen detect_nat(const SessionCore& core, const Message& message, const Endpoint& local, const Endpoint& remote) {
  NatSeen seen;
  const std::uint64_t i = core.spi_i, r = hashed_spi_r(core, message);
  const Octets as_remote = nat_detection_hash(i, r, remote.address, remote.port);
  const Octets as_local = nat_detection_hash(i, r, local.address, local.port);
  bool source = false, source_fits = false, destination = false, destination_fits = false;
  for (const Payload& p : message.payloads) {
    const auto* const notify = std::get_if<NotifyPayload>(&p.body);
    if (notify == nullptr) continue;
    if (notify->type == NotifyType::nat_detection_source_ip) {
      source = true;
      source_fits = source_fits || notify->data == as_remote;
    } else if (notify->type == NotifyType::nat_detection_destination_ip) {
      destination = true;
      destination_fits = destination_fits || notify->data == as_local;
    }
  }
  seen.told = source && destination;
  seen.remote = source && !source_fits;
  seen.local = destination && !destination_fits;
  return seen;
}

namespace {

void note_nat(SessionCore& core, const NatSeen& seen) {
  core.nat_local = seen.local;
  core.nat_remote = seen.remote;
  if (seen.local || seen.remote)
    core.tell(EventKind::nat_detected, seen.local && seen.remote ? "NAT on both sides"
                                       : seen.local              ? "NAT in front of us"
                                                                 : "NAT in front of the peer");
}

void send_init(SessionCore& core, InitSent& state, Time now) {
  Message message{core.header(ExchangeType::ike_sa_init, false, 0), {}};
  message.header.responder_spi = 0;
  if (!state.cookie.empty()) message.add_notify(NotifyType::cookie, state.cookie);  // §2.6: first of all
  message.add(PayloadType::sa, state.offer);
  message.add(PayloadType::ke, KePayload{state.dh.group(), octets(state.dh.public_value())});
  message.add(PayloadType::nonce, NoncePayload{state.nonce});
  add_nat_detection(core, message, core.local, core.remote, core.connection->force_encapsulation);
  add_signature_hashes(core, {core.connection}, message);
  offer_in_init(message, core.connection->options);
  offer_ppk(*core.connection, message);
  offer_redirect(core, message);
  state.request = encode_message(message);
  core.tell(EventKind::trace, "sent IKE_SA_INIT request");
  core.next_request = 1;
  core.transmit(state.request);
  core.await_answer(0, {state.request}, now);
}

Failure init_refused(const SessionCore& core, const InitSent& state, const NotifyPayload& error) {
  Failure out;
  out.by_peer = true;
  out.offered = joined(text(state.offer));
  if (error.type == NotifyType::no_proposal_chosen) {
    out.kind = FailureKind::no_common_ike_proposal;
    out.summary = "the peer accepts none of our IKE proposals";
    out.remedy = "compare the IKEv2 proposals of both ends; the peer's log names what it accepts";
  } else {
    out.kind = FailureKind::refused;
    out.summary = "the peer refused IKE_SA_INIT: " + text(error.type);
    out.remedy = fmt::format("look at the log of {}", core.remote.address.text());
  }
  return out;
}

Failure not_childless() {
  return {FailureKind::refused,
          "the peer does not make IKE SAs without a child, which the profile demands",
          {},
          {},
          {},
          "`childless` prefer or allow in the IKEv2 profile, or childless = allow at the peer",
          true};
}

void refused(SessionCore& core, const NotifyPayload& error, Time now) {
  auto& state = *core.in<InitSent>();
  if (auto dh = wanted_exchange(error, groups_of(core.connection->proposals), state.dh.group(), state.rounds,
                                max_init_rounds)) {
    state.dh = std::move(*dh);
    return send_init(core, state, now);
  }
  // §2.7, §2.21.1: anybody may have said it, and one who took part would have named a group of our offer.
  if (error.type == NotifyType::invalid_ke_payload && state.rounds < max_init_rounds) return;
  core.attempt_failed(init_refused(core, state, error));
  core.close_now("refused by the peer: " + text(error.type), true);
}

Result<IkeKeys> keys_of(const SessionCore& core, const IkeSuite& suite, Bytes nonce_i, Bytes nonce_r,
                        const Secret& shared) {
  return derive_ike_keys(suite, {nonce_i, nonce_r, core.spi_i, core.spi_r, &shared});
}

// RFC 7296 §2.23: with a NAT, or where we want to look like one, everything goes on from port 4500. RFC 4555 §3.3: also
// where both ends may move, so that a NAT on another path changes no port; whether the peer does shows in IKE_AUTH,
// which the new ports are for.
void float_ports(SessionCore& core, const NatSeen& nat) {
  const bool may_move = core.connection->options.mobike && nat.told;
  if (!nat.local && !nat.remote && !may_move && !core.connection->force_encapsulation) return;
  if (core.local.port == ike_port) core.local.port = nat_port;
  if (core.remote.port == ike_port) core.remote.port = nat_port;
}

Failure no_connection(const SessionCore& core, const SaPayload& offer) {
  Failure out;
  out.kind = FailureKind::no_connection;
  out.summary =
      fmt::format("nothing is configured between {} and {}", core.local.address.text(), core.remote.address.text());
  out.offered = joined(text(offer));
  out.remedy = "add a crypto map entry or a tunnel with this peer, or correct its address";
  return out;
}

Failure no_common(const SaPayload& offer, std::span<const IkeProposal> accepted) {
  Failure out;
  out.kind = FailureKind::no_common_ike_proposal;
  out.summary = "no common IKE proposal";
  out.offered = joined(text(offer));
  out.accepted = joined(text(offer_ike(accepted, {})));
  if (const auto differs = explain_ike(offer, accepted)) {
    out.differs =
        fmt::format("{}: the peer offers {}, we accept {}", differs->what, differs->offered, differs->accepted);
    out.remedy =
        fmt::format("add {} to the {} list of an IKEv2 proposal, or change the peer", differs->offered, differs->what);
  }
  return out;
}

std::vector<IkeProposal> proposals_between(const SessionCore& core) {
  std::vector<IkeProposal> out;
  for (const auto& one : core.setup.surroundings->connections(core.setup.fvrf, core.local.address, core.remote.address))
    for (const IkeProposal& proposal : one->proposals)
      if (std::ranges::find(out, proposal) == out.end()) out.push_back(proposal);
  return out;
}

// An answer that keeps no state (RFC 7296 §2.6, §2.7).
void refuse_init(SessionCore& core, NotifyType why, Octets data) {
  Message message{core.header(ExchangeType::ike_sa_init, true, 0), {}};
  message.header.responder_spi = 0;
  message.add_notify(why, std::move(data));
  core.transmit(encode_message(message));
  core.close_now("refused: " + text(why), false);
}

void refuse_negotiation(SessionCore& core, const SaPayload& offer, std::span<const IkeProposal> accepted,
                        const NegotiateFailure& failure) {
  if (failure.error == NegotiateError::invalid_ke) {
    return refuse_init(core, NotifyType::invalid_ke_payload, group_octets(failure.group));
  }
  core.attempt_failed(accepted.empty() ? no_connection(core, offer) : no_common(offer, accepted));
  refuse_init(core, NotifyType::no_proposal_chosen, {});
}

// RFC 6989 §2: who keeps to the protocol never sends such a value. §2.21.1: nobody has proved anything, so nothing is
// kept, and who asks is told as in a rekey.
void refuse_public_value(SessionCore& core, const SaPayload& offer, const std::string& why) {
  Failure out;
  out.kind = FailureKind::invalid_syntax;
  out.summary = why;
  out.offered = joined(text(offer));
  out.remedy = fmt::format("{} makes a key exchange that no peer can use: look at its make and version",
                           core.remote.address.text());
  core.attempt_failed(std::move(out));
  refuse_init(core, NotifyType::invalid_syntax, {});
}

// Whom we talk to is not known yet: what all of them allow.
ProtocolOptions common_options(std::span<const std::shared_ptr<const Connection>> between) {
  ProtocolOptions out = between.empty() ? ProtocolOptions{} : between.front()->options;
  for (const auto& one : between) out.fragment_mtu = std::min(out.fragment_mtu, one->options.fragment_mtu);
  return out;
}

struct OwnHalf {
  crypto::DhExchange dh;
  Secret shared;
};

Result<void> answer_init(SessionCore& core, const Message& request, Bytes datagram, const ChosenIke& chosen,
                         const OwnHalf& own, Time now) {
  const NoncePayload& nonce_i = *request.find<NoncePayload>(PayloadType::nonce);
  POSTERN_TRY(nonce_r, core.random(nonce_bytes));
  POSTERN_TRY(spi, core.random_spi());
  core.spi_r = spi;
  POSTERN_TRY(keys, keys_of(core, chosen.suite, nonce_i.data, nonce_r, own.shared));
  POSTERN_CHECK(core.use_keys(chosen.suite, std::move(keys)));
  Message reply{core.header(ExchangeType::ike_sa_init, true, 0), {}};
  reply.add(PayloadType::sa, chosen.answer);
  reply.add(PayloadType::ke, KePayload{own.dh.group(), octets(own.dh.public_value())});
  reply.add(PayloadType::nonce, NoncePayload{nonce_r});
  const NatSeen nat = detect_nat(core, request, core.local, core.remote);
  const auto between = core.setup.surroundings->connections(core.setup.fvrf, core.local.address, core.remote.address);
  const bool forced = std::ranges::any_of(between, [](const auto& one) { return one->force_encapsulation; });
  if (nat.told) add_nat_detection(core, reply, core.local, core.remote, forced);
  add_certificate_requests(core, between, reply);
  answer_ppk(core, between, request, reply);
  note_signature_hashes(core, request);
  if (!core.peer_hashes.empty()) add_signature_hashes(core, between, reply);
  note_nat(core, nat);
  const ProtocolOptions options = common_options(between);
  note_init_offer(core, request, options);
  note_redirect_offer(core, request);
  if (core.fragment_mtu != 0) offer_in_init(reply, options);
  if (std::ranges::any_of(between, [](const auto& one) { return one->childless != Childless::never; }))
    reply.add_notify(NotifyType::childless_ikev2_supported);  // RFC 6023 §3
  const Octets response = encode_message(reply);
  core.next_expected = 1;
  core.answered = {{0, octets(datagram), {response}}};
  core.tell(EventKind::trace, "sent IKE_SA_INIT response");
  core.transmit(response);
  core.enter(
      InitAnswered{octets(datagram), response, nonce_i.data, std::move(nonce_r), now + core.setup.lifetimes.half_open});
  return {};
}

}  // namespace

void start_init(SessionCore& core, Time now) {
  const auto prepared = [&]() -> Result<InitSent> {
    POSTERN_TRY(spi, core.random_spi());
    POSTERN_TRY(nonce, core.random(nonce_bytes));
    if (core.connection->proposals.empty() || core.connection->proposals.front().groups.empty())
      return fail("no IKE proposal to offer");
    POSTERN_TRY(dh, crypto::DhExchange::create(core.connection->proposals.front().groups.front()));
    core.spi_i = spi;
    return InitSent{std::move(dh), std::move(nonce), {}, offer_ike(core.connection->proposals, {}), {}, 0};
  };
  auto state = prepared();
  if (!state) return core.close_now(state.error().message(), false);
  if (core.connection->force_encapsulation) core.local.port = core.remote.port = nat_port;
  core.enter(std::move(*state));
  send_init(core, *core.in<InitSent>(), now);
}

void on_init_response(SessionCore& core, Bytes datagram, Time now) {
  InitSent* const state = core.in<InitSent>();
  if (state == nullptr || core.outstanding.empty()) return;
  const auto response = parse_message(datagram);
  // Nothing here is authenticated: what is no good answer is passed over, a better one may still come (§2.21.1).
  if (!response || broken_rule(*response) || response->header.initiator_spi != core.spi_i) return;
  if (on_init_redirect(core, *response)) return;
  if (const auto* const cookie = response->notify(NotifyType::cookie)) {
    if (state->rounds++ >= max_init_rounds || cookie->data.empty() || cookie->data.size() > 64) return;
    state->cookie = cookie->data;
    return send_init(core, *state, now);
  }
  if (const auto* const error = response->error()) return refused(core, *error, now);
  const auto* const sa = response->find<SaPayload>(PayloadType::sa);
  const auto* const ke = response->find<KePayload>(PayloadType::ke);
  const auto* const nonce = response->find<NoncePayload>(PayloadType::nonce);
  if (sa == nullptr || ke == nullptr || nonce == nullptr || response->header.responder_spi == 0) return;
  const auto chosen = accept_ike(*sa, state->offer);
  if (!chosen || ke->group != state->dh.group() || chosen->suite.group != ke->group) return;
  const auto shared = state->dh.shared(ke->data);
  if (!shared) return core.tell(EventKind::message_ignored, "IKE_SA_INIT answer: " + shared.error().message());
  core.spi_r = response->header.responder_spi;
  auto keys = keys_of(core, chosen->suite, state->nonce, nonce->data, *shared);
  if (!keys) return core.close_now(keys.error().message(), false);
  if (const auto used = core.use_keys(chosen->suite, std::move(*keys)); !used)
    return core.close_now(used.error().message(), false);
  core.childless = core.connection->childless >= Childless::prefer &&
                   response->notify(NotifyType::childless_ikev2_supported) != nullptr;
  if (core.connection->childless == Childless::force && !core.childless) {
    core.attempt_failed(not_childless());
    return core.close_now("the peer does not make IKE SAs without a child", true);
  }
  if (auto noted = note_ppk(core, *response); !noted) {
    core.attempt_failed(std::move(noted.error()));
    return core.close_now("the peer knows nothing of PPKs", true);
  }
  note_signature_hashes(core, *response);
  note_certificate_request(core, *response);
  core.peer_fetches = response->notify(NotifyType::http_cert_lookup_supported) != nullptr;
  const NatSeen nat = detect_nat(core, *response, core.local, core.remote);
  note_init_offer(core, *response, core.connection->options);
  note_nat(core, nat);
  float_ports(core, nat);
  core.outstanding.clear();
  start_auth(core, AuthSent{std::move(state->request), octets(datagram), std::move(state->nonce), nonce->data, {}, {}},
             now);
}

void on_init_request(SessionCore& core, Bytes datagram, Time now) {
  if (core.in<InitAnswered>() != nullptr) {  // a retransmission: §2.1
    const AnsweredRequest& first = core.answered.front();
    if (first.message_id == 0 && std::ranges::equal(datagram, first.request)) core.transmit(first.response);
    return;
  }
  if (core.in<Made>() == nullptr) return;
  const auto request = parse_message(datagram);
  if (!request) {
    core.tell(EventKind::message_ignored, "IKE_SA_INIT: " + text(request.error()));
    if (request.error().error == ParseError::unsupported_critical) {  // §2.5
      core.spi_i = ByteReader(datagram).u64();
      return refuse_init(core, NotifyType::unsupported_critical_payload,
                         {static_cast<std::byte>(request.error().payload)});
    }
    return core.close_now("not understood", false);
  }
  core.spi_i = request->header.initiator_spi;
  if (const auto broken = broken_rule(*request)) {
    core.tell(EventKind::message_ignored, "IKE_SA_INIT: " + *broken);
    return refuse_init(core, NotifyType::invalid_syntax, {});
  }
  const std::vector<IkeProposal> accepted = proposals_between(core);
  const auto& offer = *request->find<SaPayload>(PayloadType::sa);
  const KePayload& ke = *request->find<KePayload>(PayloadType::ke);
  const auto chosen = choose_ike(offer, accepted, ke.group, {});
  if (!chosen) return refuse_negotiation(core, offer, accepted, chosen.error());
  const auto stop = [&](const Error& why) {  // by a fault of our own
    core.tell(EventKind::message_ignored, "IKE_SA_INIT: " + why.message());
    core.close_now(why.message(), false);
  };
  auto dh = crypto::DhExchange::create(chosen->suite.group);
  if (!dh) return stop(dh.error());
  auto shared = dh->shared(ke.data);
  if (!shared) return refuse_public_value(core, offer, shared.error().message());
  const OwnHalf own{std::move(*dh), std::move(*shared)};
  if (const auto answered = answer_init(core, *request, datagram, *chosen, own, now); !answered) stop(answered.error());
}

}  // namespace postern::ike
