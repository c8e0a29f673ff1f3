// Puts compiled policies into the kernel and switches interfaces to them. posternd's thread alone.
// Order of a change: write() the new generation beside the old one, switch_interface(), then remove() the old one.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "maps/bpf_maps.hpp"
#include "maps/policy.hpp"

namespace postern {

class PolicyWriter {
 public:
  // Borrows `maps`, which must outlive this.
  explicit PolicyWriter(const NodeMaps& maps) : maps_(&maps) {}

  // Writes all rows of the image. On error nothing of its generation is left.
  [[nodiscard]] Result<void> write(const PolicyImage& image) const;

  // Puts `generation` (0: no policy) in force on the interface, together with what its rules look at (policy_flags()),
  // by one write; the rest of its entry stays. ENOENT: the interface has no entry.
  [[nodiscard]] Result<void> switch_interface(std::uint32_t ifindex, std::uint32_t generation,
                                              std::uint32_t policy_flags) const;

  // Waits until no program can still be using `generation` (one RCU grace period), deletes its rows and hit counters,
  // and returns the packets that its rules had counted, by their index. Its cached verdicts stay until others need the
  // room: a number is not given out twice. EBUSY: an interface still names it.
  [[nodiscard]] Result<std::map<std::uint32_t, std::uint64_t>> remove(std::uint32_t generation) const;

  // Generations that have rows now, in rising order: after a restart those that no interface names are removed.
  [[nodiscard]] Result<std::vector<std::uint32_t>> generations() const;
  [[nodiscard]] Result<bool> has_rows(std::uint32_t generation) const;

  // Deletes the cached verdicts of every generation: for who does not know which numbers were given out.
  [[nodiscard]] Result<void> forget_verdicts() const;

 private:
  const NodeMaps* maps_;
};

}  // namespace postern
