#include "pki/certificate_payloads.hpp"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "crypto/digest.hpp"
#include "pki/bundle.hpp"

namespace postern::pki {
namespace {

using crypto::Certificate;

// RFC 7296 §3.6: the hash of what is under the URL, and the URL. Nothing: there is none.
std::optional<CertificatePayload> by_url(std::uint8_t encoding, const Octets& what, const std::string& url) {
  const auto hash = crypto::sha1({what});
  if (url.empty() || !hash) return std::nullopt;
  CertificatePayload out{encoding, {hash->begin(), hash->end()}};
  const Bytes text = as_bytes(url);
  out.data.insert(out.data.end(), text.begin(), text.end());
  return out;
}

std::unexpected<Refusal> malformed(std::string summary, std::string detail) {
  return std::unexpected(Refusal{RefusalKind::malformed, {}, std::move(summary), std::move(detail), {}});
}

}  // namespace

Octets bundle_of(const Trustpoint& trustpoint) {
  std::vector<Octets> own;
  for (const Certificate& one : trustpoint.own) own.push_back(one.der());
  return write_bundle(own);
}

std::vector<CertificatePayload> payloads_of(const Trustpoint& own, bool peer_fetches) {
  std::vector<CertificatePayload> out;
  if (peer_fetches)
    if (auto bundle = by_url(bundle_url_encoding, bundle_of(own), own.bundle_url)) return {std::move(*bundle)};
  for (const Certificate& one : own.own) {
    auto payload =
        peer_fetches && out.empty() ? by_url(certificate_url_encoding, one.der(), own.certificate_url) : std::nullopt;
    out.push_back(payload ? std::move(*payload) : CertificatePayload{x509_signature_encoding, one.der()});
  }
  return out;
}

Result<std::vector<Bytes>, Refusal> certificates_in(const ValidateQuestion& question) {
  std::vector<Bytes> out;
  for (const CertificatePayload& one : question.certificates) {
    if (one.encoding == x509_signature_encoding) out.emplace_back(one.data);
    if (one.encoding != bundle_url_encoding) continue;
    const auto bundle = read_bundle(one.data);
    if (!bundle) return malformed("the peer's bundle of certificates cannot be read", bundle.error().message());
    out.insert(out.end(), bundle->begin(), bundle->end());
  }
  if (out.size() > max_certificates || question.certificates.size() > max_certificates)
    return malformed(
        "the peer sent too many certificates",
        fmt::format("{} of them, {} are taken", std::max(out.size(), question.certificates.size()), max_certificates));
  return out;
}

}  // namespace postern::pki
