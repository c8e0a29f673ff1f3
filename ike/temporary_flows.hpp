// Flow numbers of children that are derived from one of the policy: what a peer of a dynamic map negotiated (DM-12), a
// pair of hosts of its own (CM-09). They are above first_temporary_flow (worker/sa_state.hpp), where posternd numbers
// nothing; a number that is let go is not given again soon. A flow lives while a child SA holds it. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "ike/policy.hpp"

namespace postern::ike {

class TemporaryFlows {
 public:
  // The first number is random: those of an earlier life of the process may still be on their way.
  explicit TemporaryFlows(const std::function<Result<void>(MutableBytes)>& random);

  // The flow of the child of that name, or a new number for it. Nothing: `limit` flows of `base` are held already.
  [[nodiscard]] std::optional<std::uint32_t> flow_for(const std::string& base, const std::string& name,
                                                      std::uint32_t limit);
  // A child SA with this policy is there, and is gone.
  void hold(const ChildPolicy& derived);
  void let_go(const ChildPolicy& derived);

  // Flows of SAs of an earlier life: not ours to give.
  void set_foreign(std::set<std::uint32_t> flows) { foreign_ = std::move(flows); }

  [[nodiscard]] bool is_held(const std::string& name) const { return held_.contains(name); }
  [[nodiscard]] std::uint32_t count(const std::string& base) const;
  // Refusals for want of room since the start.
  [[nodiscard]] std::uint64_t refused() const { return refused_; }
  void count_refusal() { ++refused_; }

 private:
  struct Held {
    std::uint32_t flow = 0, holders = 0;
  };
  [[nodiscard]] bool is_taken(std::uint32_t flow) const { return flows_.contains(flow) || foreign_.contains(flow); }

  std::map<std::string, Held> held_;  // by the child's name
  std::map<std::string, std::uint32_t> count_;
  std::set<std::uint32_t> flows_, foreign_;
  std::uint32_t next_;
  std::uint64_t refused_ = 0;
};

}  // namespace postern::ike
