// Builds the NodeView: one picture from plan, SA state file, counter page, BPF maps and link statistics. Reads only.
#pragma once

#include <string>
#include <vector>

#include "base/clock.hpp"
#include "config/model.hpp"
#include "loader/link_stats.hpp"
#include "loader/netlink.hpp"
#include "loader/node_view.hpp"
#include "loader/plan.hpp"
#include "loader/shared_memory.hpp"
#include "loader/state_file.hpp"
#include "loader/worker_devices.hpp"
#include "maps/bpf_maps.hpp"

namespace postern::loader {

struct ViewSources {
  const std::string& node;
  std::string state;
  Time started;
  const config::Document& document;
  const Plan& plan;
  const Facts& facts;
  const State& installed;
  const SharedMemory& memory;
  const NodeMaps& maps;
  const std::string& pin_dir;
  const XskBindings& bindings;
  const LinkStats& stats;
  std::vector<Link> links;
  int worker_pid = 0;  // 0: not running
  WorkerTraits worker_traits;
};

[[nodiscard]] NodeView build_view(const ViewSources& from);

// One SA as `show` sees it: the slot's numbers, and its parameters with the key arrays zeroed.
[[nodiscard]] SaView view_of(std::uint32_t slot_index, const SaSlot& slot, std::uint64_t now_ns);

}  // namespace postern::loader
