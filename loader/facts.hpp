// Asks the kernel for everything that a plan depends on.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "config/model.hpp"
#include "loader/netlink.hpp"
#include "loader/plain_side.hpp"
#include "loader/plan.hpp"

namespace postern::loader {

struct FactSources {
  Netlink& netlink;
  PlainSide& plain_side;
  std::string steer;                     // name of the steer TAP
  std::set<std::uint32_t> our_programs;  // ids of our BPF programs: not a reason to go by the kernel
};

[[nodiscard]] Result<Facts> gather_facts(const FactSources& sources, const config::Document& document);

// Names of the time ranges that hold now.
[[nodiscard]] std::set<std::string> time_ranges_that_hold(const config::Document& document);

// Families whose traffic the document protects and for which the namespace does not forward: "IPv4", "IPv6". posternd
// leaves the switch alone; it says so.
[[nodiscard]] std::vector<std::string> forwarding_off(const config::Document& document);

}  // namespace postern::loader
