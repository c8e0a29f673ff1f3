// X.509 certificates over OpenSSL: what IKE asks of one. Bytes of peers come in here; nothing is believed before
// crypto/certificate_path.hpp has judged it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"

struct x509_st;
struct evp_pkey_st;

namespace postern::crypto {

enum class KeyKind : std::uint8_t { rsa, ecdsa, ed25519, other };
[[nodiscard]] std::string text(KeyKind kind);

// Immutable and cheap to copy. Thread-safe to read.
class Certificate {
 public:
  // One DER certificate and nothing behind it.
  [[nodiscard]] static Result<Certificate> parse(Bytes der);
  // Every certificate of a PEM text, in order; an error when there is none, or more than `most`.
  [[nodiscard]] static Result<std::vector<Certificate>> from_pem(Bytes text, std::size_t most = 64);

  [[nodiscard]] std::vector<std::byte> der() const;
  [[nodiscard]] std::vector<std::byte> subject_der() const;
  // RFC 2253, what is no printable ASCII escaped, cut at 256 characters.
  [[nodiscard]] std::string subject() const;
  [[nodiscard]] std::string issuer() const;
  [[nodiscard]] std::string serial() const;       // hex
  [[nodiscard]] std::int64_t not_before() const;  // seconds since 1970
  [[nodiscard]] std::int64_t not_after() const;
  [[nodiscard]] bool is_authority() const;
  [[nodiscard]] KeyKind key_kind() const;
  [[nodiscard]] int key_bits() const;
  // SHA-1 of its SubjectPublicKeyInfo (RFC 7296 §3.7) and SHA-256 of the whole.
  [[nodiscard]] Result<std::array<std::byte, 20>> key_hash() const;
  [[nodiscard]] Result<std::array<std::byte, 32>> fingerprint() const;
  // "DNS:gw.example.org", "IP:192.0.2.1", "email:a@example.org": at most 32, escaped.
  [[nodiscard]] std::vector<std::string> alternative_names() const;

  [[nodiscard]] x509_st* handle() const { return handle_.get(); }
  [[nodiscard]] evp_pkey_st* key() const;  // borrowed; nullptr: of a kind that OpenSSL does not know

 private:
  explicit Certificate(x509_st* owned);
  std::shared_ptr<x509_st> handle_;
};

// "2026-05-01T12:00:00Z"
[[nodiscard]] std::string time_text(std::int64_t seconds);

}  // namespace postern::crypto
