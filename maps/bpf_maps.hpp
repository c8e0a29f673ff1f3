// Typed handles of the BPF maps that maps/abi.h describes. Any thread; the kernel serialises. Errors carry the errno
// value, and name the operation and the map.
#pragma once

#include <cerrno>
#include <concepts>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/fd.hpp"
#include "base/result.hpp"
#include "maps/abi.h"

namespace postern {

// A BPF map whose key is Key and whose value is Value (per CPU: one Value a CPU). Owns its descriptor.
template <class Key, class Value>
class PinnedMap {
  static_assert(std::is_trivially_copyable_v<Key> && std::is_trivially_copyable_v<Value>);

 public:
  PinnedMap() = default;

  // Takes the descriptor; refuses a map whose key or value has another size (a package of another ABI made it).
  [[nodiscard]] static Result<PinnedMap> adopt(Fd fd, std::string name) {
    bpf_map_info info{};
    std::uint32_t size = sizeof info;
    if (bpf_obj_get_info_by_fd(fd.get(), &info, &size) != 0) return fail_errno("map " + name + ": describe");
    if (info.key_size != sizeof(Key) || info.value_size != sizeof(Value))
      return fail("map " + name + ": key or value has another size than maps/abi.h says", EINVAL);
    PinnedMap map;
    map.fd_ = std::move(fd);
    map.name_ = std::move(name);
    map.per_cpu_ = info.type == BPF_MAP_TYPE_PERCPU_ARRAY || info.type == BPF_MAP_TYPE_PERCPU_HASH ||
                   info.type == BPF_MAP_TYPE_LRU_PERCPU_HASH;
    return map;
  }

  [[nodiscard]] static Result<PinnedMap> open(const std::filesystem::path& pin_dir, std::string name) {
    Fd fd(bpf_obj_get((pin_dir / name).c_str()));
    if (!fd) return fail_errno("map " + name + ": open pin in " + pin_dir.string());
    return adopt(std::move(fd), std::move(name));
  }

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] const std::string& name() const { return name_; }

  // `flags`: BPF_ANY, BPF_NOEXIST (EEXIST when there), BPF_EXIST (ENOENT when not). Not for per-CPU maps.
  [[nodiscard]] Result<void> update(const Key& key, const Value& value, std::uint64_t flags = BPF_ANY) const {
    if (per_cpu_) return update_every_cpu(key, value, flags);
    if (bpf_map_update_elem(fd_.get(), &key, &value, flags) != 0) return fail_errno("map " + name_ + ": update");
    return {};
  }

  // Empty when the key is not there. Not for per-CPU maps: see sum().
  [[nodiscard]] Result<std::optional<Value>> lookup(const Key& key) const {
    if (per_cpu_) return fail("map " + name_ + ": lookup of one value in a per-CPU map", EINVAL);
    Value value;
    if (bpf_map_lookup_elem(fd_.get(), &key, &value) == 0) return value;
    if (errno == ENOENT) return std::nullopt;
    return fail_errno("map " + name_ + ": lookup");
  }

  // True when the key was there.
  [[nodiscard]] Result<bool> erase(const Key& key) const {
    if (bpf_map_delete_elem(fd_.get(), &key) == 0) return true;
    if (errno == ENOENT) return false;
    return fail_errno("map " + name_ + ": erase");
  }

  // Every key of the moment. Keys that come or go meanwhile may be in it or not.
  [[nodiscard]] Result<std::vector<Key>> keys() const {
    std::vector<Key> all;
    Key next;
    const Key* previous = nullptr;
    while (bpf_map_get_next_key(fd_.get(), previous, &next) == 0) {
      all.push_back(next);
      previous = &all.back();
      if (all.size() > max_keys) return fail("map " + name_ + ": walk does not end", ELOOP);
    }
    if (errno != ENOENT) return fail_errno("map " + name_ + ": walk");
    return all;
  }

  // Sum over all CPUs of a per-CPU counter; zero when the key is not there.
  [[nodiscard]] Result<Value> sum(const Key& key) const
    requires std::same_as<Value, postern_count>
  {
    const int cpus = libbpf_num_possible_cpus();
    if (cpus < 1) return fail("map " + name_ + ": number of CPUs", -cpus);
    std::vector<Value> each(static_cast<std::size_t>(per_cpu_ ? cpus : 1));
    Value total{};
    if (bpf_map_lookup_elem(fd_.get(), &key, each.data()) != 0) {
      if (errno == ENOENT) return total;
      return fail_errno("map " + name_ + ": lookup");
    }
    for (const Value& one : each) {
      total.packets += one.packets;
      total.bytes += one.bytes;
    }
    return total;
  }

