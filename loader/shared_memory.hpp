// The three memory files that outlive a crash of either process: SA state, counter page, adjacency table. posternd
// makes them, gives them to the worker, and takes them back from a living worker (adoption) or from systemd's
// descriptor store.
#pragma once

#include <cstdint>

#include "base/fd.hpp"
#include "base/result.hpp"
#include "maps/adjacency.hpp"
#include "maps/counters.hpp"
#include "worker/sa_state.hpp"

namespace postern::loader {

// In the order in which Hello and the Reply to get_descriptors carry them.
struct MemoryFiles {
  Fd sa_state, counters, adjacency;
  [[nodiscard]] bool complete() const { return sa_state && counters && adjacency; }
};

class SharedMemory {
 public:
  // Sized, initialised, and sealed against any change of size: a reader of the mapping cannot be made to fault.
  [[nodiscard]] static Result<SharedMemory> create(std::uint32_t sa_capacity);
  // Maps and checks magic, version and size: files of another build are an error. SA state read-only and kept out of
  // core dumps, counter page read-only, adjacency table read-write.
  [[nodiscard]] static Result<SharedMemory> map(MemoryFiles files);

  [[nodiscard]] const MemoryFiles& files() const { return files_; }
  [[nodiscard]] std::uint32_t capacity() const { return capacity_; }
  // `index` < capacity().
  [[nodiscard]] const SaSlot& slot(std::uint32_t index) const { return sa_slots(sa_state_.data())[index]; }
  // The slot, if it is in use now.
  [[nodiscard]] const SaSlot* live(std::uint32_t index) const;
  [[nodiscard]] const CounterPage& counters() const { return *counters_.as<const CounterPage>(); }
  [[nodiscard]] AdjacencyTable& adjacency() const { return *adjacency_.as<AdjacencyTable>(); }

 private:
  SharedMemory(MemoryFiles files, Mapping sa_state, Mapping counters, Mapping adjacency, std::uint32_t capacity)
      : files_(std::move(files)),
        sa_state_(std::move(sa_state)),
        counters_(std::move(counters)),
        adjacency_(std::move(adjacency)),
        capacity_(capacity) {}

  MemoryFiles files_;
  Mapping sa_state_, counters_, adjacency_;
  std::uint32_t capacity_ = 0;
};

}  // namespace postern::loader
