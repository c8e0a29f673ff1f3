/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/*
 * Which flow protects a packet: flow cache, and behind it five tables whose bit-vectors of ACEs are intersected, seven
 * where rules name traffic classes and TCP flags. The cost does not grow with the number of ACEs but for the words of
 * the vector that several of them share.
 * maps/policy.cpp fills the tables and holds the same algorithm in C++; tests/maps compares the two.
 */
#ifndef POSTERN_BPF_CLASSIFY_H
#define POSTERN_BPF_CLASSIFY_H

#include "bpf/parse.h"

_Static_assert(POSTERN_ACE_WORDS == 64, "the summary of a vector is one word");

/* What could match, one vector a table, and how far the search among them got. */
struct candidates {
  const struct postern_ace_bits *source, *destination, *protocol;
  /* Null: they do not matter to this packet. */
  const struct postern_ace_bits *source_port, *destination_port, *traffic_class, *tcp_flags;
  __u64 summary; /* words still to be looked at */
  __u64 allowed; /* bits of the lowest of them that no deny has passed over */
  __u32 generation;
  __u32 denied; /* the first deny that matched, or POSTERN_NO_ACE */
  struct postern_flow_verdict found;
};

static __always_inline const struct postern_ace_bits* find_protocol(const struct postern_flow_key* flow) {
  const __u32 fragment = flow->fragment ? POSTERN_PROTOCOL_FRAGMENT : 0;
  struct postern_protocol_key key = {.generation = flow->generation, .protocol = flow->protocol + fragment};
  const struct postern_ace_bits* bits = bpf_map_lookup_elem(&protocols, &key);
  if (bits) return bits;
  key.protocol = POSTERN_PROTOCOL_OTHER + fragment;
  return bpf_map_lookup_elem(&protocols, &key);
}

static __always_inline const struct postern_ace_bits* find_row(__u32 generation, __u32 row) {
  const struct postern_protocol_key key = {.generation = generation, .protocol = row};
  return bpf_map_lookup_elem(&protocols, &key);
}

static __always_inline const struct postern_ace_bits* find_prefix(void* table, __u32 generation,
                                                                  const struct postern_address* address) {
  const struct postern_prefix_key key = {.prefix_length = 32 + 128, .generation = generation, .address = *address};
  return bpf_map_lookup_elem(table, &key);
}

static __always_inline const struct postern_ace_bits* find_port(void* table, __u32 generation, __be16 port) {
  const struct postern_port_key key = {.prefix_length = 32 + 16, .generation = generation, .port = port};
  return bpf_map_lookup_elem(table, &key);
}

/* Index of the lowest set bit; not for 0. The barrier keeps the mask, without which the verifier does not see the
 * bound. */
static __always_inline __u32 lowest_bit(__u64 bits) {
  __u64 index = __builtin_ctzll(bits);
  asm volatile("" : "+r"(index));
  return index & 63;
}

static __always_inline __u64 candidates_in(const struct candidates* in, __u32 word) {
  __u64 bits = in->source->words[word] & in->destination->words[word] & in->protocol->words[word];
  if (in->source_port) bits &= in->source_port->words[word];
  if (in->destination_port) bits &= in->destination_port->words[word];
  if (in->traffic_class) bits &= in->traffic_class->words[word];
  if (in->tcp_flags) bits &= in->tcp_flags->words[word];
  return bits;
}

/* Looks at one word, or passes one entry over after a deny. 1: the search is over (bpf_loop). */
static long search_step(__u32 step __attribute__((unused)), struct candidates* in) {
  if (!in->summary) return 1;
  const __u32 word = lowest_bit(in->summary);
  const __u64 bits = candidates_in(in, word) & in->allowed;
  if (!bits) {
    in->summary &= in->summary - 1;
    in->allowed = ~0ULL;
    return 0;
  }
  const struct postern_ace_key key = {.generation = in->generation, .index = word * 64 + lowest_bit(bits)};
  const struct postern_ace* ace = bpf_map_lookup_elem(&aces, &key);
  if (!ace) return 1;
  if (ace->log && in->found.logged == POSTERN_NO_ACE) in->found.logged = key.index;
  if (ace->action == POSTERN_PERMIT) {
    in->found.flow = ace->flow;
    in->found.ace = key.index;
    return 1;
  }
  if (in->denied == POSTERN_NO_ACE) in->denied = key.index;
  /* TS-03: a deny takes the packet out of its own entry; the search goes on behind that. */
  const __u32 next = ace->last_ace + 1;
  if (next >= POSTERN_MAX_ACES) return 1;
  const __u64 first_word = 1ULL << (next / 64);
  in->summary &= -first_word;
  in->allowed = in->summary & first_word ? ~0ULL << (next % 64) : ~0ULL;
  return 0;
}

