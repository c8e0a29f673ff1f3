// Which authenticators AH takes, which are ESP's (RFC 4302 §3.4.4; RFC 2403, 2404, 4868, 3566, 4494): their words and
// sizes. Needs no library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "crypto/packet_cipher.hpp"

namespace postern::crypto {

inline constexpr std::uint32_t ah_fixed_bytes = 12;  // in front of the ICV
inline constexpr std::size_t max_ah_headers = 256;   // IP headers in front of AH; behind more it is not authenticated

// Key and ICV bytes. Error: AH does not take this authenticator.
[[nodiscard]] Result<TransformSizes> ah_sizes_of(Integrity integrity);

// "ah-sha256-hmac", a word of a transform set. none: there is no such word.
[[nodiscard]] Integrity find_ah_transform(std::string_view word);
// The same word, as `show` prints it; "none".
[[nodiscard]] std::string ah_text(Integrity integrity);

}  // namespace postern::crypto
