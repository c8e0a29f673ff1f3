// Keys in memory: lengths, wiping, what is left behind, forks; and no allocation while packets pass.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.hpp"
#include "base/registers.hpp"
#include "crypto/expanded_key.hpp"
#include "crypto/ike_cipher.hpp"
#include "crypto/transforms.hpp"
#include "tests/crypto/support.hpp"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool sanitized = true;  // with an allocator and terabytes of shadow memory of its own
#else
constexpr bool sanitized = false;
#endif

namespace {
std::atomic<std::size_t> allocations;
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// glibc calls these in place of its own, for OpenSSL and operator new alike.
extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* old, std::size_t size);
void* malloc(std::size_t size) {
  ++allocations;
  return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) {
  ++allocations;
  return __libc_calloc(count, size);
}
void* realloc(void* old, std::size_t size) {
  ++allocations;
  return __libc_realloc(old, size);
}
}
#endif

namespace postern::crypto {
namespace {

using test::Buffer;

TEST_CASE("EspKey: a key of any other length is refused") {
  std::mt19937_64 random(21);
  for (const Transform& transform : test::all_transforms) {
    CAPTURE(text(transform));
    const auto sizes = sizes_of(transform);
    REQUIRE(sizes);
    for (std::size_t cipher = 0; cipher <= 65; ++cipher) {
      for (std::size_t integrity = 0; integrity <= 65; ++integrity) {
        const auto key = EspKey::create(transform, Buffer(cipher), Buffer(integrity));
        const bool fits = cipher == sizes->key_bytes && integrity == sizes->integrity_key_bytes;
        REQUIRE(key.has_value() == fits);
        if (!fits) REQUIRE(key.error().what.find("bytes; the transform takes") != std::string::npos);
      }
    }
  }
}

Bytes memory_of(const EspKey& key) { return std::as_bytes(std::span(&key.expanded(), 1)); }
bool is_wiped(Bytes bytes) {
  return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
}

TEST_CASE("EspKey: destruction and assignment wipe the slot, a move does not") {
  std::mt19937_64 random(22);
  for (const Transform& transform : test::all_transforms) {
    CAPTURE(text(transform));
    Bytes slot, other_slot;
    {
      EspKey key = test::make_key(test::random_keys(transform, random));
      slot = memory_of(key);
      CHECK_FALSE(is_wiped(slot));
      EspKey moved = std::move(key);
      CHECK(memory_of(moved).data() == slot.data());
      CHECK_FALSE(is_wiped(slot));

      EspKey other = test::make_key(test::random_keys(transform, random));
      other_slot = memory_of(other);
      moved = std::move(other);
      CHECK(is_wiped(slot));
      CHECK_FALSE(is_wiped(other_slot));
    }
    CHECK(is_wiped(other_slot));
  }
}

TEST_CASE("EspKey: slots are reused, and thousands of keys live side by side") {
  std::mt19937_64 random(23);
  const Transform transform{Cipher::aes_gcm_16, 256, Integrity::none};
  auto engine = EspEngine::create();
  REQUIRE(engine);
  std::vector<EspKey> keys;
  std::vector<test::Keys> raw;
  for (int i = 0; i < 2000; ++i) {
    raw.push_back(test::random_keys(transform, random));
    keys.push_back(test::make_key(raw.back()));
  }
  for (std::size_t i = 0; i < keys.size(); i += 97) {
    const Buffer clear = test::clear_packet(keys[i].sizes(), 40, 256, 1, random);
    Buffer packet = clear;
    REQUIRE(test::seal_one(*engine, keys[i], packet, 5));
    CHECK(packet == test::reference_seal(raw[i], clear, Bytes(packet).subspan(8, 8)));
  }
  const std::byte* const last = memory_of(keys.back()).data();
  keys.pop_back();
  const EspKey next = test::make_key(test::random_keys(transform, random));
  CHECK(memory_of(next).data() == last);
}

// Kept as complement, so that the search does not find its own needle.
struct Needle {
  explicit Needle(Bytes bytes) : inverted(bytes.begin(), bytes.end()) {
    for (std::byte& b : inverted) b = ~b;
    clear_vector_registers();  // the loader saves them on the stack when it binds a function of ifstream's
  }
  [[nodiscard]] bool at(const std::byte* p) const {
    for (std::size_t i = 0; i < inverted.size(); ++i)
      if (p[i] != ~inverted[i]) return false;
    return true;
  }
  Buffer inverted;
};

// How often the needle lies in this process's writable memory. Read through /proc/self/mem in pieces into one buffer,
// which is wiped afterwards and, holding a copy of what it reads, is passed over itself.
std::size_t occurrences(const Needle& needle) {
  static std::array<std::byte, 1 << 16> window;
  const Fd memory(::open("/proc/self/mem", O_RDONLY | O_CLOEXEC));
  REQUIRE(memory);
  std::ifstream maps("/proc/self/maps");
  const auto window_at = reinterpret_cast<std::uintptr_t>(window.data());
  const std::size_t size = needle.inverted.size();
  std::size_t found = 0;
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t first = 0, last = 0;
    char dash = 0;
    std::string permissions;
    std::istringstream(line) >> std::hex >> first >> dash >> last >> permissions;
    if (!permissions.starts_with("rw")) continue;
    for (std::uintptr_t at = first; at + size <= last; at += window.size() - size + 1) {
      const auto read =
          ::pread(memory.get(), window.data(), std::min<std::size_t>(window.size(), last - at), static_cast<off_t>(at));
      if (read < static_cast<ssize_t>(size)) continue;
      for (std::size_t i = 0; i + size <= static_cast<std::size_t>(read); ++i)
        if ((at + i < window_at || at + i >= window_at + window.size()) && needle.at(window.data() + i)) ++found;
    }
  }
  wipe(window);
  return found;
}

TEST_CASE("keys: after use and destruction no key byte is left in the process") {
  if (sanitized) return;
  std::mt19937_64 random(24);
  Transform last;
  for (const Transform& transform : test::all_transforms) {
    const bool seen = transform.cipher == last.cipher && transform.key_bits == last.key_bits;
    last = transform;
    if (seen && transform.cipher != Cipher::null) continue;  // each cipher once, each authenticator with NULL
    for (EspEngine& engine : test::engines()) {
      CAPTURE(engine.name());
      CAPTURE(text(transform));
      test::Keys keys = test::random_keys(transform, random);
      const Bytes secret = keys.cipher.empty() ? keys.integrity : keys.cipher;
      const Needle cipher_needle(secret.first(std::min<std::size_t>(secret.size(), 16)));
      CHECK(occurrences(cipher_needle) >= 1);  // the search finds what is there: the caller's copy
      {
        const EspKey key = test::make_key(keys);
        const Buffer clear = test::clear_packet(key.sizes(), 700, 256, 1, random);
        std::vector<Buffer> packets(40, clear);
        std::vector<EspJob> jobs;
        for (Buffer& packet : packets) jobs.push_back(test::job_for(key, packet));
        engine.seal(jobs);
        engine.open(jobs);
        CHECK(std::ranges::all_of(jobs, &EspJob::ok));
        wipe(keys.cipher);
        wipe(keys.integrity);
        if (transform.cipher != Cipher::null) CHECK(occurrences(cipher_needle) >= 1);  // the slot of the live key
      }
      CHECK(occurrences(cipher_needle) == 0);
    }
  }
}

TEST_CASE("IKE keys: after use and destruction no key byte is left in the process") {
  if (sanitized) return;
  std::mt19937_64 random(27);
  for (const Transform& transform : test::ike_transforms) {
    CAPTURE(text(transform));
    test::Keys keys = test::random_keys(transform, random);
    const Needle cipher_needle(Bytes(keys.cipher).first(16));
    const Needle integrity_needle(Bytes(keys.integrity.empty() ? keys.cipher : keys.integrity).first(16));
    {
      auto cipher = IkeCipher::create(transform, keys.cipher, keys.integrity);
      REQUIRE(cipher);
      const auto sealed = cipher->seal(Buffer(32), Buffer(300));
      REQUIRE(sealed);
      CHECK(cipher->open(Buffer(32), *sealed));
      wipe(keys.cipher);
      wipe(keys.integrity);
      CHECK(occurrences(cipher_needle) == 1);  // the object's own
    }
    CHECK(occurrences(cipher_needle) == 0);
    CHECK(occurrences(integrity_needle) == 0);
  }
}

TEST_CASE("IKE keys: no copy of what prf+ and the key exchange give, beside the Secret") {
  if (sanitized) return;
  std::mt19937_64 random(28);
  const auto gone_with = [](Result<Secret> secret) {
    REQUIRE(secret);
    const Needle first(secret->bytes().first(16)), last(secret->bytes().last(16));
    CHECK(occurrences(first) == 1);
    CHECK(occurrences(last) == 1);
    *secret = Secret();
    {
      const Secret dropped = std::move(*secret);
    }
    CHECK(occurrences(first) == 0);
    CHECK(occurrences(last) == 0);
  };
  for (const Prf algorithm : {Prf::hmac_sha1, Prf::hmac_sha256, Prf::hmac_sha384, Prf::hmac_sha512}) {
    CAPTURE(ike_name(algorithm));
    const Buffer key = test::random_buffer(64, random), seed = test::random_buffer(80, random);
    gone_with(prf(algorithm, key, {seed}));
    gone_with(prf_plus(algorithm, key, {seed}, 300));
  }
  for (const NamedGroup& named : named_groups()) {
    CAPTURE(named.name);
    const auto ours = DhExchange::create(named.group);
    const auto theirs = DhExchange::create(named.group);
    REQUIRE(ours);
    REQUIRE(theirs);
    gone_with(ours->shared(theirs->public_value()));
  }
}

TEST_CASE("keys: in the child of a fork they are wiped, and no packet is sealed with them") {
  std::mt19937_64 random(25);
  for (const Transform& transform : test::all_transforms) {
    CAPTURE(text(transform));
    const EspKey key = test::make_key(test::random_keys(transform, random));
    Buffer packet = test::clear_packet(key.sizes(), 40, 256, 1, random);
    auto engine = EspEngine::create(EngineKind::openssl);
    REQUIRE(engine);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      const bool refused = !test::seal_one(*engine, key, packet);
      ::_exit(refused && is_wiped(memory_of(key)) ? 0 : 1);
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
    CHECK(test::seal_one(*engine, key, packet));
  }
}

TEST_CASE("engines: nothing is allocated while packets pass, good and bad") {
  if (sanitized) return;
  std::mt19937_64 random(26);
  for (EspEngine& engine : test::engines()) {
    std::vector<EspKey> keys;
    for (const Transform& transform : test::all_transforms) {
      keys.push_back(test::make_key(test::random_keys(transform, random)));
      keys.push_back(test::make_key(test::random_keys(transform, random)));
    }
    std::vector<Buffer> packets;
    std::vector<EspJob> jobs;
    for (std::size_t i = 0; i < keys.size(); ++i)
      packets.push_back(test::clear_packet(keys[i % keys.size()].sizes(), random() % 1400, 256, 1, random));
    for (std::size_t i = 0; i < packets.size(); ++i) jobs.push_back(test::job_for(keys[i % keys.size()], packets[i]));

    std::size_t opened = 0;
    const std::size_t before = allocations;
    for (std::uint64_t round = 0; round < 200; ++round) {
      for (EspJob& job : jobs) job.sequence = round;
      engine.seal(jobs);
      packets[round % packets.size()].back() ^= std::byte{1};
      engine.open(jobs);
      opened += static_cast<std::size_t>(std::ranges::count_if(jobs, &EspJob::ok));
    }
    const std::size_t during = allocations - before;
    CAPTURE(engine.name());
    CHECK(during == 0);
    CHECK(opened == 200 * (packets.size() - 1));
    const std::size_t control = allocations;
    Buffer counted(10);
    CHECK(allocations > control);  // the counter counts
  }
}

}  // namespace
}  // namespace postern::crypto
