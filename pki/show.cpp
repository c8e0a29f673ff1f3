// What operators see of trustpoints: certificates whole, keys by kind and size alone.
#include <fmt/format.h>

#include "crypto/digest.hpp"
#include "pki/certificate_payloads.hpp"
#include "pki/daemon.hpp"

namespace postern::pki {
namespace {

using crypto::Certificate;
using nlohmann::json;

std::string hex_of(std::span<const std::byte> bytes) {
  std::string out;
  for (const std::byte b : bytes) out += fmt::format("{}{:02X}", out.empty() ? "" : ":", std::to_integer<unsigned>(b));
  return out;
}

std::string status_of(const Certificate& certificate, std::int64_t now) {
  if (now < certificate.not_before()) return "Not yet valid";
  return now > certificate.not_after() ? "Expired" : "Available";
}

json certificate_row(const Certificate& certificate, const Trustpoint& trustpoint, bool own, std::int64_t now) {
  json out = {{"status", status_of(certificate, now)},
              {"serial", certificate.serial()},
              {"usage", own ? "General Purpose" : "Signature"},
              {"kind", certificate.is_authority() ? "CA Certificate" : "Certificate"},
              {"issuer", certificate.issuer()},
              {"subject", certificate.subject()},
              {"alternative_names", certificate.alternative_names()},
              {"not_before", crypto::time_text(certificate.not_before())},
              {"not_after", crypto::time_text(certificate.not_after())},
              {"key", fmt::format("{} {} bits", text(certificate.key_kind()), certificate.key_bits())},
              {"trustpoint", trustpoint.name}};
  if (const auto print = certificate.fingerprint()) out["sha256"] = hex_of(*print);
  return out;
}

}  // namespace

json show_trustpoints(const Store& store, std::int64_t now) {
  json rows = json::array();
  for (const Trustpoint& one : store.trustpoints()) {
    json authorities = json::array();
    for (const Certificate& authority : one.authorities)
      authorities.push_back({{"subject", authority.subject()}, {"status", status_of(authority, now)}});
    json row = {{"name", one.name}, {"authorities", std::move(authorities)}, {"key", nullptr}, {"subject", nullptr}};
    if (!one.own.empty()) row["subject"] = one.own.front().subject();
    if (!one.own.empty()) row["status"] = status_of(one.own.front(), now);
    if (one.key) row["key"] = fmt::format("{} {} bits", text(one.key->kind()), one.key->bits());
    if (!one.certificate_url.empty()) row["certificate_url"] = one.certificate_url;
    if (!one.bundle_url.empty()) row["bundle_url"] = one.bundle_url;
    row["problem"] = one.problem.empty() ? json() : json(one.problem);
    rows.push_back(std::move(row));
  }
  return {{"trustpoints", std::move(rows)}};
}

json bundle_file(const Trustpoint& trustpoint) {
  const Octets bundle = bundle_of(trustpoint);
  std::string digits;
  for (const std::byte b : bundle) digits += fmt::format("{:02x}", std::to_integer<unsigned>(b));
  json out = {{"trustpoint", trustpoint.name}, {"certificates", trustpoint.own.size()}, {"bundle", std::move(digits)}};
  if (const auto hash = crypto::sha1({bundle})) out["sha1"] = hex_of(*hash);
  return out;
}

json show_certificates(const Store& store, std::int64_t now) {
  json rows = json::array();
  for (const Trustpoint& one : store.trustpoints()) {
    for (const Certificate& own : one.own) rows.push_back(certificate_row(own, one, &own == &one.own.front(), now));
    for (const Certificate& authority : one.authorities) rows.push_back(certificate_row(authority, one, false, now));
  }
  return {{"certificates", std::move(rows)}};
}

}  // namespace postern::pki
