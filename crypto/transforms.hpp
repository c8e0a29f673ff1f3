// The ESP transforms on offer, by the names that IOS gives them: one table.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "crypto/packet_cipher.hpp"

namespace postern::crypto {

// One word of a transform set: a cipher (integrity is none) or an authenticator (cipher is none).
struct NamedTransform {
  std::string_view name;  // "esp-256-aes", "esp-sha-hmac"
  Cipher cipher = Cipher::none;
  std::uint16_t key_bits = 0;
  Integrity integrity = Integrity::none;
};

[[nodiscard]] std::span<const NamedTransform> named_transforms();

// nullptr when there is no such name.
[[nodiscard]] const NamedTransform* find_transform(std::string_view name);

// The combination that a transform set's words make: at most one cipher and one authenticator, and what sizes_of()
// accepts.
[[nodiscard]] Result<Transform> combine(std::span<const std::string_view> names);

// "esp-256-aes esp-sha-hmac", as `show` prints it; "none" for an empty combination.
[[nodiscard]] std::string text(const Transform& transform);

}  // namespace postern::crypto
