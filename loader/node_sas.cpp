// The document's own SAs: installed, replaced and removed in the worker and in the `sas` map.
#include <algorithm>

#include "base/log.hpp"
#include "loader/node.hpp"

namespace postern::loader {
namespace {

bool same_sender(const SaParameters& a, const SaParameters& b) {
  return a.fvrf == b.fvrf && a.local == b.local && a.protocol == b.protocol && a.spi == b.spi;
}

}  // namespace

// An SA of ours that is still in its slot: postern-ike may have got the slot of one that went unnoted.
const SaSlot* Node::own_sa(std::uint32_t slot, SaDirection direction) const {
  const SaSlot* const sa = memory_->live(slot);
  const bool ours = sa != nullptr && sa->installed_by.load(std::memory_order_relaxed) != SaInstaller::ike;
  return ours && sa->parameters.direction == direction ? sa : nullptr;
}

bool Node::must_replace(const PlannedSaPair& pair, const InstalledSaPair& installed, SaUpdate update) const {
  const SaSlot* const in = own_sa(installed.inbound_slot, SaDirection::inbound);
  const SaSlot* const out = own_sa(installed.outbound_slot, SaDirection::outbound);
  if (in == nullptr || out == nullptr) return true;
  if (update == SaUpdate::replace)
    return !same_sa(pair.inbound, in->parameters) || !same_sa(pair.outbound, out->parameters);
  return moved(pair.inbound, in->parameters) || moved(pair.outbound, out->parameters);
}

Result<void> Node::install_sas(const Plan& plan, SaUpdate update) {
  for (const PlannedSaPair& pair : plan.sas) {
    const auto known = state_.sas.find(pair.key);
    if (known != state_.sas.end() && !must_replace(pair, known->second, update)) {
      POSTERN_CHECK(bind_flows(pair));
      continue;
    }
    POSTERN_CHECK(remove_conflicting(plan, pair));
    POSTERN_CHECK(install_pair(pair));
  }
  return {};
}

// An SPI that moves from one owner to another in one apply: the old owner's SA has to go first. An owner that stays
// with another SPI cannot wait for a clear (MAN-11): it goes over to that one.
Result<void> Node::remove_conflicting(const Plan& plan, const PlannedSaPair& pair) {
  for (const auto& [key, installed] : state_.sas) {
    const SaSlot* const in = own_sa(installed.inbound_slot, SaDirection::inbound);
    if (key == pair.key || in == nullptr || !same_sender(in->parameters, pair.inbound.parameters)) continue;
    const PlannedSaPair* const owner = plan.find_pair(key);
    POSTERN_CHECK(remove_pair(std::string(key)));
    if (owner == nullptr) return {};
    POSTERN_CHECK(remove_conflicting(plan, *owner));
    return install_pair(*owner);
  }
  return {};
}

// Outbound: new, bind, old. Inbound: the SPI is the same and there cannot be two, so the old one goes first; the gap is
// two answers of the worker.
Result<void> Node::install_pair(const PlannedSaPair& pair) {
  InstalledSaPair before;
  const auto known = state_.sas.find(pair.key);
  const bool replaces = known != state_.sas.end();
  if (replaces) before = known->second;

  POSTERN_TRY(outbound, worker_->link.install(pair.outbound));
  if (const SaSlot* const in = replaces ? own_sa(before.inbound_slot, SaDirection::inbound) : nullptr) {
    POSTERN_CHECK(kernel_->remove_sa(in->parameters));
    POSTERN_CHECK(worker_->link.remove_sa(before.inbound_slot));
  }
  POSTERN_CHECK(kernel_->remove_sa(pair.inbound.parameters));
  POSTERN_TRY(inbound, worker_->link.install(pair.inbound));
  InstalledSaPair installed{inbound, outbound, replaces ? before.flows : std::vector<std::uint32_t>{}};
  state_.sas[pair.key] = installed;
  POSTERN_CHECK(kernel_->add_sa(pair.inbound.parameters, inbound));
  POSTERN_CHECK(bind_flows(pair));
  if (replaces && own_sa(before.outbound_slot, SaDirection::outbound) != nullptr)
    POSTERN_CHECK(worker_->link.remove_sa(before.outbound_slot));
  return {};
}

// Every flow of the pair into its outbound SA. Binding is idempotent, so a new worker is told the same way.
Result<void> Node::bind_flows(const PlannedSaPair& pair) {
  InstalledSaPair& installed = state_.sas[pair.key];
  for (const auto flow : pair.flows) POSTERN_CHECK(worker_->link.bind_flow(flow, installed.outbound_slot));
  for (const auto flow : installed.flows)
    if (std::ranges::find(pair.flows, flow) == pair.flows.end()) POSTERN_CHECK(worker_->link.unbind_flow(flow));
  installed.flows = pair.flows;
  return {};
}

Result<void> Node::remove_pair(const std::string& key) {
  const auto known = state_.sas.find(key);
  if (known == state_.sas.end()) return {};
  const InstalledSaPair installed = known->second;
  state_.sas.erase(known);
  for (const auto flow : installed.flows) POSTERN_CHECK(worker_->link.unbind_flow(flow));
  if (const SaSlot* const in = own_sa(installed.inbound_slot, SaDirection::inbound)) {
    POSTERN_CHECK(kernel_->remove_sa(in->parameters));
    POSTERN_CHECK(worker_->link.remove_sa(installed.inbound_slot));
  }
  if (own_sa(installed.outbound_slot, SaDirection::outbound) != nullptr)
    POSTERN_CHECK(worker_->link.remove_sa(installed.outbound_slot));
  return {};
}

Result<std::uint32_t> Node::clear_sas(const std::function<bool(const PlannedSaPair&)>& chosen) {
  if (!worker_) return fail("the worker is not running; it takes the document's keys when it starts", EAGAIN);
  std::uint32_t cleared = 0;
  for (const PlannedSaPair& pair : plan_.sas) {
    if (!chosen(pair)) continue;
    POSTERN_CHECK(install_pair(pair));
    ++cleared;
  }
  save_state();
  return cleared;
}

// What an earlier posternd left that died between two steps, before anything is installed that it would be in the way
// of: pairs of which a part is gone, SAs that no pair owns, missing and stale rows of the `sas` map. The SAs of
// postern-ike are its own to keep or remove.
void Node::remove_orphans() {
  const auto warn = [](const Result<void>& done) {
    if (!done) spdlog::warn("{}", done.error().message());
  };
  // A slot that is free by now may be anybody's next, so a pair is whole or it is none.
  std::erase_if(state_.sas, [this](const auto& pair) {
    return own_sa(pair.second.inbound_slot, SaDirection::inbound) == nullptr ||
           own_sa(pair.second.outbound_slot, SaDirection::outbound) == nullptr;
  });
  std::set<std::uint32_t> owned;
  for (const auto& [key, installed] : state_.sas) owned.insert({installed.inbound_slot, installed.outbound_slot});
  std::map<std::uint32_t, const SaSlot*> inbound;
  for (std::uint32_t slot = 0; slot < memory_->capacity(); ++slot) {
    const SaSlot* const sa = memory_->live(slot);
    if (sa == nullptr) continue;
    if (sa->installed_by.load(std::memory_order_relaxed) != SaInstaller::ike && !owned.contains(slot))
      warn(worker_->link.remove_sa(slot));
    else if (sa->parameters.direction == SaDirection::inbound)
      inbound[slot] = sa;
  }
  warn(kernel_->sync_sas(inbound));
}

}  // namespace postern::loader
