// Adjacency table: where a packet for an address leaves and with which Ethernet header. Shared memory, seqlock per row.
// Writer: posternd alone (from rtnetlink). Readers: worker threads, lock-free. Rows are found by hash of {vrf,
// address}: linear probing over `probe_limit` rows from the hash.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <optional>

#include "base/net_types.hpp"

namespace postern {

inline constexpr std::uint32_t adjacency_table_magic = 0x504e4144;  // "PNAD"
inline constexpr std::size_t adjacency_rows = 4096;
inline constexpr std::size_t adjacency_probe_limit = 16;

// What a reader gets: a value, taken consistently.
struct Adjacency {
  std::uint32_t ifindex = 0;  // device the packet leaves by
  std::uint16_t mtu = 0;      // of that device or the route, whichever is smaller
  MacAddress destination{};   // next hop's
  MacAddress source{};        // the device's
  bool forward = false;       // a forwarded inner destination may take it (plain side AF_XDP); false: outer peers only
};

struct AdjacencyKey {
  std::uint32_t vrf = 0;  // routing table id, 0: main
  IpAddress address;
  bool operator==(const AdjacencyKey&) const = default;

  [[nodiscard]] std::uint32_t hash()
      const {  // FNV-1a; not security relevant: the table is bounded and posternd-written
    std::uint32_t h = 2166136261U ^ vrf;
    for (const auto b : address.mapped()) h = (h ^ b) * 16777619U;
    return h;
  }
};

struct alignas(64) AdjacencyRow {
  std::atomic<std::uint32_t> sequence;  // odd while written
  std::atomic<std::uint32_t> used;      // 0 free, 1 in use
  AdjacencyKey key;
  Adjacency value;
};

struct AdjacencyTable {
  std::uint32_t magic;
  std::uint32_t rows;
  std::atomic<std::uint64_t> epoch;  // grows with every change: readers may cache a row until it moves
  std::array<AdjacencyRow, adjacency_rows> row;

  // Any thread. Empty when unknown or when the writer kept writing (then: hold the packet and ask again).
  [[nodiscard]] std::optional<Adjacency> find(const AdjacencyKey& key) const {
    for (std::size_t i = 0; i < adjacency_probe_limit; ++i) {
      const AdjacencyRow& candidate = row[(key.hash() + i) % adjacency_rows];
      if (const auto value = candidate_value(candidate, key)) return value;
    }
    return std::nullopt;
  }

  // posternd only. False when the probe range is full.
  bool put(const AdjacencyKey& key, const Adjacency& value);
  void erase(const AdjacencyKey& key);

 private:
  static std::optional<Adjacency> candidate_value(const AdjacencyRow& row, const AdjacencyKey& key) {
    for (int attempt = 0; attempt < 4; ++attempt) {
      const auto before = row.sequence.load(std::memory_order_acquire);
      if (before & 1U) continue;
      if (row.used.load(std::memory_order_relaxed) == 0) return std::nullopt;
      const AdjacencyKey found = row.key;
      const Adjacency value = row.value;
      std::atomic_thread_fence(std::memory_order_acquire);
      if (row.sequence.load(std::memory_order_relaxed) != before) continue;
      if (found == key) return value;
      return std::nullopt;
    }
    return std::nullopt;
  }
};

}  // namespace postern
