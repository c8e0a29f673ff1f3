#include "pki/tls_table.hpp"

#include <algorithm>

#include "crypto/certificate_path.hpp"

namespace postern::pki {

struct TlsPeer {
  std::string subject, refused_certificate;
  std::int64_t valid_s = 0;
};

namespace {

constexpr std::string_view eap_tls_label = "client EAP encryption";  // RFC 5216 §2.3
constexpr std::size_t msk_bytes = 64;

Refusal refused(RefusalKind kind, std::string summary, std::string remedy) {
  return {kind, {}, std::move(summary), {}, std::move(remedy)};
}

// Both a path to one of the CAs, its purpose, and the name that it was presented under.
std::optional<std::string> problem_of(const crypto::Certificate& leaf, const std::vector<crypto::Certificate>& others,
                                      const std::vector<crypto::Certificate>& anchors, const TlsQuestion& question,
                                      std::int64_t wall) {
  if (const auto path = crypto::check_path(leaf, others, anchors, wall); !path) return path.error().summary;
  if (!crypto::is_for_tls(leaf, !question.server)) return "may not be used for TLS";
  if (!crypto::names_identity(leaf, question.identity_type, question.identity)) return "does not name its owner";
  return std::nullopt;
}

}  // namespace

Result<TlsTable::Conversation, Refusal> TlsTable::begin(const TlsQuestion& question, const Store& store,
                                                        std::int64_t wall, Time now) const {
  if (conversations_.size() >= most)
    return std::unexpected(refused(RefusalKind::unavailable, "too many TLS handshakes at once", "try again"));
  const Trustpoint* const own = store.trustpoint(question.trustpoint);
  if (own == nullptr || own->own.empty() || !own->key)
    return std::unexpected(refused(RefusalKind::no_credential,
                                   "trustpoint " + question.trustpoint + " has no certificate and key of its own",
                                   "give it certificate and key"));
  const auto anchors = store.authorities(question.verify);
  if (anchors.empty())
    return std::unexpected(
        refused(RefusalKind::no_credential, "no CA certificate to check the peer's against", "ca_certificates"));
  auto peer = std::make_shared<TlsPeer>();
  const auto judge = [=, of = question](const crypto::Certificate& leaf, const auto& others) {
    auto problem = problem_of(leaf, others, anchors, of, wall);
    peer->subject = leaf.subject();
    peer->valid_s = leaf.not_after() - wall;
    if (problem) peer->refused_certificate = leaf.subject();
    return problem;
  };
  auto end = crypto::TlsEnd::create({question.server, own->own, *own->key, anchors, judge});
  if (!end) return std::unexpected(refused(RefusalKind::no_credential, end.error().message(), "see the trustpoint"));
  return Conversation{std::move(*end), now + patience, std::move(peer)};
}

Answer TlsTable::answer(const TlsQuestion& question, const Store& store, std::int64_t wall, Time now) {
  std::erase_if(conversations_, [&](const auto& one) { return one.second.until <= now; });
  auto known = conversations_.find(question.conversation);
  if (question.begins) {
    if (known != conversations_.end()) conversations_.erase(known);
    auto begun = begin(question, store, wall, now);
    if (!begun) return begun.error();
    known = conversations_.emplace(question.conversation, std::move(*begun)).first;
  }
  if (known == conversations_.end())
    return refused(RefusalKind::unavailable, "the TLS handshake is not there any more", "try again");
  Conversation& one = known->second;
  crypto::TlsStep step = one.end->take(question.records);
  TlsProgress out;
  out.records = std::move(step.out);
  out.finished = step.state == crypto::TlsStep::State::finished;
  out.failed = step.state == crypto::TlsStep::State::failed;
  out.why = one.peer->refused_certificate.empty() ? std::move(step.why)
                                                  : "certificate " + one.peer->refused_certificate + ": " + step.why;
  if (out.finished) {
    const auto key = one.end->export_key(eap_tls_label, msk_bytes);
    if (!key) return refused(RefusalKind::unavailable, key.error().message(), "see the log of postern-pki");
    out.key.assign(key->bytes().begin(), key->bytes().end());
    out.subject = one.peer->subject;
    out.valid_s = one.peer->valid_s;
  }
  if (out.finished || out.failed) conversations_.erase(known);
  return out;
}

}  // namespace postern::pki
