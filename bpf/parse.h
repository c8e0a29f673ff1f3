/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/*
 * Ethernet, up to two VLAN tags, IPv4 with options, IPv6 with a bounded chain of extension headers, and the first bytes
 * of the transport header. Reads only what lies in the linear part; says so when more bytes could exist behind it.
 */
#ifndef POSTERN_BPF_PARSE_H
#define POSTERN_BPF_PARSE_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include "bpf/maps.h"

enum parse_result {
  PARSED,
  PARSED_NOT_IP, /* ARP and all that no policy speaks of */
  PARSE_TRUNCATED,
  PARSE_MALFORMED,
  PARSE_TINY_FRAGMENT,    /* RFC 1858 §3, RFC 3128 */
  PARSE_OVERLAP_FRAGMENT, /* RFC 1858 §4, RFC 4301 §7.2 */
};

/* Why a packet that could not be parsed is dropped. */
static __always_inline int drop_unparsed(int parsed) {
  if (parsed == PARSE_TINY_FRAGMENT) return drop(POSTERN_DROP_fragment_tiny);
  if (parsed == PARSE_OVERLAP_FRAGMENT) return drop(POSTERN_DROP_fragment_overlap);
  return drop(POSTERN_DROP_unparseable);
}

enum fragment { FRAGMENT_NONE, FRAGMENT_FIRST, FRAGMENT_LATER };

struct packet {
  struct postern_flow_key flow; /* as on the wire; generation 0 */
  __be32 spi;                   /* of ESP or AH, or of UDP data longer than 8 bytes (RFC 3948 §2.1); 0: none */
  __be32 flow_label;            /* IPv6: the first four bytes of its header, without the version */
  __be32 identification;        /* of a fragment; IPv4: in the first two bytes */
  __u16 fragment_offset;        /* bytes */
  __u16 network;                /* offset of the IP header */
  __u16 transport;              /* offset of what follows the IP headers */
  __u16 transport_bytes;        /* from there to the end that the IP header tells */
  __u8 family;                  /* 4 or 6; 0: not IP */
  __u8 fragment;                /* enum fragment */
  __u8 hop_limit;
  __u8 traffic_class;
  __u8 tcp_flags;  /* FIN 1 to URG 32; 0 where they cannot be seen */
  __u8 link_group; /* 1: the Ethernet destination is a group: also a broadcast of one subnet shows */
};

/* With a VLAN tag in the frame: another device's, or a priority. One that the driver took out does not show. */
static __always_inline int is_tagged(const struct packet* packet) { return packet->network > sizeof(struct ethhdr); }

#define MAX_VLAN_TAGS 2
#define MAX_EXTENSION_HEADERS 8
#define AH_HEADER_BYTES 12    /* in front of the ICV */
#define MAX_HEADER_BYTES 1024 /* from the start of the frame to the transport header */

struct vlan_tag {
  __be16 control;
  __be16 ether_type;
};
struct ipv6_extension {
  __u8 next_header;
  __u8 units; /* of 8 bytes, the first not counted */
};
struct ipv6_fragment {
  __u8 next_header;
  __u8 reserved;
  __be16 offset_and_more;
  __be32 identification;
};

/* Not in the UAPI headers under these names. */
#define PROTOCOL_UDPLITE 136
#define PROTOCOL_HOP_BY_HOP 0
#define PROTOCOL_ROUTING 43
#define PROTOCOL_FRAGMENT 44
#define PROTOCOL_ICMPV6 58
#define PROTOCOL_DESTINATION_OPTIONS 60

static __always_inline int has_ports(__u8 protocol) {
  return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_DCCP || protocol == IPPROTO_SCTP ||
         protocol == PROTOCOL_UDPLITE;
}

/* Of the transport header, what a first fragment must hold and no later one may touch (RFC 3128: all of TCP's). */
static __always_inline __u16 least_header(__u8 protocol) {
  if (protocol == IPPROTO_TCP) return 20;
  return protocol == IPPROTO_SCTP || protocol == IPPROTO_DCCP ? 12 : 8;
}

