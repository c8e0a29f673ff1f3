/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/*
 * What BPF programs and user space share: map keys and values, the stamp, verdicts and drop reasons. The one header
 * that both compilers read. Every struct is flat, named and without implicit padding, so that `bpftool map dump` prints
 * it by BTF and tests/maps compares each offset with the BTF of the loaded object.
 *
 * Byte order: addresses, ports and SPIs as on the wire (__be*), everything else host order.
 * Addresses: IPv4 is v4-mapped (::ffff:a.b.c.d), so that one key shape serves both families.
 */
#ifndef POSTERN_MAPS_ABI_H
#define POSTERN_MAPS_ABI_H

#include <linux/types.h>

#ifdef __cplusplus
#define POSTERN_STATIC_ASSERT(expression) static_assert(expression)
#else
#define POSTERN_STATIC_ASSERT(expression) _Static_assert(expression, #expression)
#endif

/* Bumped when a struct or the meaning of a field changes; posternd rebuilds pinned maps whose `abi` entry differs. */
#define POSTERN_ABI_VERSION 3

#define POSTERN_MAX_INTERFACES 256
#define POSTERN_MAX_XSK 1024
#define POSTERN_MAX_SAS 131072
#define POSTERN_MAX_FLOW_CACHE 65536
#define POSTERN_MAX_FRAGMENTS 16384
#define POSTERN_MAX_LOG_FLOWS 4096
#define POSTERN_LOG_RING_BYTES 65536
/* Permit and deny rules of one map set, and its entries (design goal 4,000 and 64). */
#define POSTERN_MAX_ACES 4096
#define POSTERN_MAX_ENTRIES 64
#define POSTERN_ACE_WORDS (POSTERN_MAX_ACES / 64)
/* Rows of each classifier table, all generations together. */
#define POSTERN_MAX_POLICY_ROWS 65536

/* Socket mark of what the node itself sends and must not be classified: IKE, ESP by socket, its own ICMP errors. */
#define POSTERN_MARK 0x504e0001U

struct postern_address {
  __u8 bytes[16];
};

/*
 * The verdict that travels with a packet. TC egress writes it over the two Ethernet addresses of the packet that it
 * redirects to the steer TAP; XDP puts it, in the same layout, as metadata in front of the packet it redirects to an
 * XSK of an inside interface. 12 bytes because that is what the two addresses occupy.
 */
struct postern_stamp {
  __u32 generation; /* policy generation that gave the verdict; POSTERN_GENERATION_INBOUND from the worker to TC ingress
                     */
  __u32 flow;    /* node-wide flow id: one per permit ACE of a map entry, or one per tunnel interface; never reused */
  __u32 ifindex; /* outbound: interface that holds the map, or the tunnel. Worker to TC ingress: where the packet
                    arrives */
};
POSTERN_STATIC_ASSERT(sizeof(struct postern_stamp) == 12);
#define POSTERN_GENERATION_INBOUND 0xffffffffU

/* `interfaces`: ifindex -> struct postern_interface. An interface that is not here is none of our business: XDP_PASS.
 */
enum postern_interface_flags {
  POSTERN_IF_OUTSIDE = 1 << 0, /* ESP and AH to us arrives here; a map set or a tunnel source is bound to it */
  POSTERN_IF_INSIDE = 1 << 1,  /* plain side AF_XDP: forwarded packets are classified at XDP */
  POSTERN_IF_TUNNEL = 1 << 2,  /* a TunnelN TUN device: routes that point here are protected by `flow` */
  POSTERN_IF_GENERIC =
      1 << 3, /* XDP runs in generic mode: sees what TC ingress injected, recognised by `inject_source` */
  POSTERN_IF_BLOCK = 1 << 4, /* fail closed: node stopped or not ready; nothing that matches policy passes */
  POSTERN_IF_PORTS = 1 << 5, /* a rule of its policy names ports: first fragments that pass in clear are remembered */
};
struct postern_interface {
  __u32
      generation; /* policy generation in force on this interface; 0: no crypto map. Written last: the atomic switch */
  __u32 vrf;      /* front-door VRF: the routing table id, 0 for the global one */
  __u32 xsk_base; /* `xsks` index of its queue 0 */
  __u32 queues;   /* number of queues that have an owner */
  __u32 steer;    /* ifindex of the steer TAP */
  __u32 flow;     /* POSTERN_IF_TUNNEL: the tunnel's flow */
  __u32 flags;    /* enum postern_interface_flags */
  __u8 mac[6];    /* its Ethernet address; zero for header-less links */
  __u8 inject_source[6]; /* random source address that marks packets injected by TC ingress (POSTERN_IF_GENERIC) */
};
POSTERN_STATIC_ASSERT(sizeof(struct postern_interface) == 40);