static __always_inline void first_match(struct candidates* in) {
  in->summary = in->source->summary & in->destination->summary & in->protocol->summary;
  if (in->source_port) in->summary &= in->source_port->summary;
  if (in->destination_port) in->summary &= in->destination_port->summary;
  if (in->traffic_class) in->summary &= in->traffic_class->summary;
  if (in->tcp_flags) in->summary &= in->tcp_flags->summary;
  in->allowed = ~0ULL;
  bpf_loop(POSTERN_ACE_WORDS + POSTERN_MAX_ENTRIES, search_step, in, 0);
}

/* A verdict's flow where the generation has no rows at all: nobody knows what the policy says, so the packet is dropped
 * and the verdict is not kept. */
#define NO_POLICY 0xfffffffeU

/* Without the cache: the verdict is left in in->found; bypass where the generation has no rows for the packet. */
static __always_inline void find_by_tables(const struct postern_flow_key* flow, struct candidates* in) {
  in->protocol = find_protocol(flow);
  if (!in->protocol) { /* every policy has rows for the protocols that it does not name */
    in->found.flow = NO_POLICY;
    return;
  }
  in->source = find_prefix(&source_prefixes, flow->generation, &flow->source);
  if (!in->source) return;
  in->destination = find_prefix(&destination_prefixes, flow->generation, &flow->destination);
  if (!in->destination) return;
  if (!flow->fragment && has_ports(flow->protocol)) {
    in->source_port = find_port(&source_ports, flow->generation, flow->source_port);
    in->destination_port = find_port(&destination_ports, flow->generation, flow->destination_port);
    if (!in->source_port || !in->destination_port) return;
  } else if (!flow->fragment && (flow->protocol == IPPROTO_ICMP || flow->protocol == PROTOCOL_ICMPV6)) {
    in->source_port = find_port(&source_ports, flow->generation, flow->source_port);
    if (!in->source_port) return;
  }
  const __u8 flags = flow->reserved[POSTERN_KEY_FLAGS];
  if (flags & POSTERN_ASKS_CLASS) {
    in->traffic_class = find_row(flow->generation, POSTERN_ROW_CLASS + flow->reserved[POSTERN_KEY_CLASS]);
    if (!in->traffic_class) return;
  }
  if (flags & POSTERN_ASKS_TCP_FLAGS && flow->protocol == IPPROTO_TCP && !flow->fragment) {
    in->tcp_flags = find_row(flow->generation, POSTERN_ROW_TCP_FLAGS + (flags & POSTERN_TCP_FLAGS));
    if (!in->tcp_flags) return;
  }
  first_match(in);
}

/* A permit's non-initial fragments may have a flow of their own. */
static __always_inline void take_fragment_flow(struct candidates* in) {
  const struct postern_ace_key key = {.generation = in->generation, .index = in->found.ace + POSTERN_FRAGMENT_ROW};
  const struct postern_ace* apart = bpf_map_lookup_elem(&aces, &key);
  if (apart) in->found.flow = apart->flow;
}

SUBPROGRAM int classify_by_tables(const struct postern_flow_key* flow, struct postern_flow_verdict* out) {
  if (!flow || !out) return 0;
  struct candidates in = {.generation = flow->generation,
                          .denied = POSTERN_NO_ACE,
                          .found = {.ace = POSTERN_NO_ACE, .logged = POSTERN_NO_ACE}};
  find_by_tables(flow, &in);
  if (!in.found.flow) in.found.ace = in.denied;
  if (flow->fragment && in.found.flow) take_fragment_flow(&in);
  *out = in.found;
  return 0;
}

#define FLOW_CACHE_ODDS 16

static __always_inline void count_hit(__u32 generation, __u32 index, __u64 bytes) {
  const struct postern_ace_key key = {.generation = generation, .index = index};
  struct postern_count* hits = bpf_map_lookup_elem(&ace_hits, &key);
  if (hits) count(hits, bytes);
}

/* What of a packet the policy of this interface decides by: to be done before classify(). */
static __always_inline void ask_policy(struct packet* packet, const struct postern_interface* interface) {
  struct postern_flow_key* flow = &packet->flow;
  __u8 class = 0, flags = 0;
  if (interface->flags & POSTERN_IF_CLASSES) {
    class = packet->traffic_class;
    flags = POSTERN_ASKS_CLASS;
  }
  if (interface->flags & POSTERN_IF_TCP_FLAGS) flags |= POSTERN_ASKS_TCP_FLAGS | packet->tcp_flags;
  flow->generation = interface->generation;
  flow->reserved[POSTERN_KEY_CLASS] = class;
  flow->reserved[POSTERN_KEY_FLAGS] = flags;
}

/* `flow` must have gone through ask_policy(). Counts the hit of the permit that decided, or of the first deny where
 * none did. */
