#include "config/values.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>

#include <fmt/core.h>

namespace postern::config {
namespace {

std::unexpected<ValueError> wrong(std::string message, std::string allowed = {}) {
  return std::unexpected(ValueError{std::move(message), std::move(allowed)});
}

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> out;
  while (!text.empty()) {
    const auto space = text.find(' ');
    if (space != 0) out.push_back(text.substr(0, space));
    text.remove_prefix(space == std::string_view::npos ? text.size() : space + 1);
  }
  return out;
}

std::optional<std::uint32_t> number(std::string_view digits, std::uint32_t most) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc{} || end != digits.data() + digits.size() || value > most) return std::nullopt;
  return value;
}

constexpr bool contiguous(std::uint32_t wildcard) { return (wildcard & (wildcard + 1)) == 0; }

Value<Endpoint> wildcarded(const IpAddress& address, std::string_view mask_text) {
  const auto mask_address = IpAddress::parse(mask_text);
  if (address.family() != Family::v4 || !mask_address || mask_address->family() != Family::v4)
    return wrong("the wildcard mask must be of an IPv4 address, in dotted form", "\"10.1.0.0 0.0.255.255\"");
  const std::uint32_t wildcard = mask_address->v4_host_order();
  if (!contiguous(wildcard)) {
    if (!contiguous(~wildcard)) return Endpoint{Prefix::host(address), wildcard};
    return wrong("this is a network mask, not a wildcard mask",
                 "\"" + address.text() + " " + IpAddress::v4(~wildcard).text() + "\"");
  }
  const Prefix prefix{address, static_cast<std::uint8_t>(32 - std::popcount(wildcard))};
  if (prefix.has_host_bits())
    return wrong("the address has bits that the wildcard mask ignores",
                 "\"" + prefix.first().text() + " " + std::string(mask_text) + "\"");
  return Endpoint{prefix, std::nullopt};
}

Value<Endpoint> of_family(Value<Endpoint> endpoint, Family family) {
  if (endpoint && endpoint->prefix.family() != family)
    return wrong(
        family == Family::v4 ? "an IPv6 address in an IPv4 access list" : "an IPv4 address in an IPv6 access list",
        "addresses of the list's family");
  return endpoint;
}

constexpr const char* endpoint_forms = "\"any\", \"host A\", \"A/LENGTH\", \"A\" or \"A WILDCARD\"";

}  // namespace

Value<IpAddress> parse_address(std::string_view text) {
  auto address = IpAddress::parse(text);
  if (!address) return wrong("is not an IP address", "an IPv4 or IPv6 address");
  return *address;
}

Value<std::string> parse_host_name(std::string_view text) {
  constexpr const char* allowed = "an IPv4 or IPv6 address, or a host name";
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  std::string out;
  for (const char c : text) out += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  if (out.ends_with('.')) out.pop_back();
  const auto last_label = out.substr(out.rfind('.') + 1);
  if (std::ranges::all_of(last_label, is_digit) || out.find(':') != std::string::npos)
    return wrong("is not an IP address", allowed);
  if (out.size() > 253) return wrong("is longer than a host name may be", "253 characters");
  for (std::size_t at = 0; at <= out.size();) {
    const std::size_t end = std::min(out.find('.', at), out.size());
    const std::string_view label = std::string_view(out).substr(at, end - at);
    const bool whole =
        !label.empty() && label.size() <= 63 && label.front() != '-' && label.back() != '-' &&
        std::ranges::all_of(label, [&](char c) { return is_digit(c) || c == '-' || (c >= 'a' && c <= 'z'); });
    if (!whole)
      return wrong("is not a host name", "labels of letters, digits and -, 1 to 63 each, with dots between them");
    at = end + 1;
  }
  return out;
}

Value<Peer> parse_peer(std::string_view text) {
  if (const auto address = IpAddress::parse(text)) return Peer{*address, {}, false};
  auto name = parse_host_name(text);
  if (!name) return std::unexpected(name.error());
  return Peer{{}, std::move(*name), false};
}

