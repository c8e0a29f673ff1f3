// SA state file: what of an SA outlives a crash of the worker. One shared-memory file (memfd) per node, created and
// kept by posternd, mapped read-write by the worker and read-only by posternd (counters for `show`).
//
//   header | slot 0 | slot 1 | ... | slot capacity-1
//
// Life of a slot: free -> (parameters written) -> release-store live -> retired -> wiped -> free. Only the worker's
// control thread moves `phase`. Parameters are immutable while live; counters and numbers are atomics. No lock lives in
// the file. After a crash the worker walks the live slots, rebuilds its keys, continues `next_sequence` and treats each
// inbound window as seen up to its highest number (`resume_window`). The file is mapped MADV_DONTDUMP and locked; keys
// are in nothing else.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/net_types.hpp"
#include "crypto/packet_cipher.hpp"

namespace postern {

inline constexpr std::uint32_t sa_state_magic = 0x504e5341;  // "PNSA"
inline constexpr std::uint32_t sa_state_version = 10;
inline constexpr std::uint32_t sa_state_default_capacity = 4096;
inline constexpr std::size_t max_selectors = 32;  // pairs, of one SA
inline constexpr std::size_t max_replay_window = 4096;
inline constexpr std::uint32_t min_dummy_interval_us = 40;  // 25,000 a second
inline constexpr std::size_t max_cipher_key_bytes = 64;
inline constexpr std::size_t max_integrity_key_bytes = 64;

// Flows that come and go with a peer's SAs (dynamic crypto maps, SAs by pair of hosts) are numbered from here on, by
// postern-ike; all below are posternd's.
inline constexpr std::uint32_t first_temporary_flow = 0x80000000;

enum class SaDirection : std::uint8_t { inbound, outbound };
enum class SaMode : std::uint8_t { tunnel, transport };
enum class DfPolicy : std::uint8_t { copy, set, clear };     // RFC 4301 §8.1
enum class EcnPolicy : std::uint8_t { propagate, discard };  // RFC 6040 normal mode; discard: the outer mark is ignored
enum class FragmentPolicy : std::uint8_t { before, after };  // encapsulation: the inner packet is cut, or the outer one
enum class DeliverTo : std::uint8_t { tunnel, map_interface };
enum class SaInstaller : std::uint8_t { posternd, ike };

// RFC 4301 §4.4.1.2, one range pair. Ports are host order, 0..65535 for any, and first 65535, last 0 for OPAQUE: the
// packets whose ports cannot be seen, non-initial fragments. Protocol 0 is any.
// Seen from the SA's own sender: `source` is the sender's side, for inbound and outbound alike.
struct TrafficSelector {
  IpAddress source_first, source_last;
  IpAddress destination_first, destination_last;
  std::uint16_t source_port_first = 0, source_port_last = 65535;
  std::uint16_t destination_port_first = 0, destination_port_last = 65535;
  std::uint8_t protocol = 0;
  bool later_fragments = false;  // manual SAs: non-initial fragments too, although ports are named
};

// Everything that is fixed when an SA is made. Trivially copyable: it travels in InstallSa and lies in the slot.
struct SaParameters {
  SaDirection direction = SaDirection::inbound;
  IpProto protocol = IpProto::esp;  // or ah: `transform` names its authenticator then, and no cipher
  SaMode mode = SaMode::tunnel;     // transport: the selectors are those of `local` and `remote` alone
  DfPolicy df = DfPolicy::copy;
  EcnPolicy ecn = EcnPolicy::propagate;
  DeliverTo deliver = DeliverTo::tunnel;
  bool udp_encapsulation = false;  // RFC 3948
  bool extended_sequence = false;  // RFC 4303 §2.2.1: numbers of 64 bits; inbound needs a replay window
  bool either_form = false;        // inbound ESP: taken in UDP and without it, NAT or not (RFC 7296 §2.23)
  bool follow_peer = false;        // inbound, encapsulated: the installer hears of authentic packets from elsewhere
  FragmentPolicy fragmentation = FragmentPolicy::before;
  bool dscp_copy = true;  // else `dscp`
  std::uint8_t dscp = 0;
  std::uint8_t ttl = 255;               // outer TTL or hop limit
  std::uint8_t selector_count = 0;      // 0: any-any of both families
  std::uint16_t replay_window = 0;      // packets, 32..4096; 0: none (manual SAs, MAN-10)
  std::uint16_t tfc_bytes = 0;          // outbound: inner packets are padded to as much as fits of this (RFC 4303 §2.7)
  std::uint32_t dummy_interval_us = 0;  // outbound: a dummy packet every so often (RFC 4303 §2.6); 0: none
  std::uint32_t spi = 0;                // host order
  std::uint32_t flow = 0;               // maps/abi.h: postern_stamp.flow
  std::uint32_t base_flow = 0;  // a temporary flow's: the flow of the document that it was derived from; 0: none
  // AH around ESP on one flow: the `flow` of the other protocol's SA; 0: none. Outbound, what ESP made goes into the SA
  // that this flow is bound to; inbound, neither is taken without the other.
  std::uint32_t bundle = 0;
  std::uint32_t fvrf = 0;        // front-door VRF's routing table, 0 main
  std::uint32_t ifindex = 0;     // tunnel: its device; map_interface: the map's, 0: what a packet came by. See PlaceSa
  std::uint32_t inside_vrf = 0;  // plain side's routing table, 0 main: where ICMP errors about its packets leave
  IpAddress local, remote;       // outer addresses: ours, the peer's
  std::uint16_t local_port = 0, remote_port = 0;  // UDP encapsulation, host order
  std::uint32_t path_mtu = 1500;                  // largest outer packet
  std::uint32_t path_mtu_aging_s = 600;  // RFC 1191 §6.3, RFC 8201 §4: how long a smaller one counts that was learned
  // IPComp (RFC 3173) by DEFLATE: the CPI that the SA's packets carry, as the receiver chose it; 0: no compression.
  std::uint16_t compression_cpi = 0;
  std::uint16_t tcp_mss = 0;  // most that a SYN may announce; 0: as it is; mss_of_path
  // Lifetimes in inner packets and bytes, and in seconds from installed_ns on; 0: none. Soft: the installer is told
  // (SaExpiry); soft seconds are its own to keep. Hard: it is told and further packets are dropped (sa_expired), also
  // when it is not there to remove the SA (RFC 4301 §4.4.2.1). Sequence numbers end by themselves, they never wrap.
  std::uint32_t hard_seconds = 0;
  std::uint64_t soft_packets = 0, soft_bytes = 0;
  std::uint64_t hard_packets = 0, hard_bytes = 0;
  std::uint64_t cookie = 0;  // the installer's own name for the SA: comes back in SaRow, means nothing here
  crypto::Transform transform;
  std::uint16_t cipher_key_bytes = 0, integrity_key_bytes = 0;
  std::array<std::byte, max_cipher_key_bytes> cipher_key{};
  std::array<std::byte, max_integrity_key_bytes> integrity_key{};
  std::array<TrafficSelector, max_selectors> selectors{};
};
static_assert(std::is_trivially_copyable_v<SaParameters>);

// The sender decides when it goes over to the next SA: what a peer sends meanwhile is taken above the negotiated
// lifetime, up to so many bytes (an eighth of a second at 1 Gb/s) and packets, which postern-ike adds to the hard
// limits of inbound SAs. What we send is never more than the lifetime.
inline constexpr std::uint64_t inbound_grace_bytes = std::uint64_t{16} << 20, inbound_grace_packets = 16384;

enum class SaExpiryKind : std::uint32_t {
  soft = 1,           // soft_packets or soft_bytes reached: time to rekey
  hard,               // hard_packets, hard_bytes or hard_seconds reached: packets are dropped now (sa_expired)
  sequence_near_end,  // outbound: sequence_warning passed
  sequence_end,       // outbound: no number is left, packets are dropped now (sequence_exhausted)
};
// RFC 4303 §3.3.3: an SA's numbers do not cycle. The last one that is sent, and the one from which on the installer is
// told: what is left then is enough for a rekey at any rate a core can seal. Extended numbers end early, so that those
// which are taken in vain behind the last do not cycle either.
[[nodiscard]] constexpr std::uint64_t last_sequence(bool extended) {
  return extended ? ~std::uint64_t{0} - 0xffffff : std::uint64_t{0xffffffff};
}
[[nodiscard]] constexpr std::uint64_t sequence_warning(bool extended) {
  return extended ? std::uint64_t{0xe0000000} << 32 : std::uint64_t{0xe0000000};
}

// Where a packet of an SA came from. `port` is of UDP encapsulation, host order.
struct SaPeer {
  IpAddress address;
  std::uint16_t port = 0;
  bool operator==(const SaPeer&) const = default;
};

// The outer ends of an SA, which a NAT may move (RFC 7296 §2.23), and MOBIKE (RFC 4555 §3.5). Ports are of UDP
// encapsulation, host order; 0 without it.
struct SaEnds {
  IpAddress local, remote;  // ours, the peer's
  std::uint16_t local_port = 0, remote_port = 0;
  bool udp_encapsulation = false;
  bool operator==(const SaEnds&) const = default;
  [[nodiscard]] SaPeer peer() const { return {remote, remote_port}; }
};

enum class SlotPhase : std::uint32_t { free = 0, installing = 1, live = 2, retired = 3 };

// SaParameters.tcp_mss: what fits the path, without cutting or telling anybody.
inline constexpr std::uint16_t mss_of_path = 0xffff;

// RFC 4301 §8.2: a path MTU that an ICMP error told, and until when it counts. One word, so that both change together.
struct LearnedPathMtu {
  static constexpr std::uint64_t none = 0;
  [[nodiscard]] static constexpr std::uint64_t pack(std::uint16_t mtu, std::uint64_t until_ns) {
    return until_ns / 1'000'000 << 16 | mtu;
  }
  // Of a path that is `path_mtu` wide by itself; `now_ns` is CLOCK_MONOTONIC.
  [[nodiscard]] static constexpr std::uint32_t least(std::uint64_t word, std::uint32_t path_mtu, std::uint64_t now_ns) {
    const std::uint32_t mtu = word & 0xffff;
    return mtu != 0 && mtu < path_mtu && now_ns / 1'000'000 < word >> 16 ? mtu : path_mtu;
  }
};

struct alignas(64) SaSlot {
  std::atomic<SlotPhase> phase;
  std::atomic<std::uint32_t> reuse;  // grows each time the slot is taken: names an SA together with its index
  std::atomic<SaInstaller> installed_by;
  std::atomic<std::uint8_t> told;  // bit 1 << SaExpiryKind: the installer was told

