// Access lists as `show access-lists` and `show crypto map` have them.
#pragma once

#include <functional>
#include <string>

#include <nlohmann/json.hpp>

#include "loader/node_view.hpp"

namespace postern::loader {

// {"name", "family", "rules"}; "matches" of a rule: the packets that it decided in the places that `counts` takes, null
// where no policy has the rule.
[[nodiscard]] nlohmann::json acl_json(const NodeView& view, const std::string& name,
                                      const std::function<bool(const RuleView&)>& counts);

}  // namespace postern::loader
