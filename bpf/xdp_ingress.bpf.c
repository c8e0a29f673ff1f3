// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/*
 * First look at every packet. On an outside interface: ESP or AH for one of our SAs goes to the worker, clear packets
 * that policy wants protected are dropped (TS-09). On an inside interface: what will be protected skips the kernel and
 * goes to the worker stamped.
 */
#include "bpf/classify.h"
#include "bpf/steer.h"

#define PORT_IKE 500
#define PORT_IKE_NAT 4500
#define PORT_DHCP_SERVER 67
#define PORT_DHCP_CLIENT 68
#define PORT_DHCPV6_CLIENT 546
#define PORT_DHCPV6_SERVER 547

/* ESP for us, plain or in UDP (RFC 3948), or AH: to the worker when its SA exists. */
static __always_inline int receive_protected(struct xdp_md* ctx, const struct postern_interface* interface,
                                             const struct packet* packet) {
  const struct postern_sa_key key = {
      .vrf = interface->vrf,
      .spi = packet->spi,
      .destination = packet->flow.destination,
      .protocol = packet->flow.protocol == IPPROTO_AH ? IPPROTO_AH : IPPROTO_ESP,
  };
  const struct postern_sa* sa = bpf_map_lookup_elem(&sas, &key);
  const int udp = packet->flow.protocol == IPPROTO_UDP;
  const int usual_port = packet->flow.destination_port == bpf_htons(PORT_IKE_NAT);
  /* On other ports only what an SA is configured for is ESP; the rest is ordinary UDP. */
  if (udp && !usual_port && (!sa || sa->encap_port != packet->flow.destination_port)) return POSTERN_VERDICT_pass;
  if (!sa) return drop(POSTERN_DROP_no_sa);
  if (interface->flags & POSTERN_IF_BLOCK) return drop(POSTERN_DROP_blocked);
  if (queue_slot(interface, ctx->rx_queue_index) == NO_QUEUE) return drop(POSTERN_DROP_no_queue_owner);
  return POSTERN_VERDICT_to_worker;
}

/* Global, as parse_frame(). */
__noinline int parse_quoted_frame(struct xdp_md* ctx, const struct packet* error, struct packet* quoted) {
  if (!error || !quoted) return PARSE_MALFORMED;
  return parse_quoted((void*)(long)ctx->data, (void*)(long)ctx->data_end, error, quoted);
}

/* "Too big" about ESP that we sent, plain or in UDP, or about AH: the worker knows whether it did (RFC 4301 §8.2). */
static __always_inline int receive_path_mtu(struct xdp_md* ctx, const struct postern_interface* interface,
                                            const struct packet* packet) {
  struct packet quoted = {};
  if (parse_quoted_frame(ctx, packet, &quoted) != PARSED || !quoted.spi) return POSTERN_VERDICT_pass;
  const int encapsulated =
      quoted.flow.protocol == IPPROTO_UDP &&
      (quoted.flow.source_port == bpf_htons(PORT_IKE_NAT) || quoted.flow.destination_port == bpf_htons(PORT_IKE_NAT));
  if (quoted.flow.protocol != IPPROTO_ESP && quoted.flow.protocol != IPPROTO_AH && !encapsulated)
    return POSTERN_VERDICT_pass;
  if (!is_local(interface->vrf, &quoted.flow.source)) return POSTERN_VERDICT_pass;
  if (interface->flags & POSTERN_IF_BLOCK) return drop(POSTERN_DROP_blocked);
  if (queue_slot(interface, ctx->rx_queue_index) == NO_QUEUE) return drop(POSTERN_DROP_no_queue_owner);
  return POSTERN_VERDICT_to_worker;
}

/* What is addressed to the node itself. POSTERN_VERDICT_pass: nothing special, policy decides. */
static __always_inline int receive_local(struct xdp_md* ctx, const struct postern_interface* interface,
                                         const struct packet* packet) {
  const __u8 protocol = packet->flow.protocol;
  const __be16 port = packet->flow.destination_port;
  const int ike_port = port == bpf_htons(PORT_IKE) || port == bpf_htons(PORT_IKE_NAT);
  /* The kernel reassembles or takes the tag off, and gives ESP and AH to sockets of the worker, IKE to its own. */
  if (packet->fragment != FRAGMENT_NONE || is_tagged(packet)) {
    if (protocol == IPPROTO_ESP || protocol == IPPROTO_AH) return POSTERN_VERDICT_exempt;
    if (protocol == IPPROTO_UDP && (packet->fragment == FRAGMENT_LATER || ike_port)) return POSTERN_VERDICT_exempt;
    return POSTERN_VERDICT_pass;
  }
  if (protocol == IPPROTO_ESP || protocol == IPPROTO_AH) {
    if (packet->transport_bytes < (protocol == IPPROTO_AH ? AH_HEADER_BYTES : 8)) return drop(POSTERN_DROP_esp_runt);
    return receive_protected(ctx, interface, packet);
  }
  if (is_path_mtu_message(packet)) return receive_path_mtu(ctx, interface, packet);
  if (protocol != IPPROTO_UDP) return POSTERN_VERDICT_pass;
  if (port == bpf_htons(PORT_IKE)) return POSTERN_VERDICT_exempt;
  if (packet->spi) return receive_protected(ctx, interface, packet);
  return ike_port ? POSTERN_VERDICT_exempt : POSTERN_VERDICT_pass; /* IKE behind its non-ESP marker, or a keepalive */
}

