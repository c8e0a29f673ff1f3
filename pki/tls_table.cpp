#include "pki/tls_table.hpp"

#include <algorithm>

#include "crypto/certificate_path.hpp"

namespace postern::pki {

struct TlsPeer {
  std::string subject, refused_certificate;
  std::int64_t valid_s = 0;  // how much longer both certificates are valid
};

namespace {

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
  const Trustpoint* const own = store.trustpoint(question.trustpoint);
  if (own == nullptr || own->own.empty() || !own->key)
    return std::unexpected(refused(RefusalKind::no_credential,
                                   "trustpoint " + question.trustpoint + " has no certificate and key of its own",
                                   "give it certificate and key"));
  const crypto::Certificate& leaf = own->own.front();
  if (wall > leaf.not_after() || wall < leaf.not_before())
    return std::unexpected(refused(RefusalKind::no_credential,
                                   "trustpoint " + question.trustpoint + ": its certificate is valid from " +
                                       crypto::time_text(leaf.not_before()) + " to " +
                                       crypto::time_text(leaf.not_after()),
                                   "renew it, or set this machine's clock"));
  const auto anchors = store.authorities(question.verify);
  if (anchors.empty())
    return std::unexpected(
        refused(RefusalKind::no_credential, "no CA certificate to check the peer's against", "ca_certificates"));
  auto peer = std::make_shared<TlsPeer>(TlsPeer{{}, {}, leaf.not_after() - wall});
  const auto judge = [=, of = question](const crypto::Certificate& theirs, const auto& others) {
    auto problem = problem_of(theirs, others, anchors, of, wall);
    peer->subject = theirs.subject();
    peer->valid_s = std::min(peer->valid_s, theirs.not_after() - wall);
    if (problem) peer->refused_certificate = theirs.subject();
    return problem;
  };
  auto end = crypto::TlsEnd::create({question.server, own->own, *own->key, anchors, judge, newest_});
  if (!end) return std::unexpected(refused(RefusalKind::no_credential, end.error().message(), "see the trustpoint"));
  return Conversation{std::move(*end), now + patience, std::move(peer)};
}

void TlsTable::make_room() {
  while (conversations_.size() >= most)
    conversations_.erase(
        std::ranges::min_element(conversations_, {}, [](const auto& one) { return one.second.until; }));
}

Answer TlsTable::answer(const TlsQuestion& question, const Store& store, std::int64_t wall, Time now) {
  std::erase_if(conversations_, [&](const auto& one) { return one.second.until <= now; });
  auto known = conversations_.find(question.conversation);
  if (question.begins) {
    if (known != conversations_.end()) conversations_.erase(known);
    make_room();
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
  out.by_peer = step.by_peer;
  out.why = one.peer->refused_certificate.empty() ? std::move(step.why)
                                                  : "certificate " + one.peer->refused_certificate + ": " + step.why;
  if (out.finished) {
    auto key = one.end->eap_key();
    if (!key) return refused(RefusalKind::unavailable, key.error().message(), "see the log of postern-pki");
    out.key = std::move(*key);
    out.subject = one.peer->subject;
    out.valid_s = one.peer->valid_s;
  }
  if (out.finished || out.failed) conversations_.erase(known);
  return out;
}

}  // namespace postern::pki
