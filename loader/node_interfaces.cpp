// Interfaces that come, go and change their names under their SAs (IF-03, IF-20).
#include <algorithm>
#include <unordered_map>

#include "base/log.hpp"
#include "loader/node.hpp"

namespace postern::loader {
namespace {

constexpr Duration grace_again = std::chrono::seconds(1);  // after a plan that failed

}  // namespace

// What SAs of an interface deliver counts as received by the device that is the interface now. Their SPIs, numbers and
// lifetimes are not asked.
Result<void> Node::place_sas(const Plan& plan) {
  std::unordered_map<std::uint32_t, std::uint32_t> places;
  for (const PlannedFlow& flow : plan.flows) places[flow.id] = flow.ifindex;
  for (const PlannedSaPair& pair : plan.sas)  // AH around ESP has a flow of its own
    places[pair.inbound.parameters.flow] = pair.inbound.parameters.ifindex;
  for (std::uint32_t slot = 0; slot < memory_->capacity(); ++slot) {
    const SaSlot* const sa = memory_->live(slot);
    if (sa == nullptr) continue;
    const SaParameters& p = sa->parameters;
    const auto place = places.find(p.base_flow != 0 ? p.base_flow : p.flow);
    if (place != places.end() && place->second != p.ifindex) POSTERN_CHECK(worker_->link.place_sa(slot, place->second));
  }
  return {};
}

// postern-ike negotiates by the policy that it has, or had when the SA before this one was made.
Result<void> Node::place_new_sa(const SaRow& row) {
  const PlannedFlow* const flow = plan_.find_flow(row.base_flow != 0 ? row.base_flow : row.flow);
  if (flow == nullptr || flow->ifindex == row.ifindex) return {};
  return worker_->link.place_sa(row.slot, flow->ifindex);
}

void Node::arm_grace() {
  if (grace_timer_ != 0) loop_->cancel(grace_timer_);
  grace_timer_ = 0;
  const auto end = lingering_.next_end();
  if (!end) return;
  const Duration left = *end - Clock::now();
  grace_timer_ = loop_->after(left > Duration::zero() ? left : grace_again, [this] {
    grace_timer_ = 0;
    look_again();
  });
}

// A device that the document knows by a name which it has no more: what was protected on it is not to leave it in clear
// for that. A document without the name lets it go, and so does another device of that name.
bool Node::stays_guarded(const config::Document& document, const std::string& name,
                         const InstalledInterface& installed) {
  const auto* const interface = config::find_named(document.interfaces, name);
  if (interface == nullptr || (!interface->crypto_map && !interface->ipv6_crypto_map)) return false;
  const auto link = netlink_->link(installed.ifindex);
  return installed.generation != 0 && installed.part_of.empty() && link && link->name != name;
}

}  // namespace postern::loader