  // Outbound: the next number to use. A sender takes n numbers by fetch_add *before* it seals them, so a crash can
  // waste numbers but never repeat one. RFC 4303 §2.2: the first packet carries 1.
  alignas(64) std::atomic<std::uint64_t> next_sequence;
  std::atomic<std::uint64_t>
      bound_order;  // outbound: parameters.flow goes into the SA that was bound last; 0: never bound
  std::atomic<std::uint64_t> path_mtu;  // outbound: LearnedPathMtu

  // Inbound: highest authenticated number; the window's bits live in the worker's own memory.
  alignas(64) std::atomic<std::uint64_t> highest_sequence;

  alignas(64) std::atomic<std::uint64_t> packets, bytes;  // inner, sealed or delivered
  std::atomic<std::uint64_t> errors;                      // sum of the drops below, and of any other reason
  std::atomic<std::uint64_t> replay_drops, integrity_drops, selector_drops;
  std::atomic<std::uint64_t> dummy_packets;  // RFC 4303 §2.6: sent or received, in no other number here
  // Of an SA with IPComp: sent or received with it; without it; of the latter those that would not become smaller, or,
  // received, those with it that were dropped.
  std::atomic<std::uint64_t> compressed, not_compressed, compress_failed;
  std::atomic<std::uint64_t> last_used_ns, installed_ns;  // CLOCK_MONOTONIC

