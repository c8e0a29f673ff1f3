/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/*
 * The maps of maps/abi.h and the two counters that every program moves. Weak: three objects define them and
 * `bpftool gen object` merges them into one.
 */
#ifndef POSTERN_BPF_MAPS_H
#define POSTERN_BPF_MAPS_H

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <linux/bpf.h>
#include <linux/types.h>

#include "maps/abi_options.h"

#define POSTERN_MAP(name, map_type, key_type, value_type, entries, flags) \
  struct {                                                                \
    __uint(type, map_type);                                               \
    __uint(max_entries, entries);                                         \
    __uint(map_flags, flags);                                             \
    __type(key, key_type);                                                \
    __type(value, value_type);                                            \
  } name __weak SEC(".maps")

POSTERN_MAP(abi, BPF_MAP_TYPE_ARRAY, __u32, __u32, 1, 0);
POSTERN_MAP(interfaces, BPF_MAP_TYPE_HASH, __u32, struct postern_interface, POSTERN_MAX_INTERFACES, 0);
POSTERN_MAP(local_addresses, BPF_MAP_TYPE_HASH, struct postern_local_key, struct postern_local, 4096,
            BPF_F_NO_PREALLOC);
POSTERN_MAP(sas, BPF_MAP_TYPE_HASH, struct postern_sa_key, struct postern_sa, POSTERN_MAX_SAS, BPF_F_NO_PREALLOC);
POSTERN_MAP(xsks, BPF_MAP_TYPE_XSKMAP, __u32, __u32, POSTERN_MAX_XSK, 0);

POSTERN_MAP(source_prefixes, BPF_MAP_TYPE_LPM_TRIE, struct postern_prefix_key, struct postern_ace_bits,
            POSTERN_MAX_POLICY_ROWS, BPF_F_NO_PREALLOC);
POSTERN_MAP(destination_prefixes, BPF_MAP_TYPE_LPM_TRIE, struct postern_prefix_key, struct postern_ace_bits,
            POSTERN_MAX_POLICY_ROWS, BPF_F_NO_PREALLOC);
POSTERN_MAP(protocols, BPF_MAP_TYPE_HASH, struct postern_protocol_key, struct postern_ace_bits, POSTERN_MAX_POLICY_ROWS,
            BPF_F_NO_PREALLOC);
POSTERN_MAP(source_ports, BPF_MAP_TYPE_LPM_TRIE, struct postern_port_key, struct postern_ace_bits,
            POSTERN_MAX_POLICY_ROWS, BPF_F_NO_PREALLOC);
POSTERN_MAP(destination_ports, BPF_MAP_TYPE_LPM_TRIE, struct postern_port_key, struct postern_ace_bits,
            POSTERN_MAX_POLICY_ROWS, BPF_F_NO_PREALLOC);
POSTERN_MAP(aces, BPF_MAP_TYPE_HASH, struct postern_ace_key, struct postern_ace, POSTERN_MAX_POLICY_ROWS,
            BPF_F_NO_PREALLOC);
POSTERN_MAP(ace_hits, BPF_MAP_TYPE_PERCPU_HASH, struct postern_ace_key, struct postern_count, POSTERN_MAX_POLICY_ROWS,
            BPF_F_NO_PREALLOC);
POSTERN_MAP(flow_cache, BPF_MAP_TYPE_LRU_HASH, struct postern_flow_key, struct postern_flow_verdict,
            POSTERN_MAX_FLOW_CACHE, 0);
POSTERN_MAP(fragments, BPF_MAP_TYPE_LRU_HASH, struct postern_fragment_key, struct postern_fragment,
            POSTERN_MAX_FRAGMENTS, 0);
POSTERN_MAP(log_flows, BPF_MAP_TYPE_LRU_HASH, struct postern_log_key, struct postern_log_count, POSTERN_MAX_LOG_FLOWS,
            0);
struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, POSTERN_LOG_RING_BYTES);
} log_records __weak SEC(".maps"); /* of struct postern_log_key */

POSTERN_MAP(verdicts, BPF_MAP_TYPE_PERCPU_HASH, struct postern_verdict_key, struct postern_count,
            POSTERN_MAX_INTERFACES * 3 * POSTERN_VERDICT_COUNT, BPF_F_NO_PREALLOC);
POSTERN_MAP(drops, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct postern_count, POSTERN_DROP_COUNT, 0);

/*
 * A global function: verified by itself, once, for whatever arguments its prototype allows, so that the paths through
 * it do not multiply those of its callers. Its pointers may be null, and what they point to must have been written.
 * Weak, as the maps: three objects may define it.
 */
#define SUBPROGRAM __weak __noinline

/* What a program decides: one int, so that it comes back from a subprogram in a register. */
static __always_inline int verdict(enum postern_verdict verdict) { return verdict; }
static __always_inline int drop(enum postern_drop reason) { return POSTERN_VERDICT_drop | (int)reason << 8; }
static __always_inline enum postern_verdict verdict_of(int decision) { return decision & 0xff; }

static __always_inline void count(struct postern_count* counter, __u64 bytes) {
  counter->packets++; /* per CPU, and XDP and TC do not interrupt each other on a CPU */
  counter->bytes += bytes;
}

SUBPROGRAM int count_verdict(__u32 ifindex, enum postern_hook hook, int decision, __u64 bytes) {
  const struct postern_verdict_key key = {.ifindex = ifindex, .hook = hook, .verdict = verdict_of(decision)};
  struct postern_count* counter = bpf_map_lookup_elem(&verdicts, &key);
  if (!counter) { /* another CPU may be first: then its row is there */
    const struct postern_count none = {};
    bpf_map_update_elem(&verdicts, &key, &none, BPF_NOEXIST);
    counter = bpf_map_lookup_elem(&verdicts, &key);
  }
  if (counter) count(counter, bytes);
  if (verdict_of(decision) != POSTERN_VERDICT_drop) return 0;
  const __u32 reason = decision >> 8;
  counter = bpf_map_lookup_elem(&drops, &reason);
  if (counter) count(counter, bytes);
  return 0;
}

#endif
