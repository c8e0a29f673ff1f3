#include "ike/certificate_urls.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/http_url.hpp"
#include "crypto/digest.hpp"

namespace postern::ike {
namespace {

bool is_elsewhere(const pki::CertificatePayload& one) {
  return one.encoding == pki::certificate_url_encoding || one.encoding == pki::bundle_url_encoding;
}

Failure refused(std::string summary, std::string differs, std::string remedy) {
  Failure out;
  out.kind = FailureKind::certificate;
  out.summary = std::move(summary);
  out.differs = std::move(differs);
  out.remedy = std::move(remedy);
  return out;
}

// A peer must not write to a terminal.
std::string url_in(const pki::CertificatePayload& one) {
  std::string out;
  if (one.data.size() < pki::url_hash_bytes) return out;
  for (const std::byte b : Bytes(one.data).subspan(pki::url_hash_bytes)) out += static_cast<char>(b);
  return out;
}
std::string printable(std::string text) {
  constexpr std::size_t longest = 256;
  std::ranges::replace_if(text, [](char c) { return c <= 0x20 || c >= 0x7f; }, '?');
  return text.size() > longest ? text.substr(0, longest) + "..." : text;
}

std::string hex(Bytes bytes) {
  std::string out;
  for (const std::byte b : bytes) out += fmt::format("{:02x}", std::to_integer<unsigned>(b));
  return out;
}

// What URLs may begin with, for these connections; the section has it for all.
std::vector<std::string> prefixes_of(const Candidates& connections) {
  std::vector<std::string> out;
  for (const auto& one : connections)
    if (is_signature(one->remote_auth))
      for (const std::string& prefix : one->options.cert_lookup)
        if (std::ranges::find(out, prefix) == out.end()) out.push_back(prefix);
  return out;
}

Result<CertificateUrl, Failure> wanted_by(const pki::CertificatePayload& one,
                                          const std::vector<std::string>& prefixes) {
  const std::string url = url_in(one);
  const std::string differs = fmt::format("CERT: the peer sends encoding {}, {}", one.encoding, printable(url));
  if (prefixes.empty())
    return std::unexpected(refused("the peer sends a URL for its certificate, and this node fetches none",
                                   differs + "; we take encoding 4, the certificate itself",
                                   "set ikev2.http_cert_lookup to where the certificates of peers are, or let the peer "
                                   "send its certificate whole"));
  if (!is_http_url(url))
    return std::unexpected(refused("the peer sends a URL for its certificate that is none that we fetch", differs,
                                   "let the peer send http://host[:port]/path behind the 20 octets of the hash"));
  if (std::ranges::none_of(prefixes, [&](const std::string& prefix) { return url.starts_with(prefix); }))
    return std::unexpected(refused(fmt::format("the peer's certificate is at {}, where nothing is fetched from", url),
                                   fmt::format("{}; ikev2.http_cert_lookup has {}", differs, fmt::join(prefixes, ", ")),
                                   "add where it is to ikev2.http_cert_lookup, or correct the URL at the peer"));
  const Bytes hash = Bytes(one.data).first(pki::url_hash_bytes);
  const bool bundle = one.encoding == pki::bundle_url_encoding;
  return CertificateUrl{url, octets(hash), bundle ? pki::max_chain_bytes : pki::max_certificate_bytes};
}

Failure not_fetched(const CertificateUrl& wanted, const std::string& why) {
  return refused(fmt::format("the peer's certificate at {} cannot be fetched: {}", wanted.url, why), {},
                 "is it there, and does its server answer this node? Or let the peer send its certificate whole");
}

// What was under the URL is the peer's word when it has the hash, and nobody's otherwise.
Result<Octets, Failure> judged(const CertificateUrl& wanted, Result<Octets>& fetched) {
  if (!fetched) return std::unexpected(not_fetched(wanted, fetched.error().message()));
  const auto hash = crypto::sha1({*fetched});
  if (!hash) return std::unexpected(not_fetched(wanted, hash.error().message()));
  if (std::ranges::equal(*hash, wanted.hash)) return std::move(*fetched);
  return std::unexpected(
      refused(fmt::format("what is at {} is not the certificate that the peer means", wanted.url),
              fmt::format("SHA-1: the peer says {}, of what is there it is {}", hex(wanted.hash), hex(*hash)),
              "put the peer's certificate there, in DER, or correct the URL at the peer"));
}

Certificates put_in_place(std::vector<pki::CertificatePayload> said, const std::vector<CertificateUrl>& wanted,
                          FetchedCertificates fetched) {
  std::size_t bytes = 0, next = 0;
  for (pki::CertificatePayload& one : said) {
    if (!is_elsewhere(one)) continue;
    const CertificateUrl& url = wanted[next];
    if (fetched.size() != wanted.size()) return std::unexpected(not_fetched(url, "no answer in time"));
    auto body = judged(url, fetched[next++]);
    if (!body) return std::unexpected(std::move(body.error()));
    bytes += body->size();
    if (bytes > pki::max_chain_bytes)
      return std::unexpected(
          not_fetched(url, fmt::format("all together are more than {} bytes", pki::max_chain_bytes)));
    one.data = std::move(*body);
    if (one.encoding == pki::certificate_url_encoding) one.encoding = pki::x509_signature_encoding;
  }
  return said;
}

}  // namespace

void collect_certificates(SessionCore& core, const Candidates& candidates, const Message& claim,
                          std::move_only_function<void(SessionCore&, Certificates&&, Time)> then, Time now) {
  std::vector<pki::CertificatePayload> said;
  for (const Payload& p : claim.payloads)
    if (const auto* const body = std::get_if<CertPayload>(&p.body)) said.push_back({body->encoding, body->data});
  if (said.size() > pki::max_certificates || std::ranges::none_of(said, is_elsewhere))
    return then(core, std::move(said), now);  // too many: postern-pki refuses them
  const std::vector<std::string> prefixes = prefixes_of(candidates);
  std::vector<CertificateUrl> wanted;
  for (const pki::CertificatePayload& one : said) {
    if (!is_elsewhere(one)) continue;
    auto url = wanted_by(one, prefixes);
    if (!url) return then(core, std::unexpected(std::move(url.error())), now);
    wanted.push_back(std::move(*url));
  }
  fetch_certificates(
      core, wanted,
      [said = std::move(said), wanted, go_on = std::move(then)](SessionCore& at, FetchedCertificates fetched,
                                                                Time when) mutable {
        go_on(at, put_in_place(std::move(said), wanted, std::move(fetched)), when);
      },
      now);
}

void offer_certificate_lookup(const Candidates& connections, Message& message) {
  if (!prefixes_of(connections).empty()) message.add_notify(NotifyType::http_cert_lookup_supported);
}

}  // namespace postern::ike
