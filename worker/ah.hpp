// The Authentication Header (RFC 4302) and what its ICV covers. Pure functions, any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/bytes.hpp"
#include "base/net_types.hpp"
#include "crypto/ah_transforms.hpp"

namespace postern {

inline constexpr std::uint32_t ah_spi_at = 4;  // in the header
inline constexpr std::uint32_t ah_sequence_at = 8;
// What crypto/ah.hpp borrows behind a packet with extended sequence numbers.
inline constexpr std::uint32_t ah_lent_behind = 4;

// RFC 4302 §2.2: Payload Length, in words of 4 bytes minus 2.
[[nodiscard]] constexpr std::uint8_t ah_length_field(std::uint32_t header_bytes) {
  return static_cast<std::uint8_t>(header_bytes / 4 - 2);
}

// Everything but the sequence number, which comes with the batch; ICV and padding zero.
void write_ah(std::byte* ah, std::uint8_t next_header, std::uint32_t header_bytes, std::uint32_t spi_as_on_wire);

// RFC 4302 §3.3.3.1: the IP headers as the ICV sees them, mutable fields zero. `headers` is what lies in front of AH,
// as it is on the wire when it arrives. False: they are not authenticated here: more than max_ah_headers, a source
// route or routing header that is not used up, a fragment header, options that are no options.
using CoveredHeaders = std::array<std::byte, crypto::max_ah_headers>;
[[nodiscard]] bool cover_headers(Bytes headers, CoveredHeaders& out);

}  // namespace postern
