// Key text leaves no trace in memory once a document is loaded: the process looks through its own pages.
#include <array>
#include <cstdio>
#include <fstream>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/fd.hpp"
#include "tests/config/good_document.hpp"

#if !defined(__SANITIZE_ADDRESS__)

namespace postern::config {
namespace {

constexpr std::size_t digits = 32;
constexpr char blind = 0x5a;

// 32 random hex digits that lie in memory only under a mask.
struct HiddenKey {
  std::array<char, digits> masked{};
  HiddenKey() {
    std::array<unsigned char, digits> random{};
    REQUIRE(::getrandom(random.data(), random.size(), 0) == static_cast<ssize_t>(random.size()));
    for (std::size_t i = 0; i < digits; ++i) masked[i] = static_cast<char>("0123456789abcdef"[random[i] % 16] ^ blind);
  }
  // The digits, straight to a descriptor: no buffer of ours holds more than one.
  void write_to(int fd) const {
    for (const char c : masked) {
      const char digit = static_cast<char>(c ^ blind);
      REQUIRE(::write(fd, &digit, 1) == 1);
    }
  }
  [[nodiscard]] bool is_at(const char* at) const {
    for (std::size_t i = 0; i < digits; ++i)
      if (at[i] != (masked[i] ^ blind)) return false;
    return true;
  }
};

// How often the key stands in the readable, writable pages of this process.
std::size_t traces(const HiddenKey& key) {
  constexpr std::size_t window = 1 << 20;
  auto buffer = Mapping::map(window, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, "scan buffer");
  REQUIRE(buffer);
  const auto own = reinterpret_cast<std::uintptr_t>(buffer->data());
  const Fd memory(::open("/proc/self/mem", O_RDONLY | O_CLOEXEC));
  REQUIRE(memory);
  std::ifstream maps("/proc/self/maps");
  std::size_t found = 0;
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t first = 0, last = 0;
    char mode[5] = {};
    if (std::sscanf(line.c_str(), "%lx-%lx %4s", &first, &last, mode) != 3 || mode[0] != 'r' || mode[1] != 'w')
      continue;
    // The scan's own window overlaps its neighbours by less than a key, so that none is missed and none is counted
    // twice.
    for (std::uintptr_t at = first; at < last; at += window - digits + 1) {
      if (at <= own + window && at + window >= own) continue;
      const ssize_t got =
          ::pread(memory.get(), buffer->data(), std::min<std::size_t>(window, last - at), static_cast<off_t>(at));
      for (ssize_t i = 0; i + static_cast<ssize_t>(digits) <= got; ++i)
        if (key.is_at(reinterpret_cast<const char*>(buffer->data()) + i)) ++found;
    }
  }
  return found;
}

// The good document with `key` as its first cipher key, in a file.
std::string write_document(const HiddenKey& key) {
  char name[] = "/tmp/postern-key-XXXXXX";
  const Fd file(::mkstemp(name));
  const std::string text = good().dump();
  const auto at = text.find(key_a);
  REQUIRE(::write(file.get(), text.data(), at) == static_cast<ssize_t>(at));
  key.write_to(file.get());
  const std::string_view rest = std::string_view(text).substr(at + digits);
  REQUIRE(::write(file.get(), rest.data(), rest.size()) == static_cast<ssize_t>(rest.size()));
  return name;
}

}  // namespace

TEST_CASE("memory: the scan finds a key that is there") {
  const HiddenKey key;
  CHECK(traces(key) == 0);
  std::string plain(digits, ' ');
  for (std::size_t i = 0; i < digits; ++i) plain[i] = static_cast<char>(key.masked[i] ^ blind);
  CHECK(traces(key) == 1);
}

TEST_CASE("memory: a loaded document leaves no key text, whether it was good or bad") {
  const HiddenKey key;
  const std::string file = write_document(key);
  {
    const auto loaded = load_file(file);
    if (!loaded) FAIL(to_text(loaded.error()));
    CHECK(traces(key) == 0);
  }
  const auto refused = load_file(file + ".absent");
  CHECK(!refused);
  {
    const Fd append(::open(file.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
    REQUIRE(::write(append.get(), "}", 1) == 1);
  }
  CHECK(!load_file(file));
  CHECK(traces(key) == 0);
  ::unlink(file.c_str());
}

}  // namespace postern::config

#endif
