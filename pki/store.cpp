#include "pki/store.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "crypto/certificate_path.hpp"
#include "pki/certificate_payloads.hpp"

namespace postern::pki {
namespace {

using crypto::Certificate, crypto::KeyKind, crypto::SignatureHash, crypto::SignatureScheme;

// AUTH methods (IANA).
constexpr std::uint8_t rsa_method = 1, ecdsa256_method = 9, ecdsa384_method = 10, ecdsa521_method = 11,
                       signature_method = 14;
constexpr std::uint8_t key_id_type = 11;  // ID_KEY_ID
constexpr int longest_rsa_bits = 8192;    // whose check costs a peer nothing and us milliseconds

std::unexpected<Refusal> refuse(RefusalKind kind, std::string summary, std::string detail = {},
                                std::string remedy = {}) {
  return std::unexpected(Refusal{kind, {}, std::move(summary), std::move(detail), std::move(remedy)});
}

Refusal refusal_of(const crypto::PathProblem& problem) {
  const RefusalKind kind = problem.check == crypto::PathCheck::usage ? RefusalKind::bad_usage : RefusalKind::bad_chain;
  return {kind, problem.certificate, problem.summary, problem.detail, problem.remedy};
}

bool is_of(SignatureKind wanted, KeyKind key) {
  return wanted == SignatureKind::any || (wanted == SignatureKind::rsa && key == KeyKind::rsa) ||
         (wanted == SignatureKind::ecdsa && key == KeyKind::ecdsa);
}

// RFC 4754 §3, and the hash of RFC 7427 that is as strong as the curve.
SignatureHash hash_of_curve(int bits) {
  return bits <= 256 ? SignatureHash::sha256 : bits <= 384 ? SignatureHash::sha384 : SignatureHash::sha512;
}
std::uint8_t method_of_curve(int bits) {
  return bits == 256   ? ecdsa256_method
         : bits == 384 ? ecdsa384_method
         : bits == 521 ? ecdsa521_method
                       : std::uint8_t{0};
}

// --- signing

struct Choice {
  std::uint8_t method = 0;
  SignatureScheme scheme;
};

std::string hash_words(const std::vector<std::uint16_t>& hashes) {
  std::string out;
  for (const std::uint16_t one : hashes) {
    const char* const word = one == 1   ? "SHA-1"
                             : one == 2 ? "SHA-256"
                             : one == 3 ? "SHA-384"
                             : one == 4 ? "SHA-512"
                             : one == 5 ? "Identity"
                                        : "unknown";
    out += (out.empty() ? "" : ", ") + std::string(word);
  }
  return out;
}

Result<Choice, Refusal> choose_rfc7427(const crypto::PrivateKey& key, const SignQuestion& question) {
  std::vector<SignatureHash> order = {SignatureHash::sha256, SignatureHash::sha384, SignatureHash::sha512};
  if (key.kind() == KeyKind::ecdsa) order.insert(order.begin(), hash_of_curve(key.bits()));
  if (key.kind() == KeyKind::ed25519) order = {SignatureHash::identity};
  const bool pss = key.kind() == KeyKind::rsa && !question.rsa_pkcs1;
  for (const SignatureHash one : order)
    if (std::ranges::find(question.peer_hashes, static_cast<std::uint16_t>(one)) != question.peer_hashes.end())
      return Choice{signature_method, {key.kind(), one, pss, false}};
  return refuse(RefusalKind::algorithm, "the peer accepts no hash that we sign with",
                "its SIGNATURE_HASH_ALGORITHMS: " + hash_words(question.peer_hashes),
                "let the peer accept SHA-256, or Identity for Ed25519");
}

// RFC 7296 §3.8 and RFC 4754: what is left when the peer does not speak RFC 7427.
Result<Choice, Refusal> choose_old(const crypto::PrivateKey& key, const SignQuestion& question) {
  if (key.kind() == KeyKind::rsa)
    return Choice{rsa_method,
                  {KeyKind::rsa, question.allow_sha1 ? SignatureHash::sha1 : SignatureHash::sha256, false, false}};
  const std::uint8_t method = key.kind() == KeyKind::ecdsa ? method_of_curve(key.bits()) : std::uint8_t{0};
  if (method != 0) return Choice{method, {KeyKind::ecdsa, hash_of_curve(key.bits()), false, true}};
  return refuse(RefusalKind::algorithm, "the peer knows no signatures by " + text(key.kind()),
                "it sent no SIGNATURE_HASH_ALGORITHMS (RFC 7427)",
                "switch RFC 7427 on at the peer, or use RSA or ECDSA");
}

// --- checking

Result<std::vector<Certificate>, Refusal> chain_of(const ValidateQuestion& question) {
  const auto certificates = certificates_in(question);
  if (!certificates) return std::unexpected(certificates.error());
  std::vector<Certificate> out;
  std::size_t bytes = 0;
  for (const Bytes one : *certificates) {
    bytes += one.size();
    if (one.size() > max_certificate_bytes || bytes > max_chain_bytes)
      return refuse(RefusalKind::malformed, "the peer's certificates are too long",
                    fmt::format("one may have {} bytes, all {}", max_certificate_bytes, max_chain_bytes));
    auto parsed = Certificate::parse(one);
    if (!parsed)
      return refuse(RefusalKind::malformed, fmt::format("the peer's certificate {} cannot be read", out.size() + 1),
                    parsed.error().message());
    out.push_back(std::move(*parsed));
  }
  if (out.empty())
    return refuse(RefusalKind::no_certificate, "the peer sent no X.509 certificate",
                  fmt::format("{} CERT payloads, none of encoding 4", question.certificates.size()),
                  "let the peer send its certificate");
  for (const Certificate& one : out)
    if (one.key_kind() == KeyKind::rsa && one.key_bits() > longest_rsa_bits)
      return std::unexpected(Refusal{RefusalKind::malformed,
                                     one.subject(),
                                     "has an RSA key that is too long",
                                     fmt::format("{} bits, {} are taken", one.key_bits(), longest_rsa_bits),
                                     {}});
  return out;
}

struct Claim {
  SignatureScheme scheme;
  Bytes signature;
};

// RFC 7427 §3: length, AlgorithmIdentifier, signature.
Result<Claim, Refusal> claim_of_rfc7427(Bytes auth) {
  ByteReader in(auth);
  const std::uint8_t length = in.u8();
  const Bytes identifier = in.take(length);
  const Bytes signature = in.rest();
  if (!in.ok() || signature.empty()) return refuse(RefusalKind::malformed, "the AUTH payload is cut short");
  const auto scheme = crypto::scheme_of(identifier);
  if (!scheme)
    return refuse(RefusalKind::algorithm, "the peer signs by an algorithm that is not known here", {},
                  "use RSA, ECDSA or Ed25519 with SHA-2");
  return Claim{*scheme, signature};
}

// RFC 7427 §3: its method is for two ends that have both said SIGNATURE_HASH_ALGORITHMS, and of those no other is
// taken.
std::optional<Refusal> method_problem(const ValidateQuestion& question) {
  const bool both_said = question.peer_said_hashes && !question.own_hashes.empty();
  if (both_said == (question.method == signature_method)) return std::nullopt;
  Refusal out{RefusalKind::algorithm, {}, {}, {}, "report it to who makes the peer, with a capture"};
  out.summary =
      both_said ? fmt::format("the peer signs by the old method {} though both ends know RFC 7427's", question.method)
                : "the peer signs by RFC 7427's method, which was not agreed on";
  out.detail =
      fmt::format("SIGNATURE_HASH_ALGORITHMS: {} by us, {} by the peer",
                  question.own_hashes.empty() ? "not sent" : "sent", question.peer_said_hashes ? "sent" : "not sent");
  return out;
}

// RFC 7427 §4: signed with one of the hashes that we said.
std::optional<Refusal> hash_problem(const ValidateQuestion& question, const SignatureScheme& scheme) {
  if (question.method != signature_method) return std::nullopt;
  if (std::ranges::find(question.own_hashes, static_cast<std::uint16_t>(scheme.hash)) != question.own_hashes.end())
    return std::nullopt;
  return Refusal{RefusalKind::algorithm,
                 {},
                 "the peer signs with a hash that we did not say we take",
                 fmt::format("the signature is {}; our SIGNATURE_HASH_ALGORITHMS: {}", text(scheme),
                             hash_words(question.own_hashes)),
                 "let the peer sign with SHA-2, or by Ed25519"};
}

Result<Claim, Refusal> claim_of(const ValidateQuestion& question, const Certificate& leaf) {
  if (auto problem = method_problem(question)) return std::unexpected(std::move(*problem));
  const Bytes auth = question.auth;
  switch (question.method) {
    case signature_method: return claim_of_rfc7427(auth);
    case rsa_method: {
      const auto hash = crypto::hash_in_rsa_signature(leaf, auth);
      if (!hash) return refuse(RefusalKind::bad_signature, "the peer's signature does not verify");
      return Claim{{KeyKind::rsa, *hash, false, false}, auth};
    }
    case ecdsa256_method:
    case ecdsa384_method:
    case ecdsa521_method:
      if (method_of_curve(leaf.key_bits()) != question.method)
        return refuse(RefusalKind::algorithm, "the peer's ECDSA method is not that of its key's curve");
      return Claim{{KeyKind::ecdsa, hash_of_curve(leaf.key_bits()), false, true}, auth};
    default: break;
  }
  return refuse(RefusalKind::algorithm,
                fmt::format("authentication method {} is not for certificates", question.method));
}

std::string identity_words(std::uint8_t type, const Octets& identity) {
  if (type == 9) return "DN " + crypto::name_of_der(identity);
  std::string out;
  if (type == 1 || type == 5) {
    for (const std::byte b : identity) out += fmt::format("{}{}", out.empty() ? "" : ".", std::to_integer<int>(b));
    return "address " + out;
  }
  for (const std::byte b : identity) {
    const auto c = std::to_integer<char>(b);
    out += c > 0x20 && c < 0x7f ? c : '?';
  }
  return (type == 2 ? "FQDN " : type == 3 ? "e-mail " : "key-id ") + out;
}

// RFC 7296 §4 wants key ids to be acceptable with certificates, and none holds one (RFC 4945 §3.1): there a
// certificate map of the profile says whose certificate it may be.
std::optional<Refusal> identity_problem(const ValidateQuestion& question, const Certificate& leaf, bool mapped) {
  if (crypto::names_identity(leaf, question.identity_type, question.identity)) return std::nullopt;
  if (question.identity_type == key_id_type && mapped) return std::nullopt;
  Refusal out{RefusalKind::identity, leaf.subject(), "does not name the identity that the peer claims", {}, {}};
  const auto names = leaf.alternative_names();
  out.detail = fmt::format("the peer says {}; the certificate names {}",
                           identity_words(question.identity_type, question.identity),
                           names.empty() ? "nothing but its subject" : fmt::format("{}", fmt::join(names, ", ")));
  out.remedy =
      question.identity_type == key_id_type
          ? "a certificate map that matches it in the profile's match, or an identity that it names"
          : "put the identity into the certificate's subjectAltName, or let the peer use one that is there, or its DN";
  return out;
}

std::string joined(const std::vector<std::string>& words) { return fmt::format("{}", fmt::join(words, ", ")); }

}  // namespace

void Store::set(std::vector<Trustpoint> trustpoints, std::vector<CertificateMap> maps) {
  trustpoints_ = std::move(trustpoints);
  maps_ = std::move(maps);
}

const Trustpoint* Store::find(const std::string& name) const {
  const auto found = std::ranges::find(trustpoints_, name, &Trustpoint::name);
  return found == trustpoints_.end() ? nullptr : &*found;
}

std::vector<Certificate> Store::authorities(const std::vector<std::string>& names) const {
  std::vector<Certificate> out;
  for (const std::string& name : names)
    if (const Trustpoint* const one = find(name))
      out.insert(out.end(), one->authorities.begin(), one->authorities.end());
  return out;
}

std::vector<TrustpointFacts> Store::facts() const {
  std::vector<TrustpointFacts> out;
  for (const Trustpoint& one : trustpoints_) {
    TrustpointFacts& facts = out.emplace_back();
    facts.name = one.name;
    if (!one.own.empty() && one.key) facts.subject = one.own.front().subject_der();
    for (const Certificate& authority : one.authorities)
      if (const auto hash = authority.key_hash())
        facts.authorities.insert(facts.authorities.end(), hash->begin(), hash->end());
  }
  return out;
}

Answer Store::answer(const SignQuestion& question, std::int64_t now) const {
  const Trustpoint* const own = find(question.trustpoint);
  const auto no_credential = [&](std::string why, std::string remedy) -> Answer {
    return Refusal{RefusalKind::no_credential,
                   {},
                   fmt::format("trustpoint {}: {}", question.trustpoint, why),
                   {},
                   std::move(remedy)};
  };
  if (own == nullptr) return no_credential("does not exist", "configure it under pki.trustpoints");
  if (own->own.empty() || !own->key)
    return no_credential(own->problem.empty() ? "has no certificate and key of its own" : own->problem,
                         "give it certificate and key");
  const Certificate& leaf = own->own.front();
  if (!is_of(question.kind, own->key->kind()))
    return no_credential(
        fmt::format("its key is {}, which the authentication method does not allow", text(own->key->kind())),
        "set authentication.local.method to what the key is, or to signature");
  if (now > leaf.not_after() || now < leaf.not_before())
    return no_credential(
        fmt::format("its certificate {} is valid from {} to {}, and this machine's clock says {}", leaf.subject(),
                    crypto::time_text(leaf.not_before()), crypto::time_text(leaf.not_after()), crypto::time_text(now)),
        "renew it, or set this machine's clock");
  const auto choice =
      question.peer_hashes.empty() ? choose_old(*own->key, question) : choose_rfc7427(*own->key, question);
  if (!choice) return choice.error();
  const auto signature = crypto::sign(*own->key, choice->scheme, question.message);
  if (!signature) return no_credential(signature.error().message(), "check the key");
  Signed out;
  out.method = choice->method;
  out.algorithm = text(choice->scheme);
  if (choice->method == signature_method) {
    const auto identifier = crypto::algorithm_identifier(choice->scheme);
    out.data.push_back(static_cast<std::byte>(identifier.size()));
    out.data.insert(out.data.end(), identifier.begin(), identifier.end());
  }
  out.data.insert(out.data.end(), signature->begin(), signature->end());
  out.certificates = payloads_of(*own, question.peer_fetches);
  out.valid_s = leaf.not_after() - now;
  return out;
}

std::optional<Refusal> Store::verdict(const TrustRule& rule, const ValidateQuestion& question,
                                      const std::vector<Certificate>& chain, const SignatureScheme& scheme,
                                      std::int64_t now) const {
  const Certificate& leaf = chain.front();
  if (!is_of(rule.kind, leaf.key_kind()))
    return Refusal{RefusalKind::algorithm, leaf.subject(),
                   "has a key of another kind than authentication.remote demands",
                   "its key is " + text(leaf.key_kind()), "set authentication.remote.method to what the peer uses"};
  if (scheme.hash == SignatureHash::sha1 && !rule.allow_sha1)
    return Refusal{RefusalKind::algorithm, leaf.subject(), "signed with SHA-1, which is forbidden",
                   "the signature is " + text(scheme),
                   "let the peer sign by RFC 7427 with SHA-2, or allow sha1_signatures"};
  const std::vector<Certificate> anchors = authorities(rule.trustpoints);
  if (anchors.empty())
    return Refusal{RefusalKind::no_credential,
                   {},
                   "no CA certificate to check the peer's against",
                   "trustpoints: " + joined(rule.trustpoints),
                   "give the trustpoint ca_certificates"};
  if (const auto path = crypto::check_path(leaf, std::span(chain).subspan(1), anchors, now); !path)
    return refusal_of(path.error());
  if (const auto usage = crypto::check_usage(leaf); !usage) return refusal_of(usage.error());
  const bool mapped = std::ranges::any_of(maps_, [&](const CertificateMap& map) {
    return std::ranges::find(rule.maps, map.name) != rule.maps.end() && matches(map, leaf);
  });
  if (auto problem = identity_problem(question, leaf, mapped)) return problem;
  if (!rule.identity_matches && !mapped)
    return Refusal{RefusalKind::no_map, leaf.subject(), "matches no certificate map of the profile",
                   fmt::format("subject {}, issuer {}; maps: {}", leaf.subject(), leaf.issuer(), joined(rule.maps)),
                   "correct the certificate map, or match the identity"};
  return std::nullopt;
}

Answer Store::answer(const ValidateQuestion& question, std::int64_t now) const {
  const auto chain = chain_of(question);
  if (!chain) return chain.error();
  const Certificate& leaf = chain->front();
  const auto claim = claim_of(question, leaf);
  if (!claim) return claim.error();
  if (auto problem = hash_problem(question, claim->scheme)) return *std::move(problem);
  Validated out;
  for (const TrustRule& rule : question.rules)
    out.verdicts.push_back(verdict(rule, question, *chain, claim->scheme, now));
  // What nobody trusts is not worth the work; who may be trusted still has to hold the key.
  if (std::ranges::any_of(out.verdicts, [](const auto& one) { return !one.has_value(); }) &&
      !crypto::verify(leaf, claim->scheme, question.message, claim->signature))
    return Refusal{RefusalKind::bad_signature, leaf.subject(), "the peer's signature does not verify by its key",
                   "the signature is " + text(claim->scheme),
                   "the peer's certificate and key do not belong together, or somebody changed IKE_SA_INIT on its way"};
  out.subject = leaf.subject();
  out.issuer = leaf.issuer();
  out.valid_s = leaf.not_after() - now;
  out.algorithm = text(claim->scheme);
  return out;
}

Trustpoint make_trustpoint(const TrustpointTexts& texts, std::optional<Result<crypto::PrivateKey>> key) {
  Trustpoint out;
  out.name = texts.name;
  out.certificate_url = texts.certificate_url;
  out.bundle_url = texts.bundle_url;
  const auto read = [&](const std::vector<std::string>& from, std::vector<Certificate>& into, const char* what) {
    for (const std::string& pem : from) {
      auto some = Certificate::from_pem(as_bytes(pem));
      if (some)
        into.insert(into.end(), some->begin(), some->end());
      else
        out.problem = fmt::format("{}: {}", what, some.error().message());
    }
  };
  read(texts.ca_certificates, out.authorities, "ca_certificates");
  read(texts.certificates, out.own, "certificate");
  if (key && !*key) out.problem = "key: " + key->error().message();
  if (key && *key) {
    if (out.own.empty() || !(*key)->belongs_to(out.own.front()))
      out.problem = "the key does not belong to the certificate";
    else
      out.key = std::move(**key);
  }
  return out;
}

}  // namespace postern::pki
