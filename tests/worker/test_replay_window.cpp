#include <optional>
#include <random>
#include <set>
#include <vector>

#include <doctest/doctest.h>

#include "worker/replay_window.hpp"

namespace postern {
namespace {

using enum ReplayVerdict;

TEST_CASE("replay window: the edges, for every size") {
  for (std::uint32_t size = 32; size <= 4096; size += size < 200 ? 1 : 31) {
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

// RFC 4303 appendix A2.2, as the RFC writes it: Th and Tl are the halves of the highest number, W is the window.
std::optional<std::uint64_t> appendix_a2(std::uint64_t highest, std::uint32_t window, std::uint32_t low) {
  const auto th = static_cast<std::uint32_t>(highest >> 32), tl = static_cast<std::uint32_t>(highest);
  const std::uint32_t bottom = tl - window + 1;
  std::uint64_t high;
  if (tl >= window - 1)
    high = low >= bottom ? th : std::uint64_t{th} + 1;
  else if (low >= bottom && th == 0)
    return std::nullopt;
  else
    high = low >= bottom ? th - 1 : th;
  return high << 32 | low;
}

TEST_CASE("extended numbers: the high half is as RFC 4303 appendix A2.2 infers it, around every edge") {
  std::mt19937_64 random(4303);
  for (const std::uint32_t size : {32U, 64U, 96U, 1024U, 4096U})
    for (std::uint64_t high = 0; high < 3; ++high)
      for (const std::uint64_t from_edge : {0U, 1U, size - 2, size - 1, size, size + 1, 0x7fffffffU, 0xfffffffeU}) {
        const std::uint64_t highest = (high << 32) + from_edge;
        ReplayWindow w(size);
        w.resume(highest);
        std::vector<std::uint32_t> lows = {0, 1, 2, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};
        for (std::uint32_t near = 0; near < 4; ++near)
          for (const std::uint64_t edge : {highest, highest + 1 - size}) {
            lows.push_back(static_cast<std::uint32_t>(edge + near));
            lows.push_back(static_cast<std::uint32_t>(edge - near));
          }
        for (int i = 0; i < 50; ++i) lows.push_back(static_cast<std::uint32_t>(random()));
        for (const std::uint32_t low : lows) REQUIRE(w.extend(low) == appendix_a2(highest, size, low).value_or(0));
      }
}

TEST_CASE("extended numbers: a window across the wrap of the low half, old numbers on both sides of it") {
  for (const std::uint32_t size : {32U, 64U, 4096U}) {
    constexpr std::uint64_t wrap = std::uint64_t{1} << 32;
    ReplayWindow w(size);
    w.resume(wrap - 3);
    const auto arrives = [&](std::uint32_t low) { return w.advance(w.extend(low)); };
    CHECK(arrives(0xffffffff) == fresh);  // wrap - 1
    CHECK(arrives(1) == fresh);           // wrap + 1
    CHECK(w.highest() == wrap + 1);
    CHECK(arrives(0xfffffffe) == fresh);  // wrap - 2, before it, late
    CHECK(arrives(0) == fresh);           // wrap itself
    for (const std::uint32_t low : {0xfffffffeU, 0xffffffffU, 0U, 1U}) CHECK(arrives(low) == replayed);
    CHECK(arrives(0xfffffffd) == replayed);  // before the crash
    CHECK(arrives(size) == fresh);           // the bottom is at 1 now
    CHECK(arrives(0xffffffff) == fresh);     // so that is 2^32 later: only the ICV can tell
    CHECK(w.highest() == 2 * wrap - 1);
  }
}

TEST_CASE("extended numbers: before the first there is none") {
  ReplayWindow w(64);
  for (const std::uint32_t low : {0U, 0xffffffffU, 0xffffffffU - 62}) CHECK(w.check(w.extend(low)) == too_old);
  CHECK(w.advance(w.extend(0xffffffffU - 63)) == fresh);  // as far above as there is
  CHECK(w.highest() == 0xffffffffU - 63);
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
  for (const std::uint32_t size : {32U, 33U, 64U, 100U, 160U, 1024U, 4095U, 4096U}) {
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
