#include "maps/policy_writer.hpp"

#include <algorithm>
#include <set>

namespace postern {
namespace {

template <class Key, class Value>
Result<void> write_rows(const PinnedMap<Key, Value>& map, const std::vector<std::pair<Key, Value>>& rows) {
  for (const auto& [key, value] : rows) POSTERN_CHECK(map.update(key, value));
  return {};
}

template <class Key, class Value>
Result<void> erase_rows(const PinnedMap<Key, Value>& map, std::uint32_t generation) {
  POSTERN_TRY(keys, map.keys());
  for (const Key& key : keys)
    if (key.generation == generation) POSTERN_CHECK(map.erase(key));
  return {};
}

Result<void> erase_generation(const NodeMaps& maps, std::uint32_t generation) {
  POSTERN_CHECK(erase_rows(maps.source_prefixes, generation));
  POSTERN_CHECK(erase_rows(maps.destination_prefixes, generation));
  POSTERN_CHECK(erase_rows(maps.source_ports, generation));
  POSTERN_CHECK(erase_rows(maps.destination_ports, generation));
  POSTERN_CHECK(erase_rows(maps.aces, generation));
  POSTERN_CHECK(erase_rows(maps.ace_hits, generation));
  return erase_rows(maps.protocols, generation);  // last: generations() finds an unfinished removal by them
}

// The kernel promises that an update of a map of maps returns only when every program that ran before it has ended
// (kernel/bpf/syscall.c, maybe_wait_bpf_programs): the grace period that user space can ask for.
Result<void> wait_for_programs() {
  const Fd inner(bpf_map_create(BPF_MAP_TYPE_ARRAY, "grace_inner", 4, 4, 1, nullptr));
  if (!inner) return fail_errno("grace period: inner map");
  LIBBPF_OPTS(bpf_map_create_opts, options);
  options.inner_map_fd = static_cast<std::uint32_t>(inner.get());
  const Fd outer(bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "grace_outer", 4, 4, 1, &options));
  if (!outer) return fail_errno("grace period: outer map");
  const std::uint32_t key = 0;
  const int value = inner.get();
  if (bpf_map_update_elem(outer.get(), &key, &value, BPF_ANY) != 0) return fail_errno("grace period");
  return {};
}

}  // namespace

Result<void> PolicyWriter::write(const PolicyImage& image) const {
  const auto write_all = [&]() -> Result<void> {
    POSTERN_CHECK(write_rows(maps_->protocols, image.protocols));
    POSTERN_CHECK(write_rows(maps_->source_prefixes, image.source_prefixes));
    POSTERN_CHECK(write_rows(maps_->destination_prefixes, image.destination_prefixes));
    POSTERN_CHECK(write_rows(maps_->source_ports, image.source_ports));
    POSTERN_CHECK(write_rows(maps_->destination_ports, image.destination_ports));
    POSTERN_CHECK(write_rows(maps_->aces, image.aces));
    for (const auto& [key, ace] : image.aces)
      if (key.index < POSTERN_FRAGMENT_ROW) POSTERN_CHECK(maps_->ace_hits.update(key, postern_count{}));
    return {};
  };
  auto written = write_all();
  if (!written) {
    if (auto erased = erase_generation(*maps_, image.generation); !erased)
      written.error().what += "; and then " + erased.error().message();
  }
  return written;
}

Result<void> PolicyWriter::switch_interface(std::uint32_t ifindex, std::uint32_t generation,
                                            std::uint32_t policy_flags) const {
  POSTERN_TRY(interface, maps_->interfaces.lookup(ifindex));
  if (!interface) return fail("interface " + std::to_string(ifindex) + " has no entry", ENOENT);
  interface->generation = generation;
  interface->flags = (interface->flags & ~static_cast<std::uint32_t>(POSTERN_IF_POLICY)) | policy_flags;
  return maps_->interfaces.update(ifindex, *interface, BPF_EXIST);
}

Result<std::map<std::uint32_t, std::uint64_t>> PolicyWriter::remove(std::uint32_t generation) const {
  POSTERN_TRY(ifindexes, maps_->interfaces.keys());
  for (const std::uint32_t ifindex : ifindexes) {
    POSTERN_TRY(interface, maps_->interfaces.lookup(ifindex));
    if (interface && interface->generation == generation)
      return fail(
          "policy generation " + std::to_string(generation) + " is in force on interface " + std::to_string(ifindex),
          EBUSY);
  }
  POSTERN_CHECK(wait_for_programs());
  std::map<std::uint32_t, std::uint64_t> counted;
  POSTERN_TRY(rules, maps_->ace_hits.keys());
  for (const postern_ace_key& rule : rules) {
    if (rule.generation != generation) continue;
    POSTERN_TRY(hits, maps_->ace_hits.sum(rule));
    if (hits.packets != 0) counted[rule.index] = hits.packets;
  }
  POSTERN_CHECK(erase_generation(*maps_, generation));
  return counted;
}

Result<std::vector<std::uint32_t>> PolicyWriter::generations() const {
  POSTERN_TRY(keys, maps_->protocols.keys());
  std::set<std::uint32_t> found;
  for (const postern_protocol_key& key : keys) found.insert(key.generation);
  return std::vector<std::uint32_t>(found.begin(), found.end());
}

// Whatever its rules name, a policy has the row of the protocols that they do not.
Result<bool> PolicyWriter::has_rows(std::uint32_t generation) const {
  POSTERN_TRY(row, maps_->protocols.lookup({generation, POSTERN_PROTOCOL_OTHER}));
  return row.has_value();
}

Result<void> PolicyWriter::forget_verdicts() const {
  POSTERN_TRY(keys, maps_->flow_cache.keys());
  for (const postern_flow_key& key : keys) POSTERN_CHECK(maps_->flow_cache.erase(key));
  return {};
}

}  // namespace postern
