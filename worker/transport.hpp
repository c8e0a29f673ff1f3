// Transport mode (RFC 4303 §3.1.1, RFC 4302 §3.1.1): the packet's own IP headers stay in front, ESP or AH goes between
// them and what they carry. Pure functions, any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/bytes.hpp"
#include "worker/parse.hpp"

namespace postern {

// Where the IP headers end, and the field in them that names what follows. Bytes from the start of the IP packet.
struct HeaderEnd {
  std::uint16_t bytes = 0;
  std::uint16_t next_header_at = 0;
  std::uint8_t next_header = 0;
};

// Of a whole packet that parse_ip() accepted and that is to be protected: behind hop-by-hop options, routing header and
// the destination options that routers on the way read; the other destination options are protected. Empty for a packet
// whose way leads over other hops first (source route, routing header), and for one with a fragment header.
[[nodiscard]] std::optional<HeaderEnd> place_to_protect(Bytes packet, const IpInfo& info);

// Of a packet that arrived: all the `network_bytes` that parse_ip() found.
[[nodiscard]] HeaderEnd end_of_headers(const std::byte* ip, Family family, std::uint32_t network_bytes);

// Makes the headers at `ip` those of a packet of `total_bytes` whose next header is `protocol`.
void rewrite_headers(std::byte* ip, Family family, const HeaderEnd& end, std::uint8_t protocol,
                     std::uint32_t total_bytes);

// RFC 3948 §3.1.2: NAT may have changed the addresses that a transport checksum covers, and what arrived is authentic,
// so TCP's and UDP's is made anew; UDP over IPv4 without one stays without. `packet` is exactly the IP packet.
void renew_upper_checksum(MutableBytes packet, const IpInfo& info);

}  // namespace postern
