#include "base/net_types.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>

#include <arpa/inet.h>

namespace postern {
namespace {

// The first `bits` bits of `in`, then all `fill`.
std::array<std::uint8_t, 16> keep_bits(const std::array<std::uint8_t, 16>& in, unsigned bits, std::uint8_t fill) {
  auto out = in;
  for (unsigned i = 0; i < 16; ++i) {
    const unsigned kept = std::clamp<int>(static_cast<int>(bits) - static_cast<int>(i * 8), 0, 8);
    const auto mask = static_cast<std::uint8_t>(0xff00U >> kept);
    out[i] = static_cast<std::uint8_t>((in[i] & mask) | (fill & ~mask));
  }
  return out;
}

}  // namespace

Result<IpAddress> IpAddress::parse(std::string_view text) {
  const std::string copy(text);
  in_addr v4_address{};
  if (inet_pton(AF_INET, copy.c_str(), &v4_address) == 1) return v4(ntohl(v4_address.s_addr));
  std::array<std::uint8_t, 16> bytes{};
  if (inet_pton(AF_INET6, copy.c_str(), bytes.data()) != 1) return fail("\"" + copy + "\" is not an IP address");
  const auto address = from_mapped(bytes);
  if (address.family() == Family::v4) return fail("\"" + copy + "\" is a v4-mapped address; write the IPv4 address");
  return address;
}

bool IpAddress::is_unspecified() const { return *this == v4(0) || *this == IpAddress{}; }

bool IpAddress::is_multicast() const {
  return family() == Family::v4 ? (bytes_[12] & 0xf0) == 0xe0 : bytes_[0] == 0xff;
}

std::string IpAddress::text() const {
  char buffer[INET6_ADDRSTRLEN];
  const bool is_v4 = family() == Family::v4;
  inet_ntop(is_v4 ? AF_INET : AF_INET6, bytes_.data() + (is_v4 ? 12 : 0), buffer, sizeof buffer);
  return buffer;
}

Result<Prefix> Prefix::parse(std::string_view text) {
  const auto slash = text.find('/');
  POSTERN_TRY(address, IpAddress::parse(text.substr(0, slash)));
  Prefix prefix = host(address);
  if (slash == std::string_view::npos) return prefix;
  const auto digits = text.substr(slash + 1);
  unsigned length = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
  if (error != std::errc{} || end != digits.data() + digits.size() || length > prefix.length)
    return fail("\"" + std::string(text) + "\": the prefix length must be 0.." + std::to_string(prefix.length));
  prefix.length = static_cast<std::uint8_t>(length);
  return prefix;
}

IpAddress Prefix::first() const { return IpAddress::from_mapped(keep_bits(address.mapped(), mapped_length(), 0x00)); }
IpAddress Prefix::last() const { return IpAddress::from_mapped(keep_bits(address.mapped(), mapped_length(), 0xff)); }
bool Prefix::has_host_bits() const { return first() != address; }

bool Prefix::contains(const IpAddress& a) const {
  return a.family() == family() && keep_bits(a.mapped(), mapped_length(), 0) == first().mapped();
}

std::string Prefix::text() const { return address.text() + "/" + std::to_string(length); }

}  // namespace postern
