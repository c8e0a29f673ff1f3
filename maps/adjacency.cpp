#include "maps/adjacency.hpp"

namespace postern {
namespace {

AdjacencyRow* row_for(AdjacencyTable& table, const AdjacencyKey& key) {
  AdjacencyRow* free_row = nullptr;
  for (std::size_t i = 0; i < adjacency_probe_limit; ++i) {
    AdjacencyRow& row = table.row[(key.hash() + i) % adjacency_rows];
    const bool used = row.used.load(std::memory_order_relaxed) != 0;
    if (used && row.key == key) return &row;
    if (!used && free_row == nullptr) free_row = &row;
  }
  return free_row;
}

template <class Change>
void write(AdjacencyTable& table, AdjacencyRow& row, Change change) {
  const auto before = row.sequence.load(std::memory_order_relaxed);
  row.sequence.store(before + 1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  change();
  row.sequence.store(before + 2, std::memory_order_release);
  table.epoch.fetch_add(1, std::memory_order_release);
}

}  // namespace

bool AdjacencyTable::put(const AdjacencyKey& key, const Adjacency& value) {
  AdjacencyRow* const found = row_for(*this, key);
  if (found == nullptr) return false;
  write(*this, *found, [&] {
    found->key = key;
    found->value = value;
    found->used.store(1, std::memory_order_relaxed);
  });
  return true;
}

void AdjacencyTable::erase(const AdjacencyKey& key) {
  AdjacencyRow* const found = row_for(*this, key);
  if (found == nullptr || found->used.load(std::memory_order_relaxed) == 0 || !(found->key == key)) return;
  write(*this, *found, [&] { found->used.store(0, std::memory_order_relaxed); });
}

}  // namespace postern
