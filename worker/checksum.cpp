#include "worker/checksum.hpp"

namespace postern {

std::uint64_t sum_bytes(Bytes bytes, std::uint64_t start) {
  // 32-bit words into 64-bit lanes: no carry is lost below 2^32 words, and the compiler vectorises it.
  const std::byte* p = bytes.data();
  std::size_t left = bytes.size();
  std::uint64_t lanes[8] = {};
  for (; left >= 32; left -= 32, p += 32) {
    std::uint32_t words[8];
    std::memcpy(words, p, sizeof words);
    for (std::size_t i = 0; i < 8; ++i) lanes[i] += words[i];
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