static __always_inline int is_extension(__u8 protocol) {
  return protocol == PROTOCOL_HOP_BY_HOP || protocol == PROTOCOL_ROUTING || protocol == PROTOCOL_FRAGMENT ||
         protocol == PROTOCOL_DESTINATION_OPTIONS;
}

static __always_inline int is_v4_mapped(const struct postern_address* address) {
  const __u32* words = (const __u32*)address;
  return (words[0] | words[1]) == 0 && words[2] == bpf_htonl(0xffff);
}

static __always_inline void map_v4(struct postern_address* address, __be32 v4) {
  __u32* words = (__u32*)address;
  words[0] = words[1] = 0;
  words[2] = bpf_htonl(0xffff);
  words[3] = v4;
}

/* Ports, ICMP type and code, SPI. */
static __always_inline int parse_transport(const void* data, const void* data_end, struct packet* packet) {
  const __u8 protocol = packet->flow.protocol;
  if (packet->transport > MAX_HEADER_BYTES) return PARSE_MALFORMED;
  if (packet->fragment == FRAGMENT_FIRST && packet->transport_bytes < least_header(protocol))
    return PARSE_TINY_FRAGMENT;
  const __be16* at = data + packet->transport;
  if (has_ports(protocol)) {
    if (packet->transport_bytes < 8) return PARSE_MALFORMED;
    if ((const void*)(at + 2) > data_end) return PARSE_TRUNCATED;
    packet->flow.source_port = at[0];
    packet->flow.destination_port = at[1];
    if (protocol == IPPROTO_TCP && packet->transport_bytes >= 20) {
      if ((const void*)(at + 7) > data_end) return PARSE_TRUNCATED;
      packet->tcp_flags = ((const __u8*)at)[13] & POSTERN_TCP_FLAGS;
    }
    if (protocol != IPPROTO_UDP || packet->transport_bytes <= 16) return PARSED;
    if ((const void*)(at + 6) > data_end) return PARSE_TRUNCATED;
    packet->spi = *(const __be32*)(at + 4);
  } else if (protocol == IPPROTO_ICMP || protocol == PROTOCOL_ICMPV6) {
    if (packet->transport_bytes < 4) return PARSE_MALFORMED;
    if ((const void*)(at + 2) > data_end) return PARSE_TRUNCATED;
    packet->flow.source_port = at[0];
  } else if (protocol == IPPROTO_ESP) {
    if (packet->transport_bytes < 8) return PARSED; /* a runt has no SPI */
    if ((const void*)(at + 2) > data_end) return PARSE_TRUNCATED;
    packet->spi = *(const __be32*)at;
  } else if (protocol == IPPROTO_AH) {
    if (packet->transport_bytes < AH_HEADER_BYTES) return PARSED;
    if ((const void*)(at + 4) > data_end) return PARSE_TRUNCATED;
    packet->spi = *(const __be32*)(at + 2);
  }
  return PARSED;
}

static __always_inline int parse_ipv4(const void* data, const void* data_end, struct packet* packet) {
  if (packet->network > MAX_HEADER_BYTES) return PARSE_MALFORMED;
  const struct iphdr* ip = data + packet->network;
  if ((const void*)(ip + 1) > data_end) return PARSE_TRUNCATED;
  const __u32 header_bytes = ip->ihl * 4;
  /* The total length is 0 in super-packets of 64 KiB and more that the kernel hands to TC ("BIG TCP"). */
  const __u32 total = ip->tot_len ? bpf_ntohs(ip->tot_len) : 0xffff;
  if (ip->version != 4 || header_bytes < sizeof *ip || total < header_bytes) return PARSE_MALFORMED;
  map_v4(&packet->flow.source, ip->saddr);
  map_v4(&packet->flow.destination, ip->daddr);
  packet->flow.protocol = ip->protocol;
  packet->hop_limit = ip->ttl;
  packet->traffic_class = ip->tos;
  packet->transport = packet->network + header_bytes;
  packet->transport_bytes = total - header_bytes;
  const __u16 fragment = bpf_ntohs(ip->frag_off);
  if (fragment & 0x1fff)
    packet->fragment = FRAGMENT_LATER;
  else if (fragment & 0x2000)
    packet->fragment = FRAGMENT_FIRST;
  packet->fragment_offset = (fragment & 0x1fff) * 8;
  packet->identification = ip->id;
  return PARSED;
}

