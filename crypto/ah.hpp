// AH's integrity check value (RFC 4302 §3.3.3): which authenticators AH takes, and the jobs of a batch that are AH.
//
// Such a job's `esp` begins at the AH header and its `covered` holds the IP headers in front of it, mutable fields
// zero:
//
//   covered: | IP headers |   esp: | next header, length, reserved, SPI, sequence (12) | ICV | padding | payload |
//                                  ^ esp                                                             size bytes ^
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "crypto/packet_cipher.hpp"

namespace postern::crypto {

inline constexpr std::size_t ah_fixed_bytes = 12;  // in front of the ICV

// Key and ICV bytes. Error: AH does not take this authenticator.
[[nodiscard]] Result<TransformSizes> ah_sizes_of(Integrity integrity);

// "ah-sha256-hmac", a word of a transform set. none: there is no such word.
[[nodiscard]] Integrity find_ah_transform(std::string_view word);
// The same word, as `show` prints it; "none".
[[nodiscard]] std::string ah_text(Integrity integrity);

// Room-private: the AH jobs among these, the others are left alone. Writes, or compares, the ICV; the padding behind it
// is covered as it is. Jobs shorter than header and ICV fail.
void seal_ah(std::span<EspJob> jobs);
void open_ah(std::span<EspJob> jobs);

}  // namespace postern::crypto
