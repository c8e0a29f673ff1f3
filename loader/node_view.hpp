// A consistent picture of the node at one moment, taken by posternd, from which every `show` is built
// (loader/show_*.cpp) as JSON. Holds no key. Owner: the caller; plain values only.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/net_types.hpp"
#include "config/model.hpp"
#include "maps/abi.h"
#include "maps/drops.hpp"
#include "worker/sa_state.hpp"

namespace postern::loader {

struct SaView {
  std::uint32_t slot = 0;
  SaParameters parameters;  // key arrays zeroed
  std::uint64_t next_sequence = 0, highest_sequence = 0;
  std::uint32_t path_mtu = 1500;  // outbound: now, an ICMP error may have told less
  std::uint64_t packets = 0, bytes = 0, errors = 0;
  std::uint64_t replay_drops = 0, integrity_drops = 0, selector_drops = 0, dummy_packets = 0;
  std::uint64_t compressed = 0, not_compressed = 0, compress_failed = 0;  // IPComp; inbound: decompressed ...
  std::uint64_t age_s = 0;
  std::optional<std::uint64_t> idle_s;  // never used: none
};

// One protected flow: a permit ACE of a map entry, or a tunnel.
struct FlowView {
  std::uint32_t flow = 0;
  std::string map;               // crypto map, or "TunnelN-head-0"
  std::uint32_t sequence = 0;    // map entry; 65537 for a tunnel
  std::uint32_t ace = 0;         // index in the ACL
  std::string interface;         // the map's interface, or TunnelN
  bool later_fragments = false;  // of the ACE's ports (RFC 4301 §7.2)
  std::optional<std::uint32_t> tunnel;
  std::string owner;  // who makes its SAs: "M1 10 out0", "Tunnel0"
  bool negotiated = false;
  std::string dynamic_map;  // PlannedFlow: what came of a dynamic map's entry `dynamic_sequence`
  std::uint32_t dynamic_sequence = 0;
  std::uint32_t base_flow = 0;  // temporary: of its peer alone, with these selectors
  IpAddress peer;
  std::vector<TrafficSelector> selectors;
  std::optional<SaView> inbound, outbound;        // negotiated: the newest inbound one, the outbound one that is in use
  std::optional<SaView> inbound_ah, outbound_ah;  // around ESP; AH alone is in the two above
  std::uint64_t send_errors = 0;                  // no SA, no next hop, too big
  std::uint32_t plaintext_mtu = 0;
};

struct QueueView {
  std::uint32_t queue = 0, thread = 0;
  std::uint64_t rx_packets = 0, rx_bytes = 0, tx_packets = 0, tx_bytes = 0, tx_refused = 0;
  std::uint64_t kernel_rx_dropped = 0, kernel_rx_ring_full = 0, kernel_rx_fill_empty = 0;
};

struct DeviceView {
  std::string name;
  std::uint32_t ifindex = 0;
  std::string role;  // "outside", "inside", "tunnel", "steer"
  bool admin_up = false, carrier = false;
  std::uint32_t mtu = 0;
  std::optional<std::string> mac;
  std::vector<Prefix> addresses;
  std::string xdp_mode;    // "native", "generic", "none"
  std::string plain_side;  // "af_xdp", "tap", and why: plain_side_reason
  std::string plain_side_reason;
  bool zero_copy = false;
  std::vector<QueueView> queues;
  std::array<std::uint64_t, POSTERN_VERDICT_COUNT> xdp_verdicts{}, tc_egress_verdicts{}, tc_ingress_verdicts{};
  // From the kernel's own link statistics.
  std::uint64_t link_rx_packets = 0, link_rx_bytes = 0, link_tx_packets = 0, link_tx_bytes = 0;
  std::uint64_t link_rx_dropped = 0, link_tx_dropped = 0;
  std::uint64_t qdisc_drops = 0;
  // Rates over `rate_interval_s`, per second.
  std::uint32_t rate_interval_s = 300;
  std::uint64_t in_bps = 0, in_pps = 0, out_bps = 0, out_pps = 0;
};

struct WorkerView {
  bool running = false;
  int pid = 0;
  std::uint32_t threads = 0, starts = 0;
  std::string engine;
  bool io_uring = true, multishot_read = false;
  std::uint64_t split = 0, merged = 0, made = 0, held = 0, wakeups = 0, system_calls = 0, handed = 0, helped = 0;
};

// One rule of an access list as an interface's policy has it, in the policy's order.
struct RuleView {
  std::string interface, map;
  std::uint32_t sequence = 0;  // map entry
  std::string acl;
  std::uint32_t ace = 0;      // index in it
  std::uint64_t packets = 0;  // that it decided
};

struct NodeView {
  std::string node;
  std::string state;  // "running", "degraded: WHY", "blocked"
  std::uint64_t uptime_s = 0;
  std::uint32_t generation = 0;
  std::string kernel;
  config::Document document;
  WorkerView worker;
  std::vector<DeviceView> devices;
  std::vector<FlowView> flows;
  std::vector<RuleView> rules;
  std::vector<std::string> time_ranges;  // that hold
  nlohmann::json ike;                    // what postern-ike says to "show crypto session"; null: nothing
  std::array<std::uint64_t, drop_count> kernel_drops{};  // BPF
  std::array<std::uint64_t, drop_count> worker_drops{};  // counter page
};

}  // namespace postern::loader
