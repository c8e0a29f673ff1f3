/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/*
 * What BPF and user space share about rules that look at more than the 5-tuple: it fits into the maps of maps/abi.h as
 * they are. Rows that a policy does not need are not there, and a policy without such rules is not asked for them.
 */
#ifndef POSTERN_MAPS_ABI_OPTIONS_H
#define POSTERN_MAPS_ABI_OPTIONS_H

#include "maps/abi.h"

/* More of enum postern_interface_flags: what the rules of the policy look at. */
#define POSTERN_IF_CLASSES (1 << 6)   /* the traffic class */
#define POSTERN_IF_TCP_FLAGS (1 << 7) /* TCP flags */
/* Written together with the generation. POSTERN_IF_PORTS: ports, ICMP types or TCP flags. */
#define POSTERN_IF_POLICY (POSTERN_IF_PORTS | POSTERN_IF_CLASSES | POSTERN_IF_TCP_FLAGS)

/* `protocols`: more rows of a generation, by postern_protocol_key.protocol. */
#define POSTERN_ROW_CLASS 1024     /* plus the traffic class, 0 to 255 */
#define POSTERN_ROW_TCP_FLAGS 2048 /* plus FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32 */

/* `aces`: a permit whose non-initial fragments have a flow of their own (RFC 4301 §7.2) has a second row with that
 * flow, under its index plus this. */
#define POSTERN_FRAGMENT_ROW 65536

/* `source_ports`: ICMP's type and code, as 16 bits, are a source port. */

/* postern_flow_key.reserved: of a packet whose policy asks for it. */
#define POSTERN_KEY_CLASS 0 /* index: the traffic class */
#define POSTERN_KEY_FLAGS 1 /* index: TCP flags, and the bits below */
#define POSTERN_TCP_FLAGS 0x3f
#define POSTERN_ASKS_CLASS 0x40
#define POSTERN_ASKS_TCP_FLAGS 0x80

/* postern_flow_verdict.ace of a bypass: the first deny that matched; or POSTERN_NO_ACE. */

#endif
