#include <algorithm>
#include <utility>

#include "crypto/expanded_key.hpp"
#include "crypto/transforms.hpp"
#include "tests/crypto/support.hpp"

namespace postern::crypto {
namespace {

using test::Buffer;

// A packet inside a guarded frame, at any alignment.
class Frame {
 public:
  Frame(const Buffer& packet, std::size_t alignment)
      : size_(packet.size()), start_(64 + alignment % 64), bytes_(packet.size() + 192, guard) {
    std::ranges::copy(packet, bytes_.begin() + static_cast<std::ptrdiff_t>(start_));
  }
  [[nodiscard]] EspJob job(const EspKey& key, std::uint64_t sequence) {
    return {&key, bytes_.data() + start_, static_cast<std::uint32_t>(size_), sequence, false};
  }
  [[nodiscard]] Bytes packet() const { return Bytes(bytes_).subspan(start_, size_); }
  [[nodiscard]] bool guards_intact() const {
    const auto is_guard = [](std::byte b) { return b == guard; };
    return std::ranges::all_of(Bytes(bytes_).first(start_), is_guard) &&
           std::ranges::all_of(Bytes(bytes_).subspan(start_ + size_), is_guard);
  }

 private:
  static constexpr std::byte guard{0x5a};
  std::size_t size_, start_;
  Buffer bytes_;
};

Bytes iv_of(const EspKey& key, Bytes packet) { return packet.subspan(8, key.sizes().iv_bytes); }

// Seals `clear` as one batch, compares each packet with the reference, opens the batch and compares it with `clear`.
void round_trip(EspEngine& sealer, EspEngine& opener, std::span<const test::Keys* const> keys,
                std::span<const EspKey* const> expanded, const std::vector<Buffer>& clear, std::mt19937_64& random) {
  std::vector<Frame> frames;
  std::vector<EspJob> jobs;
  frames.reserve(clear.size());
  for (std::size_t i = 0; i < clear.size(); ++i) {
    frames.emplace_back(clear[i], random());
    jobs.push_back(frames.back().job(*expanded[i], random()));
  }
  sealer.seal(jobs);
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    REQUIRE(std::exchange(jobs[i].ok, false));
    REQUIRE(frames[i].guards_intact());
    const Buffer expected = test::reference_seal(*keys[i], clear[i], iv_of(*expanded[i], frames[i].packet()));
    REQUIRE(std::ranges::equal(frames[i].packet(), expected));
  }
  opener.open(jobs);
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    REQUIRE(jobs[i].ok);
    REQUIRE(frames[i].guards_intact());
    const TransformSizes& sizes = expanded[i]->sizes();
    REQUIRE(std::ranges::equal(test::body_of(sizes, frames[i].packet()), test::body_of(sizes, clear[i])));
  }
}

TEST_CASE("engines: every payload size from 0 to 2000, in batches of all widths, against the reference") {
  std::mt19937_64 random(1);
  for (EspEngine& engine : test::engines()) {
    for (const Transform& transform : test::all_transforms) {
      CAPTURE(engine.name());
      CAPTURE(text(transform));
      const test::Keys keys = test::random_keys(transform, random);
      const EspKey key = test::make_key(keys);
      const std::size_t widths[] = {1, 2, 9, 16, 33, 64, 100};
      std::size_t turn = 0;
      for (std::size_t size = 0; size <= 2000;) {
        std::vector<Buffer> clear;
        for (std::size_t n = widths[turn++ % std::size(widths)]; n > 0 && size <= 2000; --n, ++size)
          clear.push_back(test::clear_packet(key.sizes(), size, 0x12345678, static_cast<std::uint32_t>(size), random));
        CAPTURE(size);
        round_trip(engine, engine, std::vector(clear.size(), &keys), std::vector(clear.size(), &key), clear, random);
      }
    }
  }
}

