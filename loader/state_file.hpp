// state.json: what posternd made, so that a restart adopts it and a teardown removes exactly it. Written whole and
// renamed, mode 0600. Holds no key.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "loader/acl_hits.hpp"
#include "loader/devices.hpp"
#include "loader/plan.hpp"
#include "loader/process.hpp"

namespace postern::loader {

struct InstalledInterface {
  std::uint32_t ifindex = 0;
  std::uint32_t generation = 0;  // of its policy; 0: none
  std::uint32_t flags = 0;
  std::uint32_t xsk_base = 0, queues = 0;
  std::string policy_text;   // PlannedInterface::policy_text() of that generation
  std::string part_of = {};  // the bond whose policy it is
  bool operator==(const InstalledInterface&) const = default;
};

struct InstalledSaPair {
  std::uint32_t inbound_slot = 0, outbound_slot = 0;
  std::vector<std::uint32_t> flows;
  bool operator==(const InstalledSaPair&) const = default;
};

struct State {
  std::string node;
  std::string netns;             // as --netns named it; empty: the one posternd was started in
  std::string boot_id;           // /proc/sys/kernel/random/boot_id: after a boot nothing of this is there any more
  std::uint32_t generation = 0;  // last one given out
  std::map<std::string, std::uint32_t> flows;
  std::uint32_t next_flow = 1;
  ProcessId worker, ike, pki, resolver;
  std::map<std::string, std::vector<std::string>> lent;  // to tunnels, by peers: "10.2.77.1/32"
  std::uint32_t worker_threads = 0;
  std::vector<PlannedDevice> worker_devices;  // what the worker has
  std::map<std::string, InstalledInterface> interfaces;
  std::map<std::string, InstalledSaPair> sas;
  UndoList made;
  AclHits acl_hits;

  [[nodiscard]] std::string to_json() const;
  [[nodiscard]] static Result<State> from_json(std::string_view text);
};

// Missing: an empty optional. Damaged: an error; the caller starts from the pins and the marks on devices.
[[nodiscard]] Result<std::optional<State>> read_state(const std::string& path);
[[nodiscard]] Result<void> write_state(const std::string& path, const State& state);

// Whole file, atomically replaced, `mode`.
[[nodiscard]] Result<void> write_file(const std::string& path, std::string_view text, unsigned mode);

}  // namespace postern::loader
