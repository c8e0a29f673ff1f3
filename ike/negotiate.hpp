// Proposals: what we offer, what we choose, and why nothing fits (RFC 7296 §2.7, §3.3; RFC 5282 §8 for AEAD). Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "crypto/dh.hpp"
#include "crypto/packet_cipher.hpp"
#include "crypto/prf.hpp"
#include "ike/payloads.hpp"

namespace postern::ike {

struct EncryptionChoice {
  crypto::Cipher cipher{};
  std::uint16_t key_bits = 0;
  bool operator==(const EncryptionChoice&) const = default;
};

// A configured IKEv2 proposal: any combination of one of each list. AEAD ciphers go without integrity.
struct IkeProposal {
  std::string name;
  std::vector<EncryptionChoice> encryption;
  std::vector<crypto::Integrity> integrity;
  std::vector<crypto::Prf> prf;
  std::vector<crypto::DhGroup> groups;
  bool operator==(const IkeProposal&) const = default;
};

// What an IKE SA agreed on.
struct IkeSuite {
  crypto::Transform cipher;
  crypto::Prf prf = crypto::Prf::hmac_sha256;
  crypto::DhGroup group = crypto::DhGroup::none;
  bool operator==(const IkeSuite&) const = default;
};

// One transform set of a child SA: of ESP, or of AH, which has an authenticator and no cipher. RFC 7296 §3.3: a
// proposal is of one protocol.
struct EspProposal {
  crypto::Transform transform;
  bool extended_sequence = false;  // both forms of sequence numbers, extended ones first; else those of 32 bits alone
  ProtocolId protocol = ProtocolId::esp;
  bool operator==(const EspProposal&) const = default;
};
struct EspSuite {
  crypto::Transform transform;
  bool extended_sequence = false;
  crypto::DhGroup group = crypto::DhGroup::none;  // PFS
  ProtocolId protocol = ProtocolId::esp;
  bool operator==(const EspSuite&) const = default;
};

enum class NegotiateError : std::uint8_t {
  no_common_proposal,  // NO_PROPOSAL_CHOSEN
  invalid_ke,          // the proposals agree, the KE payload's group does not: INVALID_KE_PAYLOAD with `group`
  not_offered,         // an answer that is no subset of our offer
};
struct NegotiateFailure {
  NegotiateError error{};
  crypto::DhGroup group = crypto::DhGroup::none;
};

// `spi`: 8 bytes when an IKE SA is rekeyed, else empty. A configured proposal with AEAD and other ciphers becomes two
// on the wire. Order is kept.
[[nodiscard]] SaPayload offer_ike(std::span<const IkeProposal> proposals, Bytes spi);
// `groups`: PFS, in order of preference; empty offers none (IKE_AUTH never has any). One wire proposal each.
[[nodiscard]] SaPayload offer_esp(std::span<const EspProposal> proposals, std::uint32_t spi,
                                  std::span<const crypto::DhGroup> groups);

struct ChosenIke {
  IkeSuite suite;
  Octets peer_spi;  // 8 bytes when an IKE SA is rekeyed
  SaPayload answer;
};
struct ChosenEsp {
  EspSuite suite;
  std::uint32_t peer_spi = 0;
  SaPayload answer;
};
// The responder's choice: the initiator's order decides (IKE-30), first of the proposals, then of each transform type;
// but a group that the KE payload already has is preferred among those allowed, and with none of those usable the error
// names the group we want. `spi`: ours, for the answer.
[[nodiscard]] Result<ChosenIke, NegotiateFailure> choose_ike(const SaPayload& offer,
                                                             std::span<const IkeProposal> accepted,
                                                             crypto::DhGroup ke_group, Bytes spi);
// `groups`: what we demand (TS-66: one of them must be in the offer and in the KE payload); empty: a peer may bring
// PFS of any group we have (TS-64) or none. `first`: this is IKE_AUTH, where no group is negotiated.
[[nodiscard]] Result<ChosenEsp, NegotiateFailure> choose_esp(const SaPayload& offer,
                                                             std::span<const EspProposal> accepted,
                                                             std::span<const crypto::DhGroup> groups,
                                                             crypto::DhGroup ke_group, std::uint32_t spi, bool first);

// The initiator's check: exactly one proposal, one transform of each type, all of them in what we offered.
[[nodiscard]] Result<ChosenIke, NegotiateFailure> accept_ike(const SaPayload& answer, const SaPayload& offer);
[[nodiscard]] Result<ChosenEsp, NegotiateFailure> accept_esp(const SaPayload& answer, const SaPayload& offer,
                                                             bool first);

// For a person: "encryption: the peer offers AES-CBC-256; we accept AES-GCM-128", the first type on which no proposal
// agrees, of the pair of proposals that come closest. For `show crypto ikev2 diagnose`.
struct Difference {
  std::string what;  // "encryption", "integrity", "PRF", "DH group", "ESN"
  std::string offered, accepted;
};
[[nodiscard]] std::optional<Difference> explain_ike(const SaPayload& offer, std::span<const IkeProposal> accepted);
[[nodiscard]] std::optional<Difference> explain_esp(const SaPayload& offer, std::span<const EspProposal> accepted,
                                                    std::span<const crypto::DhGroup> groups);

// "AES-CBC-256 / HMAC-SHA256-128 / PRF-HMAC-SHA256 / group 19", one line a proposal.
[[nodiscard]] std::vector<std::string> text(const SaPayload& offer);
[[nodiscard]] std::string text(crypto::DhGroup group);
[[nodiscard]] std::string text(crypto::Prf prf);

}  // namespace postern::ike
