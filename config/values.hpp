// Single values of the document, each from its text. Pure. `ValueError` is a Problem without its path.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/net_types.hpp"
#include "base/result.hpp"
#include "base/secret.hpp"
#include "config/model.hpp"

namespace postern::config {

struct ValueError {
  std::string message;
  std::string allowed;
};
template <class T>
using Value = Result<T, ValueError>;

// One side of an access control entry. `wildcard` only when the mask is discontiguous (host order, set bits: don't
// care).
struct Endpoint {
  Prefix prefix;
  std::optional<std::uint32_t> wildcard;
};

[[nodiscard]] Value<IpAddress> parse_address(std::string_view text);
// RFC 1123 §2.1, in lower case and without the last dot. What looks like an address is none.
[[nodiscard]] Value<std::string> parse_host_name(std::string_view text);
// An address or a host name.
[[nodiscard]] Value<Peer> parse_peer(std::string_view text);
// With a prefix length, no host bits: what routes and selectors want.
[[nodiscard]] Value<Prefix> parse_network(std::string_view text);
// With a prefix length and host bits: what an interface carries.
[[nodiscard]] Value<Prefix> parse_interface_address(std::string_view text);
// "any", "host A", "A/LEN", "A", "A WILDCARD"; `wildcard` is the separate key, when given.
[[nodiscard]] Value<Endpoint> parse_endpoint(std::string_view text, Family family,
                                             std::optional<std::string_view> wildcard);
// True when the text names an IPv6 address: how a list without a family gets one.
[[nodiscard]] bool looks_like_v6(std::string_view text);

// "eq 80 443", "range 1 2", "lt 1024", "gt 1023", "neq 22": ascending, never empty.
[[nodiscard]] Value<std::vector<PortRange>> parse_ports(std::string_view text);

// Names of the schema or 1..255; "ip" and "ipv6" are 0. `family` is set by the names that belong to one.
struct Protocol {
  std::uint8_t number = 0;
  std::optional<Family> family;
};
[[nodiscard]] Value<Protocol> parse_protocol(const nlohmann::json& value);

// Hex digits, an even number. The error never holds any of them.
[[nodiscard]] Value<Secret> parse_hex(std::string_view digits);

// A pre-shared key: "0x" and hex digits, or the text itself. The error never holds any of it.
[[nodiscard]] Value<Secret> parse_pre_shared_key(std::string_view text);
// The bytes of a key id: "0x" and hex digits, or the text itself.
[[nodiscard]] Value<std::string> parse_key_id(std::string_view text);

}  // namespace postern::config