TEST_CASE("engines: mixed keys and transforms in batches of 1 to 64, each engine opening the other's") {
  std::mt19937_64 random(2);
  std::vector<test::Keys> keys;
  std::vector<EspKey> expanded;
  for (std::size_t i = 0; i < 2 * std::size(test::all_transforms); ++i) {
    keys.push_back(test::random_keys(test::all_transforms[i % std::size(test::all_transforms)], random));
    expanded.push_back(test::make_key(keys.back()));
  }
  auto engines = test::engines();
  for (EspEngine& sealer : engines) {
    for (EspEngine& opener : engines) {
      CAPTURE(sealer.name());
      CAPTURE(opener.name());
      for (std::size_t width = 1; width <= 64; ++width) {
        CAPTURE(width);
        std::vector<const test::Keys*> batch_keys;
        std::vector<const EspKey*> batch_expanded;
        std::vector<Buffer> clear;
        for (std::size_t i = 0; i < width; ++i) {
          const std::size_t which = random() % keys.size();
          batch_keys.push_back(&keys[which]);
          batch_expanded.push_back(&expanded[which]);
          clear.push_back(test::clear_packet(expanded[which].sizes(), random() % 1500, 256, 1, random));
        }
        round_trip(sealer, opener, batch_keys, batch_expanded, clear, random);
      }
    }
  }
}

TEST_CASE("engines: a packet larger than any link's") {
  std::mt19937_64 random(3);
  for (EspEngine& engine : test::engines()) {
    for (const Transform& transform : test::all_transforms) {
      CAPTURE(engine.name());
      CAPTURE(text(transform));
      const test::Keys keys = test::random_keys(transform, random);
      const EspKey key = test::make_key(keys);
      const std::vector<Buffer> clear(3, test::clear_packet(key.sizes(), 65400, 256, 1, random));
      round_trip(engine, engine, std::vector(clear.size(), &keys), std::vector(clear.size(), &key), clear, random);
    }
  }
}

