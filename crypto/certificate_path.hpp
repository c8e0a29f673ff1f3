// Whether a certificate may be believed (RFC 5280 §6 by OpenSSL's X509_STORE, RFC 4945 §5), and whether it names an IKE
// identity. A failure says which certificate failed which check, in words.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "crypto/certificate.hpp"

namespace postern::crypto {

enum class PathCheck : std::uint8_t { chain, dates, constraints, usage, strength };
struct PathProblem {
  PathCheck check{};
  std::string certificate;  // its subject
  std::string summary, detail, remedy;
};

// From `leaf` over `others` (in any order, none of them trusted) to one of `anchors`, at `now` (seconds since 1970).
// Signatures by SHA-1 and keys below 112 bits of strength are refused.
[[nodiscard]] Result<void, PathProblem> check_path(const Certificate& leaf, std::span<const Certificate> others,
                                                   std::span<const Certificate> anchors, std::int64_t now);

// RFC 4945 §5.1.3.2 and §5.1.3.12: may its key sign IKE's AUTH? A certificate without the extensions may.
[[nodiscard]] Result<void, PathProblem> check_usage(const Certificate& leaf);

// RFC 5280 §4.2.1.12: may it prove a TLS server, or a client? A certificate without the extensions may.
[[nodiscard]] bool is_for_tls(const Certificate& leaf, bool server);

// RFC 4945 §3.1: the identity is in the certificate. `type`: 1, 5 addresses, 2 FQDN, 3 e-mail, 9 DN (RFC 7296 §3.5).
// No wildcards; names compare without regard to case.
[[nodiscard]] bool names_identity(const Certificate& leaf, std::uint8_t type, Bytes identity);

// The readable form of a DER name, or of what is none.
[[nodiscard]] std::string name_of_der(Bytes der);

}  // namespace postern::crypto
