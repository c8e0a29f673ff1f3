// Transform names as the guide spells them, and what each is (TS-13..18, TS-26). Pure tables.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/report.hpp"
#include "crypto/packet_cipher.hpp"

namespace postern::config {

// Key bytes a manual SA needs; an AEAD's count is with its salt. Same numbers as crypto::sizes_of (tests/config
// compares).
struct KeySizes {
  std::size_t cipher = 0, integrity = 0;
};
[[nodiscard]] KeySizes key_sizes(const crypto::Transform& transform);

struct ResolvedTransforms {
  std::vector<std::string> names;  // as `show` prints them: "esp-aes", "esp-256-aes", "esp-sha256-hmac"
  crypto::Transform transform;
};
// Reports at path/0, path/1, ...: unknown and unavailable names, two of a class, AEAD with an authenticator; warns of
// weak ones.
[[nodiscard]] ResolvedTransforms resolve_transforms(const std::vector<std::string>& texts, const std::string& path,
                                                    Report& report);

}  // namespace postern::config
