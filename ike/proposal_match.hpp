// How one proposal from the wire agrees with one of ours, transform type by transform type. Between negotiate.cpp and
// negotiate_explain.cpp.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ike/negotiate.hpp"

namespace postern::ike {

// In the order in which transforms are written and differences are told.
inline constexpr std::array transform_types = {TransformType::encryption, TransformType::integrity, TransformType::prf,
                                               TransformType::key_exchange, TransformType::esn};

// A configured proposal in the form it has on the wire. All its ciphers are AEADs, without integrity, or none is.
struct Accepted {
  Proposal wire;
  bool any_group = false;  // whatever group the peer brings, or none
};
[[nodiscard]] std::vector<Accepted> accepted_ike(std::span<const IkeProposal> proposals);
[[nodiscard]] std::vector<Accepted> accepted_esp(std::span<const EspProposal> proposals,
                                                 std::span<const crypto::DhGroup> groups, bool any_group);

[[nodiscard]] std::vector<Transform> of_type(const Proposal& proposal, TransformType type);

// `chosen` is empty when the type is in neither proposal.
struct Agreement {
  std::optional<Transform> chosen;
};
[[nodiscard]] std::optional<Agreement> agree(TransformType type, const Proposal& offered, const Accepted& accepted,
                                             crypto::DhGroup ke_group);

// A transform of a type that we do not know makes its proposal unacceptable (RFC 7296 §3.3.6).
[[nodiscard]] bool has_unknown_type(const Proposal& proposal);

// IANA's names, of those too that we do not offer: "AES-CBC-256", "3DES", "HMAC-SHA256-128", "group 19", "ENCR 99".
[[nodiscard]] std::string text(const Transform& transform);

}  // namespace postern::ike
