// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/*
 * Last look at every packet that the kernel sends by an outside interface: what policy protects is stamped and goes to
 * the worker by the steer TAP, super-packets unsegmented. Nothing that cannot be read leaves a protected interface.
 */
#include <linux/pkt_cls.h>

#include "bpf/classify.h"
#include "bpf/steer.h"

#define PORT_DHCP_SERVER 67
#define PORT_DHCP_CLIENT 68
#define PORT_DHCPV6_CLIENT 546
#define PORT_DHCPV6_SERVER 547

/* Our own request for an address (the source is not yet ours, or is). */
static __always_inline int is_dhcp_request(const struct postern_interface* interface, const struct packet* packet) {
  const struct postern_address* source = &packet->flow.source;
  if (has_udp_ports(packet, PORT_DHCP_CLIENT, PORT_DHCP_SERVER))
    return ((const __u32*)source)[3] == 0 || is_local(interface->vrf, source);
  return has_udp_ports(packet, PORT_DHCPV6_CLIENT, PORT_DHCPV6_SERVER) &&
         (is_link_local(source) || is_local(interface->vrf, source));
}

/* Global: verified by itself, once. */
__noinline int parse_linear(struct __sk_buff* skb, struct packet* packet) {
  if (!packet) return PARSE_MALFORMED;
  return parse((void*)(long)skb->data, (void*)(long)skb->data_end, packet);
}

/* Headers may lie in page fragments: one more try with them pulled into the linear part. */
static __always_inline int parse_skb(struct __sk_buff* skb, struct packet* packet) {
  const int parsed = parse_linear(skb, packet);
  if (parsed != PARSE_TRUNCATED || bpf_skb_pull_data(skb, skb->len < 1200 ? skb->len : 1200)) return parsed;
  __builtin_memset(packet, 0, sizeof *packet);
  return parse_linear(skb, packet);
}

/* Global, as parse_linear(). */
__noinline int parse_quoted_linear(struct __sk_buff* skb, const struct packet* error, struct packet* quoted) {
  if (!error || !quoted) return PARSE_MALFORMED;
  return parse_quoted((void*)(long)skb->data, (void*)(long)skb->data_end, error, quoted);
}

/*
 * The flow of the packet that an ICMP error is about, asked about as its answer. What cannot be read could be a packet
 * of any flow: UNREADABLE_QUOTE.
 */
#define UNREADABLE_QUOTE 0xffffffffU
static __always_inline __u32 flow_of_quoted(struct __sk_buff* skb, const struct postern_interface* interface,
                                            const struct packet* error) {
  struct packet quoted = {};
  int parsed = parse_quoted_linear(skb, error, &quoted);
  if (parsed == PARSE_TRUNCATED && !bpf_skb_pull_data(skb, skb->len < 1200 ? skb->len : 1200)) {
    __builtin_memset(&quoted, 0, sizeof quoted);
    parsed = parse_quoted_linear(skb, error, &quoted);
  }
  if (parsed != PARSED) return UNREADABLE_QUOTE;
  mirror(&quoted.flow);
  ask_policy(&quoted, interface);
  return classify_quoted(&quoted.flow, skb->len);
}

static __always_inline int send_outside(struct __sk_buff* skb, const struct postern_interface* interface) {
  if (skb->mark == POSTERN_MARK) return POSTERN_VERDICT_exempt;
  struct packet packet = {};
  const int parsed = parse_skb(skb, &packet);
  if (parsed == PARSED_NOT_IP) return POSTERN_VERDICT_exempt;
  if (parsed != PARSED) return drop_unparsed(parsed);
  if (is_neighbour_discovery(&packet) || is_dhcp_request(interface, &packet)) return POSTERN_VERDICT_exempt;
  ask_policy(&packet, interface);
  struct postern_stamp stamp = {.generation = interface->generation, .ifindex = skb->ifindex};
  const struct postern_flow_verdict found = classify(&packet.flow, skb->len);
  if (found.logged != POSTERN_NO_ACE) {
    const struct log_source from = {.ifindex = skb->ingress_ifindex};
    log_match(&packet.flow, found.logged, &from);
  }
  if (found.flow == NO_POLICY) return drop(POSTERN_DROP_stale_policy);
  stamp.flow = found.flow;
  if (!stamp.flow && is_icmp_error(&packet)) stamp.flow = flow_of_quoted(skb, interface, &packet);
  if (stamp.flow == UNREADABLE_QUOTE) return drop(POSTERN_DROP_unparseable);
  if (!stamp.flow) {
    if (packet.fragment == FRAGMENT_FIRST && interface->flags & POSTERN_IF_PORTS)
      remember_fragment(&packet, POSTERN_HOOK_TC_EGRESS);
    return POSTERN_VERDICT_pass;
  }
  if (packet.fragment == FRAGMENT_LATER && interface->flags & POSTERN_IF_PORTS) {
    /* One whose first fragment did not pass in clear is protected, in whatever order they come. */
    const int followed = follow_fragment(&packet, POSTERN_HOOK_TC_EGRESS);
    if (followed != drop(POSTERN_DROP_fragment_unknown)) return followed;
  }
  if (is_group(&packet)) return drop(POSTERN_DROP_multicast_not_protected);
  if (interface->flags & POSTERN_IF_BLOCK) return drop(POSTERN_DROP_blocked);
  if (skb->vlan_present && bpf_skb_vlan_pop(skb)) return drop(POSTERN_DROP_unparseable);
  if (stamp_frame(skb, &stamp)) return drop(POSTERN_DROP_no_frame);
  return POSTERN_VERDICT_to_steer;
}

SEC("tc")
int postern_tc_egress(struct __sk_buff* skb) {
  struct postern_interface interface;
  if (!find_interface(skb->ifindex, &interface) || !interface.generation) return TC_ACT_UNSPEC;
  const __u64 bytes = skb->len;
  const int decision = send_outside(skb, &interface);
  count_verdict(skb->ifindex, POSTERN_HOOK_TC_EGRESS, decision, bytes);
  if (decision == POSTERN_VERDICT_to_steer) return bpf_redirect(interface.steer, 0);
  return verdict_of(decision) == POSTERN_VERDICT_drop ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

char LICENSE[] __weak SEC("license") = "Dual BSD/GPL";
