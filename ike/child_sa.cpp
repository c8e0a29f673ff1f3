// A child SA from both ends of the exchange that makes it (RFC 7296 §1.3.1, §2.9, §2.17).
#include <algorithm>

#include <fmt/format.h>

#include "ike/child_match.hpp"
#include "ike/selectors.hpp"
#include "ike/session_core.hpp"

namespace postern::ike {
namespace {

// What both ends agreed on, whoever began.
struct Agreed {
  ChildPolicy policy;
  EspSuite suite;
  std::uint32_t spi_in = 0, spi_out = 0;
  std::vector<Selector> local, remote;
  Bytes nonce_i, nonce_r;
  const Secret* shared = nullptr;  // PFS
  bool we_began = false;
  bool outbound_now = true;
  bool tfc_padding = true;
  bool transport = false;
  std::uint16_t cpi_in = 0, cpi_out = 0;
};

// RFC 7296 §1.3.1: transport mode is for traffic between the two ends. Behind NAT (§2.23.1) the addresses of the
// selectors would not be those of the packets: tunnel mode then.
bool may_be_transport(const SessionCore& core, const ChildPolicy& policy, const std::vector<Selector>& local,
                      const std::vector<Selector>& remote) {
  const auto only = [](const std::vector<Selector>& selectors, const IpAddress& end) {
    return !selectors.empty() &&
           std::ranges::all_of(selectors, [&](const Selector& one) { return one.first == end && one.last == end; });
  };
  if (!policy.transport || core.encapsulates()) return false;
  return only(local, core.local.address) && only(remote, core.remote.address);
}

constexpr const char* ah_and_nat = "AH authenticates the addresses that NAT changes, and is not encapsulated in UDP";

// RFC 3948 §1: what is encapsulated in UDP is ESP.
std::vector<EspProposal> that_pass_nat(const SessionCore& core, const std::vector<EspProposal>& proposals) {
  std::vector<EspProposal> out;
  std::ranges::copy_if(proposals, std::back_inserter(out),
                       [&](const EspProposal& one) { return one.protocol == ProtocolId::esp || !core.encapsulates(); });
  return out;
}

Result<ChildSaKeys> keys_of(const SessionCore& core, const Agreed& agreed) {
  POSTERN_TRY(keys, derive_child_keys(agreed.suite.transform, core.suite.prf, core.keys.d, agreed.nonce_i,
                                      agreed.nonce_r, agreed.shared));
  if (agreed.we_began)
    return ChildSaKeys{std::move(keys.responder_cipher), std::move(keys.responder_integrity),
                       std::move(keys.initiator_cipher), std::move(keys.initiator_integrity)};
  return ChildSaKeys{std::move(keys.initiator_cipher), std::move(keys.initiator_integrity),
                     std::move(keys.responder_cipher), std::move(keys.responder_integrity)};
}

Result<ChildId> install(SessionCore& core, const Agreed& agreed, Time now) {
  POSTERN_TRY(keys, keys_of(core, agreed));
  Child made;
  made.id = core.setup.surroundings->next_child_id();
  made.policy = agreed.policy;
  made.suite = agreed.suite;
  made.spi_in = agreed.spi_in;
  made.spi_out = agreed.spi_out;
  made.local = agreed.local;
  made.remote = agreed.remote;
  made.transport = agreed.transport;
  made.cpi_in = agreed.cpi_in;
  made.cpi_out = agreed.cpi_out;
  made.born = now;
  const Duration whole = std::chrono::seconds(agreed.policy.lifetime_s);
  made.rekey_at = now + core.rekey_after(whole, agreed.we_began);
  made.die_at = now + whole;
  made.outbound = agreed.outbound_now;
  core.emit(InstallChild{made.id, core.connection, made.policy, made.suite, made.spi_in, made.spi_out, made.local,
                         made.remote, core.local, core.traffic_remote(), core.encapsulates(), core.follows_peer(),
                         made.outbound, !agreed.we_began, agreed.tfc_padding, std::move(keys), agreed.transport,
                         agreed.cpi_in, agreed.cpi_out});
  if (made.policy.place.base_flow != 0) core.setup.surroundings->flows->hold(made.policy);
  core.tell_child(EventKind::child_up, made, fmt::format("{} <-> {}", listed(made.local), listed(made.remote)));
  core.children.push_back(std::move(made));
  return core.children.back().id;
}

ChildRefusal refusal(NotifyType notify, FailureKind kind, std::string summary, std::string remedy) {
  ChildRefusal out;
  out.notify = notify;
  out.failure.kind = kind;
  out.failure.summary = std::move(summary);
  out.failure.remedy = std::move(remedy);
  return out;
}

ChildRefusal no_flow(const Connection& connection, const ChildOffer& offer) {
  ChildRefusal out = refusal(NotifyType::ts_unacceptable, FailureKind::selectors, "no flow between these selectors",
                             "permit the flow in the crypto map's access list, or change the peer's selectors");
  out.failure.offered = fmt::format("{} <-> {}", listed(offer.tsr->selectors), listed(offer.tsi->selectors));
  for (const ChildPolicy& policy : connection.children)
    out.failure.accepted += fmt::format("{}{} <-> {}", out.failure.accepted.empty() ? "" : "; ", listed(policy.local),
                                        listed(policy.remote));
  out.failure.differs =
      fmt::format("selectors: the peer asks for {}, we permit {}", out.failure.offered, out.failure.accepted);
  return out;
}

ChildRefusal pairs_only(const ChildPolicy& policy) {
  return refusal(NotifyType::single_pair_required, FailureKind::selectors,
                 fmt::format("{}: the peer asks for more than one pair of hosts", policy.name),
                 "SAs of pairs of hosts at the peer, or an entry without per_host_only here");
}

ChildRefusal no_proposal(const SaPayload& offer, const ChildPolicy& policy) {
  ChildRefusal out = refusal(NotifyType::no_proposal_chosen, FailureKind::no_common_child_proposal,
                             "no common proposal for the child SA", "");
  out.failure.offered = joined(text(offer));
  out.failure.accepted = joined(text(offer_esp(policy.proposals, 0, policy.pfs)));
  if (const auto differs = explain_esp(offer, policy.proposals, policy.pfs)) {
    out.failure.differs =
        fmt::format("{}: the peer offers {}, we accept {}", differs->what, differs->offered, differs->accepted);
    out.failure.remedy =
        fmt::format("add a transform set with {} {}, or change the peer", differs->what, differs->offered);
  }
  return out;
}

ChildRefusal not_transport() {
  return refusal(NotifyType::no_proposal_chosen, FailureKind::no_common_child_proposal,
                 "our transform set requires transport mode, and the peer does not ask for it or is behind NAT",
                 "mode transport at the peer, or `transport` without `require` here");
}

ChildRefusal no_ah_behind_nat() {
  return refusal(NotifyType::no_proposal_chosen, FailureKind::no_common_child_proposal, ah_and_nat,
                 "a transform set of ESP, or a way without NAT");
}

ChildRefusal wrong_group(crypto::DhGroup wanted) {
  ChildRefusal out = refusal(NotifyType::invalid_ke_payload, FailureKind::no_common_child_proposal,
                             "the key exchange is of another group than PFS wants", "");
  out.data = group_octets(wanted);
  return out;
}

// A peer may make children of a flow beside those that are there, but not for ever (RFC 7296 §1.3).
constexpr std::ptrdiff_t max_children_of_flow = 8;

ChildRefusal too_many() {
  return refusal(NotifyType::no_additional_sas, FailureKind::refused,
                 "the peer wants more SAs of one flow than we keep",
                 "look at the peer's log: it makes SAs and deletes none");
}

ChildRefusal no_room(const ChildPolicy& policy) {
  return refusal(NotifyType::no_additional_sas, FailureKind::refused,
                 fmt::format("{}: {} flows are there already, which is its limit", policy.base, policy.limit),
                 "a higher limit of the dynamic map or the per-host entry; or look who holds so many");
}

ChildRefusal internal(const Error& error) {
  return refusal(NotifyType::no_additional_sas, FailureKind::install_failed, error.message(), "");
}

Result<ChildId> answer(SessionCore& core, const ChildOffer& offer, const ChildMatch& match, const ChosenEsp& chosen,
                       std::uint32_t spi, bool transport, Message& reply, Time now) {
  const bool compresses = match.policy.compression && offer.cpi != 0;
  std::optional<Secret> shared;
  std::optional<crypto::DhExchange> dh;
  if (chosen.suite.group != crypto::DhGroup::none) {
    POSTERN_TRY(made, crypto::DhExchange::create(chosen.suite.group));
    POSTERN_TRY(secret, made.shared(offer.ke->data));
    dh.emplace(std::move(made));
    shared.emplace(std::move(secret));
  }
  POSTERN_TRY(
      id, install(core,
                  {match.policy, chosen.suite, spi, chosen.peer_spi, match.local, match.remote, offer.nonce_i,
                   offer.nonce_r, shared ? &*shared : nullptr, false, offer.replaces == nullptr, offer.tfc_padding,
                   transport, compresses ? cpi_of(spi) : std::uint16_t{0}, compresses ? offer.cpi : std::uint16_t{0}},
                  now));
  if (compresses) add_cpi(reply, cpi_of(spi));
  if (transport) reply.add_notify(NotifyType::use_transport_mode);
  if (match.cut || match.more_possible) reply.add_notify(NotifyType::additional_ts_possible);  // RFC 7296 §2.9
  reply.add(PayloadType::sa, chosen.answer);
  if (!offer.first) reply.add(PayloadType::nonce, NoncePayload{octets(offer.nonce_r)});
  if (dh) reply.add(PayloadType::ke, KePayload{dh->group(), octets(dh->public_value())});
  reply.add(PayloadType::ts_initiator, TsPayload{match.remote});
  reply.add(PayloadType::ts_responder, TsPayload{match.local});
  return id;
}

}  // namespace

bool takes_tfc_padding(const Message& message) {
  return message.notify(NotifyType::esp_tfc_padding_not_supported) == nullptr;
}

Result<ChildAttempt> begin_child(SessionCore& core, const ChildPolicy& policy, bool first, crypto::DhGroup group) {
  ChildAttempt out;
  out.policy = policy;
  out.local = policy.local;
  out.remote = policy.remote;
  out.transport = may_be_transport(core, policy, policy.local, policy.remote);
  if (policy.transport_required && !out.transport)
    return fail(policy.name + ": transport mode is required, and there is NAT between us and the peer");
  if (!first) {
    POSTERN_TRY(nonce, core.random(nonce_bytes));
    out.nonce = std::move(nonce);
    if (group == crypto::DhGroup::none && !policy.pfs.empty()) group = policy.pfs.front();
    if (group != crypto::DhGroup::none) {
      POSTERN_TRY(dh, crypto::DhExchange::create(group));
      out.dh.emplace(std::move(dh));
    }
  }
  const auto proposals = that_pass_nat(core, policy.proposals);
  if (proposals.empty()) return fail(policy.name + ": " + ah_and_nat);
  POSTERN_TRY(spi, core.setup.surroundings->allocate_spi());
  out.spi_in = spi;
  out.cpi_in = policy.compression ? cpi_of(spi) : std::uint16_t{0};
  out.offer = offer_esp(proposals, spi, first ? std::span<const crypto::DhGroup>() : policy.pfs);
  const bool ah = out.offer.proposals.front().protocol == ProtocolId::ah;
  core.emit(ExpectChild{core.connection->fvrf, spi, core.local, core.encapsulates(), ah});
  return out;
}

void add_child_payloads(Message& message, const ChildAttempt& attempt) {
  if (attempt.cpi_in != 0) add_cpi(message, attempt.cpi_in);
  if (attempt.transport) message.add_notify(NotifyType::use_transport_mode);
  message.add(PayloadType::sa, attempt.offer);
  if (!attempt.nonce.empty()) message.add(PayloadType::nonce, NoncePayload{attempt.nonce});
  if (attempt.dh) message.add(PayloadType::ke, KePayload{attempt.dh->group(), octets(attempt.dh->public_value())});
  message.add(PayloadType::ts_initiator, TsPayload{attempt.local});
  message.add(PayloadType::ts_responder, TsPayload{attempt.remote});
}

Result<ChildId, ChildRefusal> accept_child(SessionCore& core, const ChildOffer& offer, Message& reply, Time now) {
  const auto connection = current(core);
  std::vector<ChildMatch> matches = matches_of(core, *connection, offer);
  if (matches.empty()) return std::unexpected(no_flow(*connection, offer));
  const auto ke_group = offer.ke != nullptr ? offer.ke->group : crypto::DhGroup::none;
  std::optional<ChildRefusal> why;
  for (ChildMatch& match : matches) {
    if (offer.replaces != nullptr && !covers_old(match, *offer.replaces)) continue;
    if (match.too_wide) {
      if (!why) why = pairs_only(match.policy);
      continue;
    }
    match.more_possible = match.more_possible || (offer.replaces == nullptr && leaves_more(match, matches));
    if (std::ranges::count_if(core.children, [&](const Child& one) {
          return one.policy.name == match.policy.name && !one.remove_at;
        }) >= max_children_of_flow) {
      if (!why) why = too_many();
      continue;
    }
    if (!match.policy.base.empty() && match.policy.place.flow == 0) {
      const auto flow =
          core.setup.surroundings->flows->flow_for(match.policy.base, match.policy.name, match.policy.limit);
      if (!flow) {
        why = no_room(match.policy);
        break;
      }
      match.policy.place.flow = *flow;
    }
    const bool transport = offer.transport && may_be_transport(core, match.policy, match.local, match.remote);
    if (match.policy.transport_required && !transport) {
      if (!why) why = not_transport();
      continue;
    }
    const auto proposals = that_pass_nat(core, match.policy.proposals);
    if (proposals.empty()) {
      if (!why) why = no_ah_behind_nat();
      continue;
    }
    const auto spi = core.setup.surroundings->allocate_spi();
    if (!spi) return std::unexpected(internal(spi.error()));
    const auto chosen =
        choose_esp(*offer.sa, proposals, offer.first ? std::span<const crypto::DhGroup>() : match.policy.pfs, ke_group,
                   *spi, offer.first);
    if (chosen) {
      auto made = answer(core, offer, match, *chosen, *spi, transport, reply, now);
      if (made) return *made;
      core.setup.surroundings->free_spi(*spi);
      return std::unexpected(internal(made.error()));
    }
    core.setup.surroundings->free_spi(*spi);
    if (!why)
      why = chosen.error().error == NegotiateError::invalid_ke ? wrong_group(chosen.error().group)
                                                               : no_proposal(*offer.sa, match.policy);
  }
  return std::unexpected(why ? std::move(*why) : no_flow(*connection, offer));
}

namespace {

Failure child_failure(FailureKind kind, std::string summary, bool by_peer) {
  Failure out;
  out.kind = kind;
  out.summary = std::move(summary);
  out.by_peer = by_peer;
  return out;
}

// RFC 7296 §2.9: the notify says nothing where nothing was narrowed. A rekey asks for what there was.
void note_narrowing(SessionCore& core, const ChildAttempt& attempt, const Message& message, const TsPayload& tsi,
                    const TsPayload& tsr) {
  if (attempt.replaces || message.notify(NotifyType::additional_ts_possible) == nullptr) return;
  if (same(tsi.selectors, attempt.local) && same(tsr.selectors, attempt.remote)) return;
  core.emit(PartlyCovered{attempt.policy.name, attempt.local, attempt.remote, tsi.selectors, tsr.selectors});
}

bool within(const std::vector<Selector>& answered, const std::vector<Selector>& offered) {
  return !answered.empty() && std::ranges::all_of(answered, [&](const Selector& one) { return covers(offered, one); });
}

// Why an SA that the peer has made as it may is not what we need: then it is ours to delete.
std::optional<Failure> not_as_needed(const ChildAttempt& attempt, bool transport, const TsPayload& tsi,
                                     const TsPayload& tsr) {
  if (attempt.policy.transport_required && !transport) {  // RFC 7296 §1.3.1
    Failure why = child_failure(FailureKind::refused, "the peer declined transport mode, which we require", true);
    why.remedy = "mode transport at the peer, or `transport` without `require` here";
    return why;
  }
  // §2.9.2, IKE-48: a rekey does not narrow what is in use.
  if (!attempt.replaces || (within(attempt.local, tsi.selectors) && within(attempt.remote, tsr.selectors)))
    return std::nullopt;
  Failure why = child_failure(FailureKind::selectors, "the peer's answer to a rekey holds less than the SA does", true);
  why.offered = fmt::format("{} <-> {}", listed(attempt.local), listed(attempt.remote));
  why.accepted = fmt::format("{} <-> {}", listed(tsi.selectors), listed(tsr.selectors));
  why.remedy = "the access lists of both ends must mirror each other";
  return why;
}

}  // namespace

Failure refused_by_peer(const ChildAttempt& attempt, const NotifyPayload& error) {
  Failure out = child_failure(FailureKind::refused, "the peer refused the child SA: " + text(error.type), true);
  out.remedy = "look at the peer's log";
  if (error.type == NotifyType::no_proposal_chosen || error.type == NotifyType::invalid_ke_payload) {
    out.kind = FailureKind::no_common_child_proposal;
    out.offered = joined(text(attempt.offer));
    out.remedy = "compare the transform sets and PFS groups of both ends";
  } else if (error.type == NotifyType::single_pair_required) {
    out.kind = FailureKind::pairs_required;
    out.offered = fmt::format("{} <-> {}", listed(attempt.local), listed(attempt.remote));
    out.remedy = "the crypto map entry makes SAs of pairs of hosts from now on; per_host_limit says so from the start";
  } else if (error.type == NotifyType::ts_unacceptable) {
    out.kind = FailureKind::selectors;
    out.offered = fmt::format("{} <-> {}", listed(attempt.local), listed(attempt.remote));
    out.remedy = "the access lists of both ends must mirror each other";
  }
  return out;
}

Result<ChildId, Failure> finish_child(SessionCore& core, ChildAttempt& attempt, const ChildAnswer& with, Time now) {
  const auto give_up = [&](Failure why) {
    core.setup.surroundings->free_spi(attempt.spi_in);
    attempt.spi_in = 0;
    return std::unexpected(std::move(why));
  };
  const Message& message = *with.message;
  const auto* const sa = message.find<SaPayload>(PayloadType::sa);
  const auto* const tsi = message.find<TsPayload>(PayloadType::ts_initiator);
  const auto* const tsr = message.find<TsPayload>(PayloadType::ts_responder);
  if (sa == nullptr || tsi == nullptr || tsr == nullptr) {
    if (const auto* const error = message.error()) return give_up(refused_by_peer(attempt, *error));
    return give_up(child_failure(FailureKind::invalid_syntax, "the answer holds no child SA", true));
  }
  const auto chosen = accept_esp(*sa, attempt.offer, with.first);
  if (!chosen || !within(tsi->selectors, attempt.local) || !within(tsr->selectors, attempt.remote))
    return give_up(child_failure(FailureKind::invalid_syntax, "the peer's answer is not within our offer", true));
  const bool transport = message.notify(NotifyType::use_transport_mode) != nullptr;
  if (transport && !attempt.transport)
    return give_up(child_failure(FailureKind::invalid_syntax, "the peer chose transport mode, unasked", true));
  const auto cpi_out = answered_cpi(message, attempt.cpi_in != 0);
  if (!cpi_out)
    return give_up(child_failure(FailureKind::invalid_syntax, "the peer compresses as nobody asked it to", true));
  std::optional<Secret> shared;
  if (chosen->suite.group != crypto::DhGroup::none) {
    const auto* const ke = message.find<KePayload>(PayloadType::ke);
    if (ke == nullptr || !attempt.dh || ke->group != attempt.dh->group() || ke->group != chosen->suite.group)
      return give_up(child_failure(FailureKind::invalid_syntax, "the peer's key exchange is of the wrong group", true));
    auto secret = attempt.dh->shared(ke->data);
    if (!secret) return give_up(child_failure(FailureKind::invalid_syntax, secret.error().message(), true));
    shared.emplace(std::move(*secret));
  }
  auto unwanted = not_as_needed(attempt, transport, *tsi, *tsr);
  auto made =
      install(core,
              {attempt.policy, chosen->suite, attempt.spi_in, chosen->peer_spi, tsi->selectors, tsr->selectors,
               with.nonce_i, with.nonce_r, shared ? &*shared : nullptr, true, with.outbound_now && !unwanted,
               takes_tfc_padding(message), transport, *cpi_out != 0 ? attempt.cpi_in : std::uint16_t{0}, *cpi_out},
              now);
  if (!made) return give_up(child_failure(FailureKind::install_failed, made.error().message(), false));
  attempt.spi_in = 0;  // the child's now
  note_narrowing(core, attempt, message, *tsi, *tsr);
  if (!unwanted) return *made;
  core.child(*made)->closing = true;
  core.add_task({TaskKind::delete_child, {}, *made, now});
  return std::unexpected(std::move(*unwanted));
}

}  // namespace postern::ike
