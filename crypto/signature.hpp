// Signatures of IKEv2's AUTH payload: RFC 7427 (method 14), RFC 7296's RSA (1) and RFC 4754's ECDSA (9, 10, 11), over
// OpenSSL. Private keys stay in OpenSSL's locked heap once lock_private_keys() was called.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "crypto/certificate.hpp"

namespace postern::crypto {

// IANA "IKEv2 Hash Algorithms". `identity`: the signature algorithm hashes by itself (RFC 8420).
enum class SignatureHash : std::uint16_t { sha1 = 1, sha256 = 2, sha384 = 3, sha512 = 4, identity = 5 };

struct SignatureScheme {
  KeyKind key = KeyKind::other;
  SignatureHash hash = SignatureHash::sha256;
  bool pss = false;
  bool fixed_form = false;  // ECDSA as r | s of the curve's length (RFC 4754), not as DER
  bool operator==(const SignatureScheme&) const = default;
};
[[nodiscard]] std::string text(const SignatureScheme& scheme);  // "RSA-PSS with SHA-256"

// The first locked pages of OpenSSL's secure heap, where private numbers of keys go from then on. Once a process,
// before it gives up its privileges. Error: the pages could not be locked.
[[nodiscard]] Result<void> lock_private_keys();

// Uses each kind of key once, for a process that cannot open files later.
[[nodiscard]] Result<void> wake_signatures();

class PrivateKey {
 public:
  // PKCS#8, PKCS#1 or SEC1 in PEM, not encrypted.
  [[nodiscard]] static Result<PrivateKey> from_pem(Bytes text);
  [[nodiscard]] bool belongs_to(const Certificate& certificate) const;
  [[nodiscard]] KeyKind kind() const;
  [[nodiscard]] int bits() const;
  [[nodiscard]] evp_pkey_st* handle() const { return handle_.get(); }

 private:
  explicit PrivateKey(evp_pkey_st* owned);
  std::shared_ptr<evp_pkey_st> handle_;
};

[[nodiscard]] Result<std::vector<std::byte>> sign(const PrivateKey& key, const SignatureScheme& scheme, Bytes message);
// Error: it does not verify, or the key is of another kind than the scheme.
[[nodiscard]] Result<void> verify(const Certificate& signer, const SignatureScheme& scheme, Bytes message,
                                  Bytes signature);

// RFC 7427 §3: the AlgorithmIdentifier, DER, that stands before a signature of method 14; appendix A has them.
[[nodiscard]] std::vector<std::byte> algorithm_identifier(const SignatureScheme& scheme);
// Nothing: none that IKE has a use for. RSASSA-PSS with parameters other than MGF1 by the same hash is none.
[[nodiscard]] std::optional<SignatureScheme> scheme_of(Bytes algorithm_identifier);

// The hash of RFC 7296's RSA method is in the signature itself: the one that it says, unverified.
[[nodiscard]] std::optional<SignatureHash> hash_in_rsa_signature(const Certificate& signer, Bytes signature);

}  // namespace postern::crypto
