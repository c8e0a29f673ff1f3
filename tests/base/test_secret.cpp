#include <algorithm>
#include <atomic>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/secret.hpp"

namespace postern {
namespace {

bool is_zero(Bytes bytes) {
  return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
}

// The value of `field` in /proc/self/smaps for the mapping that holds `at` ("VmFlags", "Locked"); empty when there is
// none.
std::string smaps_field(const void* at, const std::string& field) {
  std::ifstream smaps("/proc/self/smaps");
  bool here = false;
  for (std::string line; std::getline(smaps, line);) {
    std::uintptr_t first = 0, last = 0;
    char dash = 0;
    std::istringstream range(line);
    if (range >> std::hex >> first >> dash >> last && dash == '-') {
      const auto address = reinterpret_cast<std::uintptr_t>(at);
      here = address >= first && address < last;
    } else if (here && line.starts_with(field + ":")) {
      return line.substr(field.size() + 1);
    }
  }
  return {};
}

#if defined(__x86_64__)
TEST_CASE("wipe: what copying left in a vector register is gone too") {
  if (!__builtin_cpu_supports("avx")) return;
  alignas(16) std::array<unsigned char, 16> key, seen{};
  key.fill(0x5a);
  asm volatile("vmovdqu %0, %%xmm15" : : "m"(key) : "xmm15");
  asm volatile("vmovdqu %%xmm15, %0" : "=m"(seen));
  CHECK(seen == key);
  wipe(std::as_writable_bytes(std::span(key)));
  asm volatile("vmovdqu %%xmm15, %0" : "=m"(seen));
  CHECK(seen == std::array<unsigned char, 16>{});
}
#endif

TEST_CASE("Secret: holds its bytes, copies and moves") {
  const Secret a = Secret::copy_of(as_bytes("correct horse"));
  CHECK(a.size() == 13);
  CHECK(std::ranges::equal(a.bytes(), as_bytes("correct horse")));
  Secret b = a;
  CHECK(b == a);
  CHECK(b.bytes().data() != a.bytes().data());
  b.mutable_bytes()[0] = std::byte{'C'};
  CHECK_FALSE(b == a);
  const std::byte* const at = b.bytes().data();
  const Secret c = std::move(b);
  CHECK(c.bytes().data() == at);
  CHECK(b.empty());  // NOLINT(bugprone-use-after-move): a moved-from Secret is empty
  CHECK_FALSE(c == Secret());
  CHECK(Secret() == Secret::copy_of({}));
}

TEST_CASE("Secret: destruction and assignment wipe") {
  Bytes memory;
  {
    const Secret secret = Secret::copy_of(as_bytes("battery staple"));
    memory = secret.bytes();
    CHECK_FALSE(is_zero(memory));
  }
  CHECK(is_zero(memory));

  Secret target = Secret::copy_of(as_bytes("first"));
  memory = target.bytes();
  target = Secret::copy_of(as_bytes("second"));
  CHECK(is_zero(memory));
  CHECK(std::ranges::equal(target.bytes(), as_bytes("second")));
}

TEST_CASE("Secret: a new one is zero, whatever lay there") {
  const std::byte* at = nullptr;
  {
    Secret old(100);
    std::ranges::fill(old.mutable_bytes(), std::byte{0xff});
    at = old.bytes().data();
  }
  const Secret fresh(100);
  CHECK(fresh.bytes().data() == at);
  CHECK(is_zero(fresh.bytes()));
}

TEST_CASE("Secret: neighbours do not overlap, at any size, in any order of release") {
  std::vector<Secret> secrets;
  for (std::size_t i = 0; i < 300; ++i) {
    secrets.emplace_back(i % 200 + 1);
    std::ranges::fill(secrets.back().mutable_bytes(), static_cast<std::byte>(i));
  }
  for (std::size_t i = 0; i < secrets.size(); i += 3) secrets[i] = Secret();
  for (std::size_t i = 0; i < secrets.size(); i += 3) {
    secrets[i] = Secret(i % 333 + 1);
    std::ranges::fill(secrets[i].mutable_bytes(), static_cast<std::byte>(i));
  }
  for (std::size_t i = 0; i < secrets.size(); ++i)
    CHECK(std::ranges::all_of(secrets[i].bytes(), [&](std::byte b) { return b == static_cast<std::byte>(i); }));
}

TEST_CASE("Secret: larger than an arena, as a document is") {
  for (const std::size_t size : {std::size_t{64 * 1024}, std::size_t{64 * 1024 + 1}, std::size_t{5} << 20}) {
    Secret first(size), second(size);
    CHECK(std::ranges::all_of(first.bytes(), [](std::byte byte) { return byte == std::byte{0}; }));
    std::ranges::fill(first.mutable_bytes(), std::byte{1});
    std::ranges::fill(second.mutable_bytes(), std::byte{2});
    const Secret copy = first;
    first = Secret();
    CHECK(std::ranges::all_of(copy.bytes(), [](std::byte byte) { return byte == std::byte{1}; }));
    CHECK(std::ranges::all_of(second.bytes(), [](std::byte byte) { return byte == std::byte{2}; }));
  }
}

TEST_CASE("Secret: larger than any document is refused") {
  CHECK_THROWS_AS(Secret(std::size_t{1} << 30), std::bad_alloc);
  CHECK(Secret(65536).size() == 65536);
}

TEST_CASE("Secret: made and destroyed by threads at once") {
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t, &wrong] {
      for (int i = 0; i < 2000; ++i) {
        Secret secret(static_cast<std::size_t>(i % 100 + 1));
        std::ranges::fill(secret.mutable_bytes(), static_cast<std::byte>(t + 1));
        if (!std::ranges::all_of(secret.bytes(), [t](std::byte b) { return b == static_cast<std::byte>(t + 1); }))
          ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("Secret: its pages are in no core dump, and wiped in the child of a fork") {
  const Secret secret = Secret::copy_of(as_bytes("not for children"));
  const std::string flags = smaps_field(secret.bytes().data(), "VmFlags") + ' ';
  CHECK(flags.find(" dd ") != std::string::npos);
  CHECK(flags.find(" wf ") != std::string::npos);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) ::_exit(is_zero(secret.bytes()) ? 0 : 1);
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK_FALSE(is_zero(secret.bytes()));
}

TEST_CASE("allocate_locked: whole pages, zero, and locked when it says so") {
  const auto pages = allocate_locked(5000);
  REQUIRE(pages);
  CHECK(pages->size == 8192);
  CHECK(is_zero({pages->data, pages->size}));
  const std::string flags = smaps_field(pages->data, "VmFlags") + ' ';
#if !defined(__SANITIZE_ADDRESS__)  // its mlock() does nothing and says that it did
  CHECK((flags.find(" lo ") != std::string::npos) == pages->locked);
#endif
  CHECK(flags.find(" dd ") != std::string::npos);
  CHECK(flags.find(" wf ") != std::string::npos);
  std::fill_n(pages->data, pages->size, std::byte{1});
  free_locked(*pages);
  free_locked({});
  CHECK_FALSE(allocate_locked(~std::size_t{0} >> 1));
}

TEST_CASE("equal_in_constant_time: equal, and different at each byte") {
  const auto bytes = as_bytes("0123456789abcdef");
  CHECK(equal_in_constant_time(bytes, as_bytes(std::string("0123456789abcdef"))));
  CHECK(equal_in_constant_time({}, {}));
  CHECK_FALSE(equal_in_constant_time(bytes, bytes.first(15)));
  CHECK_FALSE(equal_in_constant_time({}, bytes));
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    std::vector<std::byte> other(bytes.begin(), bytes.end());
    other[i] ^= std::byte{0x80};
    CHECK_FALSE(equal_in_constant_time(bytes, other));
  }
}

TEST_CASE("wipe: all of it, and nothing of nothing") {
  std::vector<std::byte> bytes(100, std::byte{7});
  wipe(std::span(bytes).subspan(10, 80));
  CHECK(is_zero(Bytes(bytes).subspan(10, 80)));
  CHECK(bytes[9] == std::byte{7});
  CHECK(bytes[90] == std::byte{7});
  wipe({});
}

}  // namespace
}  // namespace postern