static __always_inline int is_dhcp_reply(const struct packet* packet, int local) {
  if (has_udp_ports(packet, PORT_DHCP_SERVER, PORT_DHCP_CLIENT))
    return local || is_broadcast(&packet->flow.destination);
  return local && has_udp_ports(packet, PORT_DHCPV6_SERVER, PORT_DHCPV6_CLIENT);
}

/*
 * RFC 4301 §6.1: an ICMP error in clear about a packet that leaves protected. Nobody outside has seen that packet, so
 * the error is made up, and obeying it is a service to whoever did so.
 */
static __always_inline int receive_clear_error(struct xdp_md* ctx, const struct postern_interface* interface,
                                               const struct packet* error) {
  struct packet quoted = {};
  if (parse_quoted_frame(ctx, error, &quoted) != PARSED) return drop(POSTERN_DROP_unparseable);
  ask_policy(&quoted, interface);
  return classify_quoted(&quoted.flow, 0) ? drop(POSTERN_DROP_clear_text) : POSTERN_VERDICT_pass;
}

static __always_inline void log_frame(struct xdp_md* ctx, const struct packet* packet, __u32 ace, int mirrored) {
  const __u8* source = (void*)(long)ctx->data + 6;
  if ((const void*)(source + 6) > (void*)(long)ctx->data_end) return;
  struct log_source from = {.ifindex = ctx->ingress_ifindex, .mirrored = mirrored};
  __builtin_memcpy(from.mac, source, sizeof from.mac);
  log_match(&packet->flow, ace, &from);
}

/* What mirrored policy says about a packet that came in clear (TS-09). */
static __always_inline int judge_clear(struct xdp_md* ctx, const struct postern_interface* interface,
                                       struct packet* packet) {
  const int group = is_group(packet);
  mirror(&packet->flow);
  ask_policy(packet, interface);
  const struct postern_flow_verdict found = classify(&packet->flow, bpf_xdp_get_buff_len(ctx));
  if (found.flow == NO_POLICY) return drop(POSTERN_DROP_stale_policy);
  if (found.logged != POSTERN_NO_ACE) log_frame(ctx, packet, found.logged, 1);
  if (!found.flow) {
    const int decision = is_icmp_error(packet) ? receive_clear_error(ctx, interface, packet) : POSTERN_VERDICT_pass;
    if (decision == POSTERN_VERDICT_pass && packet->fragment == FRAGMENT_FIRST && interface->flags & POSTERN_IF_PORTS)
      remember_fragment(packet, POSTERN_HOOK_XDP_INGRESS);
    return decision;
  }
  if (group) return drop(POSTERN_DROP_multicast_not_protected);
  if (packet->fragment == FRAGMENT_LATER && interface->flags & POSTERN_IF_PORTS)
    return follow_fragment(packet, POSTERN_HOOK_XDP_INGRESS);
  return drop(POSTERN_DROP_clear_text);
}

static __always_inline int receive_outside(struct xdp_md* ctx, const struct postern_interface* interface,
                                           struct packet* packet, int parsed) {
  if (parsed == PARSED_NOT_IP) return POSTERN_VERDICT_exempt;
  if (parsed != PARSED) return interface->generation ? drop_unparsed(parsed) : POSTERN_VERDICT_pass;
  const int local = is_local(interface->vrf, &packet->flow.destination);
  if (local) {
    const int decision = receive_local(ctx, interface, packet);
    if (decision != POSTERN_VERDICT_pass) return decision;
  }
  if (!interface->generation) return POSTERN_VERDICT_pass;
  if (is_neighbour_discovery(packet) || is_dhcp_reply(packet, local)) return POSTERN_VERDICT_exempt;
  return judge_clear(ctx, interface, packet);
}

/* The interface by which the kernel would forward the packet; 0: it would not, or has more to do than forward. */
static __always_inline __u32 route(struct xdp_md* ctx, const struct packet* packet) {
  struct bpf_fib_lookup fib = {.ifindex = ctx->ingress_ifindex, .l4_protocol = packet->flow.protocol};
  if (packet->family == 4) {
    fib.family = 2; /* AF_INET */
    fib.tos = packet->traffic_class;
    fib.ipv4_src = ((const __u32*)&packet->flow.source)[3];
    fib.ipv4_dst = ((const __u32*)&packet->flow.destination)[3];
  } else {
    fib.family = 10; /* AF_INET6 */
    fib.flowinfo = packet->flow_label;
    __builtin_memcpy(fib.ipv6_src, &packet->flow.source, 16);
    __builtin_memcpy(fib.ipv6_dst, &packet->flow.destination, 16);
  }
  const long result = bpf_fib_lookup(ctx, &fib, sizeof fib, 0);
  return result == BPF_FIB_LKUP_RET_SUCCESS || result == BPF_FIB_LKUP_RET_NO_NEIGH ? fib.ifindex : 0;
}

