// Parsers that requests (netlink*.cpp) and the monitor share.
#pragma once

#include <optional>

#include <linux/netlink.h>

#include "loader/netlink.hpp"

namespace postern::loader {

// RTM_NEWNEIGH or RTM_DELNEIGH (state 0). None: a bridge's forwarding entry, or one without an address.
[[nodiscard]] std::optional<Neighbour> parse_neighbour(const nlmsghdr* message);

}  // namespace postern::loader