/* `local_addresses`: what is addressed to the node itself (IKE, ESP, AH, ND, its own services). */
struct postern_local_key {
  __u32 vrf;
  struct postern_address address;
};
POSTERN_STATIC_ASSERT(sizeof(struct postern_local_key) == 20);
struct postern_local {
  __u32 ifindex;
};

/* `sas`: inbound SAs that exist (RFC 4301 §4.1: SPI, destination, protocol; and the front-door VRF). No keys. */
struct postern_sa_key {
  __u32 vrf;
  __be32 spi;
  struct postern_address destination;
  __u8 protocol; /* 50 ESP, 51 AH */
  __u8 reserved[3];
};
POSTERN_STATIC_ASSERT(sizeof(struct postern_sa_key) == 28);
struct postern_sa {
  __u32 slot;        /* index in the SA state file */
  __u32 flow;        /* the flow it protects */
  __be16 encap_port; /* UDP destination port expected when UDP-encapsulated (RFC 3948), 0: plain ESP */
  __u8 reserved[2];
  struct postern_address peer;
};
POSTERN_STATIC_ASSERT(sizeof(struct postern_sa) == 28);

/*
 * The classifier. A packet's 5-tuple is looked up in five tables, each giving a bit-vector of the ACEs that could match
 * it; the first bit of their conjunction decides (a deny clears the bits of its entry and the search goes on). Every
 * key begins with the generation, so old and new policy stand side by side and an interface switches by one write.
 */
struct postern_ace_bits {
  __u64 summary;                  /* bit i: words[i] is not zero */
  __u64 words[POSTERN_ACE_WORDS]; /* bit n%64 of words[n/64]: ACE n, in order of evaluation */
};
struct postern_prefix_key { /* LPM: `source_prefixes`, `destination_prefixes` */
  __u32 prefix_length;      /* bits: 32 for the generation and then up to 128 */
  __u32 generation;
  struct postern_address address;
};
struct postern_protocol_key { /* `protocols`: the protocol number, or POSTERN_PROTOCOL_OTHER for one that no ACE names
                               */
  __u32 generation;
  __u32 protocol; /* plus POSTERN_PROTOCOL_FRAGMENT for non-initial fragments, which are not asked for ports */
};
#define POSTERN_PROTOCOL_OTHER 256
#define POSTERN_PROTOCOL_FRAGMENT 512
struct postern_port_key { /* LPM: `source_ports`, `destination_ports`; ranges are split into prefixes */
  __u32 prefix_length;    /* bits: 32 for the generation and then up to 16 */
  __u32 generation;
  __be16 port;
  __u8 reserved[2];
};
struct postern_ace_key { /* `aces`; and `ace_hits` (per-CPU): packets that the ACE decided, each direction of each
                            packet once */
  __u32 generation;
  __u32 index;
};
struct postern_ace {
  __u32 flow;      /* of a permit; 0 for a deny */
  __u32 entry;     /* sequence number of the crypto map entry */
  __u16 first_ace; /* of the same entry, as indices: a deny skips first_ace..last_ace */
  __u16 last_ace;
  __u8 action; /* enum postern_action */
  __u8 log;    /* enum postern_log */
  __u8 reserved[2];
};
POSTERN_STATIC_ASSERT(sizeof(struct postern_ace) == 16);
enum postern_action { POSTERN_DENY = 0, POSTERN_PERMIT = 1 };
enum postern_log { POSTERN_LOG_NONE = 0, POSTERN_LOG_MATCH = 1, POSTERN_LOG_INPUT = 2 };

/* `flow_cache` (LRU): the verdict of the last packet of a 5-tuple. A hit of another generation cannot happen: it is in
 * the key. */
