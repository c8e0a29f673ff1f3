#include "ike/gateway_identity.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace postern::ike {
namespace {

// §9.2: IANA's "IKEv2 Gateway Identity Types".
enum class GatewayType : std::uint8_t { ipv4 = 1, ipv6 = 2, fqdn = 3 };

constexpr std::size_t longest_name = 253, longest_label = 63;

bool is_label(std::string_view label) {
  const auto fits = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; };
  return !label.empty() && label.size() <= longest_label && label.front() != '-' && label.back() != '-' &&
         std::ranges::all_of(label, fits);
}

// RFC 1123 §2.1: of letters, digits and hyphens, and no address: its last label is not of digits alone.
std::optional<std::string> host_name(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  if (out.ends_with('.')) out.pop_back();
  if (out.empty() || out.size() > longest_name) return std::nullopt;
  std::string_view rest = out, last;
  for (bool more = true; more;) {
    const std::size_t dot = rest.find('.');
    last = rest.substr(0, dot);
    if (!is_label(last)) return std::nullopt;
    more = dot != std::string_view::npos;
    if (more) rest.remove_prefix(dot + 1);
  }
  if (std::ranges::all_of(last, [](char c) { return c >= '0' && c <= '9'; })) return std::nullopt;
  return out;
}

Result<GatewayIdentity> address_of(Bytes identity, std::size_t bytes) {
  if (identity.size() != bytes) return fail(fmt::format("an address of {} bytes", identity.size()));
  std::array<std::uint8_t, 16> mapped{};
  if (bytes == 4) mapped[10] = mapped[11] = 0xff;
  for (std::size_t i = 0; i < bytes; ++i) mapped[16 - bytes + i] = std::to_integer<std::uint8_t>(identity[i]);
  const IpAddress address = IpAddress::from_mapped(mapped);
  if (bytes == 16 && address.family() == Family::v4) return fail("an IPv6 address that stands for an IPv4 one");
  return GatewayIdentity{address, {}};
}

bool is_loopback(const IpAddress& address) {
  if (address.family() == Family::v4) return address.v4_host_order() >> 24 == 127;
  std::array<std::uint8_t, 16> one{};
  one.back() = 1;
  return address.mapped() == one;
}

}  // namespace

std::optional<GatewayIdentity> GatewayIdentity::parse(std::string_view text) {
  if (const auto address = IpAddress::parse(text)) return GatewayIdentity{*address, {}};
  auto name = host_name(text);
  return name ? std::optional(GatewayIdentity{{}, std::move(*name)}) : std::nullopt;
}

Octets encode_gateway(const GatewayIdentity& gateway, Bytes nonce) {
  OctetWriter out;
  if (gateway.address) {
    const bool v4 = gateway.address->family() == Family::v4;
    out.u8(static_cast<std::uint8_t>(v4 ? GatewayType::ipv4 : GatewayType::ipv6));
    out.u8(v4 ? 4 : 16);
    out.address(*gateway.address);
  } else {
    out.u8(static_cast<std::uint8_t>(GatewayType::fqdn));
    out.u8(static_cast<std::uint8_t>(std::min(gateway.name.size(), longest_name)));
    out.bytes(as_bytes(std::string_view(gateway.name).substr(0, longest_name)));
  }
  out.bytes(nonce);
  return out.take();
}

Result<GatewayIdentity> decode_gateway(Bytes data, Bytes nonce) {
  ByteReader in(data);
  const GatewayType type{in.u8()};
  const std::uint8_t length = in.u8();
  const Bytes identity = in.take(length);
  const Bytes behind = in.rest();
  if (!in.ok()) return fail("shorter than its lengths say");
  if (!std::ranges::equal(behind, nonce))
    return fail(nonce.empty() ? "with something behind the gateway's identity" : "without the nonce that we sent");
  switch (type) {
    case GatewayType::ipv4: return address_of(identity, 4);
    case GatewayType::ipv6: return address_of(identity, 16);
    case GatewayType::fqdn: break;
    default: return fail(fmt::format("an identity of type {}", static_cast<unsigned>(type)));
  }
  auto name = host_name({reinterpret_cast<const char*>(identity.data()), identity.size()});
  if (!name) return fail("a name that is none");
  return GatewayIdentity{{}, std::move(*name)};
}

std::string no_gateway(const IpAddress& to, const IpAddress& local, const IpAddress& from) {
  if (to.is_unspecified() || to.is_multicast() || is_loopback(to)) return to.text() + " is no address of a gateway";
  if (to.family() != local.family()) return fmt::format("{} is of another family than {}", to.text(), local.text());
  if (to == local) return to.text() + " is our own address";
  if (to == from) return to.text() + " is where we are";
  return {};
}

}  // namespace postern::ike
