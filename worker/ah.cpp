#include "worker/ah.hpp"

#include <algorithm>
#include <cstring>

#include "worker/parse.hpp"

namespace postern {
namespace {

// RFC 4302, appendix A1.
bool is_immutable_option(std::uint8_t type) {
  constexpr std::array<std::uint8_t, 5> immutable = {130, 133, 134, 148, 149};
  return std::ranges::find(immutable, type) != immutable.end();
}

// One option of `left` bytes at most; its size, 0 when it is none.
std::uint32_t cover_v4_option(std::byte* option, std::uint32_t left) {
  const std::uint8_t type = u8_at(option);
  if (type == no_operation) return 1;
  if (left < 2) return 0;
  const std::uint8_t size = u8_at(option + 1);
  if (size < 2 || size > left) return 0;
  const bool route = type == loose_route || type == strict_route;
  if (route && (size < 3 || u8_at(option + 2) <= size)) return 0;  // the destination is not the last one yet
  if (!is_immutable_option(type)) std::memset(option, 0, size);
  return size;
}

bool cover_v4(std::byte* ip, std::uint32_t bytes) {
  ip[1] = std::byte{0};        // DSCP, ECN
  std::memset(ip + 6, 0, 2);   // flags, fragment offset
  ip[8] = std::byte{0};        // TTL
  std::memset(ip + 10, 0, 2);  // checksum
  for (std::uint32_t at = ipv4_min_header; at < bytes && u8_at(ip + at) != end_of_options;) {
    const std::uint32_t size = cover_v4_option(ip + at, bytes - at);
    if (size == 0) return false;
    at += size;
  }
  return true;
}

// RFC 8200 §4.2: bit 0x20 of the type says that the data may change on the way.
bool cover_v6_options(std::byte* header, std::uint32_t bytes) {
  constexpr std::uint8_t pad1 = 0, may_change = 0x20;
  for (std::uint32_t at = 2; at < bytes;) {
    const std::uint8_t type = u8_at(header + at);
    if (type == pad1) {
      ++at;
      continue;
    }
    if (bytes - at < 2) return false;
    const std::uint32_t data = u8_at(header + at + 1);
    if (data > bytes - at - 2) return false;
    if ((type & may_change) != 0) std::memset(header + at + 2, 0, data);
    at += 2 + data;
  }
  return true;
}

bool cover_v6(std::byte* ip, std::uint32_t bytes) {
  std::memset(ip, 0, 4);  // traffic class, flow label
  ip[0] = std::byte{0x60};
  ip[7] = std::byte{0};  // hop limit
  std::uint8_t type = u8_at(ip + 6);
  for (std::uint32_t at = ipv6_header; at < bytes;) {
    std::byte* const header = ip + at;
    if (bytes - at < 8) return false;
    const std::uint32_t size = 8 + 8 * std::uint32_t{u8_at(header + 1)};
    if (size > bytes - at) return false;
    switch (static_cast<IpProto>(type)) {
      case IpProto::hop_by_hop:
      case IpProto::destination_options:
        if (!cover_v6_options(header, size)) return false;
        break;
      case IpProto::routing:  // as it is at its end; elsewhere it would have to be worked out
        if (u8_at(header + 3) != 0) return false;
        break;
      default: return false;
    }
    type = u8_at(header);
    at += size;
  }
  return true;
}

}  // namespace

void write_ah(std::byte* ah, std::uint8_t next_header, std::uint32_t header_bytes, std::uint32_t spi_as_on_wire) {
  std::memset(ah, 0, header_bytes);
  ah[0] = static_cast<std::byte>(next_header);
  ah[1] = static_cast<std::byte>(ah_length_field(header_bytes));
  std::memcpy(ah + ah_spi_at, &spi_as_on_wire, sizeof spi_as_on_wire);
}

bool cover_headers(Bytes headers, CoveredHeaders& out) {
  const auto bytes = static_cast<std::uint32_t>(headers.size());
  if (bytes < ipv4_min_header || bytes > out.size()) return false;
  std::ranges::copy(headers, out.begin());
  if (u8_at(out.data()) >> 4 == 4) return cover_v4(out.data(), bytes);
  return bytes >= ipv6_header && cover_v6(out.data(), bytes);
}

}  // namespace postern