/*
 * Makes the compiler read `packet` from memory again. In a global function the verifier knows nothing about what is
 * there, so paths that came together stay one path: without it the loop multiplies them (60,000 instructions looked at,
 * not 12,000).
 */
#define FORGET_PATH() asm volatile("" ::: "memory")

/* One extension header at packet->transport, whose type is flow.protocol (RFC 8200 §4). */
static __always_inline int skip_extension(const void* data, const void* data_end, struct packet* packet) {
  /* What follows a non-initial fragment's header is not a header: its protocol stays unknown. */
  if (packet->fragment == FRAGMENT_LATER || packet->transport > MAX_HEADER_BYTES) return PARSE_MALFORMED;
  const struct ipv6_fragment* header = data + packet->transport;
  if ((const void*)(header + 1) > data_end) return PARSE_TRUNCATED;
  __u16 bytes = sizeof *header;
  if (packet->flow.protocol == PROTOCOL_FRAGMENT) {
    packet->fragment_offset = bpf_ntohs(header->offset_and_more) & 0xfff8;
    packet->fragment = packet->fragment_offset ? FRAGMENT_LATER : FRAGMENT_FIRST;
    packet->identification = header->identification;
  } else
    bytes = (((const struct ipv6_extension*)header)->units + 1) * 8;
  if (bytes > packet->transport_bytes) return PARSE_MALFORMED;
  packet->flow.protocol = header->next_header;
  packet->transport += bytes;
  packet->transport_bytes -= bytes;
  return PARSED;
}

static __always_inline int skip_extensions(const void* data, const void* data_end, struct packet* packet) {
  for (int i = 0; i < MAX_EXTENSION_HEADERS; ++i) {
    FORGET_PATH();
    if (!is_extension(packet->flow.protocol)) return PARSED;
    const int skipped = skip_extension(data, data_end, packet);
    if (skipped != PARSED) return skipped;
  }
  return is_extension(packet->flow.protocol) ? PARSE_MALFORMED : PARSED;
}

static __always_inline int parse_ipv6(const void* data, const void* data_end, struct packet* packet) {
  if (packet->network > MAX_HEADER_BYTES) return PARSE_MALFORMED;
  const struct ipv6hdr* ip = data + packet->network;
  if ((const void*)(ip + 1) > data_end) return PARSE_TRUNCATED;
  if (ip->version != 6) return PARSE_MALFORMED;
  __builtin_memcpy(&packet->flow.source, &ip->saddr, 16);
  __builtin_memcpy(&packet->flow.destination, &ip->daddr, 16);
  /* On the wire such addresses mean nothing (RFC 4291 §2.5.5.2), and here they would be taken for IPv4. */
  if (is_v4_mapped(&packet->flow.source) || is_v4_mapped(&packet->flow.destination)) return PARSE_MALFORMED;
  packet->hop_limit = ip->hop_limit;
  packet->flow_label = *(const __be32*)ip & bpf_htonl(0x0fffffff);
  packet->traffic_class = bpf_ntohl(packet->flow_label) >> 20;
  /* 0 with a jumbo payload option (RFC 2675), or in the kernel's own super-packets. */
  const __u32 payload = ip->payload_len ? bpf_ntohs(ip->payload_len) : 0xffff;
  packet->flow.protocol = ip->nexthdr;
  packet->transport = packet->network + sizeof *ip;
  packet->transport_bytes = payload;
  return skip_extensions(data, data_end, packet);
}

static __always_inline int parse_ip(const void* data, const void* data_end, struct packet* packet) {
  FORGET_PATH();
  const int parsed = packet->family == 4 ? parse_ipv4(data, data_end, packet) : parse_ipv6(data, data_end, packet);
  if (parsed != PARSED) return parsed;
  FORGET_PATH();
  if (packet->fragment != FRAGMENT_LATER) return parse_transport(data, data_end, packet);
  packet->flow.fragment = 1;
  return packet->fragment_offset < least_header(packet->flow.protocol) ? PARSE_OVERLAP_FRAGMENT : PARSED;
}

