// Trustpoints and certificate maps with what they hold, and the answers that follow from them. Pure but for OpenSSL:
// the time comes in, no file, no socket. One thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "crypto/certificate.hpp"
#include "crypto/signature.hpp"
#include "pki/questions.hpp"

namespace postern::pki {

// `crypto pki certificate map NAME N`: all rules of one entry must match; entries of one name are alternatives
// (PKI-24).
enum class MapField : std::uint8_t { subject_name, issuer_name, alt_subject_name };
enum class MapOperator : std::uint8_t { eq, ne, co, nc };
struct MapRule {
  MapField field{};
  MapOperator op{};
  std::string value;
};
struct CertificateMap {
  std::string name;
  std::vector<MapRule> rules;
};
// Names compare as text without regard to case and to blanks around commas and equal signs.
[[nodiscard]] bool matches(const CertificateMap& map, const crypto::Certificate& certificate);

struct Trustpoint {
  std::string name;
  std::vector<crypto::Certificate> authorities;
  std::vector<crypto::Certificate> own;  // the end's certificate, and what leads to its CA
  std::optional<crypto::PrivateKey> key;
  // Where peers that fetch find the first of `own`, or all of them in a bundle; empty: nowhere.
  std::string certificate_url, bundle_url;
  std::string problem;  // why it is of no use, or of half; empty: nothing is wrong with it
};

class Store {
 public:
  void set(std::vector<Trustpoint> trustpoints, std::vector<CertificateMap> maps);
  // `now`: seconds since 1970.
  [[nodiscard]] Answer answer(const SignQuestion& question, std::int64_t now) const;
  [[nodiscard]] Answer answer(const ValidateQuestion& question, std::int64_t now) const;
  [[nodiscard]] std::vector<TrustpointFacts> facts() const;
  [[nodiscard]] const Trustpoint* trustpoint(const std::string& name) const { return find(name); }
  // The CAs of all of these.
  [[nodiscard]] std::vector<crypto::Certificate> authorities(const std::vector<std::string>& names) const;
  [[nodiscard]] const std::vector<Trustpoint>& trustpoints() const { return trustpoints_; }

 private:
  [[nodiscard]] const Trustpoint* find(const std::string& name) const;
  [[nodiscard]] std::optional<Refusal> verdict(const TrustRule& rule, const ValidateQuestion& question,
                                               const std::vector<crypto::Certificate>& chain,
                                               const crypto::SignatureScheme& scheme, std::int64_t now) const;
  std::vector<Trustpoint> trustpoints_;
  std::vector<CertificateMap> maps_;
};

// What a trustpoint's files say, put together: its problem says what does not fit. The key's text is read and not kept.
struct TrustpointTexts {
  std::string name;
  std::vector<std::string> ca_certificates, certificates;  // PEM
  std::string certificate_url = {}, bundle_url = {};
};
[[nodiscard]] Trustpoint make_trustpoint(const TrustpointTexts& texts, std::optional<Result<crypto::PrivateKey>> key);

}  // namespace postern::pki
