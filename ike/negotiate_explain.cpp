// Negotiation for a person: names, and why nothing fits.
#include <algorithm>
#include <string_view>

#include "crypto/transforms.hpp"
#include "ike/negotiate.hpp"
#include "ike/proposal_match.hpp"

namespace postern::ike {
namespace {

struct TransformName {
  TransformType type;
  std::uint16_t id;
  std::string_view text;
};
// IANA, "Internet Key Exchange Version 2 (IKEv2) Parameters": what peers are likely to offer.
constexpr TransformName names[] = {
    {TransformType::encryption, 2, "DES"},
    {TransformType::encryption, 3, "3DES"},
    {TransformType::encryption, 7, "BLOWFISH"},
    {TransformType::encryption, 11, "NULL"},
    {TransformType::encryption, 12, "AES-CBC"},
    {TransformType::encryption, 13, "AES-CTR"},
    {TransformType::encryption, 14, "AES-CCM-8"},
    {TransformType::encryption, 15, "AES-CCM-12"},
    {TransformType::encryption, 16, "AES-CCM-16"},
    {TransformType::encryption, 18, "AES-GCM-8"},
    {TransformType::encryption, 19, "AES-GCM-12"},
    {TransformType::encryption, 20, "AES-GCM"},
    {TransformType::encryption, 21, "AES-GMAC"},
    {TransformType::encryption, 23, "CAMELLIA-CBC"},
    {TransformType::encryption, 28, "CHACHA20-POLY1305"},
    {TransformType::prf, 1, "PRF-HMAC-MD5"},
    {TransformType::prf, 2, "PRF-HMAC-SHA1"},
    {TransformType::prf, 4, "PRF-AES128-XCBC"},
    {TransformType::prf, 5, "PRF-HMAC-SHA256"},
    {TransformType::prf, 6, "PRF-HMAC-SHA384"},
    {TransformType::prf, 7, "PRF-HMAC-SHA512"},
    {TransformType::prf, 8, "PRF-AES128-CMAC"},
    {TransformType::integrity, 0, "none"},
    {TransformType::integrity, 1, "HMAC-MD5-96"},
    {TransformType::integrity, 2, "HMAC-SHA1-96"},
    {TransformType::integrity, 5, "AES-XCBC-96"},
    {TransformType::integrity, 8, "AES-CMAC-96"},
    {TransformType::integrity, 12, "HMAC-SHA256-128"},
    {TransformType::integrity, 13, "HMAC-SHA384-192"},
    {TransformType::integrity, 14, "HMAC-SHA512-256"},
    {TransformType::esn, 0, "no ESN"},
    {TransformType::esn, 1, "ESN"},
};

const char* what(TransformType type) {
  switch (type) {
    case TransformType::encryption: return "encryption";
    case TransformType::prf: return "PRF";
    case TransformType::integrity: return "integrity";
    case TransformType::key_exchange: return "DH group";
    case TransformType::esn: return "ESN";
  }
  return "transform type";
}

std::string list(const Proposal& proposal, TransformType type) {
  std::string out;
  for (const Transform& transform : of_type(proposal, type)) out += (out.empty() ? "" : ", ") + text(transform);
  return out.empty() ? "none" : out;
}

// How far a pair of proposals agrees.
struct Closeness {
  std::size_t agreed = 0;
  std::optional<Difference> first;
};

Closeness compare(const Proposal& offered, const Accepted& accepted) {
  Closeness out;
  if (offered.protocol != accepted.wire.protocol) {
    out.first = Difference{"protocol", text(offered.protocol), text(accepted.wire.protocol)};
    return out;
  }
  for (const TransformType type : transform_types) {
    if (agree(type, offered, accepted, crypto::DhGroup::none))
      ++out.agreed;
    else if (!out.first)
      out.first = Difference{what(type), list(offered, type), list(accepted.wire, type)};
  }
  const auto unknown = std::ranges::find_if(offered.transforms, [](const Transform& t) {
    return std::ranges::find(transform_types, t.type) == transform_types.end();
  });
  if (!out.first && unknown != offered.transforms.end())
    out.first = Difference{"transform type", text(*unknown), "none"};
  return out;
}

std::optional<Difference> explain(const SaPayload& offer, const std::vector<Accepted>& accepted) {
  std::optional<Closeness> closest;
  for (const Proposal& offered : offer.proposals)
    for (const Accepted& ours : accepted) {
      Closeness pair = compare(offered, ours);
      if (!pair.first) return std::nullopt;
      if (!closest || pair.agreed > closest->agreed) closest = std::move(pair);
    }
  return closest ? closest->first : std::nullopt;
}

}  // namespace

std::string text(const Transform& transform) {
  if (transform.type == TransformType::key_exchange) return ike::text(crypto::DhGroup{transform.id});
  const auto row = std::ranges::find_if(
      names, [&](const TransformName& n) { return n.type == transform.type && n.id == transform.id; });
  std::string out = row != std::end(names) ? std::string(row->text)
                    : transform.type == TransformType::encryption
                        ? "ENCR " + std::to_string(transform.id)
                        : what(transform.type) + (" " + std::to_string(transform.id));
  if (transform.key_bits) out += "-" + std::to_string(*transform.key_bits);
  if (transform.unknown_attribute) out += " with an unknown attribute";
  return out;
}

std::optional<Difference> explain_ike(const SaPayload& offer, std::span<const IkeProposal> accepted) {
  return explain(offer, accepted_ike(accepted));
}

std::optional<Difference> explain_esp(const SaPayload& offer, std::span<const EspProposal> accepted,
                                      std::span<const crypto::DhGroup> groups) {
  return explain(offer, accepted_esp(accepted, groups, groups.empty()));
}

std::vector<std::string> text(const SaPayload& offer) {
  std::vector<std::string> lines;
  for (const Proposal& proposal : offer.proposals) {
    std::string line;
    for (const TransformType type : transform_types)
      if (!of_type(proposal, type).empty()) line += (line.empty() ? "" : " / ") + list(proposal, type);
    lines.push_back(line.empty() ? "none" : std::move(line));
  }
  return lines;
}

std::string text(crypto::DhGroup group) {
  return group == crypto::DhGroup::none ? "none" : "group " + std::to_string(static_cast<unsigned>(group));
}

std::string text(crypto::Prf prf) {
  return text(Transform{TransformType::prf, static_cast<std::uint16_t>(prf), {}, false});
}

}  // namespace postern::ike
