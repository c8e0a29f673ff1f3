// What postern-ike asks postern-pki, and what it is answered: signatures by private keys that postern-ike never sees,
// and judgements about certificates that it never parses. Plain values; pki/channel.hpp puts them on the wire between
// the two. Numbers are IANA's of IKEv2: authentication methods, certificate encodings, hash algorithms, identity types.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/secret.hpp"

namespace postern::pki {

using Octets = std::vector<std::byte>;

// What one message of a peer may bring (RFC 7296 §3.6 sets no bound; nobody else's chain is as long).
inline constexpr std::size_t max_certificates = 12, max_certificate_bytes = 16U << 10, max_chain_bytes = 48U << 10;
inline constexpr std::size_t max_trust_rules = 16;

// The body of a CERT payload (RFC 7296 §3.6). Encoding 4: X.509 certificate, signature; 12 and 13: SHA-1 of what is
// under a URL, a certificate or a bundle, and the URL. To postern-pki postern-ike gives what it found there: a
// certificate as encoding 4, a bundle itself as 13.
struct CertificatePayload {
  std::uint8_t encoding = 0;
  Octets data;
  bool operator==(const CertificatePayload&) const = default;
};
inline constexpr std::size_t authority_bytes = 20;  // SHA-1 of a CA's SubjectPublicKeyInfo (RFC 7296 §3.7)
inline constexpr std::uint8_t x509_signature_encoding = 4, certificate_url_encoding = 12, bundle_url_encoding = 13;
inline constexpr std::size_t url_hash_bytes = 20;

// How an end authenticates with a certificate, in the guide's words (IKE-39).
enum class SignatureKind : std::uint8_t { rsa = 1, ecdsa = 2, any = 3 };  // any: Ed25519 too

struct SignQuestion {
  std::string trustpoint;
  SignatureKind kind = SignatureKind::any;
  Octets message;                          // what is signed: RFC 7296 §2.15, {Initiator,Responder}SignedOctets
  std::vector<std::uint16_t> peer_hashes;  // of its SIGNATURE_HASH_ALGORITHMS; empty: it said none, RFC 7427 §4
  bool allow_sha1 = false;                 // where the old RSA method is all that is left
  bool rsa_pkcs1 = false;                  // PKCS#1 instead of PSS in RFC 7427's method
  bool peer_fetches = false;               // it takes URLs for certificates (RFC 7296 §3.10.1)
};
struct Signed {
  std::uint8_t method = 0;
  Octets data;                                   // of the AUTH payload
  std::vector<CertificatePayload> certificates;  // own first
  std::int64_t valid_s = 0;                      // how much longer the own certificate is valid
  std::string algorithm;                         // "ECDSA with SHA-256"
};

// Whom one connection trusts: a chain to the CA of one of these trustpoints. `maps`: names of certificate maps.
struct TrustRule {
  std::vector<std::string> trustpoints;
  SignatureKind kind = SignatureKind::any;
  bool identity_matches = false;  // a rule for identities already accepts the peer
  std::vector<std::string> maps;  // else one of these has to match its certificate
  bool allow_sha1 = false;
};
struct ValidateQuestion {
  std::uint8_t identity_type = 0;  // of the peer's ID payload
  Octets identity;
  std::vector<CertificatePayload> certificates;  // in the order of the payloads: the first one's key signed
  std::uint8_t method = 0;
  Octets auth;     // the AUTH payload's data
  Octets message;  // what it signs
  std::vector<TrustRule> rules;
  std::vector<std::uint16_t> own_hashes;  // of our SIGNATURE_HASH_ALGORITHMS; empty: we said none, RFC 7427 §4
  bool peer_said_hashes = false;          // and whether the peer sent its own
};

// One step of a TLS handshake of EAP-TLS (RFC 5216, RFC 9190), which runs where the key is. `begins`: what there was
// under that number is forgotten. `identity`: what the other end's certificate must name.
struct TlsQuestion {
  std::uint64_t conversation = 0;
  bool begins = false, server = false;
  std::string trustpoint;           // with our certificate and key
  std::vector<std::string> verify;  // with the CAs
  std::uint8_t identity_type = 0;
  Octets identity;
  Octets records;  // of the other end; empty: a client begins
};
struct TlsProgress {
  Octets records;  // for the other end
  bool finished = false, failed = false;
  bool by_peer = false;  // failed: by an alert of its
  std::string why;
  Secret key;                // finished: 64 bytes
  std::string subject;       // finished: of the other end's certificate
  std::int64_t valid_s = 0;  // and how much longer both certificates are valid
};

// Why not. `check` is a word for logs and tests; the rest is for a person.
enum class RefusalKind : std::uint8_t {
  unavailable,     // postern-pki is not there, or busy
  no_credential,   // the trustpoint has no certificate or no key of this kind
  no_certificate,  // the peer sent none
  malformed,       // a certificate or signature that cannot be read, or too much of it
  algorithm,       // a signature algorithm that may not be used here
  bad_signature,   // the AUTH payload does not verify
  bad_chain,       // path validation failed
  bad_usage,       // key usage or extended key usage
  identity,        // the identity is not in the certificate
  no_map,          // no certificate map matches
};
struct Refusal {
  RefusalKind kind{};
  std::string certificate;  // the subject of the one that failed; empty: none did
  std::string summary;      // "the certificate has expired"
  std::string detail;       // what was found and what was wanted, dates and clock included
  std::string remedy;
};

struct Validated {
  std::vector<std::optional<Refusal>> verdicts;  // one a rule; nothing: the peer is who it says
  std::string subject, issuer;                   // of the peer's certificate, one line each
  std::int64_t valid_s = 0;                      // how much longer it is valid
  std::string algorithm;                         // "ECDSA with SHA-256"
};

using Question = std::variant<SignQuestion, ValidateQuestion, TlsQuestion>;
using Answer = std::variant<Refusal, Signed, Validated, TlsProgress>;

// What postern-ike knows of the trustpoints without asking, told by postern-pki whenever it changes.
struct TrustpointFacts {
  std::string name;
  Octets authorities;  // of the CAs: authority_bytes each
  Octets subject;      // own certificate's subject, DER; empty: it has none
  bool operator==(const TrustpointFacts&) const = default;
};

}  // namespace postern::pki
