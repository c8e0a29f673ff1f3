// The words of an access rule's options, both ways.
#pragma once

#include <nlohmann/json.hpp>

#include "base/net_types.hpp"
#include "config/convert.hpp"
#include "config/model_acl.hpp"

namespace postern::config {

// `rule` is at `path`, in a list of `family`, of IP protocol `protocol` (0: any).
[[nodiscard]] AceOptions convert_ace_options(const nlohmann::json& rule, const std::string& path, Family family,
                                             std::uint8_t protocol, Conversion& conversion);
// Into a rendered rule.
void render_ace_options(nlohmann::json& out, const AceOptions& options);

[[nodiscard]] std::vector<TimeRange> convert_time_ranges(const nlohmann::json& ranges, Conversion& conversion);
[[nodiscard]] nlohmann::json render_time_range(const TimeRange& range);

}  // namespace postern::config
