#include "ike/identity.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace postern::ike {
namespace {

Octets octets_of(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

// What is no printable ASCII becomes "\xNN": a peer must not write to the terminal of whoever reads `show`.
std::string escaped(const Octets& data) {
  std::string out;
  for (const std::byte byte : data) {
    const auto c = std::to_integer<unsigned char>(byte);
    if (c >= 0x20 && c < 0x7f && c != '\\')
      out += static_cast<char>(c);
    else
      out += fmt::format("\\x{:02x}", c);
  }
  return out;
}

std::string hex(const Octets& data) {
  std::string out;
  for (const std::byte byte : data) out += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  return out;
}

constexpr std::byte lower(std::byte byte) {
  const auto c = std::to_integer<unsigned char>(byte);
  return c >= 'A' && c <= 'Z' ? static_cast<std::byte>(c + ('a' - 'A')) : byte;
}

// RFC 4343: names compare in ASCII alone.
bool same_name(const Octets& a, const Octets& b) {
  return std::ranges::equal(a, b, [](std::byte x, std::byte y) { return lower(x) == lower(y); });
}

}  // namespace

Identity Identity::of(const IpAddress& address) {
  const auto bytes = std::as_bytes(std::span(address.mapped()));
  if (address.family() == Family::v4) return {IdType::ipv4, {bytes.begin() + 12, bytes.end()}};
  return {IdType::ipv6, {bytes.begin(), bytes.end()}};
}

Identity Identity::of(IdType type, std::string_view text) { return {type, octets_of(text)}; }

std::optional<IpAddress> Identity::address() const {
  std::array<std::uint8_t, 16> mapped{};
  const auto copy = [&](std::size_t from) {
    for (std::size_t i = 0; i < data.size(); ++i) mapped[from + i] = std::to_integer<std::uint8_t>(data[i]);
    return IpAddress::from_mapped(mapped);
  };
  if (type == IdType::ipv4 && data.size() == 4) {
    mapped[10] = mapped[11] = 0xff;
    return copy(12);
  }
  // A v4-mapped address under the type of IPv6 is no IPv4 address: it must not match one.
  if (type != IdType::ipv6 || data.size() != 16) return std::nullopt;
  const IpAddress address = copy(0);
  return address.family() == Family::v6 ? std::optional(address) : std::nullopt;
}

std::string Identity::text() const {
  if (const auto known = address()) return known->text();
  switch (type) {
    case IdType::fqdn:
    case IdType::email: return escaped(data);
    case IdType::key_id: return "key-id " + hex(data);
    case IdType::dn: return "dn " + hex(data);
    default: return fmt::format("type {} {}", static_cast<unsigned>(type), hex(data));
  }
}

bool matches(const IdentityMatch& rule, const Identity& identity) {
  if (std::holds_alternative<AnyIdentity>(rule)) return true;
  if (const auto* const prefix = std::get_if<Prefix>(&rule)) {
    const auto address = identity.address();
    return address && address->family() == prefix->family() && prefix->contains(*address);
  }
  const Identity& wanted = std::get<Identity>(rule);
  if (wanted.type != identity.type) return false;
  if (wanted.type == IdType::fqdn || wanted.type == IdType::email) return same_name(wanted.data, identity.data);
  return wanted.data == identity.data;
}

bool matches_any(const std::vector<IdentityMatch>& rules, const Identity& identity) {
  return std::ranges::any_of(rules, [&](const IdentityMatch& rule) { return matches(rule, identity); });
}

std::string text(const IdentityMatch& rule) {
  if (std::holds_alternative<AnyIdentity>(rule)) return "any";
  if (const auto* const prefix = std::get_if<Prefix>(&rule))
    return *prefix == Prefix::host(prefix->address) ? prefix->address.text() : prefix->text();
  return std::get<Identity>(rule).text();
}

}  // namespace postern::ike
