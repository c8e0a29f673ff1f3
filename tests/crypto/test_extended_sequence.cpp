// RFC 4303 §2.2.1: the high half of an extended sequence number is not sent, and is authenticated.
#include <algorithm>

#include "crypto/transforms.hpp"
#include "tests/crypto/support.hpp"

namespace postern::crypto {
namespace {

using test::Buffer;

// A batch under keys with extended numbers, each packet with its own number.
struct Batch {
  std::vector<Buffer> clear, packets;
  std::vector<std::uint64_t> numbers;
  std::vector<EspJob> jobs;

  Batch(const EspKey& key, std::size_t count, std::mt19937_64& random) : numbers(count) {
    for (std::uint64_t& number : numbers) number = random();
    for (std::size_t i = 0; i < count; ++i)
      clear.push_back(
          test::clear_packet(key.sizes(), random() % 300, 0x1001, static_cast<std::uint32_t>(numbers[i]), random));
    packets = clear;
    for (std::size_t i = 0; i < count; ++i) jobs.push_back(test::job_for(key, packets[i], numbers[i]));
  }
  [[nodiscard]] bool all_ok() const { return std::ranges::all_of(jobs, &EspJob::ok); }
};

Bytes iv_of(const EspKey& key, const Buffer& packet) { return Bytes(packet).subspan(8, key.sizes().iv_bytes); }

TEST_CASE("extended numbers: every transform and batch width, against the reference, and back") {
  std::mt19937_64 random(41);
  for (EspEngine& engine : test::engines())
    for (const Transform& transform : test::all_transforms) {
      CAPTURE(engine.name());
      CAPTURE(text(transform));
      const test::Keys keys = test::random_keys(transform, random);
      const EspKey key = test::make_key(keys, true);
      for (const std::size_t width : {1, 2, 9, 16, 33, 64, 100}) {
        CAPTURE(width);
        Batch batch(key, width, random);
        engine.seal(batch.jobs);
        REQUIRE(batch.all_ok());
        for (std::size_t i = 0; i < width; ++i)
          REQUIRE(batch.packets[i] ==
                  test::reference_seal_extended(keys, batch.clear[i], iv_of(key, batch.packets[i]), batch.numbers[i]));
        engine.open(batch.jobs);
        REQUIRE(batch.all_ok());
        for (std::size_t i = 0; i < width; ++i)
          REQUIRE(std::ranges::equal(test::body_of(key.sizes(), batch.packets[i]),
                                     test::body_of(key.sizes(), batch.clear[i])));
      }
    }
}

TEST_CASE("extended numbers: another high half is rejected, and only that packet") {
  std::mt19937_64 random(42);
  for (EspEngine& engine : test::engines())
    for (const Transform& transform : test::all_transforms) {
      CAPTURE(engine.name());
      CAPTURE(text(transform));
      const EspKey key = test::make_key(test::random_keys(transform, random), true);
      for (int bit = 32; bit < 64; ++bit) {
        Batch batch(key, static_cast<std::size_t>(bit) % 20 + 1, random);
        engine.seal(batch.jobs);
        REQUIRE(batch.all_ok());
        const std::size_t victim = random() % batch.jobs.size();
        batch.jobs[victim].sequence ^= std::uint64_t{1} << bit;
        engine.open(batch.jobs);
        for (std::size_t i = 0; i < batch.jobs.size(); ++i) REQUIRE(batch.jobs[i].ok == (i != victim));
      }
    }
}

TEST_CASE("extended numbers: the two forms do not open each other, not with a high half of zero either") {
  std::mt19937_64 random(43);
  for (EspEngine& engine : test::engines())
    for (const Transform& transform : test::all_transforms) {
      CAPTURE(engine.name());
      CAPTURE(text(transform));
      const test::Keys keys = test::random_keys(transform, random);
      const EspKey plain = test::make_key(keys), extended = test::make_key(keys, true);
      for (const auto* const sealer : {&plain, &extended}) {
        Buffer packet = test::clear_packet(plain.sizes(), 77, 0x1001, 1, random);
        REQUIRE(test::seal_one(engine, *sealer, packet));
        Buffer copy = packet;
        CHECK_FALSE(test::open_one(engine, sealer == &plain ? extended : plain, copy));
        CHECK(test::open_one(engine, *sealer, packet));
      }
    }
}

// A CBC batch of both forms is one burst.
TEST_CASE("extended numbers: both forms in one batch") {
  std::mt19937_64 random(44);
  for (EspEngine& engine : test::engines())
    for (const Transform& transform : test::all_transforms) {
      CAPTURE(engine.name());
      CAPTURE(text(transform));
      const test::Keys keys = test::random_keys(transform, random);
      const EspKey plain = test::make_key(keys), extended = test::make_key(keys, true);
      Batch batch(extended, 40, random);
      for (std::size_t i = 0; i < batch.jobs.size(); i += 3) batch.jobs[i].key = &plain;
      engine.seal(batch.jobs);
      REQUIRE(batch.all_ok());
      for (std::size_t i = 0; i < batch.jobs.size(); ++i) {
        const Bytes iv = iv_of(plain, batch.packets[i]);
        REQUIRE(batch.packets[i] == (i % 3 == 0
                                         ? test::reference_seal(keys, batch.clear[i], iv)
                                         : test::reference_seal_extended(keys, batch.clear[i], iv, batch.numbers[i])));
      }
      engine.open(batch.jobs);
      REQUIRE(batch.all_ok());
    }
}

}  // namespace
}  // namespace postern::crypto
