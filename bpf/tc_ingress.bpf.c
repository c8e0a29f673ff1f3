// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/*
 * On the steer TAP: what the worker decrypted goes back to the interface it came in by, so that rp_filter, VRF,
 * netfilter and conntrack see it arrive there. Nothing else may enter by this device.
 */
#include <linux/pkt_cls.h>

#include "bpf/steer.h"

/* Where the packet arrives; its Ethernet addresses become those of a frame received there. */
static __always_inline int deliver(struct __sk_buff* skb, __u32* arrives_at) {
  struct postern_stamp stamp;
  if (bpf_skb_load_bytes(skb, 0, &stamp, sizeof stamp) || stamp.generation != POSTERN_GENERATION_INBOUND)
    return drop(POSTERN_DROP_stale_policy);
  struct postern_interface interface;
  if (!find_interface(stamp.ifindex, &interface)) return drop(POSTERN_DROP_unknown_flow);
  if (interface.flags & POSTERN_IF_BLOCK) return drop(POSTERN_DROP_blocked);
  __u8 addresses[12];
  __builtin_memcpy(addresses, interface.mac, 6);
  __builtin_memcpy(addresses + 6, interface.inject_source, 6);
  if (bpf_skb_store_bytes(skb, 0, addresses, sizeof addresses, 0)) return drop(POSTERN_DROP_no_frame);
  *arrives_at = stamp.ifindex;
  return POSTERN_VERDICT_delivered;
}

SEC("tc")
int postern_tc_ingress(struct __sk_buff* skb) {
  __u32 arrives_at = 0;
  const __u64 bytes = skb->len;
  const int decision = deliver(skb, &arrives_at);
  count_verdict(arrives_at ? arrives_at : skb->ifindex, POSTERN_HOOK_TC_INGRESS, decision, bytes);
  if (decision != POSTERN_VERDICT_delivered) return TC_ACT_SHOT;
  return bpf_redirect(arrives_at, BPF_F_INGRESS);
}

char LICENSE[] __weak SEC("license") = "Dual BSD/GPL";
