// Distinct types for distinct wire numbers. Addresses are held in network byte order; every integer here is host order.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace postern {

enum class EtherType : std::uint16_t { ipv4 = 0x0800, arp = 0x0806, ipv6 = 0x86DD };
enum class IpProto : std::uint8_t {
  hop_by_hop = 0,
  icmp = 1,
  ipv4 = 4,
  tcp = 6,
  udp = 17,
  ipv6 = 41,
  routing = 43,
  fragment = 44,
  gre = 47,
  esp = 50,
  ah = 51,
  icmpv6 = 58,
  no_next_header = 59,
  destination_options = 60,
};
enum class Family : std::uint8_t { v4 = 4, v6 = 6 };

// RFC 4303 §2.1: 0 is local, 1..255 are reserved by IANA.
enum class Spi : std::uint32_t {};
inline constexpr std::uint32_t first_usable_spi = 256;

using MacAddress = std::array<std::uint8_t, 6>;

// An IPv4 or IPv6 address. The bytes are 16 in network order; IPv4 is kept v4-mapped (::ffff:a.b.c.d), the one shape
// that BPF map keys, the SAD and the adjacency table share (maps/abi.h: struct postern_address).
class IpAddress {
 public:
  constexpr IpAddress() = default;
  [[nodiscard]] static constexpr IpAddress v4(std::uint32_t host_order) {
    IpAddress a;
    a.bytes_[10] = a.bytes_[11] = 0xff;
    for (std::size_t i = 0; i < 4; ++i) a.bytes_[12 + i] = static_cast<std::uint8_t>(host_order >> (24 - 8 * i));
    return a;
  }
  [[nodiscard]] static constexpr IpAddress from_mapped(const std::array<std::uint8_t, 16>& bytes) {
    IpAddress a;
    a.bytes_ = bytes;
    return a;
  }
  [[nodiscard]] static Result<IpAddress> parse(std::string_view text);

  [[nodiscard]] constexpr Family family() const {
    for (std::size_t i = 0; i < 10; ++i)
      if (bytes_[i] != 0) return Family::v6;
    return bytes_[10] == 0xff && bytes_[11] == 0xff ? Family::v4 : Family::v6;
  }
  [[nodiscard]] constexpr const std::array<std::uint8_t, 16>& mapped() const { return bytes_; }
  // The 4 bytes of an IPv4 address in host order; only for family() == v4.
  [[nodiscard]] constexpr std::uint32_t v4_host_order() const {
    return std::uint32_t{bytes_[12]} << 24 | std::uint32_t{bytes_[13]} << 16 | std::uint32_t{bytes_[14]} << 8 |
           bytes_[15];
  }
  [[nodiscard]] bool is_unspecified() const;
  [[nodiscard]] bool is_multicast() const;
  [[nodiscard]] std::string text() const;

  constexpr auto operator<=>(const IpAddress&) const = default;

 private:
  std::array<std::uint8_t, 16> bytes_{};
};

// An address and a prefix length of its own family (0..32 or 0..128).
struct Prefix {
  IpAddress address;
  std::uint8_t length = 0;

  // "10.0.0.0/8", "2001:db8::/32", or a bare address (full length). Host bits are kept: has_host_bits() tells.
  [[nodiscard]] static Result<Prefix> parse(std::string_view text);
  [[nodiscard]] static constexpr Prefix host(const IpAddress& a) {
    return {a, static_cast<std::uint8_t>(a.family() == Family::v4 ? 32 : 128)};
  }
  [[nodiscard]] Family family() const { return address.family(); }
  [[nodiscard]] bool has_host_bits() const;
  [[nodiscard]] bool contains(const IpAddress& a) const;
  [[nodiscard]] IpAddress first() const;
  [[nodiscard]] IpAddress last() const;
  // Length in the v4-mapped space (96..128 for IPv4), as LPM keys want it.
  [[nodiscard]] std::uint8_t mapped_length() const {
    return static_cast<std::uint8_t>(family() == Family::v4 ? 96 + length : length);
  }
  [[nodiscard]] std::string text() const;

  constexpr auto operator<=>(const Prefix&) const = default;
};

}  // namespace postern