 private:
  static constexpr std::size_t max_keys = std::size_t{1} << 20;

  [[nodiscard]] Result<void> update_every_cpu(const Key& key, const Value& value, std::uint64_t flags) const {
    const int cpus = libbpf_num_possible_cpus();
    if (cpus < 1) return fail("map " + name_ + ": number of CPUs", -cpus);
    // The kernel reads each CPU's value at a multiple of 8 bytes.
    static_assert(sizeof(Value) % 8 == 0 || !std::same_as<Value, postern_count>);
    std::vector<Value> each(static_cast<std::size_t>(cpus), value);
    if (bpf_map_update_elem(fd_.get(), &key, each.data(), flags) != 0) return fail_errno("map " + name_ + ": update");
    return {};
  }

  Fd fd_;
  std::string name_;
  bool per_cpu_ = false;
};

// A BPF ring buffer: neither keys nor values; libbpf's ring_buffer reads it. Owns its descriptor.
class PinnedRing {
 public:
  PinnedRing() = default;
  [[nodiscard]] static Result<PinnedRing> adopt(Fd fd, std::string name) {
    bpf_map_info info{};
    std::uint32_t size = sizeof info;
    if (bpf_obj_get_info_by_fd(fd.get(), &info, &size) != 0) return fail_errno("map " + name + ": describe");
    if (info.type != BPF_MAP_TYPE_RINGBUF) return fail("map " + name + ": not a ring buffer", EINVAL);
    PinnedRing ring;
    ring.fd_ = std::move(fd);
    return ring;
  }
  [[nodiscard]] static Result<PinnedRing> open(const std::filesystem::path& pin_dir, std::string name) {
    Fd fd(bpf_obj_get((pin_dir / name).c_str()));
    if (!fd) return fail_errno("map " + name + ": open pin in " + pin_dir.string());
    return adopt(std::move(fd), std::move(name));
  }
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  Fd fd_;
};

// All maps of one node. Names are those of the pins under /sys/fs/bpf/postern/<node>/.
struct NodeMaps {
  PinnedMap<std::uint32_t, std::uint32_t> abi;             // [0] = POSTERN_ABI_VERSION
  PinnedMap<std::uint32_t, postern_interface> interfaces;  // by ifindex
  PinnedMap<postern_local_key, postern_local> local_addresses;
  PinnedMap<postern_sa_key, postern_sa> sas;
  PinnedMap<std::uint32_t, std::uint32_t> xsks;  // XSKMAP: index -> XSK descriptor
  PinnedMap<postern_prefix_key, postern_ace_bits> source_prefixes, destination_prefixes;
  PinnedMap<postern_protocol_key, postern_ace_bits> protocols;
  PinnedMap<postern_port_key, postern_ace_bits> source_ports, destination_ports;
  PinnedMap<postern_ace_key, postern_ace> aces;
  PinnedMap<postern_ace_key, postern_count> ace_hits;  // per CPU
  PinnedMap<postern_flow_key, postern_flow_verdict> flow_cache;
  PinnedMap<postern_fragment_key, postern_fragment> fragments;
  PinnedMap<postern_log_key, postern_log_count> log_flows;
  PinnedRing log_records;                                  // of postern_log_key
  PinnedMap<postern_verdict_key, postern_count> verdicts;  // per CPU
  PinnedMap<std::uint32_t, postern_count> drops;           // per CPU, by enum postern_drop

  [[nodiscard]] static Result<NodeMaps> open(const std::filesystem::path& pin_dir);
};

// Calls visit(name, map) for every map of `maps`; the one list of names.
template <class Maps, class Visit>
void for_each_map(Maps& maps, Visit visit) {
  visit("abi", maps.abi);
  visit("interfaces", maps.interfaces);
  visit("local_addresses", maps.local_addresses);
  visit("sas", maps.sas);
  visit("xsks", maps.xsks);
  visit("source_prefixes", maps.source_prefixes);
  visit("destination_prefixes", maps.destination_prefixes);
  visit("protocols", maps.protocols);
  visit("source_ports", maps.source_ports);
  visit("destination_ports", maps.destination_ports);
  visit("aces", maps.aces);
  visit("ace_hits", maps.ace_hits);
  visit("flow_cache", maps.flow_cache);
  visit("fragments", maps.fragments);
  visit("log_flows", maps.log_flows);
  visit("log_records", maps.log_records);
  visit("verdicts", maps.verdicts);
  visit("drops", maps.drops);
}

}  // namespace postern
