// A rule of an access list in the words of IOS.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace postern::cli {

// "permit tcp 10.1.0.0 0.0.255.255 any eq 443 log (12 matches)"
[[nodiscard]] std::string access_rule(const nlohmann::json& rule);

}  // namespace postern::cli
