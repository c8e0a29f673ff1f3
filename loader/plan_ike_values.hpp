// What the document says, in the words of IKE: one value each, without the rest of the plan (plan_ike.cpp).
#pragma once

#include <cstdint>
#include <vector>

#include "config/model.hpp"
#include "ike/policy.hpp"

namespace postern::loader {

[[nodiscard]] ike::IkeProposal proposal_of(const config::Ikev2Proposal& in);
// A DN is compared by certificate maps alone: its identity is without a value.
[[nodiscard]] ike::Identity identity_of(const config::IdentityRule& rule);
[[nodiscard]] ike::IdentityMatch match_of(const config::IdentityRule& rule);
[[nodiscard]] ike::AuthKind auth_of(config::AuthMethodWord method);
// Null: none.
[[nodiscard]] ike::Ppk ppk_of(const config::Ppk* in);
[[nodiscard]] ike::Childless childless_of(config::Childless in);
[[nodiscard]] bool needs_key(config::AuthMethodWord method);
[[nodiscard]] std::vector<ike::EapType> eap_types_of(const std::vector<config::EapMethodWord>& methods);
[[nodiscard]] ike::Dpd dpd_of(const config::Dpd& in);
[[nodiscard]] ike::EspProposal esp_proposal_of(const config::TransformSet& set, bool extended);
[[nodiscard]] ike::RedirectPolicy redirect_of(const config::RedirectProfile& in, const config::RedirectLimits& limits);
[[nodiscard]] ike::ProtocolOptions options_of(const config::Ikev2Options& in);
[[nodiscard]] ike::Initiate initiate_of(config::Initiate in);

[[nodiscard]] ike::Selector selector_of_any(Family family);
// One selector for each range of ports: the payload's list means any of them (RFC 7296 §2.9).
[[nodiscard]] std::vector<ike::Selector> side_of(const Prefix& prefix, std::uint8_t protocol,
                                                 const std::vector<config::PortRange>& ports);
// RFC 4301 §7.2, RFC 7296 §3.13.1: the packets whose ports cannot be seen.
[[nodiscard]] std::vector<ike::Selector> opaque_side(const Prefix& prefix, std::uint8_t protocol);

}  // namespace postern::loader