Value<Prefix> parse_network(std::string_view text) {
  if (text.find('/') == std::string_view::npos)
    return wrong("has no prefix length", "\"10.1.0.0/16\" or \"2001:db8:1::/64\"");
  const auto prefix = Prefix::parse(text);
  if (!prefix) return wrong("is not a prefix", "\"10.1.0.0/16\" or \"2001:db8:1::/64\"");
  if (prefix->has_host_bits())
    return wrong("has host bits set", "\"" + Prefix{prefix->first(), prefix->length}.text() + "\" or \"" +
                                          Prefix::host(prefix->address).text() + "\"");
  return *prefix;
}

Value<Prefix> parse_interface_address(std::string_view text) {
  if (text.find('/') == std::string_view::npos)
    return wrong("has no prefix length", "\"10.1.0.1/16\" or \"2001:db8:1::1/64\"");
  const auto prefix = Prefix::parse(text);
  if (!prefix) return wrong("is not an address with a prefix length", "\"10.1.0.1/16\" or \"2001:db8:1::1/64\"");
  if (prefix->address.is_unspecified() || prefix->address.is_multicast())
    return wrong("an interface cannot have an unspecified or multicast address", "a unicast address");
  if (prefix->family() == Family::v4 && prefix->length < 31 &&
      (prefix->address == prefix->first() || prefix->address == prefix->last()))
    return wrong("is the network's own or its broadcast address", "a host's address of that network");
  return *prefix;
}

Value<Endpoint> parse_endpoint(std::string_view text, Family family, std::optional<std::string_view> wildcard) {
  const auto words = words_of(text);
  if (wildcard && (words.size() != 1 || text.find('/') != std::string_view::npos || text == "any"))
    return wrong("a wildcard mask beside something that is not a bare address", "an address, and its mask beside it");
  if (words.size() == 1 && words[0] == "any")
    return Endpoint{{family == Family::v4 ? IpAddress::v4(0) : IpAddress{}, 0}, std::nullopt};
  if (words.size() == 2 && words[0] == "host") {
    const auto address = IpAddress::parse(words[1]);
    if (!address) return wrong("\"host\" must be followed by one address", "\"host 10.1.0.2\"");
    return of_family(Endpoint{Prefix::host(*address), std::nullopt}, family);
  }
  if (words.size() == 2 || wildcard) {
    const auto address = IpAddress::parse(words[0]);
    if (!address) return wrong("is not an address with a wildcard mask", endpoint_forms);
    return of_family(wildcarded(*address, wildcard ? *wildcard : words[1]), family);
  }
  if (words.size() != 1) return wrong("is not a source or destination", endpoint_forms);
  if (text.find('/') == std::string_view::npos) {
    const auto address = IpAddress::parse(words[0]);
    if (!address) return wrong("is not a source or destination", endpoint_forms);
    return of_family(Endpoint{Prefix::host(*address), std::nullopt}, family);
  }
  auto prefix = parse_network(words[0]);
  if (!prefix) return std::unexpected(std::move(prefix.error()));
  return of_family(Endpoint{*prefix, std::nullopt}, family);
}

bool looks_like_v6(std::string_view text) { return text.find(':') != std::string_view::npos; }

Value<std::vector<PortRange>> parse_ports(std::string_view text) {
  constexpr const char* forms =
      "\"eq 80\", \"eq 80 443\", \"range 1024 65535\", \"lt 1024\", \"gt 1023\" or \"neq 22\"";
  const auto words = words_of(text);
  std::vector<std::uint16_t> ports;
  for (std::size_t i = 1; i < words.size(); ++i) {
    const auto port = number(words[i], 65535);
    if (!port) return wrong("port " + std::to_string(i) + " is not a number from 0 to 65535", forms);
    ports.push_back(static_cast<std::uint16_t>(*port));
  }
  const std::string_view form = words.empty() ? "" : words[0];
  const auto range = [](unsigned first, unsigned last) {
    return PortRange{static_cast<std::uint16_t>(first), static_cast<std::uint16_t>(last)};
  };
  if (form == "eq" && !ports.empty() && ports.size() <= 10) {
    std::ranges::sort(ports);
    std::vector<PortRange> out;
    for (const std::uint16_t port : ports) out.push_back(range(port, port));
    out.erase(std::unique(out.begin(), out.end()), out.end());
    return out;
  }
  if (form == "range" && ports.size() == 2) {
    if (ports[0] > ports[1]) return wrong("the range's first port is behind its last", "the smaller port first");
    return std::vector{range(ports[0], ports[1])};
  }
  if (ports.size() != 1 || (form != "lt" && form != "gt" && form != "neq")) return wrong("is not a port match", forms);
  const unsigned port = ports[0];
  std::vector<PortRange> out;
  if (form != "gt" && port > 0) out.push_back(range(0, port - 1));
  if (form != "lt" && port < 65535) out.push_back(range(port + 1, 65535));
  if (out.empty()) return wrong("matches no port at all", forms);
  return out;
}

