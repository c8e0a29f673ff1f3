// Identities of peers (RFC 7296 §3.5): what an ID payload says, and what a profile accepts (IKE-36, IKE-37).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "ike/payloads.hpp"

namespace postern::ike {

struct Identity {
  IdType type = IdType::ipv4;
  Octets data;  // as on the wire
  [[nodiscard]] static Identity of(const IpAddress& address);
  [[nodiscard]] static Identity of(IdType type, std::string_view text);  // fqdn, email, key_id
  [[nodiscard]] std::optional<IpAddress> address() const;                // of ipv4 and ipv6 with the right length
  [[nodiscard]] IdPayload payload() const { return {type, data}; }
  // "192.0.2.1", "gw.example.org", "admin@example.org", "key-id 6162": bytes a terminal would obey are escaped.
  [[nodiscard]] std::string text() const;
  bool operator==(const Identity&) const = default;
};

// One line of "match identity remote". FQDN and e-mail compare without regard to case, key ids byte by byte.
struct AnyIdentity {
  bool operator==(const AnyIdentity&) const = default;
};
using IdentityMatch = std::variant<AnyIdentity, Prefix, Identity>;
[[nodiscard]] bool matches(const IdentityMatch& rule, const Identity& identity);
[[nodiscard]] bool matches_any(const std::vector<IdentityMatch>& rules, const Identity& identity);
[[nodiscard]] std::string text(const IdentityMatch& rule);

}  // namespace postern::ike
