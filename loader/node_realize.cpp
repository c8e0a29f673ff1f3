// Document to kernel: devices, interfaces, policies. Additions first, the switch, removals last.
#include <algorithm>

#include "base/log.hpp"
#include "loader/facts.hpp"
#include "loader/node.hpp"
#include "loader/plan_sa.hpp"

namespace postern::loader {
namespace {

TunSpec spec_of(const PlannedTunnel& tunnel, std::uint32_t threads) {
  TunSpec spec;
  spec.name = tunnel.name;
  spec.ipv6 = tunnel.ipv6;
  spec.queues = threads;
  spec.mtu = tunnel.mtu;
  return spec;
}

bool is_route(const Undo& undo) { return undo.kind == "route" || undo.kind == "unreachable"; }

}  // namespace

Result<void> Node::apply(config::Document document) {
  const config::Document before = document_;
  if (auto done = realize(document, SaUpdate::keep); !done) {
    spdlog::error("apply failed, going back: {}", done.error().message());
    if (auto back = realize(before, SaUpdate::keep); !back) {
      trouble_ = "going back after a failed apply: " + back.error().message();
      spdlog::error("{}", trouble_);
    }
    return done;
  }
  trouble_.clear();
  return {};
}

Result<void> Node::realize(const config::Document& document, SaUpdate update) {
  POSTERN_CHECK(make_devices(document));
  save_state();
  POSTERN_TRY(facts, current_facts(document));
  FlowBook book = flows_;
  auto plan = make_plan(document, facts, book);
  flows_.skip_to(book.next());
  if (!plan) return std::unexpected(plan.error());
  POSTERN_TRY(ike_plan, plan_ike(document, facts, *plan));
  plan->missing.insert(plan->missing.end(), ike_plan.missing.begin(), ike_plan.missing.end());
  if (auto done = reconcile(document, *plan, update); !done) {
    save_state();
    return done;
  }
  flows_ = std::move(book);
  facts_ = std::move(facts);
  plan_ = std::move(*plan);
  document_ = document;
  drop_devices(document_, plan_);
  sync_surroundings(plan_);
  set_policy(std::move(ike_plan.policy));
  tell_ike();
  save_state();
  report_state();
  return {};
}

TunSpec Node::steer_spec(std::uint32_t threads) const {
  TunSpec spec;
  spec.name = Devices::steer_name(paths_.name);
  spec.tap = true;
  spec.queues = threads;
  return spec;
}

Result<Facts> Node::current_facts(const config::Document& document) {
  std::set<std::uint32_t> ours = kernel_->program_ids();
  // A posternd before us attached the same programs under other numbers; they are replaced in a moment.
  for (const config::Interface& interface : document.interfaces) {
    const auto link = netlink_->link(interface.name);
    const auto filters = link ? netlink_->filters(link->ifindex, TcHook::egress) : std::unexpected(link.error());
    if (!filters) continue;
    for (const TcFilter& filter : *filters)
      if (filter.name.starts_with("postern_tc_")) ours.insert(filter.program_id);
  }
  return gather_facts({*netlink_, *plain_side_, Devices::steer_name(paths_.name), std::move(ours)}, document);
}

// What the plan needs to exist before it can be made. A device that is there and right is left alone.
Result<void> Node::make_devices(const config::Document& document) {
  POSTERN_TRY(facts, current_facts(document));
  const std::uint32_t threads = planned_threads(document, facts);
  TunSpec steer = steer_spec(threads);
  for (const config::Interface& interface : document.interfaces)
    if (const LinkFacts* const link = facts.find(interface.name)) steer.mtu = std::max(steer.mtu, link->mtu);
  POSTERN_CHECK(devices_->ensure_tun(steer, state_.made));
  for (const PlannedTunnel& tunnel : plan_tunnels(document, facts)) {
    POSTERN_CHECK(devices_->ensure_tun(spec_of(tunnel, threads), state_.made));
    POSTERN_CHECK(make_tunnel(tunnel));
  }
  return {};
}

// After the interface is blocked, so that an address cannot make it carry what is protected before that.
Result<void> Node::address_interfaces(const config::Document& document, const Plan& plan) {
  for (const config::Interface& interface : document.interfaces) {
    if (!std::ranges::any_of(plan.links, [&](const std::string& name) { return name == interface.name; })) continue;
    for (const Prefix& address : interface.addresses)
      POSTERN_CHECK(devices_->ensure_address(interface.name, address, state_.made));
  }
  return {};
}

Result<void> Node::make_tunnel(const PlannedTunnel& tunnel) {
  if (tunnel.vrf) POSTERN_CHECK(devices_->ensure_vrf(tunnel.name, *tunnel.vrf, state_.made));
  for (const Prefix& address : tunnel.addresses)
    POSTERN_CHECK(devices_->ensure_address(tunnel.name, address, state_.made));
  for (const Prefix& route : tunnel.routes)
    POSTERN_CHECK(devices_->ensure_route(tunnel.name, route, tunnel.table, state_.made));
  return {};
}

// Routes, addresses and tunnels that the document no longer has; errors are logged and tried again by the next realize.
void Node::drop_devices(const config::Document& document, const Plan&) {
  const auto warn = [](const Result<void>& done) {
    if (!done) spdlog::warn("clean up: {}", done.error().message());
  };
  std::map<std::string, std::vector<Prefix>> addresses, routes;
  std::set<std::string> names = {Devices::steer_name(paths_.name)};
  for (const config::Interface& interface : document.interfaces) addresses[interface.name] = interface.addresses;
  for (const config::Tunnel& tunnel : document.tunnels) {
    names.insert(tunnel.device());
    addresses[tunnel.device()] = tunnel.addresses;
    for (const Prefix& route : tunnel.routes) routes[tunnel.device()].push_back({route.first(), route.length});
  }
  UndoList kept;
  for (auto one = state_.made.rbegin(); one != state_.made.rend(); ++one) {
    bool wanted = true;
    const auto prefix = Prefix::parse(one->prefix);
    if (one->kind == "device") wanted = names.contains(one->name);
    if (one->kind == "address")
      wanted = prefix && std::ranges::find(addresses[one->name], *prefix) != addresses[one->name].end();
    if (is_route(*one)) {
      const auto& mine = routes[one->name];
      wanted = prefix && std::ranges::find(mine, Prefix{prefix->first(), prefix->length}) != mine.end();
    }
    const auto done = wanted ? Result<void>{} : devices_->undo(*one);
    warn(done);
    if (wanted || !done) kept.push_back(*one);
  }
  std::ranges::reverse(kept);
  state_.made = std::move(kept);
}

Result<void> Node::reconcile(const config::Document& document, const Plan& plan, SaUpdate update) {
  POSTERN_CHECK(enter_interfaces(document, plan));
  POSTERN_CHECK(address_interfaces(document, plan));
  if (worker_) POSTERN_CHECK(serve(document, plan, update));
  POSTERN_CHECK(switch_policies(plan));
  if (worker_) POSTERN_CHECK(unblock(plan));
  remove_rest(plan);
  return {};
}

std::uint32_t Node::steer_ifindex() const {
  const auto link = const_cast<Netlink&>(*netlink_).link(Devices::steer_name(paths_.name));
  return link ? link->ifindex : 0;
}

// First fit in the XSKMAP.
std::uint32_t Node::free_xsk_base(std::uint32_t queues) const {
  std::uint32_t base = 0;
  for (bool moved = true; moved;) {
    moved = false;
    for (const auto& [name, taken] : state_.interfaces)
      if (base < taken.xsk_base + taken.queues && taken.xsk_base < base + queues) {
        base = taken.xsk_base + taken.queues;
        moved = true;
      }
  }
  return base;
}

Result<void> Node::enter_interfaces(const config::Document& document, const Plan& plan) {
  const std::uint32_t steer = steer_ifindex();
  if (steer == 0) return fail("the steer device is gone", ENODEV);
  POSTERN_CHECK(kernel_->attach_steer(steer));
  for (const PlannedInterface& planned : plan.interfaces) {
    const auto known = state_.interfaces.find(planned.name);
    if (known != state_.interfaces.end() && known->second.ifindex == planned.ifindex) {
      if (known->second.queues < planned.queues) {
        const InstalledInterface before = known->second;
        known->second.queues = 0;
        known->second.xsk_base = free_xsk_base(planned.queues);
        known->second.queues = before.queues;
      }
      POSTERN_CHECK(kernel_->refresh(planned, steer, document.dataplane.xdp_mode, known->second));
      continue;
    }
    if (known != state_.interfaces.end()) {  // the device went away and came back
      POSTERN_CHECK(kernel_->leave(planned.name, known->second));
      state_.interfaces.erase(known);
    }
    InstalledInterface installed;
    installed.xsk_base = free_xsk_base(planned.queues);
    if (installed.xsk_base + planned.queues > POSTERN_MAX_XSK)
      return fail("too many receive queues for the XSK map", ENOSPC);
    const auto entered = kernel_->enter(planned, planned.rules.empty() ? 0 : new_generation(), steer,
                                        document.dataplane.xdp_mode, installed);
    state_.interfaces[planned.name] = installed;
    POSTERN_CHECK(entered);
  }
  return {};
}

Result<void> Node::switch_policies(const Plan& plan) {
  std::vector<std::uint32_t> replaced;
  for (const PlannedInterface& planned : plan.interfaces) {
    InstalledInterface& installed = state_.interfaces[planned.name];
    const auto text = planned.policy_text();
    if (installed.policy_text == text) continue;
    const std::uint32_t generation = planned.rules.empty() ? 0 : new_generation();
    if (generation != 0) POSTERN_CHECK(kernel_->write_policy(planned, generation));
    POSTERN_CHECK(tell_generations(state_.generation));
    POSTERN_CHECK(kernel_->switch_policy(planned.ifindex, generation));
    replaced.push_back(std::exchange(installed.generation, generation));
    installed.policy_text = text;
  }
  POSTERN_CHECK(tell_generations(state_.generation));
  for (const auto generation : replaced) POSTERN_CHECK(kernel_->remove_policy(generation));
  return {};
}

// Verdicts of generations older than every one in force are stale.
Result<void> Node::tell_generations(std::uint32_t current) {
  if (!worker_) return {};
  std::uint32_t oldest = current;
  for (const auto& [name, installed] : state_.interfaces)
    if (installed.generation != 0) oldest = std::min(oldest, installed.generation);
  return worker_->link.set_generation(current, oldest);
}

Result<void> Node::unblock(const Plan& plan) {
  for (const PlannedInterface& planned : plan.interfaces) POSTERN_CHECK(kernel_->set_block(planned.ifindex, false));
  return {};
}

void Node::remove_rest(const Plan& plan) {
  const auto warn = [](const Result<void>& done) {
    if (!done) spdlog::warn("clean up: {}", done.error().message());
  };
  if (worker_) {
    std::vector<std::string> gone;
    for (const auto& [key, pair] : state_.sas)
      if (plan.find_pair(key) == nullptr) gone.push_back(key);
    for (const auto& key : gone) warn(remove_pair(key));
  }
  for (auto known = state_.interfaces.begin(); known != state_.interfaces.end();) {
    const bool wanted =
        std::ranges::any_of(plan.interfaces, [&](const auto& planned) { return planned.name == known->first; });
    if (wanted) {
      ++known;
      continue;
    }
    warn(kernel_->leave(known->first, known->second));
    known = state_.interfaces.erase(known);
  }
}

// What follows from a plan in force: next hops, local addresses.
void Node::sync_surroundings(const Plan& plan) {
  std::set<std::uint32_t> own, inside;
  if (const auto steer = steer_ifindex(); steer != 0) own.insert(steer);
  for (const PlannedInterface& planned : plan.interfaces) {
    if ((planned.flags & POSTERN_IF_TUNNEL) != 0) own.insert(planned.ifindex);
    if ((planned.flags & POSTERN_IF_INSIDE) != 0) inside.insert(planned.ifindex);
  }
  const Time now = Clock::now();
  keeper_->set_devices(std::move(own), std::move(inside), now);
  for (const auto& state : keeper_->states())
    if (state.outer && std::ranges::find(plan.peers, state.key) == plan.peers.end()) keeper_->unwant(state.key);
  for (const AdjacencyKey& peer : plan.peers) keeper_->want(peer, false, now);
  arm_keeper();

  std::map<std::uint32_t, std::uint32_t> vrf_of;
  for (const PlannedInterface& planned : plan.interfaces)
    if (planned.vrf != 0) vrf_of[planned.ifindex] = planned.vrf;
  const auto addresses = netlink_->addresses();
  const auto synced =
      addresses ? kernel_->sync_local_addresses(*addresses, vrf_of) : std::unexpected(addresses.error());
  if (!synced) spdlog::warn("local addresses: {}", synced.error().message());
}

}  // namespace postern::loader
