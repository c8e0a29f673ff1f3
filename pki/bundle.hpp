// Bundles of certificates (RFC 7296 §3.6, encoding 13), in a module of explicit tags:
//   CertificateOrCRL  ::= CHOICE { cert [0] Certificate, crl [1] CertificateList }
//   CertificateBundle ::= SEQUENCE OF CertificateOrCRL
// Only the shells are read and written here, as DER; what is in them is crypto/certificate.hpp's.
#pragma once

#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "pki/questions.hpp"

namespace postern::pki {

// The certificates in order, borrowed from `der`; lists of revoked ones are passed over. Error: it is none, holds no
// certificate, or more than max_certificates.
[[nodiscard]] Result<std::vector<Bytes>> read_bundle(Bytes der);
[[nodiscard]] Octets write_bundle(const std::vector<Octets>& certificates);

}  // namespace postern::pki
