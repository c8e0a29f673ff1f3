// Document to kernel: devices, interfaces, policies. Additions first, the switch, removals last.
#include <algorithm>

#include "base/log.hpp"
#include "loader/acl_hits.hpp"
#include "loader/facts.hpp"
#include "loader/node.hpp"
#include "loader/plan_sa.hpp"

namespace postern::loader {
namespace {

constexpr std::chrono::seconds verdicts_live{2};  // a packet is held for one (worker/hold_queue.hpp)

TunSpec spec_of(const PlannedTunnel& tunnel, std::uint32_t threads) {
  TunSpec spec;
  spec.name = tunnel.name;
  spec.ipv6 = tunnel.ipv6;
  spec.queues = threads;
  spec.mtu = tunnel.mtu;
  return spec;
}

// Where in the document the reason lies.
template <class T>
Result<T> at(const std::string& path, Result<T> done) {
  if (!done && !done.error().what.starts_with('/')) done.error().what = path + ": " + done.error().what;
  return done;
}

std::string interface_path(const config::Document& document, std::string_view name) {
  for (std::size_t i = 0; i < document.interfaces.size(); ++i)
    if (document.interfaces[i].name == name) return "/interfaces/" + std::to_string(i);
  for (std::size_t i = 0; i < document.tunnels.size(); ++i)
    if (document.tunnels[i].device() == name) return "/tunnels/" + std::to_string(i);
  return "/interfaces";
}

bool is_route(const Undo& undo) { return undo.kind == "route" || undo.kind == "unreachable"; }

}  // namespace

Result<void> Node::apply(config::Document document) {
  const config::Document before = document_;
  if (auto done = realize(document, SaUpdate::keep, Cause::request); !done) {
    spdlog::error("apply failed, going back: {}", done.error().message());
    if (auto back = realize(before, SaUpdate::keep, Cause::request); !back) {
      trouble_ = "going back after a failed apply: " + back.error().message();
      spdlog::error("{}", trouble_);
    }
    return done;
  }
  trouble_.clear();
  return {};
}

Result<void> Node::realize(const config::Document& document, SaUpdate update, Cause cause) {
  POSTERN_CHECK(make_devices(document, cause));
  save_state();
  POSTERN_TRY(facts, current_facts(document));
  FlowBook book = flows_;
  auto plan = make_plan(document, facts, book, temporaries_);
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
  lingering_.settle(document_, Clock::now());
  arm_grace();
  drop_devices(document_);
  sync_surroundings(plan_);
  set_policy(std::move(ike_plan.policy));
  if (cause == Cause::request) {
    bring_pki();
    bring_resolver();
  }
  tell_ike();
  save_state();
  check_ways();
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
  POSTERN_TRY(facts, kernel_facts(document));
  lingering_.complete(facts, document, Clock::now());
  return facts;
}

Result<Facts> Node::kernel_facts(const config::Document& document) {
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
Result<void> Node::make_devices(const config::Document& document, Cause cause) {
  POSTERN_TRY(facts, current_facts(document));
  const std::uint32_t threads = planned_threads(document, facts);
  TunSpec steer = steer_spec(threads);
  for (const config::Interface& interface : document.interfaces)  // a loopback's packets do not come by it
    if (const LinkFacts* const link = facts.find(interface.name);
        link != nullptr && (interface.crypto_map || interface.ipv6_crypto_map || interface.inside))
      steer.mtu = std::max(steer.mtu, link->mtu);
  POSTERN_CHECK(devices_->ensure_tun(steer, state_.made));
  for (const PlannedTunnel& tunnel : plan_tunnels(document, facts)) {
    const std::string path = interface_path(document, tunnel.name);
    TunSpec spec = spec_of(tunnel, threads);
    spec.bring_up = cause == Cause::request;
    POSTERN_TRY(device, at(path, devices_->ensure_tun(spec, state_.made)));
    const bool restore = cause == Cause::request || device.created || flushed_.contains(device.ifindex);
    POSTERN_CHECK(at(path, make_tunnel(document, tunnel, restore)));
    const auto link = netlink_->link(device.ifindex);
    if (link && link->up()) flushed_.erase(device.ifindex);
  }
  std::erase_if(flushed_, [&](std::uint32_t tunnel) { return !netlink_->link(tunnel); });
  return {};
}

// After the interface is blocked, so that an address cannot make it carry what is protected before that.
Result<void> Node::address_interfaces(const config::Document& document, const Plan& plan) {
  for (const config::Interface& interface : document.interfaces) {
    if (!std::ranges::any_of(plan.links, [&](const std::string& name) { return name == interface.name; })) continue;
    const std::string path = interface_path(document, interface.name);
    POSTERN_CHECK(at(path + "/vrf", enslave(document, interface.name, interface.vrf)));
    for (const Prefix& address : interface.addresses)
      POSTERN_CHECK(at(path + "/addresses", devices_->ensure_address(interface.name, address, state_.made)));
  }
  return {};
}

// A VRF that does not exist yet is waited for; the plan says that it is missing.
Result<void> Node::enslave(const config::Document& document, const std::string& device,
                           const std::optional<std::string>& vrf) {
  if (!vrf || config::find_named(document.vrfs, *vrf) == nullptr) return {};
  const auto there = netlink_->link(*vrf);
  if (!there && there.error().code == ENODEV) return {};
  return devices_->ensure_vrf(device, *vrf, state_.made);
}

// `restore`: also the routes that were there before.
Result<void> Node::make_tunnel(const config::Document& document, const PlannedTunnel& tunnel, bool restore) {
  POSTERN_CHECK(enslave(document, tunnel.name, tunnel.vrf));
  for (const Prefix& address : tunnel.addresses)
    POSTERN_CHECK(devices_->ensure_address(tunnel.name, address, state_.made));
  if (const auto of = std::ranges::find(document.tunnels, tunnel.name, &config::Tunnel::device);
      of != document.tunnels.end())
    for (const Prefix& address : lent_addresses(*of))
      POSTERN_CHECK(devices_->ensure_address(tunnel.name, address, state_.made));
  const auto made_before = [&](const Prefix& route) {
    const std::string text = Prefix{route.first(), route.length}.text();
    return std::ranges::any_of(state_.made, [&](const Undo& one) {
      return one.kind == "route" && one.name == tunnel.name && one.prefix == text;
    });
  };
  for (const Prefix& route : tunnel.routes)
    if (restore || !made_before(route))
      POSTERN_CHECK(devices_->ensure_route(tunnel.name, route, tunnel.table, state_.made));
  return {};
}

// Routes, addresses and tunnels that the document no longer has; errors are logged and tried again by the next realize.
void Node::drop_devices(const config::Document& document) {
  const auto warn = [](const Result<void>& done) {
    if (!done) spdlog::warn("clean up: {}", done.error().message());
  };
  std::map<std::string, std::vector<Prefix>> addresses, routes;
  std::set<std::string> in_vrf;
  std::set<std::string> names = {Devices::steer_name(paths_.name)};
  for (const config::Interface& interface : document.interfaces) {
    addresses[interface.name] = interface.addresses;
    if (interface.vrf) in_vrf.insert(interface.name);
  }
  for (const config::Tunnel& tunnel : document.tunnels) {
    names.insert(tunnel.device());
    addresses[tunnel.device()] = tunnel.addresses;
    std::ranges::copy(lent_addresses(tunnel), std::back_inserter(addresses[tunnel.device()]));
    if (tunnel.vrf) in_vrf.insert(tunnel.device());
    for (const Prefix& route : tunnel.routes) routes[tunnel.device()].push_back({route.first(), route.length});
  }
  UndoList kept;
  for (auto one = state_.made.rbegin(); one != state_.made.rend(); ++one) {
    bool wanted = true;
    const auto prefix = Prefix::parse(one->prefix);
    if (one->kind == "device") wanted = names.contains(one->name);
    if (one->kind == "master") wanted = in_vrf.contains(one->name);
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
  for (const config::Tunnel& tunnel : document.tunnels)
    if (!tunnel.negotiated_addresses.empty()) warn(keep_routes(tunnel));
}

Result<void> Node::reconcile(const config::Document& document, const Plan& plan, SaUpdate update) {
  POSTERN_CHECK(enter_interfaces(document, plan));
  POSTERN_CHECK(address_interfaces(document, plan));
  if (worker_) POSTERN_CHECK(serve(document, plan, update));
  POSTERN_CHECK(switch_policies(plan));
  if (worker_) POSTERN_CHECK(unblock(plan));
  remove_rest(document, plan);
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
  for (const PlannedInterface& planned : plan.interfaces)
    POSTERN_CHECK(at(interface_path(document, planned.part_of.empty() ? planned.name : planned.part_of),
                     enter_interface(document, planned, steer)));
  return {};
}

// A bond stands before its ports in a plan: its generation is theirs.
std::uint32_t Node::first_generation(const PlannedInterface& planned) {
  if (!planned.part_of.empty()) return state_.interfaces[planned.part_of].generation;
  return planned.rules.empty() ? 0 : new_generation();
}

Result<void> Node::enter_interface(const config::Document& document, const PlannedInterface& planned,
                                   std::uint32_t steer) {
  const auto known = state_.interfaces.find(planned.name);
  if (known != state_.interfaces.end() && known->second.ifindex == planned.ifindex &&
      known->second.part_of == planned.part_of) {
    if (known->second.queues < planned.queues) {
      const InstalledInterface before = known->second;
      known->second.queues = 0;
      known->second.xsk_base = free_xsk_base(planned.queues);
      known->second.queues = before.queues;
    }
    if (!planned.part_of.empty()) known->second.generation = first_generation(planned);
    return kernel_->refresh(planned, steer, document.dataplane.xdp_mode, known->second);
  }
  if (known != state_.interfaces.end()) {  // the device went away and came back, or belongs to another bond
    POSTERN_CHECK(kernel_->leave(planned.name, known->second));
    state_.interfaces.erase(known);
  }
  InstalledInterface installed;
  installed.xsk_base = free_xsk_base(planned.queues);
  if (installed.xsk_base + planned.queues > POSTERN_MAX_XSK)
    return fail("too many receive queues for the XSK map", ENOSPC);
  const auto entered =
      kernel_->enter(planned, first_generation(planned), steer, document.dataplane.xdp_mode, installed);
  state_.interfaces[planned.name] = installed;
  return entered;
}

Result<void> Node::switch_policies(const Plan& plan) {
  struct Replaced {
    std::string interface;
    std::uint32_t generation;
    std::vector<std::string> before, now;
  };
  std::vector<Replaced> replaced;
  for (const PlannedInterface& planned : plan.interfaces) {
    InstalledInterface& installed = state_.interfaces[planned.name];
    const auto text = planned.policy_text();
    const bool there = planned.rules.empty() == (installed.generation == 0) && installed.policy_text == text;
    if (!planned.part_of.empty() || there) continue;
    const std::uint32_t generation = planned.rules.empty() ? 0 : new_generation();
    if (generation != 0) POSTERN_CHECK(kernel_->write_policy(planned, generation));
    POSTERN_CHECK(tell_generations());
    POSTERN_CHECK(kernel_->switch_policy(planned, generation));
    POSTERN_CHECK(switch_ports(plan, planned, generation));
    replaced.push_back({planned.name, std::exchange(installed.generation, generation),
                        hit_keys(planned.name, installed.policy_text), hit_keys(planned.name, text)});
    installed.policy_text = text;
  }
  POSTERN_CHECK(tell_generations());
  if (replaced.empty()) return {};
  save_state();  // before anything goes: who comes after a crash must not find a number there that has no rows
  retire_generations();
  for (const Replaced& one : replaced) {
    POSTERN_TRY(counted, kernel_->remove_policy(one.generation));
    fold_hits(state_.acl_hits, one.before, counted, one.interface, one.now);
  }
  return {};
}

Result<void> Node::switch_ports(const Plan& plan, const PlannedInterface& bond, std::uint32_t generation) {
  for (const PlannedInterface& port : plan.interfaces) {
    if (port.part_of != bond.name) continue;
    POSTERN_CHECK(kernel_->switch_policy(port, generation));
    state_.interfaces[port.name].generation = generation;
  }
  return {};
}

Result<void> Node::tell_generations() {
  if (!worker_) return {};
  return worker_->link.set_generation(state_.generation, oldest_generation_);
}

// Verdicts of generations older than every one in force are stale, but not before the packets that they travel with
// have had the time to go through rings and hold queues: a switch of policy loses none of them. What such a packet's
// flow is worth the SAD knows meanwhile: a flow that is gone has no SA.
void Node::retire_generations() {
  std::uint32_t oldest = state_.generation;
  for (const auto& [name, installed] : state_.interfaces)
    if (installed.generation != 0) oldest = std::min(oldest, installed.generation);
  loop_->after(verdicts_live, [this, oldest] {
    if (oldest <= oldest_generation_) return;
    oldest_generation_ = oldest;
    if (const auto told = tell_generations(); !told) spdlog::warn("{}", told.error().message());
  });
}

Result<void> Node::unblock(const Plan& plan) {
  for (const PlannedInterface& planned : plan.interfaces) POSTERN_CHECK(kernel_->set_block(planned.ifindex, false));
  return {};
}

void Node::remove_rest(const config::Document& document, const Plan& plan) {
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
    if (wanted || stays_guarded(document, known->first, known->second)) {
      if (!wanted) warn(kernel_->set_block(known->second.ifindex, true));
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
  for (const VrfFacts& vrf : facts_.vrfs) {
    vrf_of[vrf.ifindex] = vrf.table;
    for (const LinkFacts& link : facts_.links)
      if (link.master == vrf.ifindex) vrf_of[link.ifindex] = vrf.table;
  }
  for (const PlannedInterface& planned : plan.interfaces)
    if (planned.vrf != 0) vrf_of[planned.ifindex] = planned.vrf;
  const auto addresses = netlink_->addresses();
  const auto synced =
      addresses ? kernel_->sync_local_addresses(*addresses, vrf_of) : std::unexpected(addresses.error());
  if (!synced) spdlog::warn("local addresses: {}", synced.error().message());
}

}  // namespace postern::loader
