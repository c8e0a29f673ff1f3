// A node at one fixed moment: lab-n1.json with traffic on its IPv4 map and on Tunnel0, the IPv6 map half up, Tunnel1
// down.
#pragma once

#include "loader/node_view.hpp"

namespace postern::cli {

[[nodiscard]] loader::NodeView fixed_view();

}  // namespace postern::cli
