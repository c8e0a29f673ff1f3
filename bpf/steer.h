/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* How a packet gets to the worker and back: AF_XDP slots, the stamp, and what the node's own addresses are. */
#ifndef POSTERN_BPF_STEER_H
#define POSTERN_BPF_STEER_H

#include "bpf/parse.h"

/* A copy, so that generation and flags are of one moment. */
static __always_inline int find_interface(__u32 ifindex, struct postern_interface* found) {
  const struct postern_interface* now = bpf_map_lookup_elem(&interfaces, &ifindex);
  if (!now) return 0;
  __builtin_memcpy(found, now, sizeof *found);
  return 1;
}

static __always_inline int is_local(__u32 vrf, const struct postern_address* address) {
  const struct postern_local_key key = {.vrf = vrf, .address = *address};
  return bpf_map_lookup_elem(&local_addresses, &key) != 0;
}

static __always_inline int is_broadcast(const struct postern_address* address) {
  return is_v4_mapped(address) && ((const __u32*)address)[3] == 0xffffffffU;
}

/* More than one receiver, which no SA of a crypto map has (TS-11). */
static __always_inline int is_group(const struct packet* packet) {
  return packet->link_group || is_multicast(&packet->flow.destination) || is_broadcast(&packet->flow.destination);
}

static __always_inline int is_link_local(const struct postern_address* address) {
  return address->bytes[0] == 0xfe && (address->bytes[1] & 0xc0) == 0x80;
}

#define NO_QUEUE 0xffffffffU

/*
 * Slot of the AF_XDP socket that owns this queue, or NO_QUEUE. A socket takes packets of its own device and queue only,
 * so there is no other to fall back to.
 */
static __always_inline __u32 queue_slot(const struct postern_interface* interface, __u32 queue) {
  __u32 slot = interface->xsk_base + queue;
  if (queue >= interface->queues || !bpf_map_lookup_elem(&xsks, &slot)) return NO_QUEUE;
  return slot;
}

/* In front of the frame, where the worker finds it below the address of the descriptor. Not 0: the driver has no room
 * for it. */
SUBPROGRAM int stamp_metadata(struct xdp_md* ctx, const struct postern_stamp* stamp) {
  if (!stamp || bpf_xdp_adjust_meta(ctx, -(int)sizeof *stamp)) return -1;
  struct postern_stamp* metadata = (void*)(long)ctx->data_meta;
  if ((void*)(metadata + 1) > (void*)(long)ctx->data) return -1;
  *metadata = *stamp;
  return 0;
}

/* Over the two Ethernet addresses: nobody needs them between here and the worker. */
SUBPROGRAM int stamp_frame(struct __sk_buff* skb, const struct postern_stamp* stamp) {
  if (!stamp) return -1;
  return bpf_skb_store_bytes(skb, 0, stamp, sizeof *stamp, 0);
}

#endif
