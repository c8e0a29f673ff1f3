// The Internet checksum (RFC 1071). Sums are kept unfolded in 64 bits and in memory order, so that no byte is swapped
// while summing: fold() gives the 16 bits as they lie in the packet. Pure functions, any thread.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/bytes.hpp"
#include "base/net_types.hpp"

namespace postern {

// One's complement sum of `bytes`, an odd last byte padded with zero, added to `start`. A sum of several pieces is
// right when every piece but the last has an even size.
[[nodiscard]] std::uint64_t sum_bytes(Bytes bytes, std::uint64_t start = 0);

// 16 bits in memory order (store with store_raw16), not complemented.
[[nodiscard]] inline std::uint16_t fold(std::uint64_t sum) {
  sum = (sum >> 32) + (sum & 0xffffffffU);
  sum = (sum >> 32) + (sum & 0xffffffffU);
  sum = (sum >> 16) + (sum & 0xffffU);
  sum = (sum >> 16) + (sum & 0xffffU);
  return static_cast<std::uint16_t>((sum >> 16) + (sum & 0xffffU));
}
[[nodiscard]] inline std::uint16_t finish(std::uint64_t sum) { return static_cast<std::uint16_t>(~fold(sum)); }

// A host-order 16-bit number as one of the words of a sum.
[[nodiscard]] inline std::uint64_t word(std::uint16_t host_order) { return std::byteswap(host_order); }

[[nodiscard]] inline std::uint16_t load_raw16(const std::byte* p) {
  std::uint16_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline void store_raw16(std::byte* p, std::uint16_t v) { std::memcpy(p, &v, sizeof v); }

// RFC 9293 §3.1, RFC 768, RFC 8200 §8.1: the pseudo header in front of `upper_bytes` bytes of `protocol`.
[[nodiscard]] std::uint64_t pseudo_header_sum(const std::byte* ip, Family family, std::uint8_t protocol,
                                              std::uint32_t upper_bytes);

// Computes and stores the header checksum of an IPv4 header of `header_bytes`.
void set_ipv4_checksum(std::byte* ip, std::size_t header_bytes);
[[nodiscard]] bool ipv4_checksum_ok(const std::byte* ip, std::size_t header_bytes);

// RFC 1624, equation 3: the checksum field at `field` after one 16-bit word of what it covers changed.
inline void adjust_checksum(std::byte* field, std::uint16_t old_raw, std::uint16_t new_raw) {
  const std::uint64_t sum =
      std::uint64_t{static_cast<std::uint16_t>(~load_raw16(field))} + static_cast<std::uint16_t>(~old_raw) + new_raw;
  store_raw16(field, finish(sum));
}

}  // namespace postern