  SaParameters parameters;

  // Its ends now: those of `parameters` until one moves; then ends[moves % 2], which is whole before `moves` says so.
  std::atomic<std::uint32_t> moves;
  std::array<SaEnds, 2> ends;
};
static_assert(sizeof(SaSlot) <= 4096);

[[nodiscard]] inline SaEnds ends_of(const SaParameters& p) {
  return {p.local, p.remote, p.local_port, p.remote_port, p.udp_encapsulation};
}
[[nodiscard]] inline SaEnds ends_of(const SaSlot& slot) {
  const std::uint32_t moves = slot.moves.load(std::memory_order_acquire);
  return moves == 0 ? ends_of(slot.parameters) : slot.ends[moves % slot.ends.size()];
}

// Into what has the same fields: SaParameters, or a row that is told of an SA.
template <class T>
void put_ends(T& into, const SaEnds& ends) {
  into.local = ends.local;
  into.remote = ends.remote;
  into.local_port = ends.local_port;
  into.remote_port = ends.remote_port;
  into.udp_encapsulation = ends.udp_encapsulation;
}

struct SaStateHeader {
  std::uint32_t magic;
  std::uint32_t version;
  std::uint32_t capacity;
  std::uint32_t slot_bytes;
  std::array<std::byte, 48> reserved;
};
static_assert(sizeof(SaStateHeader) == 64);

[[nodiscard]] constexpr std::size_t sa_state_bytes(std::uint32_t capacity) {
  return 4096 + std::size_t{capacity} * sizeof(SaSlot);
}
// Slots begin on the second page.
[[nodiscard]] inline SaSlot* sa_slots(void* file) {
  return reinterpret_cast<SaSlot*>(static_cast<std::byte*>(file) + 4096);
}

}  // namespace postern
