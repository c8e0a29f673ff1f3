// One-shot digests over OpenSSL.
#pragma once

#include <array>
#include <cstddef>
#include <initializer_list>

#include "base/bytes.hpp"
#include "base/result.hpp"

namespace postern::crypto {

// Of part | part | ...
[[nodiscard]] Result<std::array<std::byte, 16>> md5(std::initializer_list<Bytes> parts);  // of EAP-MD5 alone
[[nodiscard]] Result<std::array<std::byte, 20>> sha1(std::initializer_list<Bytes> parts);
[[nodiscard]] Result<std::array<std::byte, 32>> sha256(std::initializer_list<Bytes> parts);

}  // namespace postern::crypto
