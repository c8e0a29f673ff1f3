// AH's integrity check value (RFC 4302 §3.3.3): the jobs of a batch that are AH. Which authenticators AH takes:
// crypto/ah_transforms.hpp.
//
// Such a job's `esp` begins at the AH header and its `covered` holds the IP headers in front of it, mutable fields
// zero:
//
//   covered: | IP headers |   esp: | next header, length, reserved, SPI, sequence (12) | ICV | padding | payload |
//                                  ^ esp                                                             size bytes ^
#pragma once

#include <span>

#include "crypto/ah_transforms.hpp"
#include "crypto/packet_cipher.hpp"

namespace postern::crypto {

// Room-private: the AH jobs among these, the others are left alone. Writes, or compares, the ICV; the padding behind it
// is covered as it is. Jobs shorter than header and ICV fail.
void seal_ah(std::span<EspJob> jobs);
void open_ah(std::span<EspJob> jobs);

}  // namespace postern::crypto
