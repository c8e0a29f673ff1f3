// Certificates that sessions want from URLs (ike/certificate_urls.hpp): which of them have to be fetched, what came,
// and a cache of those that had the right hash, by it: a peer that comes again costs no fetch. Bounded, since whoever
// begins an IKE SA can want some. Pure; one thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "ike/actions.hpp"
#include "resolver/channel.hpp"

namespace postern::ike {

class CertificateFetches {
 public:
  static constexpr std::size_t max_outstanding = 32, max_cached = 64, max_cached_bytes = 1U << 20;

  struct Fetch {
    std::uint64_t id = 0;
    std::string url;
    std::uint32_t max_bytes = 0;
  };
  struct Done {
    std::uint64_t session = 0, ticket = 0;
    FetchedCertificates certificates;
  };

  // What has to be asked for; each is settled once. Beyond max_outstanding nothing is.
  [[nodiscard]] std::vector<Fetch> begin(std::uint64_t session, const FetchCertificates& wanted);
  void settle(std::uint64_t fetch, resolver::UrlAnswer answer);
  // A session's, once all of them are there, also those that were from the beginning.
  [[nodiscard]] std::optional<Done> next();

  [[nodiscard]] std::size_t outstanding() const { return asked_.size(); }
  [[nodiscard]] std::size_t cached() const { return cache_.size(); }

 private:
  struct Cached {
    Octets hash, body;
  };
  struct Want {
    Done done;
    std::size_t missing = 0;
  };
  struct Asked {
    std::uint64_t want = 0;
    std::size_t place = 0;
    Octets hash;
    std::string url;
  };
  [[nodiscard]] const Octets* cached(const Octets& hash) const;
  void keep(const Octets& hash, const Octets& body);
  void settle_one(std::uint64_t want, std::size_t place, Result<Octets> what);

  std::uint64_t next_fetch_ = 1, next_want_ = 1;
  std::map<std::uint64_t, Want> wants_;
  std::map<std::uint64_t, Asked> asked_;
  std::deque<Done> done_;
  std::deque<Cached> cache_;  // oldest first
  std::size_t cached_bytes_ = 0;
};

}  // namespace postern::ike
