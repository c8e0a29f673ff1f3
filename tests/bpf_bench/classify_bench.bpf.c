// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/* The data path's classify.h in programs that do nothing else, and what it must beat: rules one after the other. */
#include "bpf/classify.h"
#include "tests/bpf_bench/linear_rule.h"

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, POSTERN_MAX_ACES);
  __type(key, __u32);
  __type(value, struct linear_rule);
} linear_rules SEC(".maps");

__u32 linear_count;
__u32 next_flow;

/* The "packet" is a flow key: parsing is not measured here. */
static __always_inline int read_key(struct xdp_md* ctx, struct postern_flow_key* key) {
  const struct postern_flow_key* in = (void*)(long)ctx->data;
  if ((void*)(in + 1) > (void*)(long)ctx->data_end) return 0;
  *key = *in;
  return 1;
}

SEC("xdp")
int bench_nothing(struct xdp_md* ctx) {
  struct postern_flow_key key;
  return read_key(ctx, &key) ? key.generation : 0;
}

SEC("xdp")
int bench_hit(struct xdp_md* ctx) {
  struct postern_flow_key key;
  return read_key(ctx, &key) ? classify(&key, 100).flow : 0;
}

/* A new flow each time: cache miss, tables, and the insertion that evicts another. */
SEC("xdp")
int bench_miss(struct xdp_md* ctx) {
  struct postern_flow_key key;
  if (!read_key(ctx, &key)) return 0;
  const __u32 flow = next_flow++;
  key.source_port = flow;
  key.destination_port = flow >> 16;
  return classify(&key, 100).flow;
}

SEC("xdp")
int bench_tables(struct xdp_md* ctx) {
  struct postern_flow_key key;
  struct postern_flow_verdict found;
  if (!read_key(ctx, &key)) return 0;
  classify_by_tables(&key, &found);
  return found.flow;
}

struct walk { /* the addresses at multiples of 8, as they are compared */
  struct postern_address source, destination;
  __u64 flow;
};

static __always_inline int covers(const struct postern_address* prefix, const struct postern_address* mask,
                                  const struct postern_address* address) {
  const __u64 *p = (const __u64*)prefix, *m = (const __u64*)mask, *a = (const __u64*)address;
  return (((a[0] ^ p[0]) & m[0]) | ((a[1] ^ p[1]) & m[1])) == 0;
}

static long walk_step(__u32 step, struct walk* walk) {
  const struct linear_rule* rule = bpf_map_lookup_elem(&linear_rules, &step);
  if (!rule) return 1;
  if (!covers(&rule->source, &rule->source_mask, &walk->source)) return 0;
  if (!covers(&rule->destination, &rule->destination_mask, &walk->destination)) return 0;
  walk->flow = rule->flow;
  return 1;
}

SEC("xdp")
int bench_linear(struct xdp_md* ctx) {
  struct postern_flow_key key;
  if (!read_key(ctx, &key)) return 0;
  struct walk walk = {.source = key.source, .destination = key.destination};
  bpf_loop(linear_count, walk_step, &walk, 0);
  return walk.flow;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
