// Packets as a test writes them down: nested calls from the outside in, whole and correct unless told otherwise.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace postern::testing {

using Octets = std::vector<std::uint8_t>;

Octets operator+(Octets a, const Octets& b);
Octets zeros(std::size_t count);
Octets be16(std::uint16_t value);
Octets be32(std::uint32_t value);

inline constexpr std::uint16_t type_ipv4 = 0x0800, type_ipv6 = 0x86dd, type_arp = 0x0806;
inline constexpr std::uint8_t proto_icmp = 1, proto_tcp = 6, proto_udp = 17, proto_fragment = 44, proto_esp = 50,
                              proto_icmpv6 = 58;

// From 02:00:00:00:00:02 to 02:00:00:00:00:01.
Octets ethernet(std::uint16_t type, const Octets& payload);
Octets vlan(std::uint16_t tag, std::uint16_t type, const Octets& payload);  // to be put after ethernet(0x8100, ...)

struct Ipv4 {
  std::string_view source, destination;
  std::uint8_t protocol = proto_udp;
  std::uint8_t ttl = 64;
  std::uint16_t fragment = 0;  // as in the header: 0x2000 is "more", the low 13 bits the offset in 8 bytes
  std::size_t option_bytes = 0;
  int length_error = 0;  // added to the total length
};
Octets ipv4(const Ipv4& header, const Octets& payload);

struct Ipv6 {
  std::string_view source, destination;
  std::uint8_t next_header = proto_udp;
  std::uint8_t hop_limit = 64;
};
Octets ipv6(const Ipv6& header, const Octets& payload);
// An extension header of 8 * (1 + units) bytes.
Octets extension(std::uint8_t next_header, std::uint8_t units = 0);
Octets fragment_header(std::uint8_t next_header, std::uint16_t offset_units, bool more);

Octets udp(std::uint16_t source, std::uint16_t destination, const Octets& payload = zeros(16));
Octets tcp(std::uint16_t source, std::uint16_t destination, const Octets& payload = zeros(16));
Octets icmp(std::uint8_t type, std::uint8_t code = 0);
Octets esp(std::uint32_t spi, std::size_t bytes = 64);

}  // namespace postern::testing
