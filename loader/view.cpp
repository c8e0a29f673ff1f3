#include "loader/view.hpp"

#include <algorithm>
#include <map>

#include <fmt/format.h>
#include <sys/utsname.h>

#include "crypto/overhead.hpp"
#include "loader/acl_hits.hpp"
#include "loader/bpf_programs.hpp"

namespace postern::loader {
namespace {

std::uint64_t read(const Counter& counter) { return counter.load(std::memory_order_relaxed); }

std::string kernel_release() {
  utsname name{};
  return ::uname(&name) == 0 ? name.release : "";
}

void add_worker(const ViewSources& from, NodeView& view) {
  const CounterPage& page = from.memory.counters();
  view.worker.running = from.worker_pid != 0;
  view.worker.pid = from.worker_pid;
  view.worker.threads = std::min<std::uint32_t>(page.threads.load(), max_worker_threads);
  view.worker.starts = page.worker_starts.load();
  view.worker.engine = from.worker_traits.engine;
  view.worker.io_uring = from.worker_traits.io_uring;
  view.worker.multishot_read = from.worker_traits.multishot_read;
  // A thread that was of an earlier worker keeps its counts: packets do not vanish from the balance.
  for (const ThreadCounters& thread : page.thread) {
    view.worker.split += read(thread.split);
    view.worker.merged += read(thread.merged);
    view.worker.made += read(thread.made);
    view.worker.held += read(thread.held);
    view.worker.wakeups += read(thread.wakeups);
    view.worker.system_calls += read(thread.system_calls);
    view.worker.handed += read(thread.handed);
    view.worker.helped += read(thread.helped);
    for (std::size_t reason = 0; reason < drop_count; ++reason) view.worker_drops[reason] += read(thread.drops[reason]);
  }
}

void add_kernel_drops(const ViewSources& from, NodeView& view) {
  for (std::uint32_t reason = 0; reason < drop_count; ++reason)
    if (const auto count = from.maps.drops.sum(reason)) view.kernel_drops[reason] = count->packets;
}

std::string role_of(const PlannedInterface* interface, bool steer) {
  if (steer) return "steer";
  if (interface == nullptr) return "inside";
  if ((interface->flags & POSTERN_IF_TUNNEL) != 0) return "tunnel";
  return (interface->flags & POSTERN_IF_OUTSIDE) != 0 ? "outside" : "inside";
}

void add_link(const ViewSources& from, DeviceView& device) {
  for (const Link& link : from.links) {
    if (link.ifindex != device.ifindex) continue;
    device.admin_up = link.up();
    device.carrier = link.carrier();
    if (link.mac != MacAddress{})
      device.mac = fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", link.mac[0], link.mac[1], link.mac[2],
                               link.mac[3], link.mac[4], link.mac[5]);
  }
  const auto report = from.stats.report(device.ifindex);
  if (!report) return;
  device.link_rx_packets = report->counters.rx_packets;
  device.link_rx_bytes = report->counters.rx_bytes;
  device.link_tx_packets = report->counters.tx_packets;
  device.link_tx_bytes = report->counters.tx_bytes;
  device.link_rx_dropped = report->counters.rx_dropped;
  device.link_tx_dropped = report->counters.tx_dropped;
  device.qdisc_drops = report->qdisc_drops;
  device.rate_interval_s = report->rates.interval_s;
  device.in_bps = report->rates.in_bps;
  device.in_pps = report->rates.in_pps;
  device.out_bps = report->rates.out_bps;
  device.out_pps = report->rates.out_pps;
}

void add_verdicts(const ViewSources& from, DeviceView& device) {
  const auto read_hook = [&](postern_hook hook, auto& into) {
    for (std::uint16_t verdict = 0; verdict < POSTERN_VERDICT_COUNT; ++verdict)
      if (const auto count = from.maps.verdicts.sum({device.ifindex, static_cast<std::uint16_t>(hook), verdict}))
        into[verdict] = count->packets;
  };
  read_hook(POSTERN_HOOK_XDP_INGRESS, device.xdp_verdicts);
  read_hook(POSTERN_HOOK_TC_EGRESS, device.tc_egress_verdicts);
  read_hook(POSTERN_HOOK_TC_INGRESS, device.tc_ingress_verdicts);
}

DeviceView device_view(const ViewSources& from, const LinkFacts& link, const PlannedInterface* interface, bool steer) {
  DeviceView device;
  device.name = link.name;
  device.ifindex = link.ifindex;
  device.mtu = link.mtu;
  device.addresses = link.addresses;
  device.role = role_of(interface, steer);
  const auto mode = steer ? std::unexpected(Error{}) : BpfPrograms::attached_xdp(from.pin_dir, link.name);
  device.xdp_mode = mode ? std::string(name_of(*mode)) : "none";
  const config::Interface* const configured = config::find_named(from.document.interfaces, link.name);
  if (configured != nullptr && configured->inside) {
    device.plain_side = link.plain_side_af_xdp ? "af_xdp" : "tap";
    device.plain_side_reason = link.plain_side_reason;
  }
  if (const auto binding = from.bindings.find(link.ifindex); binding != from.bindings.end())
    device.zero_copy = binding->second.zero_copy;
  add_link(from, device);
  add_verdicts(from, device);
  return device;
}

void add_devices(const ViewSources& from, NodeView& view) {
  for (const LinkFacts& link : from.facts.links) {
    const PlannedInterface* interface = nullptr;
    for (const PlannedInterface& planned : from.plan.interfaces)
      if (planned.ifindex == link.ifindex && planned.name == link.name) interface = &planned;
    if (link.gone) continue;
    const bool steer = link.name == from.facts.steer;
    if (interface == nullptr && !steer && config::find_named(from.document.interfaces, link.name) == nullptr) continue;
    view.devices.push_back(device_view(from, link, interface, steer));
  }
}

// Where a row of the counter page is shown: its device, else one entry for sockets, and one for each device that is
// gone, so that the sums over all entries are those of the page.
DeviceView& device_of_row(const ViewSources& from, NodeView& view, std::uint32_t ifindex) {
  for (DeviceView& device : view.devices)
    if (device.ifindex == ifindex) return device;
  DeviceView device;
  device.ifindex = ifindex;
  const auto vrf = std::ranges::find(from.facts.vrfs, ifindex, &VrfFacts::ifindex);
  const bool in_vrf = vrf != from.facts.vrfs.end();
  device.name = ifindex == 0 ? "sockets" : in_vrf ? "sockets " + vrf->name : "gone-" + std::to_string(ifindex);
  device.role = ifindex == 0 || in_vrf ? "sockets" : "gone";
  device.xdp_mode = "none";
  if (device.role == "gone") add_verdicts(from, device);
  return view.devices.emplace_back(std::move(device));
}

void add_queues(const ViewSources& from, NodeView& view) {
  for (std::uint32_t thread = 0; thread < max_worker_threads; ++thread)
    for (const DeviceCounters& row : from.memory.counters().thread[thread].devices) {
      const std::uint64_t identity = read(row.identity);
      if (identity == 0) continue;
      device_of_row(from, view, static_cast<std::uint32_t>(identity))
          .queues.push_back({static_cast<std::uint32_t>(identity >> 32 & 0xffffff), thread, read(row.rx_packets),
                             read(row.rx_bytes), read(row.tx_packets), read(row.tx_bytes), read(row.tx_refused),
                             read(row.kernel_rx_dropped), read(row.kernel_rx_ring_full),
                             read(row.kernel_rx_fill_empty)});
    }
}

// SAs that postern-ike installed, by flow. Two pairs live side by side while one is rekeyed.
struct NegotiatedSlots {
  std::optional<std::uint32_t> inbound, outbound;
  std::uint64_t newest = 0, last_bound = 0;
};
using NegotiatedFlows = std::map<std::uint32_t, NegotiatedSlots>;

NegotiatedFlows negotiated_flows(const SharedMemory& memory) {
  NegotiatedFlows out;
  for (std::uint32_t index = 0; index < memory.capacity(); ++index) {
    const SaSlot* const slot = memory.live(index);
    if (slot == nullptr || slot->installed_by.load(std::memory_order_relaxed) != SaInstaller::ike) continue;
    NegotiatedSlots& flow = out[slot->parameters.flow];
    if (slot->parameters.direction == SaDirection::inbound) {
      const auto installed = read(slot->installed_ns);
      if (flow.inbound && installed < flow.newest) continue;
      flow.inbound = index;
      flow.newest = installed;
    } else if (const auto bound = read(slot->bound_order); !flow.outbound || bound > flow.last_bound) {
      flow.outbound = index;
      flow.last_bound = bound;
    }
  }
  return out;
}

// `around`: the AH SA of a bundle, null where there is none.
std::uint32_t plaintext_mtu_of(const SaParameters& p, const SaParameters* around, std::uint32_t path_mtu) {
  crypto::Protection protection;
  protection.transport = p.mode == SaMode::transport;
  if (p.protocol == IpProto::esp) protection.esp = p.transform;
  if (p.protocol == IpProto::ah) protection.ah = p.transform.integrity;
  if (around != nullptr) protection.ah = around->transform.integrity;
  return crypto::largest_inside(protection, p.remote.family(), p.udp_encapsulation, path_mtu).value_or(0);
}

void add_negotiated(const ViewSources& from, const NegotiatedFlows& all, FlowView& flow, std::uint64_t now_ns) {
  const auto known = all.find(flow.flow);
  if (known == all.end()) return;
  const auto take = [&](const std::optional<std::uint32_t>& index, std::optional<SaView>& into) {
    if (!index) return;
    if (const SaSlot* const slot = from.memory.live(*index)) into = view_of(*index, *slot, now_ns);
  };
  take(known->second.inbound, flow.inbound);
  take(known->second.outbound, flow.outbound);
  if (flow.outbound) flow.plaintext_mtu = plaintext_mtu_of(flow.outbound->parameters, nullptr, flow.outbound->path_mtu);
}

bool is_negotiated(const config::Document& document, const PlannedFlow& flow) {
  if (flow.tunnel) {
    const auto tunnel = std::ranges::find(document.tunnels, *flow.tunnel, &config::Tunnel::number);
    return tunnel != document.tunnels.end() && tunnel->negotiated;
  }
  const config::CryptoMap* const map = config::find_named(document.crypto_maps, flow.map);
  if (map == nullptr) return false;
  const auto entry = std::ranges::find(map->entries, flow.sequence, &config::MapEntry::sequence);
  return entry != map->entries.end() && entry->negotiated;
}

void add_installed(const ViewSources& from, const std::string& key, std::uint64_t now_ns,
                   std::optional<SaView>& inbound, std::optional<SaView>& outbound) {
  const auto pair = from.installed.sas.find(key);
  if (pair == from.installed.sas.end()) return;
  if (const SaSlot* const in = from.memory.live(pair->second.inbound_slot))
    inbound = view_of(pair->second.inbound_slot, *in, now_ns);
  if (const SaSlot* const out = from.memory.live(pair->second.outbound_slot))
    outbound = view_of(pair->second.outbound_slot, *out, now_ns);
}

FlowView flow_view(const ViewSources& from, const PlannedFlow& planned, std::uint64_t now_ns) {
  FlowView flow;
  flow.flow = planned.id;
  flow.map = planned.map;
  flow.sequence = planned.sequence;
  flow.ace = planned.ace;
  flow.later_fragments = planned.later_fragments;
  flow.interface = planned.interface;
  flow.tunnel = planned.tunnel;
  flow.owner = planned.sa_pair;
  flow.negotiated = is_negotiated(from.document, planned);
  flow.dynamic_map = planned.dynamic_map;
  flow.dynamic_sequence = planned.dynamic_sequence;
  flow.base_flow = planned.base_flow;
  flow.peer = planned.peer;
  flow.selectors = planned.selectors;
  add_installed(from, planned.sa_pair, now_ns, flow.inbound, flow.outbound);
  add_installed(from, ah_key(planned.sa_pair), now_ns, flow.inbound_ah, flow.outbound_ah);
  if (const PlannedSaPair* const pair = from.plan.find_pair(planned.sa_pair)) {
    const SaParameters& p = pair->outbound.parameters;
    const PlannedSaPair* const around = from.plan.find_pair(ah_key(planned.sa_pair));
    flow.plaintext_mtu = plaintext_mtu_of(p, around == nullptr ? nullptr : &around->outbound.parameters,
                                          flow.outbound ? flow.outbound->path_mtu : p.path_mtu);
  }
  return flow;
}

void add_rules(const ViewSources& from, NodeView& view) {
  for (const PlannedInterface& planned : from.plan.interfaces) {
    const auto installed = from.installed.interfaces.find(planned.name);
    if (planned.rules.empty() || installed == from.installed.interfaces.end()) continue;
    const auto packets = hits_of(from.installed.acl_hits, from.maps, installed->second.generation,
                                 hit_keys(planned.name, planned.policy_text()));
    for (std::size_t i = 0; i < planned.origins.size() && i < packets.size(); ++i) {
      const auto& origin = planned.origins[i];
      view.rules.push_back({planned.name, origin.map, origin.sequence, origin.acl, origin.ace, packets[i]});
    }
  }
}

}  // namespace