static __always_inline struct postern_flow_verdict classify(const struct postern_flow_key* flow, __u64 bytes) {
  struct postern_flow_verdict found = {};
  const struct postern_flow_verdict* cached = bpf_map_lookup_elem(&flow_cache, flow);
  if (cached) {
    found = *cached;
  } else {
    classify_by_tables(flow, &found);
    /* An insertion costs as much as three walks over the tables; a flow that lasts gets its turn, a flood does not pay
     * for it. */
    if (found.flow != NO_POLICY && bpf_get_prandom_u32() % FLOW_CACHE_ODDS == 0)
      bpf_map_update_elem(&flow_cache, flow, &found, BPF_ANY);
  }
  if (found.ace != POSTERN_NO_ACE) count_hit(flow->generation, found.ace, bytes);
  return found;
}

/*
 * RFC 4301 §6.2: an ICMP error that is of no flow by its own addresses is of the one that the packet it quotes is
 * about. `asked` is that packet as the policy shall see it. Static: before Linux 6.2 a map's key may not be the memory
 * that a global function is given.
 */
static __noinline __attribute__((unused)) int classify_quoted(const struct postern_flow_key* asked, __u64 bytes) {
  return (int)classify(asked, bytes).flow;
}

/* Who sent a packet that a rule with `log` matched; zero but for POSTERN_LOG_INPUT. */
struct log_source {
  __u32 ifindex;
  __u8 mac[6];
  __u8 mirrored;
};

/* Counts the packet; the first of its flow is told at once. A full ring loses the record, not the count. */
SUBPROGRAM int log_match(const struct postern_flow_key* flow, __u32 index, const struct log_source* from) {
  if (!flow || !from) return 0;
  const struct postern_ace_key rule = {.generation = flow->generation, .index = index};
  const struct postern_ace* ace = bpf_map_lookup_elem(&aces, &rule);
  if (!ace) return 0;
  struct postern_log_key key = {.flow = *flow, .ace = index, .mirrored = from->mirrored};
  if (ace->log == POSTERN_LOG_INPUT) {
    key.ifindex = from->ifindex;
    __builtin_memcpy(key.mac, from->mac, sizeof key.mac);
  }
  struct postern_log_count* known = bpf_map_lookup_elem(&log_flows, &key);
  if (known) {
    __sync_fetch_and_add(&known->packets, 1);
    return 0;
  }
  const struct postern_log_count first = {.packets = 1};
  if (bpf_map_update_elem(&log_flows, &key, &first, BPF_NOEXIST)) return 0;
  bpf_ringbuf_output(&log_records, &key, sizeof key, 0);
  return 0;
}

static __always_inline struct postern_fragment_key fragment_key(const struct packet* packet, enum postern_hook hook) {
  const struct postern_fragment_key key = {.generation = packet->flow.generation,
                                           .source = packet->flow.source,
                                           .destination = packet->flow.destination,
                                           .identification = packet->identification,
                                           .protocol = packet->flow.protocol,
                                           .hook = hook};
  return key;
}

/* A first fragment passes in clear: its packet's others may follow. */
SUBPROGRAM int remember_fragment(const struct packet* packet, enum postern_hook hook) {
  if (!packet) return 0;
  const struct postern_fragment_key key = fragment_key(packet, hook);
  const struct postern_fragment first = {.until_ns = bpf_ktime_get_ns() + POSTERN_FRAGMENT_NS,
                                         .bytes = packet->transport_bytes};
  bpf_map_update_elem(&fragments, &key, &first, BPF_ANY);
  return 0;
}

/*
 * Of a later fragment that addresses and protocol alone would protect: POSTERN_VERDICT_pass when its first fragment
 * passed in clear and is not overwritten, else a drop (RFC 4301 §7.4).
 */
SUBPROGRAM int follow_fragment(const struct packet* packet, enum postern_hook hook) {
  if (!packet) return drop(POSTERN_DROP_fragment_unknown);
  const struct postern_fragment_key key = fragment_key(packet, hook);
  const struct postern_fragment* first = bpf_map_lookup_elem(&fragments, &key);
  if (!first || first->until_ns < bpf_ktime_get_ns()) return drop(POSTERN_DROP_fragment_unknown);
  if (packet->fragment_offset < first->bytes) return drop(POSTERN_DROP_fragment_overlap);
  return POSTERN_VERDICT_pass;
}

/* The flow as its answers' policy sees it: an inbound packet is matched by the mirror of the outbound rule (TS-09). */
static __always_inline void mirror(struct postern_flow_key* flow) {
  const struct postern_address source = flow->source;
  flow->source = flow->destination;
  flow->destination = source;
  if (!has_ports(flow->protocol)) return;
  const __be16 port = flow->source_port;
  flow->source_port = flow->destination_port;
  flow->destination_port = port;
}

#endif