struct postern_flow_key {
  __u32 generation;
  struct postern_address source;
  struct postern_address destination;
  __be16 source_port; /* or ICMP type and code; 0 for other protocols and for non-initial fragments */
  __be16 destination_port;
  __u8 protocol;
  __u8 fragment; /* 1: a non-initial fragment: matched on addresses and protocol alone */
  __u8 reserved[2];
};
POSTERN_STATIC_ASSERT(sizeof(struct postern_flow_key) == 44);
struct postern_flow_verdict {
  __u32 flow;   /* 0: bypass */
  __u32 ace;    /* index of the permit that decided; POSTERN_NO_ACE: none did */
  __u32 logged; /* index of the first rule that matched and asks for a log record, permit or deny; or POSTERN_NO_ACE */
};
#define POSTERN_NO_ACE 0xffffffffU

/*
 * `fragments` (LRU): packets whose first fragment passed in clear although rules of the policy name ports. A later
 * fragment has no ports; it passes when its first one did (RFC 4301 §7.4). The generation names the interface.
 */
struct postern_fragment_key {
  __u32 generation;
  struct postern_address source; /* as on the wire */
  struct postern_address destination;
  __be32 identification;
  __u8 protocol;
  __u8 hook; /* enum postern_hook */
  __u8 reserved[2];
};
POSTERN_STATIC_ASSERT(sizeof(struct postern_fragment_key) == 44);
struct postern_fragment {
  __u64 until_ns; /* CLOCK_MONOTONIC */
  __u32 bytes;    /* of the first fragment, behind its IP headers: no other may begin before */
  __u32 reserved;
};
#define POSTERN_FRAGMENT_NS 30000000000ULL /* as long as Linux waits for the rest (net.ipv4.ipfrag_time) */

/*
 * ACE `log` (TS-12). `log_flows` (LRU) counts each flow that matched such a rule; the first packet is told at once in
 * the ring buffer `log_records`, the rest by posternd, which reads the counts once an interval.
 */
struct postern_log_key {
  struct postern_flow_key flow; /* mirrored where `hook` is XDP ingress of an outside interface */
  __u32 ace;
  __u32 ifindex; /* POSTERN_LOG_INPUT: by which the packet came in, 0 for the node's own; else 0 */
  __u8 mac[6];   /* POSTERN_LOG_INPUT: its Ethernet source where that is still there; else 0 */
  __u8 mirrored;
  __u8 reserved;
};
POSTERN_STATIC_ASSERT(sizeof(struct postern_log_key) == 60);
struct postern_log_count {
  __u64 packets;
};

/* What a program decided, counted per interface in `verdicts` (per-CPU): key {ifindex, direction and verdict}. */
#define POSTERN_VERDICTS(X)                                          \
  X(pass, "not ours, or bypass by policy")                           \
  X(to_worker, "handed to the worker's AF_XDP socket")               \
  X(to_steer, "stamped and handed to the worker's steer TAP")        \
  X(delivered, "decrypted packet given back to its interface")       \
  X(exempt, "IKE, neighbour discovery, DHCP and the node's own ESP") \
  X(drop, "dropped; the reason is in `drops`")
enum postern_verdict {
#define POSTERN_ENUM(name, text) POSTERN_VERDICT_##name,
  POSTERN_VERDICTS(POSTERN_ENUM)
#undef POSTERN_ENUM
      POSTERN_VERDICT_COUNT
};
enum postern_hook { POSTERN_HOOK_XDP_INGRESS, POSTERN_HOOK_TC_EGRESS, POSTERN_HOOK_TC_INGRESS };
struct postern_verdict_key {
  __u32 ifindex;
  __u16 hook;    /* enum postern_hook */
  __u16 verdict; /* enum postern_verdict */
};
struct postern_count {
  __u64 packets;
  __u64 bytes;
};

/*
 * Every reason for which a packet ends in the node, kernel side and worker alike: enum, counter and text from one line.
 * `drops` is a per-CPU array indexed by it; the worker counts the same enum in its counter page (maps/counters.hpp).
 */
