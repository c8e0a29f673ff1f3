#include "loader/teardown.hpp"

#include <filesystem>
#include <memory>
#include <optional>

#include "base/clock.hpp"
#include "base/log.hpp"
#include "loader/adjacency_keeper.hpp"
#include "loader/bpf_programs.hpp"
#include "loader/devices.hpp"
#include "loader/netlink.hpp"
#include "loader/process.hpp"
#include "loader/state_file.hpp"

namespace postern::loader {
namespace {

constexpr std::chrono::milliseconds patience{3000};

// Does what it can and remembers the first failure.
class Sweep {
 public:
  void step(const char* what, Result<void> done) {
    if (done) return;
    spdlog::warn("teardown: {}: {}", what, done.error().message());
    if (!first_) first_ = std::move(done.error());
  }
  [[nodiscard]] Result<void> outcome() const {
    if (first_) return std::unexpected(*first_);
    return {};
  }

 private:
  std::optional<Error> first_;
};

Result<void> without_value(const Result<bool>& done) {
  if (!done && done.error().code != ENODEV) return std::unexpected(done.error());
  return {};
}

// Only what runs one of our programs: the numbers in the record may belong to others by now.
void end_child(const ProcessId& id) {
  if (const auto child = find_process(id)) end_process(*child, patience);
}

void remove_network(Sweep& sweep, Netlink& netlink, const NodePaths& paths, State& state) {
  for (const auto& [name, installed] : state.interfaces) {
    sweep.step("XDP", without_value(BpfPrograms::detach_xdp(paths.pin_dir, name)));
    const auto link = netlink.link(name);
    if (link && link->ifindex == installed.ifindex)
      sweep.step("TC", without_value(BpfPrograms::detach_tc(link->ifindex, TcSide::egress)));
  }
  Devices devices(netlink, paths.name);
  sweep.step("devices, addresses and routes", devices.undo_all(state.made));
  const auto removed = devices.remove_marked_devices();
  sweep.step("devices", removed ? Result<void>{} : std::unexpected(removed.error()));
  const auto table = std::make_unique<AdjacencyTable>();
  AdjacencyKeeper(netlink, *table, Clock::now()).release_all();
}

}  // namespace

Result<void> teardown(const NodePaths& paths) {
  Sweep sweep;
  auto read = read_state(paths.file("state.json"));
  State state = read && *read && (*read)->boot_id == boot_id() ? std::move(**read) : State{};
  end_child(state.worker);
  end_child(state.ike);
  end_child(state.pki);
  end_child(state.resolver);
  auto netlink = Netlink::open();
  if (netlink)
    remove_network(sweep, *netlink, paths, state);
  else
    sweep.step("netlink", std::unexpected(netlink.error()));
  sweep.step("pins", BpfPrograms::remove_pins(paths.pin_dir));
  std::error_code error;
  std::filesystem::remove_all(paths.run_dir, error);
  if (error) sweep.step("run directory", fail("remove " + paths.run_dir, error.value()));
  std::filesystem::remove("/run/postern", error);  // the last node's; fails while others have theirs
  if (sweep.outcome()) spdlog::info("node {}: everything removed", paths.name);
  return sweep.outcome();
}

Result<void> teardown_without_daemon(NodePaths paths) {
  POSTERN_TRY(lock, lock_run_dir(paths));
  const auto read = read_state(paths.file("state.json"));
  if (paths.netns.empty() && read && *read && (*read)->boot_id == boot_id()) paths.netns = (*read)->netns;
  if (const auto entered = enter_netns(paths.netns); !entered) {
    if (entered.error().code != ENOENT) return entered;
    spdlog::info("network namespace {} is gone, and with it the node's devices", paths.netns);
    Sweep sweep;
    if (read && *read) {
      end_child((*read)->worker);
      end_child((*read)->ike);
      end_child((*read)->pki);
      end_child((*read)->resolver);
    }
    sweep.step("pins", BpfPrograms::remove_pins(paths.pin_dir));
    std::error_code error;
    std::filesystem::remove_all(paths.run_dir, error);
    return sweep.outcome();
  }
  return teardown(paths);
}

}  // namespace postern::loader
