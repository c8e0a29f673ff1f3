// What CERT payloads hold (RFC 7296 §3.6): ours, for peers that fetch and for others; and a peer's, bundles unpacked.
#pragma once

#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "pki/questions.hpp"
#include "pki/store.hpp"

namespace postern::pki {

// Of its own certificates: what has to be under bundle_url.
[[nodiscard]] Octets bundle_of(const Trustpoint& trustpoint);
// Own certificate first. `peer_fetches`: by URL where the trustpoint has one.
[[nodiscard]] std::vector<CertificatePayload> payloads_of(const Trustpoint& own, bool peer_fetches);
// Every certificate in DER, in order, borrowed from the question. Error: too many, or a bundle that is none.
[[nodiscard]] Result<std::vector<Bytes>, Refusal> certificates_in(const ValidateQuestion& question);

}  // namespace postern::pki
