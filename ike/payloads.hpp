// The payloads of IKEv2 (RFC 7296 §3.3 to §3.13) as values, both directions of each in one file. They own their bytes:
// a message is at most one datagram. What this version does not speak is RawPayload.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/bytes.hpp"
#include "base/net_types.hpp"
#include "base/result.hpp"
#include "crypto/dh.hpp"
#include "ike/numbers.hpp"
#include "ike/octets.hpp"

namespace postern::ike {

// Why a message was not understood; RFC 7296 §2.5 and §3.10.1 decide what is answered.
enum class ParseError : std::uint8_t {
  truncated,             // a length points past the end, or fields are missing
  bad_length,            // a length is smaller than its own header, or bytes are left over
  bad_value,             // a field holds what its definition forbids
  too_many,              // more payloads, proposals, transforms, selectors or SPIs than we take
  unsupported_critical,  // an unknown payload type with the critical bit
  unsupported_version,   // major version above 2
  not_protected,         // no Encrypted payload where one must be, or one that is not the last
  not_authentic,         // its integrity check failed
};
struct ParseFailure {
  ParseError error{};
  PayloadType payload{};  // where; unsupported_critical: its type, the notify's data
};
template <class T = void>
using Parsed = Result<T, ParseFailure>;
[[nodiscard]] std::string text(const ParseFailure& failure);

// Bounds on what one message may hold.
inline constexpr std::size_t max_payloads = 64, max_proposals = 64, max_transforms = 128, max_wire_selectors = 64,
                             max_deleted_spis = 256, max_config_attributes = 64;

// RFC 7296 §3.3.2. `key_bits`: the Key Length attribute, of ciphers with a variable one.
struct Transform {
  TransformType type{};
  std::uint16_t id = 0;
  std::optional<std::uint16_t> key_bits;
  bool unknown_attribute = false;  // it has one that we do not know: never to be chosen (§3.3.6)
  auto operator<=>(const Transform&) const = default;
};
struct Proposal {
  std::uint8_t number = 1;
  ProtocolId protocol{};
  Octets spi;  // 0, 4 (ESP) or 8 (IKE, when it is rekeyed) bytes
  std::vector<Transform> transforms;
  bool operator==(const Proposal&) const = default;
};
struct SaPayload {
  std::vector<Proposal> proposals;
};
struct KePayload {
  crypto::DhGroup group{};
  Octets data;
};
struct NoncePayload {
  Octets data;  // §3.9: 16..256 bytes
};
struct IdPayload {
  IdType type{};
  Octets data;
};
struct AuthPayload {
  AuthMethod method{};
  Octets data;
};
// §3.6, §3.7. `data` of a request: hashes of the public keys of CAs, 20 bytes each.
struct CertPayload {
  std::uint8_t encoding = 0;
  Octets data;
};
struct CertRequestPayload {
  std::uint8_t encoding = 0;
  Octets data;
};
struct NotifyPayload {
  NotifyType type{};
  ProtocolId protocol = ProtocolId::none;
  Octets spi;
  Octets data;
};
struct DeletePayload {
  ProtocolId protocol{};
  std::vector<std::uint32_t> spis;  // host order; none for IKE
};
struct VendorIdPayload {
  Octets data;
};
// §3.13.1. Host order, inclusive; the addresses' family is the selector's. OPAQUE is first port 65535, last 0.
struct Selector {
  std::uint8_t protocol = 0;  // 0: any
  std::uint16_t first_port = 0, last_port = 65535;
  IpAddress first, last;
  [[nodiscard]] Family family() const { return first.family(); }
  bool operator==(const Selector&) const = default;
};
struct TsPayload {
  std::vector<Selector> selectors;
};
// §3.15. Values of known types have the length that their type has, or none where something is asked for.
struct ConfigAttribute {
  ConfigType type{};
  Octets value;
};
struct ConfigurationPayload {
  ConfigKind kind{};
  std::vector<ConfigAttribute> attributes;
};
struct RawPayload {
  Octets data;
};

// `type` tells TSi from TSr and IDi from IDr; the body fits it.
struct Payload {
  PayloadType type{};
  std::variant<RawPayload, SaPayload, KePayload, NoncePayload, IdPayload, AuthPayload, CertPayload, CertRequestPayload,
               NotifyPayload, DeletePayload, VendorIdPayload, TsPayload, ConfigurationPayload>
      body;
};

// `body`: what follows the generic payload header. Known types only give their own struct, all others RawPayload.
[[nodiscard]] Parsed<Payload> parse_payload(PayloadType type, Bytes body);
// What follows the generic payload header.
[[nodiscard]] Octets encode_payload(const Payload& payload);

// The body of an ID payload (type, three zero bytes, data): what AUTH covers (§2.15, RestOfInitIDPayload).
[[nodiscard]] Octets id_octets(const IdPayload& id);

}  // namespace postern::ike
