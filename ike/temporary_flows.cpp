#include "ike/temporary_flows.hpp"

#include <array>

#include "worker/sa_state.hpp"

namespace postern::ike {

TemporaryFlows::TemporaryFlows(const std::function<Result<void>(MutableBytes)>& random) : next_(first_temporary_flow) {
  std::array<std::byte, 4> start{};
  if (random && random(start)) next_ |= load_be32(start.data());
}

std::uint32_t TemporaryFlows::count(const std::string& base) const {
  const auto known = count_.find(base);
  return known == count_.end() ? 0 : known->second;
}

std::optional<std::uint32_t> TemporaryFlows::flow_for(const std::string& base, const std::string& name,
                                                      std::uint32_t limit) {
  if (const auto known = held_.find(name); known != held_.end()) return known->second.flow;
  if (count(base) >= limit) {
    ++refused_;
    return std::nullopt;
  }
  do next_ = (next_ + 1) | first_temporary_flow;
  while (is_taken(next_));
  return next_;
}

void TemporaryFlows::hold(const ChildPolicy& derived) {
  Held& held = held_[derived.name];
  if (held.holders++ != 0) return;
  held.flow = derived.place.flow;
  flows_.insert(held.flow);
  ++count_[derived.base];
}

void TemporaryFlows::let_go(const ChildPolicy& derived) {
  const auto known = held_.find(derived.name);
  if (known == held_.end() || --known->second.holders != 0) return;
  flows_.erase(known->second.flow);
  held_.erase(known);
  if (const auto of_base = count_.find(derived.base); of_base != count_.end() && --of_base->second == 0)
    count_.erase(of_base);
}

}  // namespace postern::ike
