// What ESP and AH add to a packet, and so the largest one that fits a path (SV-19 of the guide's `plaintext mtu`). The
// one place of this arithmetic: the data plane seals by it, posternd sets and shows MTUs by it. Needs no library.
#pragma once

#include <cstdint>

#include "base/net_types.hpp"
#include "base/result.hpp"
#include "crypto/ah_transforms.hpp"
#include "crypto/packet_cipher.hpp"

namespace postern::crypto {

inline constexpr std::uint32_t esp_header = 8;   // SPI, sequence number
inline constexpr std::uint32_t esp_trailer = 2;  // pad length, next header

// Bytes that ESP or AH adds, by part. AH: `header` with its ICV and padding, and nothing else.
struct Overhead {
  std::uint16_t outer_bytes = 0;  // IP, in tunnel mode, and UDP, when encapsulated
  std::uint8_t iv_bytes = 0;
  std::uint8_t icv_bytes = 0;
  std::uint8_t block_bytes = 4;  // power of two
  std::uint8_t header = esp_header;
  std::uint8_t trailer = esp_trailer;

  // The largest inner packet that fits into an outer packet of `mtu`: what is left for ciphertext, in whole blocks,
  // less the pad length and next header bytes. 0 when nothing fits.
  [[nodiscard]] constexpr std::uint32_t plaintext_mtu(std::uint32_t mtu) const {
    const std::uint32_t fixed = std::uint32_t{outer_bytes} + header + iv_bytes + icv_bytes;
    if (mtu < fixed + block_bytes) return 0;
    return ((mtu - fixed) & ~(std::uint32_t{block_bytes} - 1)) - trailer;
  }
  // Padding, pad length and next header behind `plain_bytes` (RFC 4303 §2.4).
  [[nodiscard]] constexpr std::uint32_t trailer_bytes(std::uint32_t plain_bytes) const {
    const std::uint32_t mask = std::uint32_t{block_bytes} - 1;
    return ((plain_bytes + trailer + mask) & ~mask) - plain_bytes;
  }
  // Transport mode: the same with the packet's own IP headers, which stay in front.
  [[nodiscard]] constexpr std::uint32_t transport_mtu(std::uint32_t mtu, std::uint32_t network_bytes) const {
    const std::uint32_t upper = mtu < network_bytes ? 0 : plaintext_mtu(mtu - network_bytes);
    return upper == 0 ? 0 : network_bytes + upper;
  }
};
static_assert(Overhead{20, 16, 12, 16}.plaintext_mtu(1500) == 1438);
static_assert(Overhead{40, 8, 12, 8}.plaintext_mtu(1500) == 1430);
static_assert(Overhead{0, 16, 12, 16}.transport_mtu(1500, 20) == 1458);
static_assert(Overhead{20, 0, 0, 1, 24, 0}.plaintext_mtu(1500) == 1456);

// Of AH, the whole header: the ICV is padded so that it is a multiple of 4 bytes over IPv4, of 8 over IPv6 (RFC 4302
// §2.6).
[[nodiscard]] constexpr std::uint32_t ah_header_bytes(std::uint32_t icv_bytes, Family outer) {
  const std::uint32_t mask = outer == Family::v4 ? 3 : 7;
  return (ah_fixed_bytes + icv_bytes + mask) & ~mask;
}

// What goes around: an outer IP header of `outer` unless the packet's own stays (`transport`).
struct Around {
  Family outer = Family::v4;
  bool transport = false;
  bool udp_encapsulation = false;
};
[[nodiscard]] Overhead esp_overhead(const TransformSizes& sizes, const Around& around);
[[nodiscard]] Overhead ah_overhead(const TransformSizes& sizes, const Around& around);

// What protects a flow: ESP, AH, or AH around ESP.
struct Protection {
  Transform esp{};  // empty: AH alone
  Integrity ah = Integrity::none;
  bool transport = false;
};
// The largest inner packet, one without IP options in transport mode. Error: nothing fits, or no such transform.
[[nodiscard]] Result<std::uint32_t> largest_inside(const Protection& protection, Family outer, bool udp_encapsulation,
                                                   std::uint32_t path_mtu);

}  // namespace postern::crypto
