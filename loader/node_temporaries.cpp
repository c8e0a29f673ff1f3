// Policy that peers bring along: what postern-ike derived of a dynamic map, or of a per-host entry, stands in the
// kernel before the peer may use it, and goes after its last SA (loader/temporaries.hpp).
#include <algorithm>

#include "base/log.hpp"
#include "loader/node.hpp"

namespace postern::loader {

// XDP and the policy know the SA before postern-ike hears that it is there. An error: it is not to be.
Result<void> Node::on_sa_installed(const SaRow& row) {
  POSTERN_CHECK(place_new_sa(row));
  POSTERN_CHECK(kernel_->add_sa(row));
  if (row.base_flow == 0) return {};
  const SaSlot* const sa = memory_->live(row.slot);
  if (sa == nullptr || sa->parameters.flow != row.flow) return fail("the SA is gone already", ENOENT);
  if (!add_temporary(temporaries_, row.slot, *sa)) return {};
  if (auto done = follow_temporaries(); !done) {
    temporaries_.erase(row.flow);
    spdlog::error("{} is refused: {}", row.remote.text(), done.error().message());
    if (const auto removed = kernel_->remove_sa(row); !removed) spdlog::warn("{}", removed.error().message());
    return done;
  }
  spdlog::info("temporary entry for {}: flow {:#x}", row.remote.text(), row.flow);
  return {};
}

// One that has moved is not where `row` says any more, and goes on.
void Node::on_sa_removed(const SaRow& row) {
  if (const auto removed = kernel_->remove_sa(row); !removed) spdlog::warn("{}", removed.error().message());
  const SaSlot* const sa = memory_->live(row.slot);
  const bool has_moved = sa != nullptr && sa->reuse.load(std::memory_order_relaxed) == row.reuse;
  if (has_moved || row.base_flow == 0 || !drop_temporary(temporaries_, row)) return;
  if (const auto done = follow_temporaries(); !done) spdlog::error("temporary entries: {}", done.error().message());
  spdlog::info("temporary entry for {} is gone: flow {:#x}", row.remote.text(), row.flow);
}

// Document and facts are as they were: rules change, and nothing else.
Result<void> Node::follow_temporaries() {
  if (!worker_) return {};  // the next realize() takes them along
  const auto facts = facts_.links.empty() ? current_facts(document_) : Result<Facts>(facts_);
  if (!facts) return std::unexpected(facts.error());
  FlowBook book = flows_;
  POSTERN_TRY(plan, make_plan(document_, *facts, book, temporaries_));
  plan.missing = plan_.missing;
  POSTERN_CHECK(tell_worker_policy(plan));
  POSTERN_CHECK(switch_policies(plan));
  for (const AdjacencyKey& peer : plan_.peers)
    if (std::ranges::find(plan.peers, peer) == plan.peers.end()) keeper_->unwant(peer);
  for (const AdjacencyKey& peer : plan.peers)
    if (std::ranges::find(plan_.peers, peer) == plan_.peers.end()) keeper_->want(peer, false, Clock::now());
  plan_ = std::move(plan);
  return {};
}

// The worker may have had no room for its word that an SA is gone.
void Node::check_temporaries() {
  if (temporaries_.empty()) return;
  bool gone = false;
  for (auto one = temporaries_.begin(); one != temporaries_.end();) {
    std::erase_if(one->second.slots, [&](std::uint32_t slot) {
      const SaSlot* const sa = memory_->live(slot);
      return sa == nullptr || sa->parameters.flow != one->second.flow;
    });
    gone = gone || one->second.slots.empty();
    one = one->second.slots.empty() ? temporaries_.erase(one) : std::next(one);
  }
  if (!gone) return;
  if (const auto done = follow_temporaries(); !done) spdlog::error("temporary entries: {}", done.error().message());
}

}  // namespace postern::loader