SaView view_of(std::uint32_t slot_index, const SaSlot& slot, std::uint64_t now_ns) {
  SaView view;
  view.slot = slot_index;
  view.parameters = slot.parameters;
  put_ends(view.parameters, ends_of(slot));
  wipe(view.parameters.cipher_key);
  wipe(view.parameters.integrity_key);
  view.next_sequence = slot.next_sequence.load(std::memory_order_relaxed);
  view.highest_sequence = slot.highest_sequence.load(std::memory_order_relaxed);
  view.path_mtu = LearnedPathMtu::least(read(slot.path_mtu), slot.parameters.path_mtu, now_ns);
  view.packets = read(slot.packets);
  view.bytes = read(slot.bytes);
  view.errors = read(slot.errors);
  view.replay_drops = read(slot.replay_drops);
  view.integrity_drops = read(slot.integrity_drops);
  view.selector_drops = read(slot.selector_drops);
  view.dummy_packets = read(slot.dummy_packets);
  view.compressed = read(slot.compressed);
  view.not_compressed = read(slot.not_compressed);
  view.compress_failed = read(slot.compress_failed);
  const auto seconds_since = [now_ns](std::uint64_t then) {
    return then > now_ns ? 0 : (now_ns - then) / 1'000'000'000U;
  };
  view.age_s = seconds_since(read(slot.installed_ns));
  if (const auto used = read(slot.last_used_ns); used != 0) view.idle_s = seconds_since(used);
  return view;
}

NodeView build_view(const ViewSources& from) {
  NodeView view;
  view.node = from.node;
  view.state = from.state;
  view.uptime_s =
      static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - from.started).count());
  view.generation = from.installed.generation;
  view.kernel = kernel_release();
  view.document = from.document;
  add_worker(from, view);
  add_kernel_drops(from, view);
  add_devices(from, view);
  add_queues(from, view);
  add_rules(from, view);
  view.time_ranges.assign(from.facts.time_ranges.begin(), from.facts.time_ranges.end());
  const auto now_ns = monotonic_ns();
  const auto negotiated = negotiated_flows(from.memory);
  for (const PlannedFlow& flow : from.plan.flows) {
    if (flow.is_template) continue;
    FlowView& added = view.flows.emplace_back(flow_view(from, flow, now_ns));
    if (added.negotiated) add_negotiated(from, negotiated, added, now_ns);
  }
  return view;
}

}  // namespace postern::loader
