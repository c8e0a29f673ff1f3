// The "pki" section of the document as plain structs (PKI-01, PKI-24). Files are named, never read here: certificates
// by posternd, private keys by postern-pki alone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace postern::config {

struct PkiTrustpoint {
  std::string name;
  std::vector<std::string> ca_certificates;  // absolute paths of PEM files
  std::optional<std::string> certificate;
  std::vector<std::string> chain;
  std::optional<std::string> key;  // with a certificate alone
  // Where peers that fetch find the certificate, or it and the chain in a bundle (RFC 7296 §3.6). One of the two.
  std::optional<std::string> certificate_url, bundle_url;
  bool operator==(const PkiTrustpoint&) const = default;
};

enum class CertificateField : std::uint8_t { subject_name, issuer_name, alt_subject_name };
enum class CertificateOperator : std::uint8_t { eq, ne, co, nc };
struct CertificateRule {
  CertificateField field{};
  CertificateOperator op{};
  std::string value;
  bool operator==(const CertificateRule&) const = default;
};
// Maps of one name are alternatives; the rules of one must all match.
struct CertificateMapEntry {
  std::string name;
  std::uint32_t sequence = 10;
  std::vector<CertificateRule> rules;
  bool operator==(const CertificateMapEntry&) const = default;
};

struct Pki {
  std::vector<PkiTrustpoint> trustpoints;
  std::vector<CertificateMapEntry> maps;  // by name and sequence
  bool operator==(const Pki&) const = default;
};

[[nodiscard]] const char* word(CertificateField field);
[[nodiscard]] const char* word(CertificateOperator op);

// IOS compares names of trustpoints without regard to case (IKE-40). nullptr: there is none.
[[nodiscard]] const PkiTrustpoint* find_trustpoint(const Pki& pki, const std::string& name);

}  // namespace postern::config
