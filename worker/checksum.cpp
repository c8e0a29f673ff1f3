#include "worker/checksum.hpp"

namespace postern {

namespace {

// 32-bit words into 64-bit lanes: no carry is lost below 2^32 words, and the compiler vectorises it.
[[gnu::always_inline]] inline std::uint64_t sum_lanes(const std::byte* p, std::size_t left, std::uint64_t start) {
  constexpr std::size_t words_at_once = 16;
  std::uint64_t lanes[words_at_once] = {};
  for (; left >= sizeof(std::uint32_t) * words_at_once; left -= 64, p += 64) {
    std::uint32_t words[words_at_once];
    std::memcpy(words, p, sizeof words);
    for (std::size_t i = 0; i < words_at_once; ++i) lanes[i] += words[i];
  }
  std::uint64_t sum = (start >> 32) + (start & 0xffffffffU);
  for (const std::uint64_t lane : lanes) sum += (lane >> 32) + (lane & 0xffffffffU);
  for (; left >= 4; left -= 4, p += 4) {
    std::uint32_t one;
    std::memcpy(&one, p, sizeof one);
    sum += one;
  }
  std::uint32_t tail = 0;
  if (left != 0) std::memcpy(&tail, p, left);
  return sum + tail;
}

std::uint64_t sum_portable(const std::byte* p, std::size_t size, std::uint64_t start) {
  return sum_lanes(p, size, start);
}

#ifdef __x86_64__
[[gnu::target("avx2")]] std::uint64_t sum_avx2(const std::byte* p, std::size_t size, std::uint64_t start) {
  return sum_lanes(p, size, start);
}
const auto sum_here = __builtin_cpu_supports("avx2") ? sum_avx2 : sum_portable;
#else
const auto sum_here = sum_portable;
#endif

}  // namespace

std::uint64_t sum_bytes(Bytes bytes, std::uint64_t start) { return sum_here(bytes.data(), bytes.size(), start); }

std::uint64_t pseudo_header_sum(const std::byte* ip, Family family, std::uint8_t protocol, std::uint32_t upper_bytes) {
  const Bytes addresses = family == Family::v4 ? Bytes(ip + 12, 8) : Bytes(ip + 8, 32);
  const std::uint64_t length =
      word(static_cast<std::uint16_t>(upper_bytes >> 16)) + word(static_cast<std::uint16_t>(upper_bytes));
  return sum_bytes(addresses, length + word(protocol));
}

void set_ipv4_checksum(std::byte* ip, std::size_t header_bytes) {
  store_raw16(ip + 10, 0);
  store_raw16(ip + 10, finish(sum_bytes({ip, header_bytes})));
}

bool ipv4_checksum_ok(const std::byte* ip, std::size_t header_bytes) {
  return fold(sum_bytes({ip, header_bytes})) == 0xffff;
}

}  // namespace postern
