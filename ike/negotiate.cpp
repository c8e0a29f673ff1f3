#include "ike/negotiate.hpp"

#include <algorithm>

#include "base/net_types.hpp"
#include "crypto/transforms.hpp"
#include "ike/octets.hpp"
#include "ike/proposal_match.hpp"

namespace postern::ike {
namespace {

std::unexpected<NegotiateFailure> refuse(NegotiateError error, crypto::DhGroup group = crypto::DhGroup::none) {
  return std::unexpected(NegotiateFailure{error, group});
}

Octets spi_octets(std::uint32_t spi) {
  OctetWriter out;
  out.u32(spi);
  return out.take();
}

SaPayload offer_of(std::vector<Accepted> accepted, const Octets& spi) {
  SaPayload offer;
  for (Accepted& one : accepted) {
    one.wire.number = static_cast<std::uint8_t>(offer.proposals.size() + 1);
    one.wire.spi = spi;
    offer.proposals.push_back(std::move(one.wire));
  }
  return offer;
}

// One transform of each type of `proposal`, which has no more than that.
std::optional<Transform> the(const Proposal& proposal, TransformType type) {
  const auto found = std::ranges::find(proposal.transforms, type, &Transform::type);
  return found == proposal.transforms.end() ? std::nullopt : std::optional(*found);
}

crypto::DhGroup group_of(const Proposal& chosen) {
  const auto group = the(chosen, TransformType::key_exchange);
  return group ? crypto::DhGroup{group->id} : crypto::DhGroup::none;
}

std::optional<crypto::Transform> cipher_of(const Proposal& chosen) {
  const auto encryption = the(chosen, TransformType::encryption);
  if (!encryption) return std::nullopt;
  const auto* cipher = crypto::find_cipher_by_ike_id(encryption->id, encryption->key_bits);
  if (cipher == nullptr) return std::nullopt;
  crypto::Transform out{cipher->cipher, cipher->key_bits, crypto::Integrity::none};
  const auto integrity = the(chosen, TransformType::integrity);
  if (!integrity || integrity->id == 0) return out;
  const auto* authenticator = crypto::find_integrity_by_ike_id(integrity->id);
  if (authenticator == nullptr) return std::nullopt;
  out.integrity = authenticator->integrity;
  return out;
}

std::optional<IkeSuite> ike_suite(const Proposal& chosen) {
  const auto cipher = cipher_of(chosen);
  const auto prf = the(chosen, TransformType::prf);
  const auto* named = prf ? crypto::find_prf(prf->id) : nullptr;
  if (!cipher || named == nullptr || group_of(chosen) == crypto::DhGroup::none) return std::nullopt;
  return IkeSuite{*cipher, named->prf, group_of(chosen)};
}

// RFC 7296 §3.3.3: AH has an integrity transform and no cipher.
std::optional<crypto::Transform> authenticator_of(const Proposal& chosen) {
  const auto integrity = the(chosen, TransformType::integrity);
  const auto* const named = integrity ? crypto::find_integrity_by_ike_id(integrity->id) : nullptr;
  if (named == nullptr) return std::nullopt;
  return crypto::Transform{crypto::Cipher::none, 0, named->integrity};
}

std::optional<EspSuite> esp_suite(const Proposal& chosen) {
  const auto transform = chosen.protocol == ProtocolId::ah ? authenticator_of(chosen) : cipher_of(chosen);
  const auto esn = the(chosen, TransformType::esn);
  if (!transform || !esn) return std::nullopt;
  return EspSuite{*transform, esn->id == 1, group_of(chosen), chosen.protocol};
}

// 0: none that a peer may have (RFC 4303 §2.1).
std::uint32_t esp_spi(const Proposal& proposal) {
  if (proposal.spi.size() != 4) return 0;
  const std::uint32_t spi = load_be32(proposal.spi.data());
  return spi < first_usable_spi ? 0 : spi;
}

// What both sides have, with `offered`'s number and SPI; nullopt when some type has nothing.
std::optional<Proposal> common(const Proposal& offered, const Accepted& accepted, crypto::DhGroup ke_group) {
  if (offered.protocol != accepted.wire.protocol || has_unknown_type(offered)) return std::nullopt;
  Proposal chosen{offered.number, offered.protocol, offered.spi, {}};
  for (const TransformType type : transform_types) {
    const auto agreement = agree(type, offered, accepted, ke_group);
    if (!agreement) return std::nullopt;
    if (agreement->chosen) chosen.transforms.push_back(*agreement->chosen);
  }
  return chosen;
}

using Choice = Result<Proposal, NegotiateFailure>;

// The first proposal of the offer that agrees with one of ours. `fits` judges its SPI.
Choice choose(const SaPayload& offer, const std::vector<Accepted>& accepted, crypto::DhGroup ke_group, auto fits) {
  for (const Proposal& offered : offer.proposals) {
    if (!fits(offered)) continue;
    for (const Accepted& ours : accepted) {
      const auto chosen = common(offered, ours, ke_group);
      if (!chosen) continue;
      const crypto::DhGroup group = group_of(*chosen);
      // RFC 7296 §1.2, §1.3: say which group is wanted.
      if (group != crypto::DhGroup::none && group != ke_group) return refuse(NegotiateError::invalid_ke, group);
      return *chosen;
    }
  }
  return refuse(NegotiateError::no_common_proposal);
}

SaPayload answer_of(Proposal chosen, Octets spi) {
  chosen.spi = std::move(spi);
  return SaPayload{{std::move(chosen)}};
}

// RFC 7296 §2.7, §3.3.6: of the proposal with that number, exactly one transform of each type, none that was not in it.
bool is_subset(const Proposal& answer, const Proposal& offered) {
  if (answer.protocol != offered.protocol || answer.spi.size() != offered.spi.size() || has_unknown_type(answer))
    return false;
  const auto was_offered = [&](const Transform& t) { return std::ranges::count(offered.transforms, t) != 0; };
  if (!std::ranges::all_of(answer.transforms, was_offered)) return false;
  return std::ranges::all_of(transform_types, [&](TransformType type) {
    const auto theirs = of_type(answer, type), ours = of_type(offered, type);
    if (theirs.size() > 1) return false;
    const bool optional = std::ranges::any_of(ours, [](const Transform& t) { return t.id == 0; }) &&
                          (type == TransformType::key_exchange || type == TransformType::integrity);
    return !theirs.empty() || ours.empty() || optional;
  });
}

// The one proposal of an answer, when it is a choice from our offer.
const Proposal* accepted_answer(const SaPayload& answer, const SaPayload& offer) {
  if (answer.proposals.size() != 1) return nullptr;
  const Proposal& chosen = answer.proposals.front();
  const auto offered = std::ranges::find(offer.proposals, chosen.number, &Proposal::number);
  return offered != offer.proposals.end() && is_subset(chosen, *offered) ? &chosen : nullptr;
}

}  // namespace

SaPayload offer_ike(std::span<const IkeProposal> proposals, Bytes spi) {
  return offer_of(accepted_ike(proposals), octets_of(spi));
}

SaPayload offer_esp(std::span<const EspProposal> proposals, std::uint32_t spi,
                    std::span<const crypto::DhGroup> groups) {
  return offer_of(accepted_esp(proposals, groups, false), spi_octets(spi));
}

Result<ChosenIke, NegotiateFailure> choose_ike(const SaPayload& offer, std::span<const IkeProposal> accepted,
                                               crypto::DhGroup ke_group, Bytes spi) {
  const auto fits = [&](const Proposal& offered) { return offered.spi.size() == spi.size(); };
  POSTERN_TRY(chosen, choose(offer, accepted_ike(accepted), ke_group, fits));
  const auto suite = ike_suite(chosen);
  if (!suite) return refuse(NegotiateError::no_common_proposal);
  Octets peer_spi = chosen.spi;
  return ChosenIke{*suite, std::move(peer_spi), answer_of(std::move(chosen), octets_of(spi))};
}

Result<ChosenEsp, NegotiateFailure> choose_esp(const SaPayload& offer, std::span<const EspProposal> accepted,
                                               std::span<const crypto::DhGroup> groups, crypto::DhGroup ke_group,
                                               std::uint32_t spi, bool first) {
  if (first) groups = {};
  const auto ours = accepted_esp(accepted, groups, !first && groups.empty());
  const auto fits = [](const Proposal& offered) { return esp_spi(offered) != 0; };
  POSTERN_TRY(chosen, choose(offer, ours, ke_group, fits));
  const auto suite = esp_suite(chosen);
  if (!suite) return refuse(NegotiateError::no_common_proposal);
  const std::uint32_t peer_spi = esp_spi(chosen);
  return ChosenEsp{*suite, peer_spi, answer_of(std::move(chosen), spi_octets(spi))};
}

Result<ChosenIke, NegotiateFailure> accept_ike(const SaPayload& answer, const SaPayload& offer) {
  const Proposal* const chosen = accepted_answer(answer, offer);
  const auto suite = chosen == nullptr ? std::nullopt : ike_suite(*chosen);
  if (!suite) return refuse(NegotiateError::not_offered);
  return ChosenIke{*suite, chosen->spi, answer};
}

Result<ChosenEsp, NegotiateFailure> accept_esp(const SaPayload& answer, const SaPayload& offer, bool first) {
  const Proposal* const chosen = accepted_answer(answer, offer);
  const auto suite = chosen == nullptr ? std::nullopt : esp_suite(*chosen);
  if (!suite || esp_spi(*chosen) == 0) return refuse(NegotiateError::not_offered);
  if (first && suite->group != crypto::DhGroup::none) return refuse(NegotiateError::not_offered);
  return ChosenEsp{*suite, esp_spi(*chosen), answer};
}

}  // namespace postern::ike
