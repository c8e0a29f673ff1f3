// What postern-ike tells about itself. Pure.
#pragma once

#include <cstdint>
#include <string_view>

#include <nlohmann/json.hpp>

namespace postern::ike {

struct DaemonFacts {
  int pid = 0;
  std::uint64_t uptime_s = 0;
  bool broker_connected = false;
  std::uint64_t requests = 0;
};

// One request {"command": "show ..."} and its answer, in the control protocol's shape ("ok", "data" or "error",
// "exit"). This version negotiates nothing: every list of SAs is empty because no IKE policy can be configured, and
// says so.
[[nodiscard]] nlohmann::json answer(std::string_view request, const DaemonFacts& facts);

}  // namespace postern::ike
