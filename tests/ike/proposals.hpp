// Proposals for the tables of negotiation: ours as configured, and transforms by their IANA numbers.
#pragma once

#include <optional>
#include <vector>

#include "ike/negotiate.hpp"
#include "wire.hpp"

namespace postern::ike::test {

using crypto::Cipher;
using crypto::DhGroup;
using crypto::Integrity;
using crypto::Prf;

inline constexpr EncryptionChoice aes128{Cipher::aes_cbc, 128}, aes192{Cipher::aes_cbc, 192},
    aes256{Cipher::aes_cbc, 256}, gcm128{Cipher::aes_gcm_16, 128}, gcm256{Cipher::aes_gcm_16, 256},
    chacha{Cipher::chacha20_poly1305, 256};
inline constexpr auto sha1 = Integrity::hmac_sha1_96, sha256 = Integrity::hmac_sha256_128,
                      sha512 = Integrity::hmac_sha512_256;

inline const IkeProposal classic{"classic", {aes128}, {sha256}, {Prf::hmac_sha256}, {DhGroup::modp2048}};
inline const IkeProposal modern{
    "modern", {gcm256, chacha}, {}, {Prf::hmac_sha384}, {DhGroup::ecp384, DhGroup::curve25519}};

inline const EspProposal esp_cbc{{Cipher::aes_cbc, 128, sha256}, false},
    esp_gcm{{Cipher::aes_gcm_16, 256, Integrity::none}, false};

inline Transform encr(std::uint16_t id, std::optional<std::uint16_t> bits) {
  return {TransformType::encryption, id, bits, false};
}
inline Transform wire(TransformType type, std::uint16_t id) { return {type, id, std::nullopt, false}; }
inline Transform prf(std::uint16_t id) { return wire(TransformType::prf, id); }
inline Transform integ(std::uint16_t id) { return wire(TransformType::integrity, id); }
inline Transform group(std::uint16_t id) { return wire(TransformType::key_exchange, id); }
inline Transform esn(std::uint16_t id) { return wire(TransformType::esn, id); }

inline SaPayload offer(std::vector<Transform> transforms, ProtocolId protocol = ProtocolId::ike, Octets spi = {}) {
  return {{{1, protocol, std::move(spi), std::move(transforms)}}};
}
inline const Octets esp_spi = octets("11223344");
inline SaPayload esp_offer(std::vector<Transform> transforms) {
  return offer(std::move(transforms), ProtocolId::esp, esp_spi);
}

using Ikes = std::vector<IkeProposal>;
using Esps = std::vector<EspProposal>;
using Groups = std::vector<DhGroup>;

// What went wrong, or nothing.
inline std::optional<NegotiateError> failure(const auto& result) {
  return result ? std::nullopt : std::optional(result.error().error);
}

}  // namespace postern::ike::test
