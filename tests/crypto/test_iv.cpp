#include <algorithm>
#include <array>
#include <set>
#include <thread>

#include "crypto/random.hpp"
#include "crypto/transforms.hpp"
#include "tests/crypto/support.hpp"

namespace postern::crypto {
namespace {

using test::Buffer;
using Iv = std::array<std::byte, 16>;

TEST_CASE("AEADs and AES-CTR: the IV is the 64-bit sequence number") {
  std::mt19937_64 random(11);
  for (EspEngine& engine : test::engines()) {
    CAPTURE(engine.name());
    for (const Transform& transform : test::all_transforms) {
      if (!iv_must_not_repeat(transform.cipher)) continue;
      const EspKey key = test::make_key(test::random_keys(transform, random));
      for (const std::uint64_t sequence : {std::uint64_t{1}, std::uint64_t{0xffffffff}, std::uint64_t{0x100000000},
                                           std::uint64_t{0x0123456789abcdef}, ~std::uint64_t{0}}) {
        Buffer packet = test::clear_packet(key.sizes(), 50, 256, static_cast<std::uint32_t>(sequence), random);
        const Buffer header(packet.begin(), packet.begin() + 8);
        REQUIRE(test::seal_one(engine, key, packet, sequence));
        CHECK(std::ranges::equal(Bytes(packet).first(8), header));
        ByteReader reader(Bytes(packet).subspan(8));
        CHECK(reader.u64() == sequence);
      }
    }
  }
}

// Seals `rounds` batches and returns every IV.
std::vector<Iv> collect_ivs(EspEngine& engine, const EspKey& key, std::size_t rounds, std::mt19937_64& random) {
  std::vector<Iv> out;
  std::vector<Buffer> packets(64, test::clear_packet(key.sizes(), 20, 256, 1, random));
  std::vector<EspJob> jobs;
  for (Buffer& packet : packets) jobs.push_back(test::job_for(key, packet));
  for (std::size_t i = 0; i < rounds; ++i) {
    engine.seal(jobs);
    for (std::size_t j = 0; j < jobs.size(); ++j) {
      REQUIRE(jobs[j].ok);
      std::memcpy(out.emplace_back().data(), packets[j].data() + 8, sizeof(Iv));
    }
  }
  return out;
}

TEST_CASE("AES-CBC: IVs never repeat, over batches, engines and threads") {
  std::mt19937_64 random(12);
  const EspKey key = test::make_key(test::random_keys({Cipher::aes_cbc, 128, Integrity::hmac_sha1_96}, random));
  std::set<Iv> seen;
  std::size_t total = 0;
  const auto add = [&](const std::vector<Iv>& ivs) {
    seen.insert(ivs.begin(), ivs.end());
    total += ivs.size();
  };
  for (EspEngine& engine : test::engines()) add(collect_ivs(engine, key, 500, random));
  for (EspEngine& engine : test::engines()) add(collect_ivs(engine, key, 500, random));
  std::vector<Iv> from_thread;
  std::thread([&] {
    auto engine = EspEngine::create();
    REQUIRE(engine);
    from_thread = collect_ivs(*engine, key, 500, random);
  }).join();
  add(from_thread);
  CHECK(total > 90'000);
  CHECK(seen.size() == total);
}

TEST_CASE("AES-CBC: each bit of an IV is set in half of them") {
  std::mt19937_64 random(13);
  const EspKey key = test::make_key(test::random_keys({Cipher::aes_cbc, 128, Integrity::hmac_sha1_96}, random));
  for (EspEngine& engine : test::engines()) {
    CAPTURE(engine.name());
    const auto ivs = collect_ivs(engine, key, 256, random);
    for (std::size_t bit = 0; bit < 128; ++bit) {
      const auto ones = std::ranges::count_if(
          ivs, [&](const Iv& iv) { return (iv[bit / 8] & static_cast<std::byte>(1U << bit % 8)) != std::byte{0}; });
      // 16384 draws: a standard deviation of 64, and eight of them.
      CHECK(std::abs(ones - 8192) < 512);
    }
  }
}

TEST_CASE("IvPool: hands out a reservation, refills when it must") {
  IvPool pool;
  std::set<Iv> seen;
  for (int round = 0; round < 40; ++round) {
    REQUIRE(pool.reserve(64));
    for (int i = 0; i < 64; ++i) {
      Iv iv;
      std::memcpy(iv.data(), pool.take(), iv.size());
      CHECK(seen.insert(iv).second);
    }
  }
  CHECK(seen.size() == 2560);
  CHECK_FALSE(seen.contains(Iv{}));
}

TEST_CASE("random_bytes fills all of it") {
  Buffer a(1000), b(1000);
  REQUIRE(random_bytes(a));
  REQUIRE(random_bytes(b));
  CHECK(a != b);
  CHECK(std::ranges::count(a, std::byte{0}) < 50);
  CHECK(random_bytes({}));
}

}  // namespace
}  // namespace postern::crypto