#define POSTERN_DROPS(X)                                                               \
  X(none, "not a drop")                                                                \
  X(clear_text, "arrived in clear, but policy says it must be protected")              \
  X(unparseable, "headers cannot be parsed on a protected interface")                  \
  X(no_sa, "no SA for this SPI at this address")                                       \
  X(no_outbound_sa, "policy says protect, but the flow has no SA")                     \
  X(no_queue_owner, "the receive queue has no worker")                                 \
  X(blocked, "the node is stopped or not ready: fail closed")                          \
  X(multicast_not_protected, "multicast or broadcast that a crypto map would protect") \
  X(stale_policy, "classified by a policy that is gone")                               \
  X(unknown_flow, "stamp names a flow that does not exist")                            \
  X(esp_runt, "shorter than ESP header, IV and ICV, or than the AH header")            \
  X(ah_length, "AH's payload length is not that of the SA's ICV")                      \
  X(bundle, "ESP without the AH that its flow demands, or AH without the ESP")         \
  X(esp_unaligned, "ciphertext is not a whole number of blocks")                       \
  X(replayed, "sequence number seen before")                                           \
  X(too_old, "sequence number left of the replay window")                              \
  X(bad_icv, "authentication failed")                                                  \
  X(bad_padding, "padding bytes or pad length wrong")                                  \
  X(bad_next_header, "next header is not the SA's inner protocol")                     \
  X(bad_inner, "inner packet is not a whole IP packet")                                \
  X(selector, "decrypted packet is outside the SA's traffic selectors")                \
  X(wrong_encapsulation, "UDP-encapsulated on a plain SA, or the other way round")     \
  X(ecn_invalid, "outer CE on an inner packet that is not ECN-capable (RFC 6040)")     \
  X(dummy, "dummy packet (next header 59)")                                            \
  X(sequence_exhausted, "outbound sequence number would wrap")                         \
  X(sa_expired, "hard lifetime of the SA reached")                                     \
  X(too_big, "larger than the tunnel's MTU with DF set; the sender was told")          \
  X(hop_limit, "TTL or hop limit reached zero; the sender was told")                   \
  X(fragment_inner, "inner fragment cannot be handled here")                           \
  X(fragment_outer, "fragmented ESP could not be reassembled")                         \
  X(no_adjacency, "next hop could not be resolved in time")                            \
  X(hold_full, "hold queue full while waiting for next hop or SA")                     \
  X(no_frame, "no free packet buffer")                                                 \
  X(tx_full, "transmit ring full")                                                     \
  X(tx_failed, "device refused the packet")                                            \
  X(bad_offload, "virtio-net header does not fit its packet")                          \
  X(rx_overrun, "kernel: AF_XDP receive ring full or no fill frames")                  \
  X(invalid_descriptor, "kernel: AF_XDP descriptor refused")                           \
  X(shutting_down, "held when the worker stopped")                                     \
  X(oversize, "received packet is larger than a packet buffer")                        \
  X(nat_keepalive, "NAT keepalive (RFC 3948 §2.3): nothing to do")                     \
  X(ike_message, "IKE (zero SPI) where the worker expects ESP")                        \
  X(icmp_embedded, "ICMP error about a packet that its SA does not protect")           \
  X(path_mtu_learned, "ICMP path MTU message about a packet of an SA: obeyed")         \
  X(path_mtu_refused, "ICMP path MTU message that does not make a path smaller")       \
  X(path_mtu_forged, "ICMP path MTU message about no packet that an SA sent")          \
  X(path_mtu_flood, "ICMP path MTU messages, too many to look at")                     \
  X(nested_too_deep, "protected, or addressed to this node, more often than allowed")  \
  X(fragment_tiny, "first fragment without its whole transport header")                \
  X(fragment_overlap, "fragment would overwrite the first one's transport header")     \
  X(fragment_unknown, "later fragment in clear whose first one did not pass")          \
  X(fragment_selector, "later fragment, but the SA's selectors name ports")            \
  X(ipcomp_header, "IPComp of another CPI, or shorter than its header")                \
  X(ipcomp_data, "IPComp whose payload cannot be decompressed")                        \
  X(ipcomp_too_long, "IPComp that would become longer than the longest packet")
enum postern_drop {
#define POSTERN_ENUM(name, text) POSTERN_DROP_##name,
  POSTERN_DROPS(POSTERN_ENUM)
#undef POSTERN_ENUM
      POSTERN_DROP_COUNT
};

#endif
