#include "ike/proposal_match.hpp"

#include <algorithm>

#include "crypto/transforms.hpp"

namespace postern::ike {
namespace {

Transform wire(const EncryptionChoice& choice) {
  Transform out{TransformType::encryption, crypto::ike_id(choice.cipher), std::nullopt, false};
  if (crypto::has_key_length_attribute(choice.cipher)) out.key_bits = choice.key_bits;
  return out;
}
Transform wire(TransformType type, auto id) { return {type, static_cast<std::uint16_t>(id), std::nullopt, false}; }
Transform wire(crypto::Integrity integrity) { return wire(TransformType::integrity, crypto::ike_id(integrity)); }
Transform wire(crypto::Prf prf) { return wire(TransformType::prf, prf); }
Transform wire(crypto::DhGroup group) { return wire(TransformType::key_exchange, group); }

// RFC 7296 §3.3: ciphers that need an integrity transform and AEADs go in separate proposals.
std::optional<Accepted> part_of(const IkeProposal& proposal, bool aead) {
  Accepted out;
  out.wire.protocol = ProtocolId::ike;
  auto& transforms = out.wire.transforms;
  for (const EncryptionChoice& choice : proposal.encryption)
    if (crypto::is_aead(choice.cipher) == aead) transforms.push_back(wire(choice));
  if (transforms.empty() || (!aead && proposal.integrity.empty())) return std::nullopt;
  if (!aead)
    for (const crypto::Integrity integrity : proposal.integrity) transforms.push_back(wire(integrity));
  for (const crypto::Prf prf : proposal.prf) transforms.push_back(wire(prf));
  for (const crypto::DhGroup group : proposal.groups) transforms.push_back(wire(group));
  return out;
}

bool may_be_none(TransformType type) { return type == TransformType::integrity || type == TransformType::key_exchange; }

// NONE has number 0 in both.
bool is_none(const Transform& transform) { return may_be_none(transform.type) && transform == wire(transform.type, 0); }

// §3.3.6: a type that one side leaves out agrees with NONE.
std::optional<Agreement> agree_on_none(std::span<const Transform> offered) {
  if (offered.empty()) return Agreement{};
  const auto none = std::ranges::find_if(offered, is_none);
  if (none == offered.end()) return std::nullopt;
  return Agreement{*none};
}

bool acceptable_group(const Transform& offered, const Accepted& accepted) {
  if (accepted.any_group && !offered.key_bits && !offered.unknown_attribute) {
    const auto* const group = crypto::find_group(offered.id);
    return group != nullptr && !group->weak;  // weak ones are for who names them
  }
  return std::ranges::count(accepted.wire.transforms, offered) != 0;
}

std::optional<Agreement> agree_on_group(std::span<const Transform> offered, const Accepted& accepted,
                                        crypto::DhGroup ke_group) {
  std::optional<Agreement> first;
  for (const Transform& transform : offered) {
    if (is_none(transform) || !acceptable_group(transform, accepted)) continue;
    if (transform == wire(ke_group)) return Agreement{transform};
    if (!first) first = Agreement{transform};
  }
  if (accepted.any_group)
    if (auto none = agree_on_none(offered)) return none;
  return first;
}

}  // namespace

std::vector<Accepted> accepted_ike(std::span<const IkeProposal> proposals) {
  std::vector<Accepted> out;
  for (const IkeProposal& proposal : proposals) {
    if (proposal.encryption.empty()) continue;
    const bool aead_first = crypto::is_aead(proposal.encryption.front().cipher);
    for (const bool aead : {aead_first, !aead_first})
      if (auto part = part_of(proposal, aead)) out.push_back(std::move(*part));
  }
  return out;
}

std::vector<Accepted> accepted_esp(std::span<const EspProposal> proposals, std::span<const crypto::DhGroup> groups,
                                   bool any_group) {
  std::vector<Accepted> out;
  for (const EspProposal& proposal : proposals) {
    Accepted one{{}, any_group};
    one.wire.protocol = ProtocolId::esp;
    auto& transforms = one.wire.transforms;
    transforms.push_back(wire(EncryptionChoice{proposal.transform.cipher, proposal.transform.key_bits}));
    if (proposal.transform.integrity != crypto::Integrity::none)
      transforms.push_back(wire(proposal.transform.integrity));
    for (const crypto::DhGroup group : groups) transforms.push_back(wire(group));
    if (proposal.extended_sequence) transforms.push_back(wire(TransformType::esn, 1));
    transforms.push_back(wire(TransformType::esn, 0));
    out.push_back(std::move(one));
  }
  return out;
}

std::vector<Transform> of_type(const Proposal& proposal, TransformType type) {
  std::vector<Transform> out;
  std::ranges::copy_if(proposal.transforms, std::back_inserter(out),
                       [&](const Transform& t) { return t.type == type; });
  return out;
}

std::optional<Agreement> agree(TransformType type, const Proposal& offered, const Accepted& accepted,
                               crypto::DhGroup ke_group) {
  const auto theirs = of_type(offered, type), ours = of_type(accepted.wire, type);
  if (type == TransformType::key_exchange && (accepted.any_group || !ours.empty()))
    return agree_on_group(theirs, accepted, ke_group);
  if (ours.empty()) {
    if (may_be_none(type)) return agree_on_none(theirs);
    return theirs.empty() ? std::optional(Agreement{}) : std::nullopt;
  }
  const auto found = std::ranges::find_first_of(theirs, ours);
  if (found == theirs.end()) return std::nullopt;
  return Agreement{*found};
}

bool has_unknown_type(const Proposal& proposal) {
  return std::ranges::any_of(proposal.transforms, [](const Transform& t) {
    return std::ranges::find(transform_types, t.type) == transform_types.end();
  });
}

}  // namespace postern::ike
