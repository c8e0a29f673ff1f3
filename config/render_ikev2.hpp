// The part of config/render for the "ikev2" section.
#pragma once

#include <nlohmann/json.hpp>

#include "config/model_ikev2.hpp"
#include "config/model_pki.hpp"

namespace postern::config {

// Keys masked. The built-in proposal "default" is written out like any other.
[[nodiscard]] nlohmann::json render_ikev2(const Ikev2& ikev2);

// The "pki" section: file names, nothing of what is in them.
[[nodiscard]] nlohmann::json render_pki(const Pki& pki);

}  // namespace postern::config
