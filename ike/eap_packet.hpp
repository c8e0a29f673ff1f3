// EAP packets (RFC 3748 §4), as an EAP payload of IKEv2 carries them (RFC 7296 §3.16).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "ike/octets.hpp"

namespace postern::ike {

enum class EapCode : std::uint8_t { request = 1, response = 2, success = 3, failure = 4 };

// IANA, "Method Types".
enum class EapType : std::uint8_t {
  none = 0,
  identity = 1,
  notification = 2,
  nak = 3,
  md5 = 4,
  tls = 13,
  mschapv2 = 26
};

struct EapPacket {
  EapCode code{};
  std::uint8_t identifier = 0;
  EapType type{};  // none: success and failure, which are nothing but a header
  Octets data;     // behind the type
};

inline constexpr std::size_t eap_header_bytes = 4, max_eap_bytes = 4096, max_eap_identity_bytes = 255;

enum class EapParseError : std::uint8_t { truncated, bad_length, bad_code, bad_type, too_long };
// The length is that of the payload, with nothing behind it (RFC 7296 §3.16).
[[nodiscard]] Result<EapPacket, EapParseError> parse_eap(Bytes bytes);
[[nodiscard]] Octets encode_eap(const EapPacket& packet);

// What a method gives, for what it is demanded of: RFC 7296 §2.16 wants its key for AUTH where it makes one, and RFC
// 5998 §3 one that authenticates both ends where nothing else does.
struct EapMethodRow {
  EapType type;
  std::string_view name;
  bool makes_key, mutual;
};
[[nodiscard]] const EapMethodRow* find_eap_method(EapType type);
[[nodiscard]] std::string eap_name(EapType type);  // "EAP-MSCHAPv2", "EAP type 52"

}  // namespace postern::ike
