// The policy of the outside interfaces as the worker applies it to what it made itself: sealed packets do not pass TC
// egress. Immutable once made; any thread.
//
// A packet is never asked about by the map entry that made it: `permit ip any any` would protect its own ESP for ever.
// What another entry, or another interface's map, protects again is nested; worker/packet.hpp bounds how deep.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "base/bytes.hpp"
#include "base/fd.hpp"
#include "base/result.hpp"
#include "maps/policy.hpp"

namespace postern {

class LoopPolicy {
 public:
  // Rules of each interface, in the order of evaluation.
  using Rules = std::map<std::uint32_t, std::vector<PolicyRule>>;
  explicit LoopPolicy(Rules rules);

  // Grows with each policy of this process: names the one that an answer is of.
  [[nodiscard]] std::uint64_t epoch() const { return epoch_; }
  // The flow that protects `packet` on its way out of `ifindex`, 0 for none. `made_by`: the flow that it comes from.
  [[nodiscard]] std::uint32_t flow_for(std::uint32_t ifindex, const PolicyPacket& packet, std::uint32_t made_by) const;

  // As posternd hands it over: a file of fixed rows, ports behind them. read: an error for one that is not of the
  // format.
  [[nodiscard]] static std::vector<std::byte> write(const Rules& rules);
  [[nodiscard]] static Result<Rules> read(Bytes file);

 private:
  std::map<std::uint32_t, PolicyInput> interfaces_;
  std::uint64_t epoch_ = 0;
};

}  // namespace postern
