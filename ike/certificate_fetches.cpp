#include "ike/certificate_fetches.hpp"

#include <algorithm>

#include "crypto/digest.hpp"

namespace postern::ike {
namespace {

Result<Octets> body_of(resolver::UrlAnswer answer) {
  switch (answer.outcome) {
    case resolver::UrlOutcome::found: return std::move(answer.body);
    case resolver::UrlOutcome::timed_out: return fail("its server does not answer in time");
    case resolver::UrlOutcome::busy: return fail("postern-resolver has too much to do");
    case resolver::UrlOutcome::too_large:
      return fail(answer.detail.empty() ? "it is too large" : "it is too large: " + answer.detail);
    case resolver::UrlOutcome::refused:
    case resolver::UrlOutcome::failed: break;
  }
  return fail(answer.detail.empty() ? "it failed" : answer.detail);
}

}  // namespace

const Octets* CertificateFetches::cached(const Octets& hash) const {
  const auto found = std::ranges::find(cache_, hash, &Cached::hash);
  return found == cache_.end() ? nullptr : &found->body;
}

void CertificateFetches::keep(const Octets& hash, const Octets& body) {
  const auto real = crypto::sha1({body});
  if (!real || !std::ranges::equal(*real, hash) || cached(hash) != nullptr) return;
  cache_.push_back({hash, body});
  cached_bytes_ += body.size();
  while (cache_.size() > max_cached || cached_bytes_ > max_cached_bytes) {
    cached_bytes_ -= cache_.front().body.size();
    cache_.pop_front();
  }
}

std::vector<CertificateFetches::Fetch> CertificateFetches::begin(std::uint64_t session,
                                                                 const FetchCertificates& wanted) {
  std::vector<Fetch> out;
  const std::uint64_t number = next_want_++;
  const std::size_t count = wanted.urls.size();
  wants_[number] = {{session, wanted.ticket, FetchedCertificates(count, Octets{})}, count};
  for (std::size_t i = 0; i < count; ++i) {
    const CertificateUrl& one = wanted.urls[i];
    if (const Octets* const known = cached(one.hash)) {
      settle_one(number, i, *known);
    } else if (asked_.size() >= max_outstanding) {
      settle_one(number, i, fail("too many certificates are being fetched"));
    } else {
      const std::uint64_t id = next_fetch_++;
      asked_[id] = {number, i, one.hash, one.url};
      out.push_back({id, one.url, static_cast<std::uint32_t>(one.max_bytes)});
    }
  }
  return out;
}

void CertificateFetches::settle(std::uint64_t fetch, resolver::UrlAnswer answer) {
  const auto known = asked_.find(fetch);
  if (known == asked_.end()) return;
  const Asked asked = std::move(known->second);
  asked_.erase(known);
  auto body = body_of(std::move(answer));
  if (body) keep(asked.hash, *body);
  settle_one(asked.want, asked.place, std::move(body));
}

void CertificateFetches::settle_one(std::uint64_t want, std::size_t place, Result<Octets> what) {
  const auto known = wants_.find(want);
  known->second.done.certificates[place] = std::move(what);
  if (--known->second.missing != 0) return;
  done_.push_back(std::move(known->second.done));
  wants_.erase(known);
}

std::optional<CertificateFetches::Done> CertificateFetches::next() {
  if (done_.empty()) return std::nullopt;
  Done out = std::move(done_.front());
  done_.pop_front();
  return out;
}

}  // namespace postern::ike