TEST_CASE("open: one flipped bit anywhere is rejected, and only that packet") {
  std::mt19937_64 random(4);
  for (EspEngine& engine : test::engines()) {
    for (const Transform& transform : test::all_transforms) {
      CAPTURE(engine.name());
      CAPTURE(text(transform));
      const EspKey key = test::make_key(test::random_keys(transform, random));
      const Buffer clear = test::clear_packet(key.sizes(), 61, 0x9abcdef0, 7, random);
      Buffer sealed = clear;
      REQUIRE(test::seal_one(engine, key, sealed));
      // Each bit in turn, among neighbours that must still open; the batch width changes which kernels do the work.
      for (std::size_t bit = 0; bit < sealed.size() * 8; ++bit) {
        CAPTURE(bit);
        std::vector<Buffer> packets(bit % 20 + 1, sealed);
        const std::size_t victim = bit % packets.size();
        packets[victim][bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
        std::vector<EspJob> jobs;
        for (Buffer& packet : packets) jobs.push_back(test::job_for(key, packet));
        engine.open(jobs);
        for (std::size_t i = 0; i < jobs.size(); ++i) {
          REQUIRE(jobs[i].ok == (i != victim));
          if (i != victim)
            REQUIRE(std::ranges::equal(test::body_of(key.sizes(), packets[i]), test::body_of(key.sizes(), clear)));
        }
      }
    }
  }
}

TEST_CASE("open: what an authenticator finds forged is not decrypted") {
  std::mt19937_64 random(5);
  for (EspEngine& engine : test::engines())
    for (const Transform& transform : test::all_transforms) {
      if (is_aead(transform.cipher)) continue;
      CAPTURE(engine.name());
      CAPTURE(text(transform));
      const EspKey key = test::make_key(test::random_keys(transform, random));
      Buffer packet = test::clear_packet(key.sizes(), 200, 256, 1, random);
      REQUIRE(test::seal_one(engine, key, packet));
      packet.back() ^= std::byte{1};
      const Buffer before = packet;
      CHECK_FALSE(test::open_one(engine, key, packet));
      CHECK(packet == before);
    }
}

TEST_CASE("engines: NULL and AES-GMAC leave the payload in clear, every other cipher does not") {
  std::mt19937_64 random(8);
  for (EspEngine& engine : test::engines())
    for (const Transform& transform : test::all_transforms) {
      CAPTURE(engine.name());
      CAPTURE(text(transform));
      const EspKey key = test::make_key(test::random_keys(transform, random));
      const Buffer clear = test::clear_packet(key.sizes(), 100, 256, 1, random);
      Buffer packet = clear;
      REQUIRE(test::seal_one(engine, key, packet));
      const bool readable = std::ranges::equal(test::body_of(key.sizes(), packet), test::body_of(key.sizes(), clear));
      CHECK(readable == (transform.cipher == Cipher::null || transform.cipher == Cipher::aes_gmac));
    }
}

// What AH asks for: any bytes, any length, every authenticator, several in one batch.
TEST_CASE("authenticate: every length from 1 to 2000 at every alignment, against the reference") {
  std::mt19937_64 random(9);
  for (EspEngine& engine : test::engines()) {
    CAPTURE(engine.name());
    for (const NamedTransform& row : named_transforms()) {
      if (row.cipher != Cipher::none) continue;
      CAPTURE(row.name);
      const Buffer secret = test::random_buffer(row.sizes.integrity_key_bytes, random);
      const auto key = EspKey::create_authenticator(row.integrity, secret);
      REQUIRE(key);
      const Buffer data = test::random_buffer(2100, random);
      for (std::size_t size = 1; size <= 2000;) {
        std::vector<MacJob> jobs;
        std::vector<Buffer> icvs(random() % 70 + 1, Buffer(40, std::byte{0x77}));
        for (Buffer& icv : icvs) {
          if (size > 2000) break;
          jobs.push_back({&*key, data.data() + size % 64, static_cast<std::uint32_t>(size), icv.data() + 4, false});
          ++size;
        }
        engine.authenticate(jobs);
        for (const MacJob& job : jobs) {
          REQUIRE(job.ok);
          const Buffer expected = test::reference_mac(row.integrity, secret, {job.data, job.size});
          REQUIRE(std::ranges::equal(Bytes(job.icv, row.sizes.icv_bytes), Bytes(expected).first(row.sizes.icv_bytes)));
          REQUIRE(job.icv[row.sizes.icv_bytes] == std::byte{0x77});
          REQUIRE(job.icv[-1] == std::byte{0x77});
        }
      }
    }
  }
}

TEST_CASE("authenticate: mixed keys; an authenticator's key seals nothing, a cipher's key authenticates nothing") {
  std::mt19937_64 random(10);
  const Buffer secret = test::random_buffer(20, random), other = test::random_buffer(16, random);
  const auto sha = EspKey::create_authenticator(Integrity::hmac_sha1_96, secret);
  const auto cmac = EspKey::create_authenticator(Integrity::aes_cmac_96, other);
  REQUIRE(sha);
  REQUIRE(cmac);
  CHECK_FALSE(EspKey::create_authenticator(Integrity::none, {}));
  CHECK_FALSE(EspKey::create_authenticator(Integrity::hmac_sha1_96, other));
  const EspKey gcm = test::make_key(test::random_keys({Cipher::aes_gcm_16, 128, Integrity::none}, random));
  const Buffer data = test::random_buffer(70000, random);
  for (EspEngine& engine : test::engines()) {
    CAPTURE(engine.name());
    std::array<std::array<std::byte, 16>, 5> icvs{};
    MacJob jobs[] = {{&*sha, data.data(), 100, icvs[0].data(), false},
                     {&gcm, data.data(), 100, icvs[1].data(), true},
                     {&*cmac, data.data(), 33, icvs[2].data(), false},
                     {&*sha, data.data(), 0, icvs[3].data(), true},
                     {&*sha, data.data(), 65536, icvs[4].data(), true}};
    engine.authenticate(jobs);
    const bool expected[] = {true, false, true, false, false};
    for (std::size_t i = 0; i < 5; ++i) CHECK(jobs[i].ok == expected[i]);
    CHECK(std::ranges::equal(
        Bytes(icvs[0]).first(12),
        Bytes(test::reference_mac(Integrity::hmac_sha1_96, secret, Bytes(data).first(100))).first(12)));
    CHECK(
        std::ranges::equal(Bytes(icvs[2]).first(12),
                           Bytes(test::reference_mac(Integrity::aes_cmac_96, other, Bytes(data).first(33))).first(12)));
    Buffer packet(200);
    CHECK_FALSE(test::seal_one(engine, *sha, packet));
    CHECK_FALSE(test::open_one(engine, *sha, packet));
    CHECK(packet == Buffer(200));
  }
}

TEST_CASE("open: another key, a truncated packet and an extended one are rejected") {
  std::mt19937_64 random(6);
  for (EspEngine& engine : test::engines()) {
    for (const Transform& transform : test::all_transforms) {
      CAPTURE(engine.name());
      CAPTURE(text(transform));
      test::Keys keys = test::random_keys(transform, random);
      const EspKey key = test::make_key(keys);
      Buffer sealed = test::clear_packet(key.sizes(), 100, 256, 1, random);
      REQUIRE(test::seal_one(engine, key, sealed));

      Buffer packet = sealed;
      CHECK_FALSE(test::open_one(engine, test::make_key(test::random_keys(transform, random)), packet));
      if (key.sizes().salt_bytes != 0 && is_aead(transform.cipher)) {
        keys.cipher.back() ^= std::byte{1};  // the salt alone
        packet = sealed;
        CHECK_FALSE(test::open_one(engine, test::make_key(keys), packet));
      }
      packet.assign(sealed.begin(), sealed.end() - key.sizes().block_bytes);
      CHECK_FALSE(test::open_one(engine, key, packet));
      packet = sealed;
      packet.resize(packet.size() + key.sizes().block_bytes);
      CHECK_FALSE(test::open_one(engine, key, packet));
      packet = sealed;
      CHECK(test::open_one(engine, key, packet));
    }
  }
}

TEST_CASE("engines: a job of impossible size fails and touches nothing") {
  std::mt19937_64 random(7);
  for (EspEngine& engine : test::engines()) {
    for (const Transform& transform : test::all_transforms) {
      CAPTURE(engine.name());
      CAPTURE(text(transform));
      const EspKey key = test::make_key(test::random_keys(transform, random));
      const auto overhead = static_cast<std::uint32_t>(8 + key.sizes().iv_bytes + key.sizes().icv_bytes);
      const auto block = static_cast<std::uint32_t>(key.sizes().block_bytes);
      Buffer bytes(70000, std::byte{0x33});
      const Buffer before = bytes;
      for (const std::uint32_t size : {0U, 1U, 8U, overhead - 1, overhead, overhead + 1, overhead + block - 1,
                                       overhead + block + 1, 65536U, overhead + block * 4096 + 4 * block}) {
        if (size <= 65535 && size >= overhead + block && (size - overhead) % block == 0) continue;
        CAPTURE(size);
        EspJob job{&key, bytes.data(), size, 1, true};
        engine.seal({&job, 1});
        CHECK_FALSE(job.ok);
        job.ok = true;
        engine.open({&job, 1});
        CHECK_FALSE(job.ok);
        REQUIRE(bytes == before);
      }
      EspJob smallest{&key, bytes.data(), overhead + block, 1, false};
      engine.seal({&smallest, 1});
      CHECK(smallest.ok);
    }
    engine.seal({});
    engine.open({});
  }
}

TEST_CASE("engines: create() gives what was asked for") {
  const auto openssl = EspEngine::create(EngineKind::openssl);
  REQUIRE(openssl);
  CHECK(openssl->name().starts_with("OpenSSL 3."));
  const auto automatic = EspEngine::create();
  REQUIRE(automatic);
  const auto ipsec_mb = EspEngine::create(EngineKind::ipsec_mb);
  if (ipsec_mb) CHECK(ipsec_mb->name().starts_with("ipsec-mb "));
  CHECK(automatic->name() == (ipsec_mb ? ipsec_mb->name() : openssl->name()));
}

}  // namespace
}  // namespace postern::crypto
