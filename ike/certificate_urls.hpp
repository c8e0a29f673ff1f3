// Certificates by hash and URL (RFC 7296 §3.6, encodings 12 and 13). Where a peer says where its certificate is, the
// daemon fetches it, from places that the document names; what comes has to have the hash that the peer said, and then
// it is as good as sent. Private to ike/authentication.cpp.
#pragma once

#include <functional>
#include <vector>

#include "ike/authentication.hpp"

namespace postern::ike {

// The bodies of the peer's CERT payloads, in order, nothing left in them that is elsewhere: a certificate as encoding
// 4, a bundle as 13. Or why not.
using Certificates = Result<std::vector<pki::CertificatePayload>, Failure>;
void collect_certificates(SessionCore& core, const Candidates& candidates, const Message& claim,
                          std::move_only_function<void(SessionCore&, Certificates&&, Time)> then, Time now);

// RFC 7296 §3.10.1: HTTP_CERT_LOOKUP_SUPPORTED, beside CERTREQ, where the peer may prove itself by a certificate and we
// fetch.
void offer_certificate_lookup(const Candidates& connections, Message& message);

}  // namespace postern::ike
