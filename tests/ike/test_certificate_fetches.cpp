// What sessions want from URLs: bounded, each answered once, and what had the right hash is kept by it.
#include <doctest/doctest.h>

#include "crypto/digest.hpp"
#include "ike/certificate_fetches.hpp"

namespace postern::ike {
namespace {

using resolver::UrlAnswer, resolver::UrlOutcome;

Octets body_of(std::size_t number, std::size_t size = 8) {
  Octets out(size, std::byte{0});
  for (std::size_t i = 0; i < 4; ++i) out[i] = static_cast<std::byte>(number >> (8 * i));
  return out;
}
CertificateUrl url_of(const Octets& body) {
  const auto hash = crypto::sha1({body});
  REQUIRE(hash);
  return {"http://pki.example.org/x", {hash->begin(), hash->end()}, 16384};
}
UrlAnswer found(Octets body) { return {UrlOutcome::found, {}, std::move(body)}; }

}  // namespace

TEST_CASE("what all of them are there for is given once, in order, and costs no fetch the next time") {
  CertificateFetches fetches;
  const Octets one = body_of(1), two = body_of(2);
  const auto asked = fetches.begin(7, {3, {url_of(one), url_of(two)}});
  REQUIRE(asked.size() == 2);
  CHECK(asked[0].max_bytes == 16384);
  fetches.settle(asked[1].id, found(two));
  CHECK_FALSE(fetches.next());
  fetches.settle(asked[0].id, found(one));
  fetches.settle(asked[0].id, found(two));  // said twice
  auto done = fetches.next();
  REQUIRE(done);
  CHECK(done->session == 7);
  CHECK(done->ticket == 3);
  CHECK(*done->certificates[0] == one);
  CHECK(*done->certificates[1] == two);
  CHECK_FALSE(fetches.next());
  CHECK(fetches.begin(8, {1, {url_of(two)}}).empty());
  done = fetches.next();
  REQUIRE(done);
  CHECK(*done->certificates[0] == two);
}

TEST_CASE("what has another hash, and what failed, is told and not kept") {
  CertificateFetches fetches;
  const auto wrong = fetches.begin(1, {1, {url_of(body_of(1))}});
  fetches.settle(wrong[0].id, found(body_of(2)));
  CHECK(*fetches.next()->certificates[0] == body_of(2));  // the session says what that means
  const auto refused = fetches.begin(1, {2, {url_of(body_of(1))}});
  REQUIRE(refused.size() == 1);
  fetches.settle(refused[0].id, {UrlOutcome::refused, "the server answers 404", {}});
  CHECK(fetches.next()->certificates[0].error().message() == "the server answers 404");
  CHECK(fetches.cached() == 0);
  for (const UrlOutcome outcome :
       {UrlOutcome::too_large, UrlOutcome::timed_out, UrlOutcome::failed, UrlOutcome::busy}) {
    const auto one = fetches.begin(1, {3, {url_of(body_of(1))}});
    fetches.settle(one.at(0).id, {outcome, {}, {}});
    CHECK_FALSE(fetches.next()->certificates[0].error().message().empty());
  }
}

TEST_CASE("no more than so many are fetched at once; what is refused is told, and room comes again") {
  CertificateFetches fetches;
  std::vector<CertificateFetches::Fetch> asked;
  for (std::size_t i = 0; i < CertificateFetches::max_outstanding; ++i)
    asked.push_back(fetches.begin(i, {1, {url_of(body_of(i))}}).at(0));
  CHECK(fetches.begin(99, {1, {url_of(body_of(99))}}).empty());
  const auto refused = fetches.next();
  REQUIRE(refused);
  CHECK(refused->session == 99);
  CHECK_FALSE(refused->certificates[0]);
  fetches.settle(asked[0].id, {UrlOutcome::timed_out, {}, {}});
  CHECK(fetches.begin(99, {2, {url_of(body_of(99))}}).size() == 1);
}

TEST_CASE("the oldest go when there are too many, or too much") {
  const auto keep = [](CertificateFetches& fetches, const Octets& body) {
    for (const auto& one : fetches.begin(1, {1, {url_of(body)}})) fetches.settle(one.id, found(body));
    (void)fetches.next();
  };
  CertificateFetches many;
  for (std::size_t i = 0; i <= CertificateFetches::max_cached; ++i) keep(many, body_of(i));
  CHECK(many.cached() == CertificateFetches::max_cached);
  CHECK(many.begin(1, {1, {url_of(body_of(0))}}).size() == 1);
  CHECK(many.begin(1, {1, {url_of(body_of(1))}}).empty());
  CertificateFetches much;
  constexpr std::size_t large = 48U << 10;
  for (std::size_t i = 0; i < 40; ++i) keep(much, body_of(i, large));
  CHECK(much.cached() == CertificateFetches::max_cached_bytes / large);
}

}  // namespace postern::ike
