// IF-02: a crypto map protects what leaves by the interfaces that it is applied to. Peers and destinations that the
// routes of the moment take elsewhere are warned of; the routes themselves are the operator's.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "base/net_types.hpp"
#include "config/load.hpp"

namespace postern::loader {

struct WayOut {
  std::uint32_t table = 0;  // of the map's VRF, 0 main
  IpAddress to;
  bool own = false;  // what the node itself sends to a peer, else what it forwards
};
// The device by which it would leave; empty: no route, or to the node itself.
using FindWayOut = std::function<std::optional<std::string>(const WayOut&)>;

// Warnings, each with its place in the document. A destination is asked about by the first host of its prefix; what
// leaves by a tunnel of the document is protected there, and a destination "any" is not asked about.
[[nodiscard]] config::Problems unprotected_ways(const config::Document& document, const FindWayOut& find);

}  // namespace postern::loader