/* `address`, of 6 bytes on an even address, at this offset of the Ethernet header. */
static __always_inline int has_address(struct xdp_md* ctx, int offset, const __u8* address) {
  const __u16* found = (void*)(long)ctx->data + offset;
  if ((void*)(found + 3) > (void*)(long)ctx->data_end) return 0;
  const __u16* wanted = (const __u16*)address;
  return ((found[0] ^ wanted[0]) | (found[1] ^ wanted[1]) | (found[2] ^ wanted[2])) == 0;
}

/* The rest is what a bridge floods or a promiscuous device takes: the kernel forwards none of it. */
static __always_inline int is_addressed_to(struct xdp_md* ctx, const struct postern_interface* interface) {
  return has_address(ctx, 0, interface->mac);
}

/* Plain side. POSTERN_VERDICT_pass is always safe: the kernel forwards and TC egress looks again. */
static __always_inline int forward_inside(struct xdp_md* ctx, const struct postern_interface* interface,
                                          struct packet* packet, int parsed) {
  if (parsed != PARSED || packet->hop_limit <= 1) return POSTERN_VERDICT_pass;
  if (is_group(packet) || is_tagged(packet) || !is_addressed_to(ctx, interface)) return POSTERN_VERDICT_pass;
  if (is_local(interface->vrf, &packet->flow.destination)) return POSTERN_VERDICT_pass;
  struct postern_stamp stamp = {.ifindex = route(ctx, packet)};
  __u32 logged = POSTERN_NO_ACE;
  struct postern_interface out;
  if (!find_interface(stamp.ifindex, &out)) return POSTERN_VERDICT_pass;
  if (out.flags & POSTERN_IF_TUNNEL) {
    stamp.flow = out.flow;
  } else if (out.flags & POSTERN_IF_OUTSIDE && out.generation) {
    /* Its first fragment may be on the kernel's way, behind which TC egress remembers it. */
    if (packet->fragment == FRAGMENT_LATER && out.flags & POSTERN_IF_PORTS) return POSTERN_VERDICT_pass;
    ask_policy(packet, &out);
    stamp.generation = out.generation;
    const struct postern_flow_verdict found = classify(&packet->flow, bpf_xdp_get_buff_len(ctx));
    if (found.flow == NO_POLICY) return drop(POSTERN_DROP_stale_policy);
    stamp.flow = found.flow;
    logged = found.logged;
  }
  if (!stamp.flow) return POSTERN_VERDICT_pass;
  if (out.flags & POSTERN_IF_BLOCK) return drop(POSTERN_DROP_blocked);
  if (queue_slot(interface, ctx->rx_queue_index) == NO_QUEUE) return POSTERN_VERDICT_pass;
  if (logged != POSTERN_NO_ACE) log_frame(ctx, packet, logged, 0);
  return stamp_metadata(ctx, &stamp) ? POSTERN_VERDICT_pass : POSTERN_VERDICT_to_worker;
}

static __always_inline int was_injected(struct xdp_md* ctx, const struct postern_interface* interface) {
  if (!(interface->flags & POSTERN_IF_GENERIC)) return 0;
  return has_address(ctx, 6, interface->inject_source);
}

/* Global functions are verified by themselves, once: the paths through the parser do not multiply those through the
 * policy. */
__noinline int parse_frame(struct xdp_md* ctx, struct packet* packet) {
  if (!packet) return PARSE_MALFORMED;
  return parse((void*)(long)ctx->data, (void*)(long)ctx->data_end, packet);
}

SEC("xdp.frags")
int postern_xdp_ingress(struct xdp_md* ctx) {
  const __u32 ifindex = ctx->ingress_ifindex;
  struct postern_interface interface;
  if (!find_interface(ifindex, &interface) || was_injected(ctx, &interface)) return XDP_PASS;
  const __u64 bytes = bpf_xdp_get_buff_len(ctx);
  struct packet packet = {};
  const int parsed = parse_frame(ctx, &packet);
  int decision = POSTERN_VERDICT_pass;
  if (interface.flags & POSTERN_IF_OUTSIDE) decision = receive_outside(ctx, &interface, &packet, parsed);
  if (decision == POSTERN_VERDICT_pass && interface.flags & POSTERN_IF_INSIDE) {
    if (interface.flags & POSTERN_IF_OUTSIDE && interface.generation)
      mirror(&packet.flow); /* back to the wire's order */
    decision = forward_inside(ctx, &interface, &packet, parsed);
  }
  count_verdict(ifindex, POSTERN_HOOK_XDP_INGRESS, decision, bytes);
  if (decision == POSTERN_VERDICT_to_worker)
    return bpf_redirect_map(&xsks, interface.xsk_base + ctx->rx_queue_index, XDP_DROP);
  return verdict_of(decision) == POSTERN_VERDICT_drop ? XDP_DROP : XDP_PASS;
}

char LICENSE[] __weak SEC("license") = "Dual BSD/GPL";
