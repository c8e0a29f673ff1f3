// Transform sets as the guide spells them (TS-13..28). The words themselves: crypto/transforms.hpp.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/report.hpp"
#include "crypto/packet_cipher.hpp"

namespace postern::config {

struct ResolvedTransforms {
  std::vector<std::string> names;  // as `show` prints them: "esp-aes", "esp-256-aes", "esp-sha256-hmac"
  crypto::Transform transform;
  crypto::Integrity ah = crypto::Integrity::none;
  bool compression = false;  // IPComp (RFC 3173) by DEFLATE
};
// Reports at path/0, path/1, ...: unknown and unavailable names, two of a class, AEAD with an authenticator; warns of
// weak ones.
[[nodiscard]] ResolvedTransforms resolve_transforms(const std::vector<std::string>& texts, const std::string& path,
                                                    Report& report);

}  // namespace postern::config
