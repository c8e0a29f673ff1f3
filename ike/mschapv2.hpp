// The arithmetic of MS-CHAPv2 (RFC 2759 §8) and of its keys (RFC 3079 §3). Values; any thread.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/secret.hpp"

namespace postern::ike {

inline constexpr std::size_t mschap_challenge_bytes = 16, mschap_response_bytes = 24, max_mschap_password_units = 256;
using MschapChallenge = std::array<std::byte, mschap_challenge_bytes>;
using MschapResponse = std::array<std::byte, mschap_response_bytes>;

// RFC 2759 §8.3: MD4 of the password in UTF-16, little-endian. Error: no UTF-8, or more than 256 units.
[[nodiscard]] Result<Secret> nt_password_hash(const Secret& password);

// Who authenticates to whom, by which challenges. `user`: with its domain, which does not count (§4).
struct MschapExchange {
  MschapChallenge authenticator, peer;
  std::string_view user;
};
// §8.1.
[[nodiscard]] Result<MschapResponse> nt_response(const MschapExchange& exchange, const Secret& password_hash);
// §8.7: "S=" and 40 hex digits.
[[nodiscard]] Result<std::string> authenticator_response(const MschapExchange& exchange, const Secret& password_hash,
                                                         const MschapResponse& response);
// The key that EAP-MSCHAPv2 exports: what the server receives by, what it sends by (RFC 3079 §3.3), and 32 zeros.
[[nodiscard]] Result<Secret> mschap_msk(const Secret& password_hash, const MschapResponse& response);

}  // namespace postern::ike