Value<Protocol> parse_protocol(const nlohmann::json& value) {
  struct Row {
    std::string_view name;
    Protocol protocol;
  };
  static constexpr std::array<Row, 11> names = {{{"ip", {0, {}}},
                                                 {"ipv6", {0, Family::v6}},
                                                 {"tcp", {6, {}}},
                                                 {"udp", {17, {}}},
                                                 {"icmp", {1, Family::v4}},
                                                 {"icmpv6", {58, Family::v6}},
                                                 {"gre", {47, {}}},
                                                 {"esp", {50, {}}},
                                                 {"ahp", {51, {}}},
                                                 {"ospf", {89, {}}},
                                                 {"sctp", {132, {}}}}};
  constexpr const char* known = "ip, ipv6, tcp, udp, icmp, icmpv6, gre, esp, ahp, ospf, sctp, or 1 to 255";
  if (value.is_number_integer()) {
    const auto given = value.get<std::int64_t>();
    if (given < 1 || given > 255) return wrong("is not a protocol number", known);
    return Protocol{static_cast<std::uint8_t>(given), {}};
  }
  const auto row = std::ranges::find(names, value.get_ref<const std::string&>(), &Row::name);
  if (row == names.end()) return wrong("is not a known protocol", known);
  return row->protocol;
}

Value<Secret> parse_hex(std::string_view digits) {
  if (digits.find_first_not_of('*') == std::string_view::npos)
    return wrong("is a masked key, as `config show` prints it", "the key's hex digits, or {\"file\": PATH}");
  if (digits.size() % 2 != 0) return wrong("has an odd number of hex digits", "two digits a byte");
  const auto nibble = [](char c) -> int {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  Secret key(digits.size() / 2);
  for (std::size_t i = 0; i < key.size(); ++i) {
    const int high = nibble(digits[2 * i]), low = nibble(digits[2 * i + 1]);
    if (high < 0 || low < 0)
      return wrong(fmt::format("character {} is not a hex digit", 2 * i + (high < 0 ? 1 : 2)),
                   "0-9, a-f, without 0x or spaces");
    key.mutable_bytes()[i] = static_cast<std::byte>(high << 4 | low);
  }
  return key;
}

Value<Secret> parse_pre_shared_key(std::string_view text) {
  constexpr std::size_t most = 512;
  if (text.starts_with("0x")) {
    auto key = text.size() == 2 ? Value<Secret>(wrong("has no hex digits behind 0x")) : parse_hex(text.substr(2));
    if (key && key->size() > most) return wrong(fmt::format("has {} bytes", key->size()), "at most 512 bytes");
    return key;
  }
  if (text.empty()) return wrong("is empty", "text, or 0x and hex digits");
  if (text.find_first_not_of('*') == std::string_view::npos)
    return wrong("is a masked key, as `config show` prints it", "the key itself, or {\"file\": PATH}");
  if (text.size() > most) return wrong(fmt::format("has {} bytes", text.size()), "at most 512 bytes");
  return Secret::copy_of(std::as_bytes(std::span(text)));
}

Value<std::string> parse_key_id(std::string_view text) {
  if (!text.starts_with("0x")) return std::string(text);
  auto bytes = text.size() == 2 ? Value<Secret>(wrong("has no hex digits behind 0x")) : parse_hex(text.substr(2));
  if (!bytes) return std::unexpected(std::move(bytes.error()));
  const auto raw = bytes->bytes();
  return std::string(reinterpret_cast<const char*>(raw.data()), raw.size());
}

}  // namespace postern::config
