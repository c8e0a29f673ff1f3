// Key material of IKEv2 (RFC 7296 §2.14, §2.15, §2.17, §2.18). All of it Secret.
#pragma once

#include <cstdint>
#include <optional>

#include "base/secret.hpp"
#include "crypto/prf.hpp"
#include "ike/negotiate.hpp"

namespace postern::ike {

struct IkeKeys {
  Secret d, ai, ar, ei, er, pi, pr;
};
struct KeyInputs {
  Bytes nonce_i, nonce_r;
  std::uint64_t spi_i = 0, spi_r = 0;
  const Secret* shared = nullptr;  // g^ir
};
// §2.14.
[[nodiscard]] Result<IkeKeys> derive_ike_keys(const IkeSuite& suite, const KeyInputs& inputs);
// §2.18: SKEYSEED = prf(SK_d (old), g^ir | Ni | Nr), with the old SA's PRF.
[[nodiscard]] Result<IkeKeys> rekey_ike_keys(const IkeSuite& suite, const KeyInputs& inputs, crypto::Prf old_prf,
                                             const Secret& old_d);

// RFC 8784 §3: SK_d, SK_pi and SK_pr with a PPK in them, of the same lengths.
struct MixedKeys {
  Secret d, pi, pr;
};
[[nodiscard]] Result<MixedKeys> mix_ppk(crypto::Prf prf, const Secret& ppk, const IkeKeys& keys);

// §2.17: keys of the SA that carries the exchange's initiator's traffic, and of the other one.
struct ChildKeys {
  Secret initiator_cipher, initiator_integrity, responder_cipher, responder_integrity;
};
[[nodiscard]] Result<ChildKeys> derive_child_keys(const crypto::Transform& transform, crypto::Prf prf, const Secret& d,
                                                  Bytes nonce_i, Bytes nonce_r, const Secret* shared);

// §2.15, signatures: {Initiator,Responder}SignedOctets = message | nonce of the other side | prf(SK_p, ID octets).
[[nodiscard]] Result<Octets> signed_octets(crypto::Prf prf, Bytes signed_message, Bytes other_nonce, const Secret& sk_p,
                                           Bytes id_octets);
// §2.15, shared key: prf(prf(key, "Key Pad for IKEv2"), message | nonce of the other side | prf(SK_p, ID octets)).
[[nodiscard]] Result<Secret> psk_auth(crypto::Prf prf, const Secret& key, Bytes signed_message, Bytes other_nonce,
                                      const Secret& sk_p, Bytes id_octets);

// §2.23: SHA-1 of SPIi | SPIr | address | port. Empty where there is no SHA-1, which is no hash of a peer.
[[nodiscard]] Octets nat_detection_hash(std::uint64_t spi_i, std::uint64_t spi_r, const IpAddress& address,
                                        std::uint16_t port);

}  // namespace postern::ike