/* Call it in a global function: see FORGET_PATH. */
static __always_inline int parse(const void* data, const void* data_end, struct packet* packet) {
  const struct ethhdr* ethernet = data;
  if ((const void*)(ethernet + 1) > data_end) return PARSE_TRUNCATED;
  packet->link_group = ethernet->h_dest[0] & 1;
  __be16 type = ethernet->h_proto;
  __u32 offset = sizeof *ethernet;
  for (int i = 0; i < MAX_VLAN_TAGS; ++i) {
    if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD)) break;
    const struct vlan_tag* tag = data + offset;
    if ((const void*)(tag + 1) > data_end) return PARSE_TRUNCATED;
    type = tag->ether_type;
    offset += sizeof *tag;
  }
  packet->network = offset;
  if (type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD)) return PARSE_MALFORMED;
  if (type != bpf_htons(ETH_P_IP) && type != bpf_htons(ETH_P_IPV6)) return PARSED_NOT_IP;
  packet->family = type == bpf_htons(ETH_P_IP) ? 4 : 6;
  return parse_ip(data, data_end, packet);
}

/* RFC 792, RFC 4443 §2.1: an ICMP error, which quotes the packet that it is about. worker/icmp_quote.cpp has the same
 * list. */
#define ICMP_HEADER_BYTES 8

static __always_inline __u8 icmp_type(const struct packet* packet) { return bpf_ntohs(packet->flow.source_port) >> 8; }

static __always_inline int is_icmp_error(const struct packet* packet) {
  if (packet->fragment == FRAGMENT_LATER) return 0;
  const __u8 type = icmp_type(packet);
  if (packet->family == 6) return packet->flow.protocol == PROTOCOL_ICMPV6 && type < 128;
  return packet->flow.protocol == IPPROTO_ICMP && ((type >= 3 && type <= 5) || type == 11 || type == 12);
}

/* "Fragmentation needed" or Packet Too Big. */
static __always_inline int is_path_mtu_message(const struct packet* packet) {
  const __u16 type_and_code = bpf_ntohs(packet->flow.source_port);
  return is_icmp_error(packet) && type_and_code == (packet->family == 4 ? 0x0304 : 0x0200);
}

/*
 * The packet that an ICMP error quotes, as it went by: behind its ports there may be nothing. Call it in a global
 * function, like parse().
 */
static __always_inline int parse_quoted(const void* data, const void* data_end, const struct packet* error,
                                        struct packet* quoted) {
  quoted->network = error->transport + ICMP_HEADER_BYTES;
  quoted->family = error->family;
  const int parsed = parse_ip(data, data_end, quoted);
  const int saw_ports = quoted->flow.source_port || quoted->flow.destination_port;
  const int cut = quoted->flow.protocol == IPPROTO_UDP || quoted->flow.protocol == IPPROTO_TCP;
  return parsed == PARSE_TRUNCATED && cut && saw_ports ? PARSED : parsed;
}

static __always_inline int is_multicast(const struct postern_address* address) {
  if (!is_v4_mapped(address)) return address->bytes[0] == 0xff;
  return (address->bytes[12] & 0xf0) == 0xe0;
}

/* Neighbour discovery and nothing else: the hop limit proves that no router forwarded it (RFC 4861 §3.1). */
static __always_inline int is_neighbour_discovery(const struct packet* packet) {
  const __u8 type = bpf_ntohs(packet->flow.source_port) >> 8, code = bpf_ntohs(packet->flow.source_port) & 0xff;
  return packet->family == 6 && packet->flow.protocol == PROTOCOL_ICMPV6 && packet->fragment == FRAGMENT_NONE &&
         packet->hop_limit == 255 && type >= 133 && type <= 137 && code == 0;
}

static __always_inline int has_udp_ports(const struct packet* packet, __u16 source, __u16 destination) {
  return packet->flow.protocol == IPPROTO_UDP && packet->fragment != FRAGMENT_LATER &&
         packet->flow.source_port == bpf_htons(source) && packet->flow.destination_port == bpf_htons(destination);
}

#endif
