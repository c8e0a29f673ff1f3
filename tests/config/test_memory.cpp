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
constexpr std::size_t part = 16;  // half a key is a trace as well: buffers are overwritten from their front
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
  // The half of the key that begins with digit `first`.
  [[nodiscard]] bool half_is_at(const char* at, std::size_t first) const {
    for (std::size_t i = 0; i < part; ++i)
      if (at[i] != (masked[first + i] ^ blind)) return false;
    return true;
  }
};

// How many halves of the key stand in the readable, writable pages of this process.
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
    // The scan's own window overlaps its neighbours by less than half a key, so that none is missed and none is counted
    // twice.
    for (std::uintptr_t at = first; at < last; at += window - part + 1) {
      if (at <= own + window && at + window >= own) continue;
      const ssize_t got =
          ::pread(memory.get(), buffer->data(), std::min<std::size_t>(window, last - at), static_cast<off_t>(at));
      for (ssize_t i = 0; i + static_cast<ssize_t>(part) <= got; ++i) {
        const char* const here = reinterpret_cast<const char*>(buffer->data()) + i;
        if (key.half_is_at(here, 0) || key.half_is_at(here, part)) ++found;
      }
    }
  }
  return found;
}

// The good document with `key` as one of its cipher keys, in a file.
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
  CHECK(traces(key) == 2);
}

TEST_CASE("memory: what is freed is wiped, by whomever it was taken") {
  const HiddenKey key;
  const std::string file = write_document(key);
  {
    const Fd in(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
    std::string text(16384, ' ');
    const ssize_t size = ::read(in.get(), text.data(), text.size());
    REQUIRE(size > 0);
    const auto document = nlohmann::json::parse(text.begin(), text.begin() + size);
    CHECK(traces(key) >= 4);
  }
  CHECK(traces(key) == 0);
  ::unlink(file.c_str());
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
