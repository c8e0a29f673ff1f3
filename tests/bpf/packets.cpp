#include "tests/bpf/packets.hpp"

#include <stdexcept>
#include <string>

#include <arpa/inet.h>

namespace postern::testing {
namespace {

Octets address(int family, std::string_view text) {
  Octets out(family == AF_INET ? 4 : 16);
  if (inet_pton(family, std::string(text).c_str(), out.data()) != 1) throw std::invalid_argument(std::string(text));
  return out;
}

// RFC 1071, of an even number of octets.
std::uint16_t internet_checksum(const Octets& octets) {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < octets.size(); i += 2) sum += std::uint32_t{octets[i]} << 8 | octets[i + 1];
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<std::uint16_t>(~sum);
}

}  // namespace

Octets operator+(Octets a, const Octets& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}
Octets zeros(std::size_t count) { return Octets(count); }
Octets be16(std::uint16_t value) { return {static_cast<std::uint8_t>(value >> 8), static_cast<std::uint8_t>(value)}; }
Octets be32(std::uint32_t value) {
  return be16(static_cast<std::uint16_t>(value >> 16)) + be16(static_cast<std::uint16_t>(value));
}

Octets ethernet(std::uint16_t type, const Octets& payload) {
  return Octets{2, 0, 0, 0, 0, 1} + Octets{2, 0, 0, 0, 0, 2} + be16(type) + payload;
}
Octets vlan(std::uint16_t tag, std::uint16_t type, const Octets& payload) { return be16(tag) + be16(type) + payload; }

Octets ipv4(const Ipv4& header, const Octets& payload) {
  const std::size_t header_bytes = 20 + header.option_bytes;
  const auto total = static_cast<std::uint16_t>(static_cast<int>(header_bytes + payload.size()) + header.length_error);
  Octets out = {static_cast<std::uint8_t>(0x40 | header_bytes / 4), 0};
  out = out + be16(total) + be16(1) + be16(header.fragment) + Octets{header.ttl, header.protocol, 0, 0};
  out = out + address(AF_INET, header.source) + address(AF_INET, header.destination);
  out = out + Octets(header.option_bytes, 1);  // option 1 is "no operation"
  const std::uint16_t checksum = internet_checksum(out);
  out[10] = static_cast<std::uint8_t>(checksum >> 8);
  out[11] = static_cast<std::uint8_t>(checksum);
  return out + payload;
}

Octets ipv6(const Ipv6& header, const Octets& payload) {
  Octets out = {0x60, 0, 0, 0};
  out = out + be16(static_cast<std::uint16_t>(payload.size())) + Octets{header.next_header, header.hop_limit};
  return out + address(AF_INET6, header.source) + address(AF_INET6, header.destination) + payload;
}
Octets extension(std::uint8_t next_header, std::uint8_t units) {
  return Octets{next_header, units} + zeros(6 + 8U * units);
}
Octets fragment_header(std::uint8_t next_header, std::uint16_t offset_units, bool more) {
  return Octets{next_header, 0} + be16(static_cast<std::uint16_t>(offset_units << 3 | (more ? 1 : 0))) + be32(7);
}

Octets udp(std::uint16_t source, std::uint16_t destination, const Octets& payload) {
  return be16(source) + be16(destination) + be16(static_cast<std::uint16_t>(8 + payload.size())) + be16(0) + payload;
}
Octets tcp(std::uint16_t source, std::uint16_t destination, const Octets& payload) {
  return be16(source) + be16(destination) + be32(1) + be32(1) + Octets{0x50, 0x10} + be16(1000) + be32(0) + payload;
}
Octets icmp(std::uint8_t type, std::uint8_t code) { return Octets{type, code} + zeros(6); }
Octets esp(std::uint32_t spi, std::size_t bytes) { return be32(spi) + be32(1) + zeros(bytes); }

}  // namespace postern::testing
