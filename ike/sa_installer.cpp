#include "ike/sa_installer.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/log.hpp"
#include "base/secret.hpp"
#include "ike/selectors.hpp"

namespace postern::ike {
namespace {

TrafficSelector reversed(const TrafficSelector& s) {
  return {s.destination_first,     s.destination_last,  s.source_first,     s.source_last, s.destination_port_first,
          s.destination_port_last, s.source_port_first, s.source_port_last, s.protocol};
}

SaEnds ends_between(const Endpoint& local, const Endpoint& remote, bool encapsulated) {
  const auto port_of = [&](const Endpoint& end) { return encapsulated ? end.port : std::uint16_t{0}; };
  return {local.address, remote.address, port_of(local), port_of(remote), encapsulated};
}

SaEnds ends_of(const SaRow& row) {
  return {row.local, row.remote, row.local_port, row.remote_port, row.udp_encapsulation};
}

Result<void> put_keys(SaParameters& p, const Secret& cipher, const Secret& integrity) {
  if (cipher.size() > max_cipher_key_bytes || integrity.size() > max_integrity_key_bytes)
    return fail("a key is longer than any transform's");
  std::ranges::copy(cipher.bytes(), p.cipher_key.begin());
  std::ranges::copy(integrity.bytes(), p.integrity_key.begin());
  p.cipher_key_bytes = static_cast<std::uint16_t>(cipher.size());
  p.integrity_key_bytes = static_cast<std::uint16_t>(integrity.size());
  return {};
}

void fill_common(SaParameters& p, const InstallChild& child, double jitter) {
  const ChildPlace& place = child.policy.place;
  p.protocol = child.suite.protocol == ProtocolId::ah ? IpProto::ah : IpProto::esp;
  p.mode = child.transport ? SaMode::transport : SaMode::tunnel;
  p.df = place.df;
  p.ecn = place.ecn;
  p.fragmentation = place.fragmentation;
  p.dscp_copy = place.dscp_copy;
  p.dscp = place.dscp;
  p.tcp_mss = place.tcp_mss;
  p.path_mtu_aging_s = place.path_mtu_aging_s;
  p.deliver = place.deliver;
  p.ttl = place.ttl;
  p.replay_window = place.replay_window;
  p.tfc_bytes = child.tfc_padding ? place.tfc_bytes : std::uint16_t{0};
  p.dummy_interval_us = place.dummy_interval_us;
  p.flow = place.flow;
  p.base_flow = place.base_flow;
  p.fvrf = child.connection->fvrf;
  p.ifindex = place.ifindex;
  p.inside_vrf = place.inside_vrf;
  put_ends(p, ends_between(child.local_endpoint, child.remote_endpoint, child.udp_encapsulation));
  p.path_mtu = place.path_mtu;
  p.hard_seconds = child.policy.lifetime_s;
  p.hard_bytes = child.policy.lifetime_bytes;
  p.soft_bytes = soft_limit(p.hard_bytes, rekey_bytes, jitter);
  p.hard_packets = child.policy.lifetime_packets;
  p.soft_packets = soft_limit(p.hard_packets, rekey_packets, jitter);
  p.cookie = static_cast<std::uint64_t>(child.id);
  p.transform = child.suite.transform;
  p.extended_sequence = child.suite.extended_sequence;
}

Time time_of(std::uint64_t monotonic) { return Time(std::chrono::nanoseconds(monotonic)); }

}  // namespace

std::uint64_t soft_limit(std::uint64_t hard, std::uint64_t meanwhile, double jitter) {
  const auto whole = static_cast<double>(hard);
  const double margin = std::max(whole * 0.14, std::min(whole / 2, static_cast<double>(meanwhile)));
  return static_cast<std::uint64_t>(whole - margin * (1 - jitter * 0.4));
}

SaPair::~SaPair() {
  for (InstallSa* const sa : {&inbound, &outbound}) {
    wipe(sa->parameters.cipher_key);
    wipe(sa->parameters.integrity_key);
  }
}

std::vector<TrafficSelector> pairs_of(const std::vector<Selector>& local, const std::vector<Selector>& remote) {
  std::vector<TrafficSelector> out;
  for (const Selector& l : local)
    for (const Selector& r : remote) {
      if (!pair_up(l, r)) continue;
      const std::uint8_t protocol = l.protocol == 0 ? r.protocol : l.protocol;
      out.push_back({l.first, l.last, r.first, r.last, l.first_port, l.last_port, r.first_port, r.last_port, protocol});
    }
  return out;
}

Result<SaPair> sa_pair(const InstallChild& child, double jitter) {
  const auto selectors = pairs_of(child.local, child.remote);
  if (selectors.empty() || selectors.size() > max_selectors)
    return fail(
        fmt::format("an SA holds 1 to {} pairs of traffic selectors; these are {}", max_selectors, selectors.size()));
  SaPair pair;
  SaParameters &in = pair.inbound.parameters, &out = pair.outbound.parameters;
  fill_common(in, child, jitter);
  fill_common(out, child, jitter);
  in.direction = SaDirection::inbound;
  out.direction = SaDirection::outbound;
  in.follow_peer = child.follow_peer;
  in.either_form = in.protocol == IpProto::esp;
  in.compression_cpi = child.cpi_in;
  out.compression_cpi = child.cpi_out;
  if (in.hard_bytes != 0) in.hard_bytes += inbound_grace_bytes;
  if (in.hard_packets != 0) in.hard_packets += inbound_grace_packets;
  in.spi = child.spi_in;
  out.spi = child.spi_out;
  in.selector_count = out.selector_count = static_cast<std::uint8_t>(selectors.size());
  for (std::size_t i = 0; i < selectors.size(); ++i) {
    out.selectors[i] = selectors[i];
    in.selectors[i] = reversed(selectors[i]);
  }
  POSTERN_CHECK(put_keys(in, child.keys.inbound_cipher, child.keys.inbound_integrity));
  POSTERN_CHECK(put_keys(out, child.keys.outbound_cipher, child.keys.outbound_integrity));
  return pair;
}

// --- children of this life

void SaInstaller::expect(const ExpectChild& child) {
  const std::uint16_t port = child.udp_encapsulation ? child.local_endpoint.port : std::uint16_t{0};
  const IpProto protocol = child.ah ? IpProto::ah : IpProto::esp;
  const auto done = door_.expect({child.fvrf, child.spi_in, child.local_endpoint.address, protocol, port});
  if (!done) spdlog::debug("SPI {:#x}: {}", child.spi_in, done.error().message());
}

Result<void> SaInstaller::install(const InstallChild& child, double jitter, Time now) {
  POSTERN_TRY(pair, sa_pair(child, jitter));
  POSTERN_TRY(inbound, door_.install(pair.inbound));
  auto outbound = door_.install(pair.outbound);
  Installed installed;
  installed.inbound.slot = inbound;
  installed.flow = child.policy.place.flow;
  installed.base_flow = child.policy.place.base_flow;
  installed.idle = std::chrono::seconds(child.policy.idle_s);
  installed.active = now;
  installed.order = next_order_++;
  installed.ends = ends_of(pair.inbound.parameters);
  Result<void> done;
  if (outbound) {
    installed.outbound.slot = *outbound;
    const bool waits = child.answered && bound_.contains(installed.flow);
    if (child.outbound_now && waits) installed.serves = true, installed.switch_at = now + switch_patience;
    if (child.outbound_now && !waits) done = bind(installed, child.id, now);
    if (!done) (void)door_.remove(*outbound);
  } else {
    done = std::unexpected(outbound.error());
  }
  if (!done) {
    if (!door_.remove(inbound)) doomed_.insert(static_cast<std::uint64_t>(child.id));
    return done;
  }
  children_[child.id] = installed;
  if (installed.base_flow != 0) retire_survivors_of(installed.ends.remote, now);
  return {};
}

// Flows of a peer that has come back get other numbers: those of the earlier life are in their way.
void SaInstaller::retire_survivors_of(const IpAddress& peer, Time now) {
  for (auto& [cookie, survivor] : survivors_)
    if (survivor.base_flow != 0 && survivor.remote == peer) survivor.remove_at = now;
  if (has_policy_) retire_survivors(now);
}

Result<void> SaInstaller::bind(Installed& child, ChildId id, Time now) {
  POSTERN_CHECK(door_.bind(child.flow, child.outbound.slot));
  child.serves = true;
  child.switch_at.reset();
  bound_[child.flow] = id;
  for (auto& [cookie, survivor] : survivors_) {
    if (survivor.flow != child.flow) continue;
    survivor.bound = false;
    if (!survivor.remove_at) survivor.remove_at = now + survivor_patience;
  }
  return {};
}

void SaInstaller::switch_outbound(ChildId id) {
  const auto known = children_.find(id);
  if (known == children_.end()) return;
  if (const auto bound = bind(known->second, id, Clock::now()); !bound)
    spdlog::warn("child {}: outbound not switched: {}", static_cast<std::uint64_t>(id), bound.error().message());
}

Result<void> SaInstaller::move(const MoveChild& child) {
  const auto known = children_.find(child.id);
  if (known == children_.end()) return {};
  known->second.ends = ends_between(child.local_endpoint, child.remote_endpoint, child.udp_encapsulation);
  const auto moved = move_halves(known->second);
  const bool channel_is_down = !moved && (moved.error().code == ENOTCONN || moved.error().code == ECONNRESET);
  return channel_is_down ? Result<void>{} : moved;
}

// Inbound before outbound: the peer answers to where our packets come from.
Result<void> SaInstaller::move_halves(const Installed& child) {
  POSTERN_CHECK(door_.move(child.inbound.slot, child.ends));
  return door_.move(child.outbound.slot, child.ends);
}

// The flow's SA goes: the newest other child that may carry it takes over.
void SaInstaller::bind_another(std::uint32_t flow) {
  bound_.erase(flow);
  ChildId best{};
  Installed* found = nullptr;
  for (auto& [id, child] : children_)
    if (child.flow == flow && child.serves && (found == nullptr || child.order > found->order))
      found = &child, best = id;
  const auto done = found != nullptr ? door_.bind(flow, found->outbound.slot) : door_.unbind(flow);
  if (found != nullptr && done) bound_[flow] = best;
  if (found != nullptr) found->switch_at.reset();
  if (!done) spdlog::warn("flow {}: {}", flow, done.error().message());
}

void SaInstaller::remove(ChildId id, Time now) {
  const auto known = children_.find(id);
  if (known == children_.end()) return;
  const Installed child = known->second;
  children_.erase(known);
  const auto bound = bound_.find(child.flow);
  const bool carried = bound != bound_.end() && bound->second == id;
  if (carried) bind_another(child.flow);
  if (carried && bound_.contains(child.flow))
    leaving_.push_back({static_cast<std::uint64_t>(id), child.inbound.slot, now + inbound_grace});
  else
    remove_half(id, child.inbound.slot);
  remove_half(id, child.outbound.slot);
}

void SaInstaller::remove_half(ChildId id, std::uint32_t slot) {
  const auto removed = door_.remove(slot);
  if (removed || removed.error().code == ENOENT) return;
  doomed_.insert(static_cast<std::uint64_t>(id));
  spdlog::warn("SA in slot {} not removed: {}", slot, removed.error().message());
}

void SaInstaller::remove_leaving(Time now) {
  const auto due = std::ranges::stable_partition(leaving_, [&](const Leaving& one) { return one.at > now; });
  for (const Leaving& one : due) remove_half(ChildId{one.cookie}, one.slot);
  leaving_.erase(due.begin(), due.end());
}

void SaInstaller::switch_waiting(Time now) {
  for (auto& [id, child] : children_)
    if (child.switch_at && (child.inbound.packets != 0 || *child.switch_at <= now)) switch_outbound(id);
}

// --- what is there already

Result<SaInstaller::Found> SaInstaller::reconcile(Time now) {
  POSTERN_TRY(rows, door_.list());
  survivors_.clear();
  for (const Leaving& one : std::exchange(leaving_, {})) doomed_.insert(one.cookie);
  std::unordered_map<std::uint64_t, unsigned> seen;  // bit 1 inbound, bit 2 outbound
  std::set<ChildId> moved;                           // that are elsewhere than the data plane knows
  for (const SaRow& row : rows)
    if (row.installed_by == postern::SaInstaller::ike) sort_row(row, now, seen);
  for (const SaRow& row : rows)
    if (const auto known = children_.find(ChildId{row.cookie});
        known != children_.end() && ends_of(row) != known->second.ends)
      moved.insert(known->first);
  doomed_.clear();
  Found found;
  for (auto& [id, child] : children_) {
    if (seen[static_cast<std::uint64_t>(id)] != 3) {
      found.lost.push_back(id);
      continue;
    }
    if (moved.contains(id))
      if (const auto done = move_halves(child); !done)
        spdlog::warn("child {} does not move: {}", static_cast<std::uint64_t>(id), done.error().message());
    if (const auto bound = bound_.find(child.flow); bound != bound_.end() && bound->second == id)
      if (const auto again = door_.bind(child.flow, child.outbound.slot); !again) return std::unexpected(again.error());
  }
  if (has_policy_) retire_survivors(now);
  for (const auto& [cookie, survivor] : survivors_) found.survivor_flows.insert(survivor.flow);
  for (const SaRow& row : rows)
    if (row.direction == SaDirection::inbound && survivors_.contains(row.cookie))
      found.survivor_spis.push_back(row.spi);
  return found;
}

void SaInstaller::sort_row(const SaRow& row, Time now, std::unordered_map<std::uint64_t, unsigned>& seen) {
  if (doomed_.contains(row.cookie)) {
    (void)door_.remove(row.slot);
    return;
  }
  const bool inbound = row.direction == SaDirection::inbound;
  const Half half{row.slot, row.packets, row.bytes};
  if (const auto known = children_.find(ChildId{row.cookie}); known != children_.end()) {
    (inbound ? known->second.inbound : known->second.outbound) = half;
    seen[row.cookie] |= inbound ? 1U : 2U;
    return;
  }
  Survivor& survivor = survivors_[row.cookie];
  (inbound ? survivor.inbound : survivor.outbound) = half;
  survivor.flow = row.flow;
  survivor.base_flow = row.base_flow;
  survivor.remote = row.remote;
  survivor.bound = survivor.bound || row.bound;
  survivor.installed = time_of(row.installed_ns);
  if (bound_.contains(row.flow)) survivor.remove_at = now + survivor_patience;
}

void SaInstaller::set_policy(const Policy& policy, Time now) {
  lifetimes_.clear();
  for (const auto& connection : policy.connections)
    for (const ChildPolicy& child : connection->children)
      lifetimes_[child.place.flow] = std::chrono::seconds(child.lifetime_s);
  has_policy_ = true;
  retire_survivors(now);
}

void SaInstaller::retire_survivors(Time now) {
  for (auto at = survivors_.begin(); at != survivors_.end();) {
    Survivor& survivor = at->second;
    const auto lifetime = lifetimes_.find(survivor.base_flow != 0 ? survivor.base_flow : survivor.flow);
    const bool old = lifetime == lifetimes_.end() || now >= survivor.installed + lifetime->second;
    if (old || (survivor.remove_at && now >= *survivor.remove_at)) {
      remove_survivor(at->first, survivor);
      at = survivors_.erase(at);
    } else {
      ++at;
    }
  }
}

void SaInstaller::remove_survivor(std::uint64_t cookie, Survivor& survivor) {
  if (survivor.bound && !bound_.contains(survivor.flow)) (void)door_.unbind(survivor.flow);
  for (const auto* const half : {&survivor.inbound, &survivor.outbound})
    if (half->has_value())
      if (const auto removed = door_.remove((*half)->slot); !removed && removed.error().code != ENOENT)
        doomed_.insert(cookie);
}

// --- counters

Result<std::vector<SaInstaller::Traffic>> SaInstaller::poll(Time now) {
  POSTERN_TRY(rows, door_.list());
  std::unordered_map<ChildId, Traffic> changes;
  for (const SaRow& row : rows) {
    const auto known = children_.find(ChildId{row.cookie});
    if (row.installed_by != postern::SaInstaller::ike || known == children_.end()) continue;
    const bool inbound = row.direction == SaDirection::inbound;
    Half& half = inbound ? known->second.inbound : known->second.outbound;
    if (half.slot != row.slot) continue;
    half.bytes = row.bytes;
    if (row.packets == half.packets) continue;
    half.packets = row.packets;
    known->second.active = now;
    Traffic& traffic = changes[known->first];
    traffic.id = known->first;
    (inbound ? traffic.inbound : traffic.outbound) = true;
  }
  for (auto& [id, child] : children_)
    if (child.idle != Duration::zero() && now - child.active >= child.idle) {
      changes[id].id = id;
      changes[id].idle = true;
      child.active = now;  // asked once an interval
    }
  for (auto& [cookie, survivor] : survivors_) {
    const auto successor = bound_.find(survivor.flow);
    if (successor == bound_.end() || !survivor.remove_at) continue;
    if (children_.at(successor->second).inbound.packets != 0)
      survivor.remove_at = std::min(*survivor.remove_at, now + survivor_grace);
  }
  if (has_policy_) retire_survivors(now);
  switch_waiting(now);
  remove_leaving(now);
  std::vector<Traffic> out;
  for (const auto& [id, traffic] : changes) out.push_back(traffic);
  return out;
}

std::optional<ChildId> SaInstaller::child_of(const SaRow& row) const {
  const ChildId id{row.cookie};
  return children_.contains(id) ? std::optional(id) : std::nullopt;
}

std::optional<SaInstaller::Counters> SaInstaller::counters(ChildId id) const {
  const auto known = children_.find(id);
  if (known == children_.end()) return std::nullopt;
  const Installed& child = known->second;
  return Counters{child.inbound.packets, child.outbound.packets, child.inbound.bytes, child.outbound.bytes};
}

}  // namespace postern::ike
