#include <random>
#include <set>

#include <doctest/doctest.h>

#include "worker/replay_window.hpp"

namespace postern {
namespace {

using enum ReplayVerdict;

TEST_CASE("replay window: the edges, for every size") {
  for (std::uint32_t size = 32; size <= 4096; size += 32) {
    ReplayWindow w(size);
    CHECK(w.advance(0) == too_old);  // RFC 4303 §2.2: the first number is 1
    CHECK(w.advance(1) == fresh);
    CHECK(w.advance(1) == replayed);
    CHECK(w.advance(size) == fresh);
    CHECK(w.check(1) == replayed);        // still inside
    CHECK(w.advance(size + 1) == fresh);  // 1 falls out
    CHECK(w.check(1) == too_old);
    CHECK(w.advance(2) == fresh);  // the oldest inside
    CHECK(w.advance(2) == replayed);
    const std::uint64_t far = 10ULL * size + 77;
    CHECK(w.advance(far) == fresh);
    CHECK(w.advance(far - size) == too_old);
    CHECK(w.advance(far - size + 1) == fresh);
    CHECK(w.advance(far - size + 1) == replayed);
    CHECK(w.advance(far) == replayed);
    CHECK(w.highest() == far);
  }
}

TEST_CASE("replay window: the last numbers before 2^32") {
  ReplayWindow w(64);
  CHECK(w.advance(0xfffffffe) == fresh);
  CHECK(w.advance(0xffffffff) == fresh);
  CHECK(w.advance(0xffffffff) == replayed);
  CHECK(w.advance(0xffffffff - 63) == fresh);
  CHECK(w.advance(0xffffffff - 64) == too_old);
}

TEST_CASE("replay window: check() marks nothing") {
  ReplayWindow w(32);
  CHECK(w.check(5) == fresh);
  CHECK(w.check(5) == fresh);
  CHECK(w.advance(5) == fresh);
  CHECK(w.check(5) == replayed);
  CHECK(w.highest() == 5);
}

TEST_CASE("replay window: size 0 takes everything") {
  ReplayWindow w(0);
  for (const std::uint64_t n : {0U, 5U, 5U, 1U, 0U}) CHECK(w.advance(n) == fresh);
}

TEST_CASE("replay window: after a crash everything up to the highest is seen, and nothing above") {
  for (const std::uint64_t highest : {1ULL, 63ULL, 64ULL, 65ULL, 4095ULL, 1000000ULL})
    for (const std::uint32_t size : {32U, 64U, 96U, 4096U}) {
      ReplayWindow w(size);
      w.resume(highest);
      for (std::uint64_t n = highest > size ? highest - size : 1; n <= highest; ++n) CHECK(w.advance(n) != fresh);
      for (std::uint64_t n = highest + 1; n <= highest + 2ULL * size; ++n) {
        CHECK(w.advance(n) == fresh);
        CHECK(w.advance(n) == replayed);
      }
    }
}

TEST_CASE("replay window: equals a set of all numbers seen") {
  std::mt19937_64 random(20240607);
  for (const std::uint32_t size : {32U, 64U, 160U, 1024U, 4096U}) {
    ReplayWindow w(size);
    std::set<std::uint64_t> seen;
    std::uint64_t highest = 0;
    for (int i = 0; i < 20000; ++i) {
      const std::uint64_t base = highest > 2 * size ? highest - 2 * size : 0;
      const std::uint64_t jump = random() % 50 == 0 ? random() % (3 * size) : 0;
      const std::uint64_t n = base + random() % (2 * size + 8) + jump;
      const ReplayVerdict expected = n == 0                                ? too_old
                                     : n <= highest && highest - n >= size ? too_old
                                     : seen.contains(n)                    ? replayed
                                                                           : fresh;
      REQUIRE(w.advance(n) == expected);
      if (expected == fresh) {
        seen.insert(n);
        highest = std::max(highest, n);
      }
    }
  }
}

}  // namespace
}  // namespace postern
