#include "ike/keys.hpp"

#include <algorithm>

#include "crypto/ah_transforms.hpp"
#include "crypto/digest.hpp"
#include "crypto/ike_cipher.hpp"
#include "ike/octets.hpp"

namespace postern::ike {
namespace {

Bytes bytes_of(const Secret* secret) { return secret == nullptr ? Bytes{} : secret->bytes(); }

Octets both_spis(std::uint64_t spi_i, std::uint64_t spi_r) {
  OctetWriter out;
  out.u64(spi_i);
  out.u64(spi_r);
  return out.take();
}

// Takes key material apart, in order.
class Slices {
 public:
  explicit Slices(const Secret& material) : in_(material.bytes()) {}
  Secret next(std::size_t bytes) { return Secret::copy_of(in_.take(bytes)); }

 private:
  ByteReader in_;
};

// §2.14: {SK_d | SK_ai | SK_ar | SK_ei | SK_er | SK_pi | SK_pr} = prf+(SKEYSEED, Ni | Nr | SPIi | SPIr).
Result<IkeKeys> expand(const IkeSuite& suite, const KeyInputs& inputs, const Secret& skeyseed) {
  POSTERN_TRY(sizes, crypto::ike_sizes_of(suite.cipher));
  const std::size_t prf = crypto::prf_bytes(suite.prf), integrity = sizes.integrity_key_bytes, cipher = sizes.key_bytes;
  const Octets spis = both_spis(inputs.spi_i, inputs.spi_r);
  POSTERN_TRY(material, crypto::prf_plus(suite.prf, skeyseed.bytes(), {inputs.nonce_i, inputs.nonce_r, spis},
                                         3 * prf + 2 * integrity + 2 * cipher));
  Slices slices(material);
  IkeKeys keys;
  keys.d = slices.next(prf);
  keys.ai = slices.next(integrity);
  keys.ar = slices.next(integrity);
  keys.ei = slices.next(cipher);
  keys.er = slices.next(cipher);
  keys.pi = slices.next(prf);
  keys.pr = slices.next(prf);
  return keys;
}

}  // namespace

Result<IkeKeys> derive_ike_keys(const IkeSuite& suite, const KeyInputs& inputs) {
  constexpr std::size_t short_nonce = 8;
  const bool in_short = crypto::takes_short_nonces(suite.prf);
  const auto part_of = [&](Bytes nonce) { return in_short ? nonce.first(std::min(short_nonce, nonce.size())) : nonce; };
  Octets nonces = octets_of(part_of(inputs.nonce_i));
  const Bytes nonce_r = part_of(inputs.nonce_r);
  nonces.insert(nonces.end(), nonce_r.begin(), nonce_r.end());
  POSTERN_TRY(skeyseed, crypto::prf(suite.prf, nonces, {bytes_of(inputs.shared)}));
  return expand(suite, inputs, skeyseed);
}

Result<IkeKeys> rekey_ike_keys(const IkeSuite& suite, const KeyInputs& inputs, crypto::Prf old_prf,
                               const Secret& old_d) {
  POSTERN_TRY(skeyseed, crypto::prf(old_prf, old_d.bytes(), {bytes_of(inputs.shared), inputs.nonce_i, inputs.nonce_r}));
  return expand(suite, inputs, skeyseed);
}

Result<MixedKeys> mix_ppk(crypto::Prf prf, const Secret& ppk, const IkeKeys& keys) {
  const auto mixed = [&](const Secret& key) {
    return crypto::prf_plus(prf, ppk.bytes(), {key.bytes()}, crypto::prf_bytes(prf));
  };
  POSTERN_TRY(d, mixed(keys.d));
  POSTERN_TRY(pi, mixed(keys.pi));
  POSTERN_TRY(pr, mixed(keys.pr));
  return MixedKeys{std::move(d), std::move(pi), std::move(pr)};
}

Result<ChildKeys> derive_child_keys(const crypto::Transform& transform, crypto::Prf prf, const Secret& d, Bytes nonce_i,
                                    Bytes nonce_r, const Secret* shared) {
  const bool ah = transform.cipher == crypto::Cipher::none;
  POSTERN_TRY(sizes, ah ? crypto::ah_sizes_of(transform.integrity) : crypto::sizes_of(transform));
  const std::size_t cipher = sizes.key_bytes, integrity = sizes.integrity_key_bytes;
  POSTERN_TRY(keymat, crypto::prf_plus(prf, d.bytes(), {bytes_of(shared), nonce_i, nonce_r}, 2 * (cipher + integrity)));
  Slices slices(keymat);
  ChildKeys keys;
  keys.initiator_cipher = slices.next(cipher);
  keys.initiator_integrity = slices.next(integrity);
  keys.responder_cipher = slices.next(cipher);
  keys.responder_integrity = slices.next(integrity);
  return keys;
}

Result<Octets> signed_octets(crypto::Prf prf, Bytes signed_message, Bytes other_nonce, const Secret& sk_p,
                             Bytes id_octets) {
  POSTERN_TRY(maced_id, crypto::prf(prf, sk_p.bytes(), {id_octets}));
  OctetWriter out;
  out.bytes(signed_message);
  out.bytes(other_nonce);
  out.bytes(maced_id.bytes());
  return out.take();
}

Result<Secret> psk_auth(crypto::Prf prf, const Secret& key, Bytes signed_message, Bytes other_nonce, const Secret& sk_p,
                        Bytes id_octets) {
  POSTERN_TRY(padded, crypto::prf(prf, key.bytes(), {as_bytes("Key Pad for IKEv2")}));
  POSTERN_TRY(maced_id, crypto::prf(prf, sk_p.bytes(), {id_octets}));
  return crypto::prf(prf, padded.bytes(), {signed_message, other_nonce, maced_id.bytes()});
}

Octets nat_detection_hash(std::uint64_t spi_i, std::uint64_t spi_r, const IpAddress& address, std::uint16_t port) {
  OctetWriter end;
  end.address(address);
  end.u16(port);
  const auto digest = crypto::sha1({both_spis(spi_i, spi_r), end.take()});
  return digest ? octets_of(*digest) : Octets{};
}

}  // namespace postern::ike
