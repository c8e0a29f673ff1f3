// The outer IP and UDP headers of tunnel mode: a template built at install, copied and patched per packet (RFC 4301
// §5.1.2).
#pragma once

#include <cstdint>

#include "base/bytes.hpp"
#include "maps/adjacency.hpp"
#include "worker/parse.hpp"
#include "worker/sa.hpp"

namespace postern {

// Fills in sa.header and sa.header_sum. IPv6: flow label zero, so nothing of the inner flow shows.
void build_outer_template(const SaParameters& parameters, const SaEnds& ends, OutboundSa& sa);
// Where the header sends to.
[[nodiscard]] inline IpAddress outer_destination(const OutboundSa& sa) {
  return destination_of(sa.header.data(), sa.outer);
}

// What varies from packet to packet in the outer header.
struct OuterFields {
  std::uint8_t traffic_class = 0;
  bool dont_fragment = false;
  std::uint16_t identification = 0;
  std::uint32_t esp_bytes = 0;  // SPI through ICV
};

[[nodiscard]] std::uint8_t outer_traffic_class(const OutboundSa& sa, std::uint8_t inner);
// RFC 4301 §8.1; copying from IPv6 means set, since its routers never fragment either.
[[nodiscard]] bool outer_dont_fragment(const OutboundSa& sa, bool inner_dont_fragment);

// Writes sa.overhead.outer_bytes at `outer`. A UDP checksum over IPv6 is left zero: finish_udp_checksum() after
// sealing.
void write_outer(const OutboundSa& sa, const OuterFields& fields, std::byte* outer);

// The UDP header of RFC 3948 at `udp`, in front of `esp_bytes`; the checksum is left zero.
void write_udp(const OutboundSa& sa, std::uint32_t esp_bytes, std::byte* udp);

// RFC 8200 §8.1: UDP over IPv6 carries a checksum; RFC 3948 §2.1 leaves it zero over IPv4. `outer` begins a sealed
// packet, whose IP headers have `network_bytes`.
void finish_udp_checksum(const OutboundSa& sa, std::uint32_t esp_bytes, std::byte* outer, std::uint32_t network_bytes);

// Pushes the Ethernet header of the next hop in front of the outer IP header.
void write_ethernet(const Adjacency& adjacency, Family outer, Packet& packet);

}  // namespace postern
