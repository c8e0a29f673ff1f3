// Which gateway a client is sent to, or comes from (RFC 5685 §4, §9): an address or a name.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/net_types.hpp"
#include "base/result.hpp"
#include "ike/octets.hpp"

namespace postern::ike {

struct GatewayIdentity {
  std::optional<IpAddress> address;
  std::string name;  // where there is no address: in lower case, without the dot at its end

  // An address, or else a name, of a document or an operator; nothing: it is neither.
  [[nodiscard]] static std::optional<GatewayIdentity> parse(std::string_view text);
  [[nodiscard]] std::string text() const { return address ? address->text() : name; }
  bool operator==(const GatewayIdentity&) const = default;
};

// The data of REDIRECT and REDIRECTED_FROM. `nonce`: of the request that is answered, in IKE_SA_INIT alone (§3, §5,
// §6).
[[nodiscard]] Octets encode_gateway(const GatewayIdentity& gateway, Bytes nonce = {});
// Error: of another type or length, with a name that is none, or what stands behind it is not `nonce`.
[[nodiscard]] Result<GatewayIdentity> decode_gateway(Bytes data, Bytes nonce = {});

// Why nobody can be sent from `from`, at `local`, to `to`; empty: it may be the address of a gateway.
[[nodiscard]] std::string no_gateway(const IpAddress& to, const IpAddress& local, const IpAddress& from);

}  // namespace postern::ike
